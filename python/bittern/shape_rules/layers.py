"""Shapes that layers give: convolution, pooling, matrix products, recurrence."""

from __future__ import annotations

from collections.abc import Sequence

from bittern.shape_rules.view import Dim, NodeView, Result, Shape, broadcast


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


def _window_attributes(view: NodeView, kernel: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """Strides, dilations, pads, all checked."""
    rank = len(kernel)
    strides = view.get("strides", [1] * rank)
    dilations = view.get("dilations", [1] * rank)
    pads = view.get("pads", [0] * 2 * rank)
    if not (len(strides) == len(dilations) == rank and len(pads) == 2 * rank):
        view.refuse(f"strides, dilations and pads do not fit a kernel of {rank} dimensions")
    if min([*strides, *dilations, *kernel]) < 1 or min(pads) < 0:
        view.refuse("strides, dilations and kernel sizes must be positive, pads must not be negative")
    return strides, dilations, pads


def _windows(view: NodeView, shape: Shape, kernel: Sequence[int], channels: Dim) -> Shape:
    strides, dilations, pads = _window_attributes(view, kernel)
    out: list[Dim] = [shape[0], channels]
    ceil = bool(view.get("ceil_mode", 0))
    for i, reach in enumerate(kernel):
        total = pads[i] + pads[i + len(kernel)]
        size = _window(shape[2 + i], reach, strides[i], total, dilations[i], view.get("auto_pad", "NOTSET"), ceil)
        if isinstance(size, int) and ceil and isinstance(shape[2 + i], int):
            # A last window that would start in the padding behind the input is dropped.
            size -= int((size - 1) * strides[i] >= int(shape[2 + i]) + pads[i] and size > 1)
        if isinstance(size, int) and size < 1:
            view.refuse(f"a kernel of {list(kernel)} does not fit the input {list(shape)}")
        out.append(view.fresh(2 + i) if size is None else size)
    return tuple(out)


def _kernel(view: NodeView, weight: Shape) -> list[int] | None:
    """The sizes of a weight's window; None if they are symbols without an attribute that tells them."""
    sizes = [size for size in weight[2:] if isinstance(size, int)]
    known = len(sizes) == len(weight) - 2
    kernel = list(view.get("kernel_shape", sizes))
    if known and kernel != sizes:
        view.refuse(f"kernel_shape is {kernel}, the weight has {sizes}")
    return kernel if len(kernel) == len(weight) - 2 else None


def _of_groups(view: NodeView, data: Shape, weight: Shape) -> int | None:
    """The second dimension of a convolution's weight in all groups together; None if it is not known."""
    if len(data) < 3:
        view.rank(data, 4)
    view.rank(weight, len(data))
    group: int = view.get("group", 1)
    return weight[1] * group if isinstance(weight[1], int) else None


def conv(view: NodeView, inputs: list[Shape]) -> Result:
    """Shape of the outputs; inputs have known shapes."""
    data, weight = inputs[0], inputs[1]
    channels = _of_groups(view, data, weight)
    if channels is not None and isinstance(data[1], int) and data[1] != channels:
        view.refuse(f"the input has {data[1]} channels, the weight takes {channels}")
    kernel = _kernel(view, weight)
    if kernel is None:
        return (data[0], weight[0], *(view.fresh(axis) for axis in range(2, len(data))))
    return _windows(view, data, kernel, weight[0])


def winograd_conv(view: NodeView, inputs: list[Shape]) -> Result:
    """Shape of the outputs; inputs have known shapes."""
    data, weight = inputs[0], inputs[1]
    view.rank(data, 4)
    view.rank(weight, 4)
    side = view.get("m", 2) + 2
    if any(isinstance(size, int) and size != side for size in weight[2:]):
        view.refuse(f"m is {side - 2}, the weight {list(weight)} needs tiles of {side} x {side}")
    if isinstance(weight[1], int) and isinstance(data[1], int) and data[1] != weight[1]:
        view.refuse(f"the input has {data[1]} channels, the weight takes {weight[1]}")
    return _windows(view, data, [3, 3], weight[0])


def conv_transpose(view: NodeView, inputs: list[Shape]) -> Result:
    """Shape of the outputs; inputs have known shapes."""
    data, weight = inputs[0], inputs[1]
    known = _of_groups(view, data, weight)
    channels = view.fresh(1) if known is None else known
    kernel = _kernel(view, weight)
    wanted = view.get("output_shape", [])[-(len(data) - 2) :]
    if wanted:
        return (data[0], channels, *wanted)
    out: list[Dim] = [data[0], channels]
    extra = view.get("output_padding", [0] * (len(data) - 2))
    for i in range(len(data) - 2):
        size = data[2 + i]
        if kernel is None or isinstance(size, str) or len(extra) <= i:
            out.append(view.fresh(2 + i))
            continue
        strides, dilations, pads = _window_attributes(view, kernel)
        if view.get("auto_pad", "NOTSET").startswith("SAME"):
            out.append(size * strides[i])
        else:
            total = pads[i] + pads[i + len(kernel)]
            out.append(strides[i] * (size - 1) + extra[i] + (kernel[i] - 1) * dilations[i] + 1 - total)
    return tuple(out)


def pool(view: NodeView, inputs: list[Shape]) -> Result:
    """Shape of the outputs; inputs have known shapes."""
    kernel = view.get("kernel_shape", [])
    if len(inputs[0]) != len(kernel) + 2:
        view.refuse(f"kernel_shape is {kernel} for an input {list(inputs[0])}")
    return [_windows(view, inputs[0], kernel, inputs[0][1])] * len(view.node.outputs)


def global_pool(view: NodeView, inputs: list[Shape]) -> Shape:
    """Shape of the outputs; inputs have known shapes."""
    return (*inputs[0][:2], *(1 for _ in inputs[0][2:]))


def gemm(view: NodeView, inputs: list[Shape]) -> Shape:
    """Shape of the outputs; inputs have known shapes."""
    view.rank(inputs[0], 2)
    view.rank(inputs[1], 2)
    a = inputs[0][::-1] if view.get("transA", 0) else inputs[0]
    b = inputs[1][::-1] if view.get("transB", 0) else inputs[1]
    if isinstance(a[1], int) and isinstance(b[0], int) and a[1] != b[0]:
        view.refuse(f"shapes {list(inputs[0])} and {list(inputs[1])} do not multiply")
    return (a[0], b[1])


def matmul(view: NodeView, inputs: list[Shape]) -> Shape:
    """Shape of the outputs; inputs have known shapes."""
    a, b = inputs[:2]
    if not a or not b:
        view.refuse("scalars do not multiply as matrices")
    inner = b[-2] if len(b) > 1 else b[0]
    if isinstance(a[-1], int) and isinstance(inner, int) and a[-1] != inner:
        view.refuse(f"shapes {list(a)} and {list(b)} do not multiply")
    batch = broadcast(view, [a[:-2], b[:-2]])
    return (*batch, *a[-2:-1], *b[-1:][: len(b) - 1])


def layer_norm(view: NodeView, inputs: list[Shape]) -> Result:
    """Shape of the outputs; inputs have known shapes."""
    axis = view.axis(view.get("axis", -1), len(inputs[0]))
    statistics = (*inputs[0][:axis], *(1 for _ in inputs[0][axis:]))
    return [inputs[0], statistics, statistics]


def recurrent(view: NodeView, inputs: list[Shape]) -> Result:
    """Shape of the outputs; inputs have known shapes."""
    view.rank(inputs[0], 3)
    view.rank(inputs[2], 3)
    layout = view.get("layout", 0)
    steps, batch = inputs[0][layout], inputs[0][1 - layout]
    directions, hidden = inputs[2][0], inputs[2][2]
    last: Shape = (batch, directions, hidden) if layout else (directions, batch, hidden)
    every: Shape = (batch, steps, directions, hidden) if layout else (steps, directions, batch, hidden)
    return [every, last, last]
