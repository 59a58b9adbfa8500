"""Operators of TensorFlow Lite that move elements, or are about shapes: codes of integer graphs move as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bittern.errors import InputError
from bittern.importers.onnx_steps import Unsupported
from bittern.importers.tflite_file import Tensor
from bittern.importers.tflite_op import AXES_IN_NCHW, FILE, NCHW, Op, is_quantized

_FAR = 2**31 - 1  # beyond every dimension


def moved(op: Op, k: int, layout: str) -> tuple[str, bool]:
    """An input that only moves: codes where all scales agree, else numbers; and which it is."""
    return (op.plain(k, layout), False) if op.keeps_scale((k,)) else (op.real(k, layout), True)


def place(axis: int, layout: str) -> int:
    """Where a dimension of the file is."""
    return AXES_IN_NCHW[axis] if layout else axis


def kept_layout(op: Op, k: int, dropped: Sequence[int]) -> str:
    """The layout in which dimensions can be dropped so that the rest stays in the file's order."""
    if not op.layout(k):
        return FILE
    left = [AXES_IN_NCHW[axis] for axis in range(4) if axis not in dropped]
    return NCHW if left == sorted(left) else FILE


def reshape_to(op: Op, target: Sequence[int], k: int = 0) -> None:
    shape, layout = op.shape(k), FILE
    # One pixel, or one channel: both layouts have the elements in the same order.
    if op.layout(k) and (shape[1:3] == (1, 1) or shape[3] == 1):
        layout = NCHW
    pixels = [size for size in shape[1:] if isinstance(size, int)]
    if op.layout(k) and len(pixels) == 3 and op.keeps_scale((k,)):
        rows, columns = shape[0], int(np.prod(pixels))
        if list(target) in ([rows, columns], [-1, columns], [rows, -1]):
            op.importer.flattened[op.operator.outputs[0]] = op.index(k)
    value, numbers = moved(op, k, layout)
    op.result(op.emit("Reshape", [value, op.int64("shape", target)]), numbers=numbers)


def reshape(op: Op) -> None:
    target = _target(op)
    if target is not None:
        reshape_to(op, target)
        return
    value, numbers = moved(op, 0, FILE)
    shape = op.emit("Cast", [op.plain(1)], to="i64")
    op.result(op.emit("Reshape", [value, shape]), numbers=numbers)


def _target(op: Op) -> list[int] | None:
    """The new shape: of the second input, else of the options, else what the file says of the output."""
    if op.has(1) and op.is_constant(1):
        target = op.integers(1, "a shape")
    elif not op.has(1):
        target = [int(size) for size in op.option("NewShape", [])] or list(op.output().shape)
    else:
        signature = op.output().signature
        if not signature or signature.count(-1) > 1:
            return None
        target = list(signature)
    if any(size < -1 for size in target) or target.count(-1) > 1:
        raise InputError("shape", f"is {target}, expected sizes, and -1 once at most")
    if 0 in target:
        raise Unsupported("RESHAPE to a shape with a zero in it is not supported")
    return target


def squeeze(op: Op) -> None:
    shape = op.shape(0)
    given = [op.axis(int(axis), len(shape)) for axis in op.option("SqueezeDims", [])]
    axes = sorted(set(given or [axis for axis, size in enumerate(shape) if size == 1]))
    layout = kept_layout(op, 0, axes)
    value, numbers = moved(op, 0, layout)
    op.result(op.emit("Squeeze", [value, op.int64("axes", [place(a, layout) for a in axes])]), numbers=numbers)


def expand_dims(op: Op) -> None:
    (axis,) = op.integers(1, "an axis") or [0]
    value, numbers = moved(op, 0, FILE)
    axes = op.int64("axes", [op.axis(axis, op.rank(0) + 1)])
    op.result(op.emit("Unsqueeze", [value, axes]), numbers=numbers)


def transpose(op: Op) -> None:
    perm, rank = op.integers(1, "a permutation"), op.rank(0)
    if sorted(perm) != list(range(rank)):
        raise InputError("permutation", f"is {perm}, the value has {rank} dimensions")
    layout = op.layout(0)
    value, numbers = moved(op, 0, layout)
    op.result(op.emit("Transpose", [value], perm=[place(axis, layout) for axis in perm]), numbers=numbers)


