"""What each operator makes of the shapes of its inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from bittern.shape_rules import layers, moves
from bittern.shape_rules.view import Dim, NodeView, Result, Shape, broadcast


def shapes_of(view: NodeView, inputs: Sequence[Shape | None]) -> list[Shape | None]:
    """The shapes of a node's outputs from those of its inputs: None where not known. Raises InputError."""
    given = [() if shape is None and not name else shape for name, shape in zip(view.node.inputs, inputs, strict=True)]
    known = [shape for shape in given if shape is not None]
    if len(known) != len(given):
        return [None] * len(view.node.outputs)
    result = RULES.get(view.node.op, _same)(view, known)
    return result if isinstance(result, list) else [result]


def _same(view: NodeView, inputs: list[Shape]) -> Shape:
    return inputs[0]


def _reduce(view: NodeView, inputs: list[Shape]) -> Result:
    shape, keep = inputs[0], view.get("keepdims", 1)
    given = view.integers(1)
    if given is None and view.given(1):
        return tuple(view.fresh(axis) for axis in range(len(shape))) if keep else None
    if not given:
        if view.get("noop_with_empty_axes", 0):
            return shape
        given = list(range(len(shape)))
    return _without(shape, {view.axis(axis, len(shape)) for axis in given}, bool(keep))


def _arg(view: NodeView, inputs: list[Shape]) -> Shape:
    axis = view.axis(view.get("axis", 0), len(inputs[0]))
    return _without(inputs[0], {axis}, bool(view.get("keepdims", 1)))


def _without(shape: Shape, axes: set[int], keep: bool) -> Shape:
    return tuple(1 if axis in axes else size for axis, size in enumerate(shape) if keep or axis not in axes)


def _top_k(view: NodeView, inputs: list[Shape]) -> Result:
    shape, count = inputs[0], view.integers(1)
    axis = view.axis(view.get("axis", -1), len(shape))
    sizes: list[Dim] = [view.fresh(axis, i) if not count else count[0] for i in range(2)]
    return [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes]


def _shape(view: NodeView, inputs: list[Shape]) -> Shape:
    rank = len(inputs[0])
    return (len(range(rank)[view.get("start", 0) : view.get("end", rank)]),)


def _size(view: NodeView, inputs: list[Shape]) -> Shape:
    return ()


def _range(view: NodeView, inputs: list[Shape]) -> Shape:
    parts = [view.numbers(i) for i in range(3)]
    start, limit, delta = (part[0] if part else None for part in parts)
    if start is None or limit is None or not delta:
        return (view.fresh(0),)
    return (max(0, math.ceil((limit - start) / delta)),)


def _constant_of_shape(view: NodeView, inputs: list[Shape]) -> Result:
    target = view.integers(0)
    return moves.fresh_sizes(view, inputs[0]) if target is None else tuple(target)


def _non_zero(view: NodeView, inputs: list[Shape]) -> Shape:
    return (max(1, len(inputs[0])), view.fresh(1))


def _with_two_numbers(view: NodeView, inputs: list[Shape]) -> Result:
    return [inputs[0], (), ()]


def _second(view: NodeView, inputs: list[Shape]) -> Shape:
    return inputs[1]


Rule = Callable[[NodeView, list[Shape]], Result]
RULES: dict[str, Rule] = {
    **dict.fromkeys(
        ("Add", "Sub", "Mul", "Div", "Pow", "Mod", "PRelu", "Min", "Max", "Mean", "Sum", "Where"), broadcast
    ),
    **dict.fromkeys(("BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "And", "Or", "Xor"), broadcast),
    **dict.fromkeys(("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"), broadcast),
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool"), layers.pool),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"), layers.global_pool),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), layers.recurrent),
    **dict.fromkeys(("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean"), _reduce),
    **dict.fromkeys(("ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"), _reduce),
    **dict.fromkeys(("ArgMax", "ArgMin"), _arg),
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), moves.depth_to_space),
    "Concat": moves.concat,
    "ConstantOfShape": _constant_of_shape,
    "Conv": layers.conv,
    "ConvInteger": layers.conv,
    "ConvTranspose": layers.conv_transpose,
    "DynamicQuantizeLinear": _with_two_numbers,
    "Expand": moves.expand,
    "Flatten": moves.flatten,
    "Gather": moves.gather,
    "GatherElements": _second,
    "GatherND": moves.gather_nd,
    "Gemm": layers.gemm,
    "LayerNormalization": layers.layer_norm,
    "MatMul": layers.matmul,
    "MatMulInteger": layers.matmul,
    "NonZero": _non_zero,
    "OneHot": moves.one_hot,
    "Pad": moves.pad,
    "Range": _range,
    "Reshape": moves.reshape,
    "Resize": moves.resize,
    "Shape": _shape,
    "Size": _size,
    "Slice": moves.slice_,
    "Split": moves.split,
    "Squeeze": moves.squeeze,
    "Tile": moves.tile,
    "TopK": _top_k,
    "Transpose": moves.transpose,
    "Unsqueeze": moves.unsqueeze,
    "WinogradConv": layers.winograd_conv,
}
