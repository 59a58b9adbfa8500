"""Shapes of all values of a network, as far as sizes and symbols tell."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from bittern.container import LEAF_TYPES
from bittern.errors import InputError
from bittern.graph import Node, ValueInfo

if TYPE_CHECKING:
    from bittern.network import Network

Dim = int | str
Shape = tuple[Dim, ...]


def infer_shapes(network: Network) -> dict[str, ValueInfo]:
    """Shape and element type of every value. A size that cannot be known gets a symbol of its own.

    Raises InputError that names the node whose inputs do not fit.
    """
    known = {info.name: info for info in network.inputs}
    for name, tree in network.constants.items():
        dtype = "f32" if tree.is_real else LEAF_TYPES[next(tree.leaves()).dtype.str].lower()
        known[name] = ValueInfo(name, tree.shape, dtype)
    for node in network.nodes:
        shapes = [known[name].shape if name else None for name in node.inputs]
        output = node.outputs[0]
        shape = _shape_of(_Context(network, node), shapes)
        known[output] = ValueInfo(output, shape, known[node.inputs[0]].dtype)
    return known


class _Context:
    """A node with what its shape may depend on."""

    def __init__(self, network: Network, node: Node) -> None:
        self.network, self.node = network, node

    def get(self, name: str, default: Any) -> Any:
        return self.node.attributes.get(name, default)

    def fresh(self, axis: int) -> str:
        return f"{self.node.outputs[0]}_{axis}"

    def integers(self, index: int) -> list[int]:
        tree = self.network.constants.get(self.node.inputs[index])
        if tree is None:
            self.refuse(f"input {index} must be a constant")
        return [int(value) for value in np.asarray(tree.decode()).reshape(-1)]

    def axis(self, axis: int, rank: int) -> int:
        if not -rank <= axis < rank:
            self.refuse(f"axis {axis} is outside a tensor of {rank} dimensions")
        return axis % rank

    def rank(self, shape: Shape, rank: int) -> None:
        if len(shape) != rank:
            self.refuse(f"needs {rank} dimensions, found shape {list(shape)}")

    def refuse(self, problem: str) -> NoReturn:
        raise InputError(f"node {self.node.name!r} ({self.node.op})", problem)


def _shape_of(context: _Context, inputs: Sequence[Shape | None]) -> Shape:
    rule = _RULES.get(context.node.op, _same)
    return rule(context, [() if shape is None else shape for shape in inputs])


def _same(context: _Context, inputs: list[Shape]) -> Shape:
    return inputs[0]


def _broadcast(context: _Context, inputs: list[Shape]) -> Shape:
    rank = max(len(shape) for shape in inputs)
    padded = [(1,) * (rank - len(shape)) + shape for shape in inputs]
    out: list[Dim] = []
    for axis, sizes in enumerate(zip(*padded, strict=True)):
        different = {size for size in sizes if size != 1}
        numbers = {size for size in different if isinstance(size, int)}
        if len(numbers) > 1:
            context.refuse(f"shapes {' and '.join(str(list(shape)) for shape in inputs)} do not broadcast")
        if numbers:  # a symbol beside it can only stand for the same number, or for 1
            out.extend(numbers)
        elif len(different) == 1:
            out.extend(different)
        else:
            out.append(context.fresh(axis) if different else 1)
    return tuple(out)


def _window(size: Dim, kernel: int, stride: int, pads: int, dilation: int, mode: str, ceil: bool) -> Dim | None:
    """The output size of a convolution or pooling; None if it cannot be known."""
    reach = dilation * (kernel - 1) + 1
    if isinstance(size, str):
        unchanged = stride == 1 and (mode.startswith("SAME") or pads == reach - 1)
        return size if unchanged else None
    if mode.startswith("SAME"):
        return -(-size // stride)
    span = size + (0 if mode == "VALID" else pads) - reach
    return (-(-span // stride) if ceil else span // stride) + 1


def _windows(context: _Context, shape: Shape, kernel: Sequence[int], channels: Dim) -> Shape:
    rank = len(kernel)
    strides = context.get("strides", [1] * rank)
    dilations = context.get("dilations", [1] * rank)
    pads = context.get("pads", [0] * 2 * rank)
    if not (len(strides) == len(dilations) == rank and len(pads) == 2 * rank):
        context.refuse(f"strides, dilations and pads do not fit a kernel of {rank} dimensions")
    if min([*strides, *dilations, *kernel]) < 1 or min(pads) < 0:
        context.refuse("strides, dilations and kernel sizes must be positive, pads must not be negative")
    out: list[Dim] = [shape[0], channels]
    for i in range(rank):
        total = pads[i] + pads[i + rank]
        ceil = bool(context.get("ceil_mode", 0))
        size = _window(
            shape[2 + i], kernel[i], strides[i], total, dilations[i], context.get("auto_pad", "NOTSET"), ceil
        )
        if isinstance(size, int) and ceil and isinstance(shape[2 + i], int):
            # A last window that would start in the padding behind the input is dropped.
            size -= int((size - 1) * strides[i] >= int(shape[2 + i]) + pads[i] and size > 1)
        if isinstance(size, int) and size < 1:
            context.refuse(f"a kernel of {list(kernel)} does not fit the input {list(shape)}")
        out.append(context.fresh(2 + i) if size is None else size)
    return tuple(out)


def _conv(context: _Context, inputs: list[Shape]) -> Shape:
    data, weight = inputs[0], inputs[1]
    context.rank(data, 4)
    context.rank(weight, 4)
    group = context.get("group", 1)
    channels = weight[1] * group if isinstance(weight[1], int) else data[1]
    if isinstance(data[1], int) and data[1] != channels:
        context.refuse(f"the input has {data[1]} channels, the weight takes {channels}")
    kernel = [size for size in weight[2:] if isinstance(size, int)]
    if list(context.get("kernel_shape", kernel)) != kernel:
        context.refuse(f"kernel_shape is {context.get('kernel_shape', kernel)}, the weight has {kernel}")
    return _windows(context, data, kernel, weight[0])


def _pool(context: _Context, inputs: list[Shape]) -> Shape:
    context.rank(inputs[0], 4)
    kernel = context.get("kernel_shape", [])
    if len(kernel) != 2:
        context.refuse(f"kernel_shape is {kernel}, two dimensions are supported")
    return _windows(context, inputs[0], kernel, inputs[0][1])


def _global_pool(context: _Context, inputs: list[Shape]) -> Shape:
    return (*inputs[0][:2], *(1 for _ in inputs[0][2:]))


def _gemm(context: _Context, inputs: list[Shape]) -> Shape:
    context.rank(inputs[0], 2)
    context.rank(inputs[1], 2)
    a = inputs[0][::-1] if context.get("transA", 0) else inputs[0]
    b = inputs[1][::-1] if context.get("transB", 0) else inputs[1]
    if isinstance(a[1], int) and a[1] != b[0]:
        context.refuse(f"shapes {list(inputs[0])} and {list(inputs[1])} do not multiply")
    return (a[0], b[1])


def _matmul(context: _Context, inputs: list[Shape]) -> Shape:
    a, b = inputs
    context.rank(b, 2)
    if not a or (isinstance(a[-1], int) and a[-1] != b[0]):
        context.refuse(f"shapes {list(a)} and {list(b)} do not multiply")
    return (*a[:-1], b[1])


def _total(context: _Context, sizes: Shape, axis: int) -> Dim:
    """The product of sizes, or a symbol for it."""
    numbers = [size for size in sizes if isinstance(size, int)]
    symbols = [size for size in sizes if isinstance(size, str)]
    if not symbols or 0 in numbers:
        return math.prod(numbers)
    return symbols[0] if len(symbols) == 1 and math.prod(numbers) == 1 else context.fresh(axis)


def _concat(context: _Context, inputs: list[Shape]) -> Shape:
    axis = context.axis(context.get("axis", 0), len(inputs[0]))
    if any(len(shape) != len(inputs[0]) for shape in inputs):
        context.refuse("inputs have different numbers of dimensions")
    sizes = [shape[axis] for shape in inputs]
    total = sum(size for size in sizes if isinstance(size, int)) if all(isinstance(s, int) for s in sizes) else None
    middle = context.fresh(axis) if total is None else total
    if len(sizes) == 1:
        middle = sizes[0]
    return (*inputs[0][:axis], middle, *inputs[0][axis + 1 :])


def _flatten(context: _Context, inputs: list[Shape]) -> Shape:
    shape, axis = inputs[0], context.get("axis", 1)
    if not -len(shape) <= axis <= len(shape):
        context.refuse(f"axis {axis} is outside a tensor of {len(shape)} dimensions")
    axis = axis + len(shape) if axis < 0 else axis
    return (_total(context, shape[:axis], 0), _total(context, shape[axis:], 1))


def _reshape(context: _Context, inputs: list[Shape]) -> Shape:
    shape, target = inputs[0], context.integers(1)
    if target.count(-1) > 1 or any(size < -1 for size in target):
        context.refuse(f"target shape {target} is not a shape")
    if any(size == 0 and axis >= len(shape) for axis, size in enumerate(target)):
        context.refuse(f"target shape {target} copies a dimension that the input {list(shape)} does not have")
    out: list[Dim] = [shape[axis] if size == 0 else size for axis, size in enumerate(target)]
    # What is copied cancels out, so a symbolic batch does not hide the size of the -1.
    given = [size for axis, size in enumerate(shape) if axis >= len(target) or target[axis] != 0]
    known = math.prod(size for size in target if size > 0)
    if all(isinstance(size, int) for size in given):
        total = math.prod(int(size) for size in given)
        if -1 in target:
            if known == 0 or total % known:
                context.refuse(f"{list(shape)} cannot become {target}")
            out[target.index(-1)] = total // known
        elif total != known:
            context.refuse(f"{list(shape)} cannot become {target}")
    elif -1 in target:
        symbols = [size for size in given if isinstance(size, str)]
        rest = math.prod(size for size in given if isinstance(size, int))
        axis = target.index(-1)
        out[axis] = symbols[0] if len(symbols) == 1 and rest == known else context.fresh(axis)
    return tuple(out)


def _transpose(context: _Context, inputs: list[Shape]) -> Shape:
    rank = len(inputs[0])
    perm = context.get("perm", list(range(rank))[::-1])
    if sorted(perm) != list(range(rank)):
        context.refuse(f"perm {perm} does not permute {rank} dimensions")
    return tuple(inputs[0][axis] for axis in perm)


def _squeeze(context: _Context, inputs: list[Shape]) -> Shape:
    shape = inputs[0]
    axes = {context.axis(axis, len(shape)) for axis in context.integers(1)}
    for axis in sorted(axes):
        if isinstance(shape[axis], int) and shape[axis] != 1:
            context.refuse(f"dimension {axis} of {list(shape)} is not 1")
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)


def _unsqueeze(context: _Context, inputs: list[Shape]) -> Shape:
    given = context.integers(1)
    rank = len(inputs[0]) + len(given)
    axes = {context.axis(axis, rank) for axis in given}
    if len(axes) != len(given):
        context.refuse(f"axes {given} name a dimension twice")
    rest = iter(inputs[0])
    return tuple(1 if axis in axes else next(rest) for axis in range(rank))


_RULES: dict[str, Callable[[_Context, list[Shape]], Shape]] = {
    "Add": _broadcast,
    "AveragePool": _pool,
    "Concat": _concat,
    "Conv": _conv,
    "Div": _broadcast,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
    "MatMul": _matmul,
    "MaxPool": _pool,
    "Mul": _broadcast,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Sub": _broadcast,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
