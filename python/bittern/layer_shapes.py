"""Shapes of layers to measure kernels on: read from text files or the command line, built as one-layer networks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bittern.encodings import Affine, Codebook, Dense, Encoding, Packed
from bittern.errors import InputError
from bittern.network import Network

LAYER = "layer"
"""Name of the measured node; copies have a number behind it."""

_OPERATOR_LOOPS = {
    "maxpool": "maxpool",
    "avgpool": "avgpool",
    "add": "eltwise",
    "relu": "eltwise",
    "gate": "broadcast",
    "batchnorm": "affine",
    "lrn": "lrn",
    "sigmoid": "eltwise",
    "tanh": "eltwise",
    "softmax": "softmax",
    "transpose": "strided_copy",
    "reorder": "reorder",
    "shuffle": "channel_shuffle",
}


@dataclass(frozen=True)
class Kind:
    """What a shape's layer computes, the loops whose kernels may run it, and the bytes of its numbers."""

    operator: str
    loops: tuple[str, ...]
    read: int = 4
    written: int = 4
    weight_bits: int = 32

    @property
    def weighted(self) -> bool:
        """Whether there are products with weights."""
        return self.operator in ("conv", "depthwise", "fc")

    @property
    def codes(self) -> bool:
        """Whether it computes on 8-bit codes, so that its products are of bytes."""
        return self.read == self.written == 1


KINDS = {
    "conv": Kind("conv", ("gemm", "winograd", "depthwise")),
    "depthwise": Kind("depthwise", ("depthwise", "gemm")),
    "fc": Kind("fc", ("gemm",)),
    **{f"fc_w{bits}": Kind("fc", ("gemv_f32", "gemm_f32", "gemm"), weight_bits=bits) for bits in (8, 4, 2)},
    "fc_w2c": Kind("fc", ("gemv_f32", "gemm_f32", "gemm"), weight_bits=2),
    **{f"conv_w{bits}": Kind("conv", ("gemm_f32", "gemm", "winograd"), weight_bits=bits) for bits in (2, 4, 8)},
    **{kind: Kind(kind, (loop,)) for kind, loop in _OPERATOR_LOOPS.items()},
    "conv_u8": Kind("conv", ("gemm_u8", "depthwise_u8"), 1, 1, 8),
    "depthwise_u8": Kind("depthwise", ("depthwise_u8", "gemm_u8"), 1, 1, 8),
    "fc_u8": Kind("fc", ("gemv_u8", "gemm_u8"), 1, 1, 8),
    **{f"fc_u8_w{bits}": Kind("fc", ("gemv_u8", "gemm_u8"), 1, 1, bits) for bits in (2, 3, 4, 5, 6)},
    **{f"{kind}_u8": Kind(kind, (f"{kind}_u8",), 1, 1) for kind in ("maxpool", "avgpool", "add")},
    "table_u8": Kind("table", ("table_u8",), 1, 1),
    "reorder_u8": Kind("reorder", ("reorder_codes",), 1, 1),
    "quantize": Kind("quantize", ("quantize_f32",), 4, 1),
    "dequantize": Kind("dequantize", ("dequantize_u8",), 1, 4),
    "thresholds": Kind("thresholds", ("threshold_u8",), 4, 1),
}
"""Kinds of layers. ``u8``: they read and write 8-bit codes; ``w8``, ``w4``, ``w2``: their weights have so many bits;
``w2c``: and a table of each channel."""

_COLUMNS = "kind count channels height width outputs kernel stride pads groups"
_SPEC = (
    "write KIND:CxHxW,outputs=O,kernel=K,stride=S,pad=P,groups=G, for example conv:64x56x56,outputs=64,kernel=3,pad=1"
)
_LARGEST = 1 << 30