def concatenation(op: Op) -> None:
    inputs = range(len(op.operator.inputs))
    rank = op.rank(0)
    axis = op.axis(int(op.option("Axis")), rank)
    layout = NCHW if rank == 4 and any(op.layout(k) for k in inputs) else FILE
    codes = op.keeps_scale(inputs) and not op.option("FusedActivationFunction")
    values = [op.plain(k, layout) if codes else op.real(k, layout) for k in inputs]
    value = op.emit("Concat", values, axis=place(axis, layout))
    op.result(value if codes else op.activated(value), layout=layout, numbers=not codes)


def split(axis_input: int, value_input: int) -> Callable[[Op], None]:
    def translate(op: Op) -> None:
        k = value_input
        (axis,) = op.integers(axis_input, "an axis") or [0]
        axis = op.axis(axis, op.rank(k))
        layout = op.layout(k)
        value, numbers = moved(op, k, layout)
        inputs = [value]
        if op.kind == "SPLIT_V":
            sizes, whole = op.integers(1, "sizes"), op.shape(k)[axis]
            if -1 in sizes and isinstance(whole, int):
                sizes[sizes.index(-1)] = whole - sum(size for size in sizes if size != -1)
            if len(sizes) != op.outputs or min(sizes) < 0:
                raise InputError("sizes", f"are {sizes} of {whole} for {op.outputs} outputs")
            inputs.append(op.int64("sizes", sizes))
        elif isinstance(whole := op.shape(k)[axis], int) and whole % op.outputs:
            raise InputError("input", f"has {whole} entries along axis {axis}, not a multiple of {op.outputs}")
        count = {} if len(inputs) > 1 else {"num_outputs": op.outputs}
        names = op.emit_many("Split", inputs, op.outputs, axis=place(axis, layout), **count)
        for i, name in enumerate(names):
            op.result(name, i, layout, numbers)

    return translate


def unpack(op: Op) -> None:
    rank = op.rank(0)
    axis = op.axis(int(op.option("Axis")), rank)
    layout = kept_layout(op, 0, [axis])
    value, numbers = moved(op, 0, layout)
    names = op.emit_many("Split", [value], op.outputs, axis=place(axis, layout), num_outputs=op.outputs)
    axes = op.int64("axes", [place(axis, layout)])
    for i, name in enumerate(names):
        op.result(op.emit("Squeeze", [name, axes]), i, numbers=numbers)


def pack(op: Op) -> None:
    inputs = range(len(op.operator.inputs))
    axis = op.axis(int(op.option("Axis")), op.rank(0) + 1)
    codes, axes = op.keeps_scale(inputs), op.int64("axes", [axis])
    values = [op.emit("Unsqueeze", [op.plain(k) if codes else op.real(k), axes]) for k in inputs]
    op.result(op.emit("Concat", values, axis=axis), numbers=not codes)


def _sliced(op: Op, begins: Sequence[int], ends: Sequence[int], steps: Sequence[int], dropped: Sequence[int]) -> None:
    """The part of input 0 from begins to ends; the dimensions that are dropped have one entry left."""
    layout = kept_layout(op, 0, dropped)
    value, numbers = moved(op, 0, layout)
    axes = [a for a in range(len(begins)) if (begins[a], steps[a]) != (0, 1) or ends[a] < _FAR]
    if axes:
        parts = [[part[a] for a in axes] for part in (begins, ends)]
        names = [op.int64(role, part) for role, part in zip(("starts", "ends"), parts, strict=True)]
        names += [op.int64("axes", [place(a, layout) for a in axes]), op.int64("steps", [steps[a] for a in axes])]
        value = op.emit("Slice", [value, *names])
    if dropped:
        value = op.emit("Squeeze", [value, op.int64("dropped", [place(a, layout) for a in dropped])])
    op.result(value, layout=FILE if dropped else layout, numbers=numbers)


def slice_(op: Op) -> None:
    begins, sizes, shape = op.integers(1, "begins"), op.integers(2, "sizes"), op.shape(0)
    if not len(begins) == len(sizes) == len(shape) or min([*begins, *(size + 1 for size in sizes)], default=0) < 0:
        raise InputError("begins and sizes", f"are {begins} and {sizes} for an input of shape {list(shape)}")
    ends = [_FAR if size == -1 else begin + size for begin, size in zip(begins, sizes, strict=True)]
    for end, size in zip(ends, shape, strict=True):
        if isinstance(size, int) and size < end < _FAR:
            raise InputError("begins and sizes", f"are {begins} and {sizes}, beyond shape {list(shape)}")
    _sliced(op, begins, ends, [1] * len(begins), [])


