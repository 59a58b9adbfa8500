"""Shapes that come of moving elements: reshaping, slicing, gathering."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bittern.shape_rules.view import Dim, NodeView, Result, Shape, broadcast


def _total(view: NodeView, sizes: Shape, axis: int) -> Dim:
    """The product of sizes, or a symbol for it."""
    numbers = [size for size in sizes if isinstance(size, int)]
    symbols = [size for size in sizes if isinstance(size, str)]
    if not symbols or 0 in numbers:
        return math.prod(numbers)
    return symbols[0] if len(symbols) == 1 and math.prod(numbers) == 1 else view.fresh(axis)


def concat(view: NodeView, inputs: list[Shape]) -> Shape:
    """Shape of the outputs; inputs have known shapes."""
    axis = view.axis(view.get("axis", 0), len(inputs[0]))
    if any(len(shape) != len(inputs[0]) for shape in inputs):
        view.refuse("inputs have different numbers of dimensions")
    sizes = [shape[axis] for shape in inputs]
    numbers = [size for size in sizes if isinstance(size, int)]
    middle: Dim = sum(numbers) if len(numbers) == len(sizes) else view.fresh(axis)
    if len(sizes) == 1:
        middle = sizes[0]
    return (*inputs[0][:axis], middle, *inputs[0][axis + 1 :])


def split(view: NodeView, inputs: list[Shape]) -> Result:
    """Shape of the outputs; inputs have known shapes."""
    shape, count = inputs[0], len(view.node.outputs)
    axis = view.axis(view.get("axis", 0), len(shape))
    size, sizes = shape[axis], view.integers(1)
    if sizes is None and not view.given(1) and isinstance(size, int):
        part = -(-size // count)
        sizes = [max(0, min(part, size - part * i)) for i in range(count)]
    if sizes is not None and len(sizes) != count:
        view.refuse(f"{len(sizes)} parts for {count} outputs")
    parts: Sequence[Dim] = [view.fresh(axis, i) for i in range(count)] if sizes is None else sizes
    return [(*shape[:axis], part, *shape[axis + 1 :]) for part in parts]


def flatten(view: NodeView, inputs: list[Shape]) -> Shape:
    """Shape of the outputs; inputs have known shapes."""
    shape, axis = inputs[0], view.get("axis", 1)
    if not -len(shape) <= axis <= len(shape):
        view.refuse(f"axis {axis} is outside a tensor of {len(shape)} dimensions")
    axis = axis + len(shape) if axis < 0 else axis
    return (_total(view, shape[:axis], 0), _total(view, shape[axis:], 1))


def reshape(view: NodeView, inputs: list[Shape]) -> Result:
    """Shape of the outputs; inputs have known shapes."""
    shape, target = inputs[0], view.integers(1)
    if target is None:
        return fresh_sizes(view, inputs[1])
    if target.count(-1) > 1 or any(size < -1 for size in target):
        view.refuse(f"target shape {target} is not a shape")
    keeps = [size == 0 and not view.get("allowzero", 0) for size in target]
    if any(keep and axis >= len(shape) for axis, keep in enumerate(keeps)):
        view.refuse(f"target shape {target} copies a dimension that the input {list(shape)} does not have")
    out: list[Dim] = [shape[axis] if keep else target[axis] for axis, keep in enumerate(keeps)]
    # What is copied cancels out, so a symbolic batch does not hide the size of the -1.
    given = [size for axis, size in enumerate(shape) if axis >= len(target) or not keeps[axis]]
    known = math.prod(size for size, keep in zip(target, keeps, strict=True) if not keep and size != -1)
    if all(isinstance(size, int) for size in given):
        total = math.prod(int(size) for size in given)
        if -1 in target:
            if known == 0 or total % known:
                if 0 in shape:  # copied zeros leave the -1 open
                    return tuple(view.fresh(axis) if size == -1 else size for axis, size in enumerate(out))
                view.refuse(f"{list(shape)} cannot become {target}")
            out[target.index(-1)] = total // known
        elif total != known and 0 not in shape:
            view.refuse(f"{list(shape)} cannot become {target}")
    elif -1 in target:
        symbols = [size for size in given if isinstance(size, str)]
        rest = math.prod(size for size in given if isinstance(size, int))
        axis = target.index(-1)
        out[axis] = symbols[0] if len(symbols) == 1 and rest == known else view.fresh(axis)
    return tuple(out)


def fresh_sizes(view: NodeView, lengths: Shape) -> Result:
    """As many unknown sizes as a vector of sizes has elements."""
    if len(lengths) != 1 or not isinstance(lengths[0], int):
        return None
    return tuple(view.fresh(axis) for axis in range(lengths[0]))


def transpose(view: NodeView, inputs: list[Shape]) -> Shape:
    """Shape of the outputs; inputs have known shapes."""
    rank = len(inputs[0])
    perm = view.get("perm", list(range(rank))[::-1])
    if sorted(perm) != list(range(rank)):
        view.refuse(f"perm {perm} does not permute {rank} dimensions")
    return tuple(inputs[0][axis] for axis in perm)


def squeeze(view: NodeView, inputs: list[Shape]) -> Result:
    """Shape of the outputs; inputs have known shapes."""
    shape, given = inputs[0], view.integers(1)
    if given is None:
        if view.given(1) or any(isinstance(size, str) for size in shape):
            return None
        return tuple(size for size in shape if size != 1)
    axes = {view.axis(axis, len(shape)) for axis in given}
    for axis in sorted(axes):
        if isinstance(shape[axis], int) and shape[axis] != 1:
            view.refuse(f"dimension {axis} of {list(shape)} is not 1")
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)


def unsqueeze(view: NodeView, inputs: list[Shape]) -> Result:
    """Shape of the outputs; inputs have known shapes."""
    given = view.integers(1)
    if given is None:
        return None
    rank = len(inputs[0]) + len(given)
    axes = {view.axis(axis, rank) for axis in given}
    if len(axes) != len(given):
        view.refuse(f"axes {given} name a dimension twice")
    rest = iter(inputs[0])
    return tuple(1 if axis in axes else next(rest) for axis in range(rank))


def expand(view: NodeView, inputs: list[Shape]) -> Result:
    """Shape of the outputs; inputs have known shapes."""
    target = view.integers(1)
    if target is not None:
        return broadcast(view, [inputs[0], tuple(target)])
    length = inputs[1][0] if len(inputs[1]) == 1 else None
    return tuple(view.fresh(axis) for axis in range(max(length, len(inputs[0])))) if isinstance(length, int) else None


def tile(view: NodeView, inputs: list[Shape]) -> Shape:
    """Shape of the outputs; inputs have known shapes."""
    repeats = view.integers(1) or [-1] * len(inputs[0])
    if len(repeats) != len(inputs[0]):
        view.refuse(f"{len(repeats)} repeats for {list(inputs[0])}")
    return tuple(
        size if times == 1 else size * times if isinstance(size, int) and times >= 0 else view.fresh(axis)
        for axis, (size, times) in enumerate(zip(inputs[0], repeats, strict=True))
    )


def pad(view: NodeView, inputs: list[Shape]) -> Shape:
    """Shape of the outputs; inputs have known shapes."""
    rank, pads = len(inputs[0]), view.integers(1)
    axes = view.integers(3) if view.given(3) else list(range(rank))
    if pads is None or axes is None:
        return tuple(view.fresh(axis) for axis in range(rank))
    if len(pads) != 2 * len(axes):
        view.refuse(f"{len(pads)} pads for {len(axes)} dimensions")
    out = list(inputs[0])
    for i, given in enumerate(axes):
        axis, more = view.axis(given, rank), pads[i] + pads[i + len(axes)]
        size = out[axis]
        out[axis] = size if more == 0 else size + more if isinstance(size, int) else view.fresh(axis)
    return tuple(out)


def slice_(view: NodeView, inputs: list[Shape]) -> Shape:
    """Shape of the outputs; inputs have known shapes."""
    shape, starts, ends = inputs[0], view.integers(1), view.integers(2)
    axes = view.integers(3) if view.given(3) else None if starts is None else list(range(len(starts)))
    steps = view.integers(4) if view.given(4) else None if starts is None else [1] * len(starts)
    if axes is None:
        return tuple(view.fresh(axis) for axis in range(len(shape)))
    out = list(shape)
    for i, given in enumerate(axes):
        axis = view.axis(given, len(shape))
        size = out[axis]
        if isinstance(size, int) and starts is not None and ends is not None and steps is not None and all(steps):
            out[axis] = _sliced(size, starts[i], ends[i], steps[i])
        else:
            out[axis] = view.fresh(axis)
    return tuple(out)


def _sliced(size: int, start: int, end: int, step: int) -> int:
    """How many elements a slice has: bounds are clamped as ONNX says, which for negative steps is not as in Python."""
    start, end = (bound + size if bound < 0 else bound for bound in (start, end))
    low, high = (0, size) if step > 0 else (-1, size - 1)
    start, end = min(max(start, 0), high), min(max(end, low), high)
    return max(0, -((start - end) // step))


def depth_to_space(view: NodeView, inputs: list[Shape]) -> Shape:
    """Shape of the outputs; inputs have known shapes."""
    view.rank(inputs[0], 4)
    block = view.get("blocksize", 1)
    to_space = view.node.op == "DepthToSpace"
    batch, *sizes = inputs[0]
    out: list[Dim] = [batch]
    for axis, size in enumerate(sizes, 1):
        factor = block * block if axis == 1 else block
        grows = (axis == 1) != to_space
        whole = isinstance(size, int)
        out.append((int(size) * factor if grows else int(size) // factor) if whole else view.fresh(axis))
    return tuple(out)


def resize(view: NodeView, inputs: list[Shape]) -> Shape:
    """Shape of the outputs; inputs have known shapes."""
    rank = len(inputs[0])
    axes = [view.axis(axis, rank) for axis in view.get("axes", range(rank))]
    scales, sizes = view.numbers(2), view.integers(3)
    stretch = view.get("keep_aspect_ratio_policy", "stretch") == "stretch"
    out = list(inputs[0])
    for i, axis in enumerate(axes):
        size = out[axis]
        if sizes is not None and i < len(sizes) and stretch:
            out[axis] = sizes[i]
        elif scales is not None and i < len(scales) and (isinstance(size, int) or scales[i] == 1):
            out[axis] = size if isinstance(size, str) else math.floor(size * np.float32(scales[i]))
        else:
            out[axis] = view.fresh(axis)
    return tuple(out)


def gather(view: NodeView, inputs: list[Shape]) -> Shape:
    """Shape of the outputs; inputs have known shapes."""
    data, indices = inputs
    axis = view.axis(view.get("axis", 0), len(data))
    return (*data[:axis], *indices, *data[axis + 1 :])


def gather_nd(view: NodeView, inputs: list[Shape]) -> Result:
    """Shape of the outputs; inputs have known shapes."""
    data, indices = inputs
    last = indices[-1] if indices else None
    if not isinstance(last, int):
        return None
    return (*indices[:-1], *data[view.get("batch_dims", 0) + last :])


def one_hot(view: NodeView, inputs: list[Shape]) -> Shape:
    """Shape of the outputs; inputs have known shapes."""
    indices, depth = inputs[0], view.integers(1)
    axis = view.axis(view.get("axis", -1), len(indices) + 1)
    return (*indices[:axis], view.fresh(axis) if depth is None else depth[0], *indices[axis:])
