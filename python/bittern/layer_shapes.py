"""Shapes of layers to measure kernels on: read from text files or the command line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bittern.errors import InputError

_BIT_LOOPS = {"pack": "pack", "maxpool": "maxpool_b1", "pad": "pad_b1"}
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
    sparse: bool = False
    planes: int = 0
    tile: int = 0  # outputs of a tile along each axis, where weights are given in Winograd's domain

    @property
    def weighted(self) -> bool:
        """Whether there are products with weights."""
        return self.operator in ("conv", "depthwise", "fc")

    @property
    def codes(self) -> bool:
        """Whether it computes on 8-bit codes, so that its products are of bytes."""
        return self.read == self.written == 1

    @property
    def bits(self) -> tuple[int, int]:
        """Bits of a number read and of one written."""
        if self.planes:
            return 32 if self.operator == "pack" else self.planes, self.planes
        return 8 * self.read, 8 * self.written


_TILES = ("sparse_winograd", "winograd")
KINDS = {
    "conv": Kind("conv", ("gemm", "winograd", "depthwise")),
    "depthwise": Kind("depthwise", ("depthwise", "gemm")),
    "fc": Kind("fc", ("gemm",)),
    "sparse": Kind("conv", ("spmm", "gemm", "winograd"), weight_bits=64, sparse=True),
    "sparse_lut8": Kind("conv", ("spmm", "gemm", "winograd"), weight_bits=32, sparse=True),
    **{f"sparse_winograd{m}": Kind("conv", _TILES, weight_bits=64, sparse=True, tile=m) for m in (2, 4)},
    "sparse_tern": Kind("conv", ("spmm", "gemm", "winograd"), weight_bits=16, sparse=True),
    "fc_sparse": Kind("fc", ("spmv", "gemm"), weight_bits=40, sparse=True),
    "fc_sparse_lut4": Kind("fc", ("spmv", "gemv_f32", "gemm"), weight_bits=8, sparse=True),
    **{f"fc_w{bits}": Kind("fc", ("gemv_f32", "gemm_f32", "gemm"), weight_bits=bits) for bits in (8, 4, 2)},
    "fc_w2c": Kind("fc", ("gemv_f32", "gemm_f32", "gemm"), weight_bits=2),
    **{f"conv_w{bits}": Kind("conv", ("gemm_f32", "gemm", "winograd"), weight_bits=bits) for bits in (2, 4, 8)},
    **{kind: Kind(kind, (loop,)) for kind, loop in _OPERATOR_LOOPS.items()},
    "sparse_u8": Kind("conv", ("spmm_u8", "gemm_u8"), 1, 1, 55, sparse=True),
    "sparse4_u8": Kind("conv", ("spmm_u8", "gemm_u8"), 1, 1, 16, sparse=True),
    "fc_sparse_u8": Kind("fc", ("spmv_u8", "gemv_u8", "gemm_u8"), 1, 1, 31, sparse=True),
    "fc_sparse4_u8": Kind("fc", ("spmv_u8", "gemv_u8", "gemm_u8"), 1, 1, 9, sparse=True),
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
    "conv_b1": Kind("conv", ("bgemm",), weight_bits=1, planes=1),
    "conv_b2": Kind("conv", ("bgemm",), weight_bits=1, planes=2),
    "conv_b2_w2": Kind("conv", ("bgemm",), weight_bits=2, planes=2),
    "fc_b1": Kind("fc", ("bgemm",), weight_bits=1, planes=1),
    **{f"{kind}_b1": Kind(kind, (loop,), planes=1) for kind, loop in _BIT_LOOPS.items()},
}
"""Kinds of layers. ``u8``: they read and write 8-bit codes; ``w8``, ``w4``, ``w2``: their weights have so many bits;
``w2c``: and a table of each channel; ``sparse``: most weights are zero, and the others have their position beside them;
``sparse_winograd``: these are given for transformed tiles; ``lut8``, ``lut4``: codes into a table of 256 or 16;
``tern``: -1 and +1; ``sparse4``: four neighbouring input channels are zero together;
``b1``, ``b2``: planes of so many bits in and out, weights of -1 and +1, or two planes of weights with ``w2``.
"""
DENSITY = 0.1
"""Share of the weights of a sparse kind that are not zero, unless it is said."""

_COLUMNS = "kind count channels height width outputs kernel stride pads groups"
_SPEC = (
    "write KIND:CxHxW,outputs=O,kernel=K,stride=S,pad=P,groups=G, for example conv:64x56x56,outputs=64,kernel=3,pad=1, "
    "and density=D behind sparse kinds"
)
_LARGEST = 1 << 30


@dataclass(frozen=True)
class LayerShape:
    """A layer as a kernel sees it. ``pads``: top, left, bottom, right; kernel and stride are square.

    ``channels``, ``height`` and ``width`` are of one image of the input. ``fc`` and ``softmax`` use channels alone.
    ``kind`` is one of :data:`KINDS`. ``density``: the share of the weights that are not zero, below 1 in sparse kinds.
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
    density: float = 1.0

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
        places = (self.about.tile + 2) ** 2 if self.about.tile else self.kernel**2
        return self.outputs * (self.channels // self.groups) * places if self.about.weighted else 0

    @property
    def entries(self) -> int:
        """Number of weights that are not zero."""
        return round(self.weights * self.density)

    @property
    def together(self) -> int:
        """Neighbouring input channels whose weights are zero together."""
        return 4 if "sparse4" in self.kind else 1

    @property
    def met(self) -> float:
        """Share of the weights that a sparse kernel multiplies with: on codes, quads of input channels as a whole."""
        return 1 - (1 - self.density) ** 4 if self.kind.endswith("sparse_u8") else self.density

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights as they are read."""
        return self.entries * self.about.weight_bits // 8

    @property
    def macs(self) -> int:
        """Products with a weight for one image."""
        tile = self.about.tile or 1
        return math.prod(-(-size // tile) for size in self.output_size) * self.weights

    def elements(self, batch: int) -> tuple[int, int]:
        """Numbers read, without the weights, and numbers written."""
        each = self.channels * self.height * self.width
        read = {"add": 2 * each, "gate": each + self.channels}.get(self.about.operator, each)
        outputs = self.outputs if self.about.weighted else self.channels
        return batch * read, batch * outputs * math.prod(self.output_size)

    def traffic(self, batch: int) -> tuple[int, int]:
        """Bytes read, weights included, and bytes written: each once."""
        read, written = self.elements(batch)
        bits = self.about.bits
        return read * bits[0] // 8 + self.weight_bytes, written * bits[1] // 8

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
            density = f" density {100 * self.density:g} %" if self.about.sparse else ""
            return f"{self.kind} {self.channels}x{plane} -> {self.outputs}{window}{groups}{density}"
        if operator in ("depthwise", "maxpool", "avgpool", "pad"):
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

    def pruned(self, sparsity: float, kind: str = "sparse") -> ShapeSet:
        """The convolutions as this sparse kind, with so large a share of weights zero. InputError if there is none."""
        shapes = [
            (replace(shape, kind=kind, density=1 - sparsity), count)
            for shape, count in self.shapes
            if shape.kind == "conv"
        ]
        if not shapes:
            raise InputError(f"--sparse {self.name}", "no layer is a convolution of real numbers", "leave --sparse out")
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
        density = DENSITY if fields[0] in KINDS and KINDS[fields[0]].sparse else 1.0
        shape = LayerShape(fields[0], channels, height, width, outputs, kernel, stride, pads, groups, density)
        if count < 1:
            raise InputError(place, f"count {count}", "at least 1 is allowed")
        shapes.append((_checked(shape, place, f"columns are {_COLUMNS}"), count))
    if not shapes:
        raise InputError(str(path), "holds no shapes", f"columns are {_COLUMNS}")
    return ShapeSet(path.stem, tuple(shapes))


def parse_shape(text: str) -> LayerShape:
    """``KIND:CxHxW,key=value,...`` with the keys outputs, kernel, stride, pad, groups and, of sparse kinds, density.

    InputError for all else.
    """
    place = f"--shape {text}"
    kind, _, rest = text.partition(":")
    sizes, *options = rest.split(",")
    values = {"outputs": 0, "kernel": 1, "stride": 1, "groups": 0}
    pads = (0, 0, 0, 0)
    sparse = kind in KINDS and KINDS[kind].sparse
    density = DENSITY if sparse else 1.0
    try:
        plane = [int(size) for size in sizes.split("x")]
        if len(plane) > 3:
            raise ValueError(sizes)
        for option in options:
            key, _, value = option.partition("=")
            if key == "pad":
                pads = _pads(value.split("/"))
            elif key == "density" and sparse:
                density = float(value)
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
    return _checked(LayerShape(kind, channels, height, width, pads=pads, **values, density=density), place, _SPEC)


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
    if not 0 < shape.density <= 1:
        raise InputError(place, f"density {shape.density:g}", "above 0 and at most 1 is allowed")
    if shape.channels % shape.groups or shape.outputs % shape.groups:
        raise InputError(place, f"channels and outputs are no multiples of {shape.groups} groups", remedy)
    if shape.about.operator == "depthwise" and not shape.channels == shape.outputs == shape.groups:
        raise InputError(place, "a depthwise layer has as many outputs and groups as channels", remedy)
    if shape.about.tile and (shape.kernel, shape.stride, shape.groups) != (3, 1, 1):
        raise InputError(place, f"{shape.kind} has a kernel of 3, stride 1 and no groups", remedy)
    if shape.about.operator in ("fc", "softmax") and shape.height * shape.width * shape.kernel > 1:
        raise InputError(place, f"{shape.kind} takes channels alone", remedy)
    if max(*shape.elements(1), shape.weights, *sizes) > _LARGEST:
        raise InputError(place, "the layer is too large to be measured", "at most 2^30 numbers are allowed")
    return shape