def strided_slice(op: Op) -> None:
    shape = op.shape(0)
    begins, ends, steps = (op.integers(k, what) for k, what in ((1, "begins"), (2, "ends"), (3, "strides")))
    if not len(begins) == len(ends) == len(steps) <= len(shape) or 0 in steps:
        raise InputError("begins, ends, strides", f"are {begins}, {ends}, {steps} for shape {list(shape)}")
    for mask, what in (("EllipsisMask", "an ellipsis"), ("NewAxisMask", "new axes"), ("Offset", "ends as offsets")):
        if op.option(mask):
            raise Unsupported(f"STRIDED_SLICE with {what} is not supported")
    dropped = []
    for axis in range(len(begins)):
        bit = 1 << axis
        if op.option("ShrinkAxisMask") & bit:
            dropped.append(axis)
            size = shape[axis]
            if isinstance(size, int) and not -size <= begins[axis] < size:
                raise InputError("begins", f"are {begins} for shape {list(shape)}")
            steps[axis] = 1
            ends[axis] = begins[axis] + 1 if begins[axis] != -1 else _FAR
            continue
        if op.option("BeginMask") & bit:
            begins[axis] = 0 if steps[axis] > 0 else _FAR
        if op.option("EndMask") & bit:
            ends[axis] = _FAR if steps[axis] > 0 else -_FAR
    rest = len(shape) - len(begins)
    _sliced(op, begins + [0] * rest, ends + [_FAR] * rest, steps + [1] * rest, dropped)


def _paddings(op: Op) -> tuple[list[tuple[int, int]], list[int]]:
    """Entries before and after each dimension, and the dimensions that have any."""
    flat, rank = op.integers(1, "paddings"), op.rank(0)
    if len(flat) != 2 * rank or min(flat, default=0) < 0:
        raise InputError("paddings", f"are {flat} for {rank} dimensions")
    pairs = list(zip(flat[::2], flat[1::2], strict=True))
    return pairs, [axis for axis, pair in enumerate(pairs) if any(pair)]


def _pad_inputs(op: Op, pairs: Sequence[tuple[int, int]], axes: Sequence[int], layout: str) -> list[str]:
    pads = [pairs[axis][side] for side in (0, 1) for axis in axes]
    return [op.int64("pads", pads), op.int64("axes", [place(axis, layout) for axis in axes])]


def pad(op: Op) -> None:
    pairs, axes = _paddings(op)
    layout = op.layout(0)
    codes = op.is_quantized() and op.keeps_scale() and (not op.has(2) or op.keeps_scale((0, 2)))
    if not op.is_quantized() or codes:
        x = op.plain(0, layout)
        fill = op.plain(2) if op.has(2) else _zero_code(op, op.tensor(0))
    else:
        x, fill = op.real(0, layout), op.real(2) if op.has(2) else ""
    if not axes:
        op.result(op.emit("Identity", [x]), layout=layout, numbers=not codes)
        return
    pads, names = _pad_inputs(op, pairs, axes, layout)
    plane = op.rank(0) == 4 and set(axes) <= {1, 2} and not op.is_constant(0)
    if plane and op.keeps_scale() and not op.has(2):
        sides = [pairs[axis][side] for side in (0, 1) for axis in (1, 2)]
        op.importer.padded[op.operator.outputs[0]] = (op.index(0), sides)
    if fill and op.has(2) and op.rank(2):
        fill = op.emit("Reshape", [fill, op.int64("scalar", [])])
    op.result(op.emit("Pad", [x, pads, fill, names]), layout=layout, numbers=not codes)


def _zero_code(op: Op, tensor: Tensor) -> str:
    """The code that means zero; nothing for plain numbers."""
    if not is_quantized(tensor) or tensor.quantization is None:
        return ""
    return op.importer.scale_of(tensor.index)[1]


def mirror_pad(op: Op) -> None:
    pairs, axes = _paddings(op)
    layout = op.layout(0)
    value, numbers = moved(op, 0, layout)
    mode = op.option("Mode")
    if not axes:
        value = op.emit("Identity", [value])
    elif mode == 0:
        pads, names = _pad_inputs(op, pairs, axes, layout)
        value = op.emit("Pad", [value, pads, "", names], mode="reflect")
    elif mode == 1:
        value = _symmetric(op, value, pairs, axes, layout)
    else:
        raise InputError("option Mode", f"is {mode}, expected 0 (REFLECT) or 1 (SYMMETRIC)")
    op.result(value, layout=layout, numbers=numbers)