@dataclass(frozen=True)
class LayerShape:
    """A layer as a kernel sees it. ``pads``: top, left, bottom, right; kernel and stride are square.

    ``channels``, ``height`` and ``width`` are of one image of the input. ``fc`` and ``softmax`` use channels alone.
    ``kind`` is one of :data:`KINDS`.
    """

    kind: str
    channels: int
    height: int = 1
    width: int = 1
    outputs: int = 0
    kernel: int = 1
    stride: int = 1
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1

    @property
    def about(self) -> Kind:
        """What the kind means."""
        return KINDS[self.kind]

    @property
    def output_size(self) -> tuple[int, int]:
        """Height and width of the output."""
        top, left, bottom, right = self.pads
        return (
            (self.height + top + bottom - self.kernel) // self.stride + 1,
            (self.width + left + right - self.kernel) // self.stride + 1,
        )

    @property
    def weights(self) -> int:
        """Number of weights, biases not counted."""
        return self.outputs * (self.channels // self.groups) * self.kernel**2 if self.about.weighted else 0

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights as they are read."""
        return self.weights * self.about.weight_bits // 8

    @property
    def macs(self) -> int:
        """Products with a weight for one image."""
        return math.prod(self.output_size) * self.weights

    def elements(self, batch: int) -> tuple[int, int]:
        """Numbers read, without the weights, and numbers written."""
        each = self.channels * self.height * self.width
        read = {"add": 2 * each, "gate": each + self.channels}.get(self.about.operator, each)
        outputs = self.outputs if self.about.weighted else self.channels
        return batch * read, batch * outputs * math.prod(self.output_size)

    def traffic(self, batch: int) -> tuple[int, int]:
        """Bytes read, weights included, and bytes written: each once."""
        read, written = self.elements(batch)
        return read * self.about.read + self.weight_bytes, written * self.about.written

    def __str__(self) -> str:
        plane = f"{self.height}x{self.width}"
        window = f" {self.kernel}x{self.kernel}" + (f" /{self.stride}" if self.stride > 1 else "")
        if any(self.pads):
            same = len(set(self.pads)) == 1
            window += " pad " + (str(self.pads[0]) if same else "/".join(map(str, self.pads)))
        operator = self.about.operator
        if operator == "fc":
            return f"{self.kind} {self.channels} -> {self.outputs}"
        if operator == "conv":
            groups = f" groups {self.groups}" if self.groups > 1 else ""
            return f"{self.kind} {self.channels}x{plane} -> {self.outputs}{window}{groups}"
        if operator in ("depthwise", "maxpool", "avgpool"):
            return f"{self.kind} {self.channels}x{plane}{window}"
        return f"{self.kind} {self.channels}" + (f"x{plane}" if self.height * self.width > 1 else "")

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, strings and lists."""
        return asdict(self) | {"pads": list(self.pads), "million_macs": self.macs / 1e6}


@dataclass(frozen=True)
class ShapeSet:
    """Named shapes, each with the number of times it occurs in its network."""

    name: str
    shapes: tuple[tuple[LayerShape, int], ...]

    def on_codes(self) -> ShapeSet:
        """The same layers on 8-bit codes; those that have no such form are left out. InputError if none is left."""
        shapes = []
        for shape, count in self.shapes:
            kind = shape.kind if shape.about.codes else f"{shape.kind}_u8"
            if kind in KINDS:
                shapes.append((replace(shape, kind=kind), count))
        if not shapes:
            raise InputError(f"--int8 {self.name}", "no layer has a form on 8-bit codes", "leave --int8 out")
        return ShapeSet(self.name, tuple(shapes))


def read_shapes(path: Path) -> ShapeSet:
    """The shapes of a text file: a layer per line, ``#`` starts a remark.

    Columns: kind, count, channels, height, width, outputs, kernel, stride, pads (top,left,bottom,right), groups; what
    follows is not read. InputError names the line that is wrong.
    """
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError:
        raise InputError(str(path), "is not a text file", f"columns are {_COLUMNS}") from None
    shapes = []
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.partition("#")[0].split()
        if not fields:
            continue
        place = f"{path}, line {number}"
        if len(fields) < 10:
            raise InputError(place, f"{len(fields)} columns", f"there must be at least 10: {_COLUMNS}")
        try:
            count, channels, height, width, outputs, kernel, stride = map(int, fields[1:8])
            pads, groups = _pads(fields[8].split(",")), int(fields[9])
        except ValueError as error:
            raise InputError(place, f"not a number ({error})", f"columns are {_COLUMNS}") from None
        shape = LayerShape(fields[0], channels, height, width, outputs, kernel, stride, pads, groups)
        if count < 1:
            raise InputError(place, f"count {count}", "at least 1 is allowed")
        shapes.append((_checked(shape, place, f"columns are {_COLUMNS}"), count))
    if not shapes:
        raise InputError(str(path), "holds no shapes", f"columns are {_COLUMNS}")
    return ShapeSet(path.stem, tuple(shapes))


def parse_shape(text: str) -> LayerShape:
    """``KIND:CxHxW,key=value,...`` with the keys outputs, kernel, stride, pad and groups. InputError for all else."""
    place = f"--shape {text}"
    kind, _, rest = text.partition(":")
    sizes, *options = rest.split(",")
    values = {"outputs": 0, "kernel": 1, "stride": 1, "groups": 0}
    pads = (0, 0, 0, 0)
    try:
        plane = [int(size) for size in sizes.split("x")]
        if len(plane) > 3:
            raise ValueError(sizes)
        for option in options:
            key, _, value = option.partition("=")
            if key == "pad":
                pads = _pads(value.split("/"))
            elif key in values:
                values[key] = int(value)
            else:
                raise ValueError(option)
    except ValueError:
        raise InputError(place, "is no shape", _SPEC) from None
    channels, height, width = [*plane, 1, 1][:3]
    operator = KINDS[kind].operator if kind in KINDS else ""
    values["groups"] = values["groups"] or (channels if operator == "depthwise" else 1)
    values["outputs"] = values["outputs"] or (0 if operator in ("conv", "fc") else channels)
    return _checked(LayerShape(kind, channels, height, width, pads=pads, **values), place, _SPEC)


def shape_folders() -> list[Path]:
    """Where named sets of shapes are looked for: in the source tree, below the current folder, in the package."""
    package = Path(__file__).resolve().parent
    folders = [package.parent.parent / "benchmarks" / "shapes", Path("benchmarks/shapes"), package / "data" / "shapes"]
    return [folder for folder in folders if folder.is_dir()]


def shape_names() -> list[str]:
    """Names of the sets that :func:`named_shapes` finds."""
    return sorted({path.stem for folder in shape_folders() for path in folder.glob("*.txt")})


def named_shapes(name: str) -> ShapeSet:
    """The set of that name. InputError if there is none."""
    if name in shape_names():
        for folder in shape_folders():
            if (folder / f"{name}.txt").is_file():
                return read_shapes(folder / f"{name}.txt")
    raise InputError(f"--network {name}", "no shapes of that name", f"there are {', '.join(shape_names())}")


def one_layer(shape: LayerShape, batch: int = 1, copies: int = 1) -> Network:
    """A network of the layer alone, named ``layer``; with several copies, each has its own weights and the same input.

    Weights repeat some random numbers: their values do not matter for time.
    """
    net = Network(str(shape))
    size: tuple[int, ...] = (batch, shape.channels, shape.height, shape.width)
    if shape.about.operator in ("fc", "softmax"):
        size = (batch, shape.channels)
    elif shape.kind == "batchnorm":  # of rank 3 or 4 it would run as a depthwise layer
        size = (batch, shape.channels, 1, shape.height, shape.width)
    net.add_input("x", size, "u8" if shape.about.read == 1 else "f32")
    add = _add_code_layer if 1 in (shape.about.read, shape.about.written) else _add_layer
    outputs = []
    for copy in range(copies):
        name = LAYER if copies == 1 else f"{LAYER}{copy}"
        outputs.append(f"y{copy}")
        add(net, shape, size, name, outputs[-1])
    net.set_outputs(outputs)
    return net


def _window(shape: LayerShape) -> dict[str, list[int]]:
    return {
        "kernel_shape": [shape.kernel, shape.kernel],
        "strides": [shape.stride, shape.stride],
        "pads": list(shape.pads),
    }


def _add_layer(net: Network, shape: LayerShape, size: Sequence[int], name: str, output: str) -> None:
    window, kind = _window(shape), shape.about.operator
    if kind in ("conv", "depthwise"):
        inner = shape.channels // shape.groups
        dims: tuple[int, ...] = (shape.outputs, inner, shape.kernel, shape.kernel)
        net.add_constant(f"{name}.w", _random(dims) if shape.about.weight_bits == 32 else _few_bits(shape, dims))
        net.add_constant(f"{name}.b", _random((shape.outputs,)))
        net.add_node("Conv", ["x", f"{name}.w", f"{name}.b"], [output], name=name, **window, group=shape.groups)
    elif kind == "fc":
        dims = (shape.outputs, shape.channels)
        net.add_constant(f"{name}.w", _random(dims) if shape.about.weight_bits == 32 else _few_bits(shape, dims))
        net.add_constant(f"{name}.b", _random((shape.outputs,)))
        net.add_node("Gemm", ["x", f"{name}.w", f"{name}.b"], [output], name=name, transB=1)
    elif kind in ("maxpool", "avgpool"):
        net.add_node("MaxPool" if kind == "maxpool" else "AveragePool", ["x"], [output], name=name, **window)
    elif kind == "reorder":  # pooling works on blocks of channels, so its input has to be reordered
        net.add_node("MaxPool", ["x"], [output], name=name, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    elif kind in ("add", "gate"):
        net.add_input("z", size if kind == "add" else (*size[:2], 1, 1))
        net.add_node("Add" if kind == "add" else "Mul", ["x", "z"], [output], name=name)
    elif kind == "batchnorm":
        parameters = [f"{name}.{which}" for which in ("scale", "shift", "mean", "variance")]
        for parameter in parameters:
            net.add_constant(parameter, np.abs(_random((shape.channels,))) + np.float32(0.5))
        net.add_node("BatchNormalization", ["x", *parameters], [output], name=name)
    elif kind == "lrn":
        net.add_node("LRN", ["x"], [output], name=name, size=5)
    elif kind == "shuffle":  # groups of channels interleaved, as the three nodes that exporters write
        split = [size[0], shape.groups, shape.channels // shape.groups, *size[2:]]
        net.add_constant(f"{name}.split", np.array(split))
        net.add_constant(f"{name}.whole", np.array(size))
        net.add_node("Reshape", ["x", f"{name}.split"], [f"{name}.s"])
        net.add_node("Transpose", [f"{name}.s"], [f"{name}.t"], perm=[0, 2, 1, 3, 4])
        net.add_node("Reshape", [f"{name}.t", f"{name}.whole"], [output], name=name)
    elif kind == "transpose":
        net.add_node("Transpose", ["x"], [output], name=name, perm=[0, 2, 3, 1])
    else:
        net.add_node(
            {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softmax": "Softmax"}[kind],
            ["x"],
            [output],
            name=name,
        )


_SCALE = 0.02


def _add_code_layer(net: Network, shape: LayerShape, size: Sequence[int], name: str, output: str) -> None:
    """The layer between DequantizeLinear and QuantizeLinear, which the plan makes part of it.

    Activations are as behind ReLU, with the zero point 0; weights have a scale for each output channel.
    """
    operator, real, result = shape.about.operator, f"{name}.x", f"{name}.y"
    if operator == "quantize":  # something has to read the codes, else they are written as a plain tensor
        _quantise(net, "x", f"{name}.codes", name=name)
        _dequantise(net, f"{name}.codes", real)
        net.add_node("LeakyRelu", [real], [result], alpha=1.0)
        _quantise(net, result, output, 2 * _SCALE)
        return
    if operator == "thresholds":  # 15 for each channel: codes of 4 bits
        net.add_constant(f"{name}.t", np.sort(_random((shape.channels, 15)), axis=1))
        net.add_node("MultiThreshold", ["x", f"{name}.t"], [result], name=name)
        _quantise(net, result, output, 1.0)
        return
    _dequantise(net, "x", real)
    if operator == "dequantize":  # and something has to write them in blocks
        net.add_node("LeakyRelu", [real], [result], alpha=1.0)
        _quantise(net, result, f"{name}.codes", 2 * _SCALE)
        _dequantise(net, f"{name}.codes", output, 2 * _SCALE, name=name)
        return
    scale = _SCALE
    if shape.about.weighted:
        values = shape.weights // shape.outputs
        weights, scale = _weight_codes(shape)
        net.add_constant(f"{name}.w", weights)
        units = np.full(shape.outputs, _SCALE * _WEIGHT_SCALE, np.float32)
        net.add_constant(
            f"{name}.b", Affine(Dense(np.arange(shape.outputs, dtype=np.int32) % values), Dense(units), axis=0)
        )
        inputs = [real, f"{name}.w", f"{name}.b"]
        if operator == "fc":
            net.add_node("Gemm", inputs, [result], name=name, transB=1)
        else:
            net.add_node("Conv", inputs, [f"{name}.sum"], name=name, **_window(shape), group=shape.groups)
            net.add_node("Relu", [f"{name}.sum"], [result])
    elif operator == "add":
        net.add_input("z", size, "u8")
        _dequantise(net, "z", f"{name}.z")
        net.add_node("Add", [real, f"{name}.z"], [result], name=name)
        scale = 2 * _SCALE
    elif operator == "table":
        net.add_node("Sigmoid", [real], [result], name=name)
        scale = 1 / 255
    elif operator == "reorder":  # codes are reordered from and to the plain tensors of callers
        net.add_node("MaxPool", [real], [result], name=name, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    else:
        net.add_node(
            "MaxPool" if operator == "maxpool" else "AveragePool", [real], [result], name=name, **_window(shape)
        )
    _quantise(net, result, output, scale)


def _quantise(net: Network, value: str, output: str, scale: float = _SCALE, name: str | None = None) -> None:
    net.add_node("QuantizeLinear", [value, *_quantiser(net, f"{output}.q", scale)], [output], name=name)


def _dequantise(net: Network, value: str, output: str, scale: float = _SCALE, name: str | None = None) -> None:
    net.add_node("DequantizeLinear", [value, *_quantiser(net, f"{output}.q", scale)], [output], name=name)


def _quantiser(net: Network, name: str, scale: float) -> list[str]:
    net.add_constant(f"{name}.scale", np.array(scale, np.float32))
    net.add_constant(f"{name}.zero", np.array(0, np.uint8))
    return [f"{name}.scale", f"{name}.zero"]


_WEIGHT_SCALE = 0.01


def _weight_codes(shape: LayerShape) -> tuple[Encoding, float]:
    """Signed codes with a scale for each output channel, and a scale of the result that few sums exceed."""
    bits, inner = shape.about.weight_bits, shape.channels // shape.groups
    size = (shape.outputs, inner) + (() if shape.about.operator == "fc" else (shape.kernel, shape.kernel))
    most = 2 ** (bits - 1) - 1
    some = np.random.default_rng(0).integers(-most - 1, most + 1, min(math.prod(size), 1 << 16))
    codes = np.resize(some, size)
    scales = Dense(np.full(shape.outputs, _WEIGHT_SCALE, np.float32))
    stored = Dense(codes.astype(np.int8)) if bits == 8 else Packed.pack(codes, bits, signed=True)
    spread = math.sqrt(inner * shape.kernel**2) * (most + 1) * _WEIGHT_SCALE * 128 * _SCALE
    return Affine(stored, scales, axis=0), spread / 128


def _few_bits(shape: LayerShape, dims: tuple[int, ...]) -> Encoding:
    """Weights that are codes into a table of real numbers, one for all channels or one for each; or 8-bit numbers."""
    bits = shape.about.weight_bits
    if bits == 8 and shape.kind.startswith("fc"):
        return _weight_codes(shape)[0]
    some = np.random.default_rng(0).integers(0, 2**bits, min(shape.weights, 1 << 16))
    codes = Packed.pack(np.resize(some, dims), bits)
    own = shape.kind.endswith("c")
    return Codebook(codes, Dense(_random((shape.outputs, 2**bits) if own else (2**bits,))), 0 if own else None)


def _random(shape: tuple[int, ...]) -> NDArray[np.float32]:
    some = np.random.default_rng(0).standard_normal(min(math.prod(shape), 1 << 16)).astype(np.float32)
    return np.resize(some, shape)


def _pads(parts: Sequence[str]) -> tuple[int, int, int, int]:
    sizes = [int(part) for part in parts]
    if len(sizes) not in (1, 4):
        raise ValueError(f"{len(sizes)} pads")
    top, left, bottom, right = sizes * (4 // len(sizes))
    return top, left, bottom, right


def _checked(shape: LayerShape, place: str, remedy: str) -> LayerShape:
    """The shape, if such a layer can exist."""
    if shape.kind not in KINDS:
        raise InputError(place, f"unknown kind {shape.kind or 'of layer'}", f"kinds are {', '.join(KINDS)}")
    sizes = (shape.channels, shape.height, shape.width, shape.outputs, shape.kernel, shape.stride, shape.groups)
    if min(sizes) < 1:
        raise InputError(place, "a size or the number of outputs is missing or below 1", remedy)
    if min(shape.pads) < 0 or max(shape.pads) >= shape.kernel:
        raise InputError(place, "pads are negative or not smaller than the kernel", remedy)
    if min(shape.output_size) < 1:
        raise InputError(place, f"the kernel of {shape.kernel} is larger than the padded input", remedy)
    if shape.channels % shape.groups or shape.outputs % shape.groups:
        raise InputError(place, f"channels and outputs are no multiples of {shape.groups} groups", remedy)
    if shape.about.operator == "depthwise" and not shape.channels == shape.outputs == shape.groups:
        raise InputError(place, "a depthwise layer has as many outputs and groups as channels", remedy)
    if shape.about.operator in ("fc", "softmax") and shape.height * shape.width * shape.kernel > 1:
        raise InputError(place, f"{shape.kind} takes channels alone", remedy)
    if max(*shape.elements(1), shape.weights, *sizes) > _LARGEST:
        raise InputError(place, "the layer is too large to be measured", "at most 2^30 numbers are allowed")
    return shape