def _symmetric(op: Op, value: str, pairs: Sequence[tuple[int, int]], axes: Sequence[int], layout: str) -> str:
    """Mirrored with the edge itself, which ONNX has no mode for: turned slices before and behind."""
    for axis in axes:
        (before, after), size = pairs[axis], op.shape(0)[axis]
        if isinstance(size, int) and max(before, after) > size:
            raise InputError("paddings", f"are {list(pairs)} for shape {list(op.shape(0))}")
        where, back = op.int64("axes", [place(axis, layout)]), op.int64("steps", [-1])
        parts = [value]
        if before:
            ends = [op.int64("starts", [before - 1]), op.int64("ends", [-_FAR])]
            parts.insert(0, op.emit("Slice", [value, *ends, where, back]))
        if after:
            ends = [op.int64("starts", [-1]), op.int64("ends", [-after - 1])]
            parts.append(op.emit("Slice", [value, *ends, where, back]))
        value = op.emit("Concat", parts, axis=place(axis, layout))
    return value


def gather(op: Op) -> None:
    if op.option("BatchDims"):
        raise Unsupported("GATHER with batch dimensions is not supported")
    value, numbers = moved(op, 0, FILE)
    axis = op.axis(int(op.option("Axis")), op.rank(0))
    op.result(op.emit("Gather", [value, op.plain(1)], axis=axis), numbers=numbers)


def shape_of(op: Op) -> None:
    shape, dtype = op.shape(0), op.output().dtype
    if dtype not in ("i32", "i64"):
        raise InputError("output", f"has type {dtype}, expected i32 or i64")
    if all(isinstance(size, int) for size in shape):
        sizes = np.array(shape, np.int32 if dtype == "i32" else np.int64)
        op.result(op.emit("Identity", [op.importer.add_constant(f"{op.base}.value", sizes)]), numbers=False)
        return
    value = op.emit("Shape", [op.plain(0)])
    op.result(value if dtype == "i64" else op.emit("Cast", [value], to="i32"), numbers=False)


def tile(op: Op) -> None:
    repeats = op.integers(1, "repeats")
    value, numbers = moved(op, 0, FILE)
    op.result(op.emit("Tile", [value, op.int64("repeats", repeats)]), numbers=numbers)


def broadcast_to(op: Op) -> None:
    target = op.integers(1, "a shape")
    value, numbers = moved(op, 0, FILE)
    op.result(op.emit("Expand", [value, op.int64("shape", target)]), numbers=numbers)


def blocks(name: str) -> Callable[[Op], None]:
    def translate(op: Op) -> None:
        if op.rank(0) != 4:
            raise InputError("input", f"has {op.rank(0)} dimensions, expected 4")
        value, numbers = moved(op, 0, NCHW)
        op.result(op.emit(name, [value], blocksize=op.positive("BlockSize")), layout=NCHW, numbers=numbers)

    return translate


def _blocks_of_batch(op: Op) -> tuple[list[int], list[int], list[list[int]]]:
    """Height and width, the block, and entries before and after in height and width."""
    if op.rank(0) != 4:
        raise Unsupported(f"{op.kind} of {op.rank(0)} dimensions is not supported (supported: 4)")
    size = [n for n in op.shape(0)[1:] if isinstance(n, int)]
    if len(size) != 3:
        raise Unsupported(f"{op.kind} of an image of unknown size is not supported")
    block, edges = op.integers(1, "a block"), op.integers(2, "edges")
    if len(block) != 2 or min(block) < 1 or len(edges) != 4 or min(edges) < 0:
        raise InputError("block and edges", f"are {block} and {edges}")
    return size, block, [edges[:2], edges[2:]]


def space_to_batch(op: Op) -> None:
    """Every pixel of a block becomes an image of its own: the offset is the slow part of the batch."""
    (height, width, channels), (rows, columns), edges = _blocks_of_batch(op)
    value, numbers = moved(op, 0, FILE)
    if numbers and op.is_quantized():
        raise Unsupported("SPACE_TO_BATCH_ND that changes the scale is not supported")
    height, width = height + sum(edges[0]), width + sum(edges[1])
    if height % rows or width % columns:
        raise InputError("block", f"is {rows} x {columns} for a padded image of {height} x {width}")
    if any(map(any, edges)):
        pads = op.int64("pads", [edges[0][0], edges[1][0], edges[0][1], edges[1][1]])
        value = op.emit("Pad", [value, pads, _zero_code(op, op.tensor(0)), op.int64("axes", [1, 2])])
    target = [-1, height // rows, rows, width // columns, columns, channels]
    value = op.emit("Reshape", [value, op.int64("blocks", target)])
    value = op.emit("Transpose", [value], perm=[2, 4, 0, 1, 3, 5])
    target = [-1, height // rows, width // columns, channels]
    op.result(op.emit("Reshape", [value, op.int64("shape", target)]), numbers=numbers)


def batch_to_space(op: Op) -> None:
    (height, width, channels), (rows, columns), edges = _blocks_of_batch(op)
    value, numbers = moved(op, 0, FILE)
    target = [rows, columns, -1, height, width, channels]
    value = op.emit("Reshape", [value, op.int64("blocks", target)])
    value = op.emit("Transpose", [value], perm=[2, 3, 0, 4, 1, 5])
    value = op.emit("Reshape", [value, op.int64("shape", [-1, height * rows, width * columns, channels])])
    if any(map(any, edges)):
        starts, ends = [edge[0] for edge in edges], [height * rows - edges[0][1], width * columns - edges[1][1]]
        if any(start >= end for start, end in zip(starts, ends, strict=True)):
            raise InputError("crops", f"are {edges} of an image of {height * rows} x {width * columns}")
        inputs = [op.int64("starts", starts), op.int64("ends", ends), op.int64("axes", [1, 2])]
        value = op.emit("Slice", [value, *inputs])
    op.result(value, numbers=numbers)


def cast(op: Op) -> None:
    if op.is_quantized() or is_quantized(op.output()):
        raise Unsupported("CAST of quantized values is not supported")
    layout = op.layout(0)
    op.result(op.emit("Cast", [op.plain(0, layout)], to=op.output().dtype), layout=layout)


def quantize(op: Op) -> None:
    """Numbers to codes, or codes to codes of another scale."""
    if not is_quantized(op.output()):
        raise InputError("output", f"has type {op.output().dtype} and no scale")
    layout = op.layout(0)
    op.result(op.real(0, layout), layout=layout)


def dequantize(op: Op) -> None:
    """Codes to numbers; a constant stays the constant it is."""
    tensor = op.tensor(0)
    if op.output().dtype != "f32":
        raise InputError("output", f"has type {op.output().dtype}, expected f32")
    if op.is_constant(0):
        if not is_quantized(tensor) and tensor.dtype not in ("f16", "f32", "i4"):
            raise InputError("input", f"has type {tensor.dtype} and no scale")
        op.importer.constants[op.operator.outputs[0]] = tensor
        return
    if not op.is_quantized():
        raise Unsupported(f"DEQUANTIZE of computed values of type {tensor.dtype} without a scale is not supported")
    layout = op.layout(0)
    op.result(op.decoded(op.plain(0, layout), 0), layout=layout)


MOVES: dict[str, Callable[[Op], None]] = {
    "BATCH_TO_SPACE_ND": batch_to_space,
    "BROADCAST_TO": broadcast_to,
    "CAST": cast,
    "CONCATENATION": concatenation,
    "DEPTH_TO_SPACE": blocks("DepthToSpace"),
    "DEQUANTIZE": dequantize,
    "EXPAND_DIMS": expand_dims,
    "GATHER": gather,
    "MIRROR_PAD": mirror_pad,
    "PACK": pack,
    "PAD": pad,
    "PADV2": pad,
    "QUANTIZE": quantize,
    "RESHAPE": reshape,
    "SHAPE": shape_of,
    "SLICE": slice_,
    "SPACE_TO_BATCH_ND": space_to_batch,
    "SPACE_TO_DEPTH": blocks("SpaceToDepth"),
    "SPLIT": split(0, 1),
    "SPLIT_V": split(2, 0),
    "SQUEEZE": squeeze,
    "STRIDED_SLICE": strided_slice,
    "TILE": tile,
    "TRANSPOSE": transpose,
    "UNPACK": unpack,
}
"""Translations by name."""
