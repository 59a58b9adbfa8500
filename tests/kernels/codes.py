"""Cases of the loops on 8-bit codes: each must give exactly what tests/reference/codes.py says."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import bittern
import numpy as np
from bittern.encodings import Affine, Codebook, Dense, Encoding, Packed, Signs, Ternary

from tests.builders import NodeSpec
from tests.conftest import seed_of
from tests.kernels.cases import Case, exact, random_cases
from tests.kernels.convolution import pick
from tests.reference import codes
from tests.reference.arrays import Array
from tests.reference.windows import axes

CHANNELS = (1, 3, 4, 5, 15, 16, 17, 31, 33, 63, 65)
F32 = np.float32


@dataclass(frozen=True)
class Form:
    """A quantiser as the nodes of a graph state it."""

    dtype: str = "u8"
    scale: float = 0.03
    zero: int = 128
    bits: int = 8
    narrow: int = 0

    def attributes(self) -> dict[str, Any]:
        """Of QuantizeLinear and DequantizeLinear; defaults are left out."""
        found = {"bits": self.bits, "narrow": self.narrow}
        return {key: value for key, value in found.items() if value != {"bits": 8, "narrow": 0}[key]}

    def scaled(self, factor: float) -> "Form":
        """The same codes of larger or smaller numbers."""
        return Form(self.dtype, float(F32(self.scale * factor)), self.zero, self.bits, self.narrow)

    @property
    def limits(self) -> tuple[int, int]:
        """The lowest and the highest code."""
        if self.dtype == "u8":
            return 0, 2**self.bits - 1
        return self.narrow - 2 ** (self.bits - 1), 2 ** (self.bits - 1) - 1

    def random(self, rng: np.random.Generator, *shape: int) -> Array:
        """Codes over the whole range, the ends among them."""
        low, high = self.limits
        found = rng.integers(low, high + 1, shape).astype(np.uint8 if self.dtype == "u8" else np.int8)
        if found.size > 1:
            found.reshape(-1)[:2] = [high, low]
        return found


FORMS = (
    Form(),
    Form("i8", 0.05, 0),
    Form("u8", 0.021, 0),
    Form("i8", 0.011, -128),
    Form("u8", 0.017, 255),
    Form("i8", 0.043, 17),
    Form("u8", 0.3, 7, bits=4),
    Form("i8", 0.24, 0, bits=4, narrow=1),
    Form("i8", 0.9, 1, bits=2),
    Form("u8", 0.07, 3, bits=7),
)


def code_network(
    inputs: Mapping[str, Array],
    constants: Mapping[str, Array | Encoding],
    nodes: Sequence[NodeSpec],
    outputs: Sequence[str],
    batch: int | str = 0,
) -> bittern.Network:
    """A network whose inputs have their arrays' types and shapes, or another ``batch``; nodes are named after outputs."""
    names = {"uint8": "u8", "int8": "i8", "float32": "f32"}
    net = bittern.Network("test")
    for name, value in inputs.items():
        net.add_input(name, (batch or value.shape[0], *value.shape[1:]), names[str(value.dtype)])
    for name, constant in constants.items():
        net.add_constant(name, constant)
    for op, sources, target, attributes in nodes:
        net.add_node(op, list(sources), [target], name=f"{target}_node", **attributes)
    net.set_outputs(list(outputs))
    return net


@dataclass(frozen=True)
class CodeCase(Case):
    """A network of quantised layers: constants may be encoding trees, inputs have their arrays' types."""

    trees: Mapping[str, Encoding] = field(default_factory=dict)

    def network(self) -> bittern.Network:
        """The network, whose only output is called y."""
        return code_network(self.inputs, {**self.constants, **self.trees}, self.nodes, ["y"])

    def expected(self, file: bytes) -> tuple[Array, float]:
        """In whole numbers, and no error allowed."""
        return codes.run(file, self.inputs)["y"], 0.0


@dataclass
class Wiring:
    """A graph of quantised layers being put together."""

    rng: np.random.Generator
    inputs: dict[str, Array] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    trees: dict[str, Encoding] = field(default_factory=dict)
    nodes: list[NodeSpec] = field(default_factory=list)

    def add(self, op: str, sources: list[str], target: str = "", **attributes: Any) -> str:
        """A node; the name of its result."""
        target = target or f"v{len(self.nodes)}"
        self.nodes.append((op, sources, target, attributes))
        return target

    def constant(self, name: str, value: Array) -> str:
        """A constant under this name."""
        self.constants[name] = value
        return name

    def parameters(self, form: Form) -> list[str]:
        """Scale and zero point."""
        name = f"q{len(self.constants)}"
        zero = np.array(form.zero, np.uint8 if form.dtype == "u8" else np.int8)
        return [self.constant(f"{name}.s", np.array(form.scale, F32)), self.constant(f"{name}.z", zero)]

    def quantise(self, value: str, form: Form, target: str = "") -> str:
        """QuantizeLinear."""
        return self.add("QuantizeLinear", [value, *self.parameters(form)], target, **form.attributes())

    def dequantise(self, value: str, form: Form, target: str = "") -> str:
        """DequantizeLinear."""
        return self.add("DequantizeLinear", [value, *self.parameters(form)], target, **form.attributes())

    def decoded(self, name: str, form: Form, *shape: int, data: Array | None = None) -> str:
        """An input of codes, as real numbers."""
        self.inputs[name] = form.random(self.rng, *shape) if data is None else data
        return self.dequantise(name, form)

    def again(self, value: str, form: Form) -> str:
        """Codes of a real value, as real numbers."""
        return self.dequantise(self.quantise(value, form), form)

    def network(self, outputs: Sequence[str], batch: int | str = 0) -> bittern.Network:
        """The network as it is, with these outputs."""
        return code_network(self.inputs, {**self.constants, **self.trees}, self.nodes, outputs, batch)

    def case(self, name: str, threads: int = 1) -> CodeCase:
        """The finished network; its last node must give y."""
        return CodeCase(name, self.inputs, self.constants, tuple(self.nodes), exact, threads, self.trees)


# Weights and biases.


def scales(rng: np.random.Generator, count: int, many: bool) -> Array:
    """One scale, or one for each channel."""
    return rng.uniform(0.002, 0.02, count if many else ()).astype(F32)


def packed(values: Array, bits: int, signed: bool = True) -> Encoding:
    """Codes of few bits."""
    return Packed.pack(values, bits, signed=signed)


def affine(rng: np.random.Generator, values: Encoding, axis: int, many: bool, zero: Array | None = None) -> Encoding:
    """Codes times scales."""
    scale = Dense(scales(rng, values.shape[axis], many))
    return Affine(values, scale, None if zero is None else Dense(zero), axis if many else None)


def byte_range(rng: np.random.Generator, shape: tuple[int, ...], low: int, high: int) -> Array:
    """Whole numbers, the ends among them."""
    found = rng.integers(low, high + 1, shape)
    found.reshape(-1)[0] = low
    found.reshape(-1)[-1] = high
    return found


def weights(kind: str, rng: np.random.Generator, shape: tuple[int, ...], axis: int) -> Encoding:
    """Weights of a kind; ``axis`` is that of the output channels."""
    many = rng.integers(2) == 1
    if kind == "i8":
        return affine(rng, Dense(byte_range(rng, shape, -128, 127).astype(np.int8)), axis, many)
    if kind == "low":
        return affine(rng, Dense(np.full(shape, -128, np.int8)), axis, many)
    if kind == "high":
        return affine(rng, Dense(np.full(shape, 127, np.int8)), axis, many)
    if kind == "u8":
        zero = rng.integers(100, 156, shape[axis]).astype(np.uint8) if many else np.array(131, np.uint8)
        return affine(rng, Dense(byte_range(rng, shape, 3, 227).astype(np.uint8)), axis, many, zero)
    if kind == "u8 zero 0":
        return affine(rng, Dense(byte_range(rng, shape, 0, 254).astype(np.uint8)), axis, many, np.array(0, np.uint8) if not many else np.zeros(shape[axis], np.uint8))
    if kind == "i8 zero":
        zero = rng.integers(-90, 91, shape[axis]).astype(np.int8) if many else np.array(-77, np.int8)
        return affine(rng, Dense(byte_range(rng, shape, -128, 127).astype(np.int8)), axis, many, zero)
    if kind == "9 bits":
        return affine(rng, packed(byte_range(rng, shape, -256, 254), 9), axis, many)
    if kind.endswith(" bits"):
        bits = int(kind[0])
        return affine(rng, packed(byte_range(rng, shape, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1), bits), axis, many)
    if kind == "ternary":
        scale = Dense(scales(rng, shape[axis], many))
        return Ternary(packed(rng.integers(0, 3, shape), 2, False), scale, scale, axis if many else None)
    if kind == "signs":
        scale = Dense(scales(rng, shape[axis], many))
        return Signs(packed(rng.integers(0, 2, shape), 1, False), scale, axis if many else None)
    assert kind == "codebook"
    table = Affine(Dense(rng.integers(-128, 128, 16).astype(np.int8)), Dense(scales(rng, 1, False)))
    return Codebook(packed(rng.integers(0, 16, shape), 4, False), table)


WEIGHTS = (
    "i8", "u8", "9 bits", "4 bits", "ternary", "signs", "codebook", "i8 zero", "u8 zero 0", "2 bits", "3 bits", "5 bits",
    "6 bits", "7 bits", "8 bits",
)  # fmt: skip
BIASES = ("", "whole", "real", "other")
EPILOGUES = ("", "relu", "clip", "residual", "residual relu", "residual clip", "norm relu", "real", "real relu")


def scale_of(tree: Encoding, channels: int) -> Array:
    """The scale of weights for each output channel."""
    while isinstance(tree, Codebook):
        tree = tree.table
    scale = tree.positive if isinstance(tree, Ternary) else tree.scale if isinstance(tree, Affine | Signs) else None
    assert scale is not None
    return np.broadcast_to(scale.decode().reshape(-1), channels).astype(F32)


def bias(kind: str, rng: np.random.Generator, source: Form, tree: Encoding, channels: int) -> Encoding:
    """Whole numbers in the units of the sums, real numbers, or whole numbers in other units."""
    if kind == "real":
        return Dense(rng.standard_normal(channels).astype(F32))
    scale = F32(source.scale) * scale_of(tree, channels)
    if kind == "other":
        scale = scale * F32(1.25)
    return Affine(Dense(rng.integers(-20000, 20000, channels).astype(np.int32)), Dense(scale.astype(F32)), axis=0)


def finish(
    wiring: Wiring, value: str, shape: tuple[int, ...], epilogue: str, to: Form, other: Form, source: Form
) -> None:
    """What follows a layer: activation, a quantised sum, quantiser; ``real``: no quantiser."""
    steps = epilogue.split()
    if "norm" in steps:
        column = shape[1]
        names = {name: wiring.rng.uniform(0.5, 2, column).astype(F32) for name in ("gamma", "beta", "mean", "variance")}
        names["gamma"][::3] *= -1
        for name, numbers in names.items():
            wiring.constant(name, numbers)
        value = wiring.add("BatchNormalization", [value, *names])
    if "residual" in steps:
        value = wiring.again(value, source)
        residual = wiring.decoded("residual", other, *shape)
        value = wiring.add("Add", [value, residual] if wiring.rng.integers(2) else [residual, value])
    if "relu" in steps:
        value = wiring.add("Relu", [value])
    if "clip" in steps:
        wiring.constant("low", np.array(-20.5 * to.scale, F32))
        wiring.constant("high", np.array(31.2 * to.scale, F32))
        value = wiring.add("Clip", [value, "low", "high"])
    if "real" in steps:
        op, sources, _, attributes = wiring.nodes[-1]
        wiring.nodes[-1] = (op, sources, "y", attributes)
    else:
        wiring.quantise(value, to, "y")


@dataclass(frozen=True)
class Layer:
    """A convolution of codes."""

    batch: int
    channels: int
    height: int
    width: int
    filters: int
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    weights: str = "i8"
    bias: str = ""
    epilogue: str = ""
    source: Form = FORMS[0]
    to: Form = FORMS[1]
    float_input: bool = False
    extreme: bool = False

    def attributes(self) -> dict[str, Any]:
        """Of the Conv node."""
        return {
            "strides": list(self.stride),
            "dilations": list(self.dilation),
            "group": self.groups,
            "pads": list(self.pads),
        }

    def label(self) -> str:
        """The case in one line."""
        n, c, h, w, o = self.batch, self.channels, self.height, self.width, self.filters
        text = f"{n}x{c}x{h}x{w} o{o} k{self.kernel} s{self.stride} d{self.dilation} g{self.groups} p{self.pads}"
        return f"{text} {self.weights} bias {self.bias or 'none'} {self.epilogue or 'plain'} {self.source} {self.to}"

    def case(self, name: str, rng: np.random.Generator, threads: int = 1) -> CodeCase:
        """The network with random codes; the result's scale is such that few of its codes saturate."""
        wiring = Wiring(rng)
        shape = (self.batch, self.channels, self.height, self.width)
        if self.float_input:
            low, high = self.source.limits
            numbers = rng.uniform(low - 9 - self.source.zero, high + 9 - self.source.zero, shape) * self.source.scale
            wiring.inputs["x"] = numbers.astype(F32)
            x = wiring.again("x", self.source)
        else:
            data = np.full(shape, self.source.limits[1], np.uint8 if self.source.dtype == "u8" else np.int8)
            x = wiring.decoded("x", self.source, *shape, data=data if self.extreme else None)
        window = (self.filters, self.channels // self.groups, *self.kernel)
        wiring.trees["w"] = weights(self.weights, rng, window, 0)
        sources = [x, "w"]
        if self.bias:
            wiring.trees["b"] = bias(self.bias, rng, self.source, wiring.trees["w"], self.filters)
            sources.append("b")
        value = wiring.add("Conv", sources, **self.attributes())
        rows, columns = axes(shape[2:], self.kernel, self.attributes())
        to = fitted(self.to, wiring.trees["w"], self.source)
        result = (self.batch, self.filters, rows.out, columns.out)
        finish(wiring, value, result, self.epilogue, to, to.scaled(0.7), to.scaled(1.3))
        return wiring.case(f"{name}: {self.label()}", threads)


def fitted(to: Form, tree: Encoding, source: Form) -> Form:
    """The result's quantiser with a scale that fits the layer's sums."""
    w = tree.decode().astype(np.float64)
    each = w.size / w.shape[0]
    low, high = source.limits
    spread = float(np.sqrt(each) * np.sqrt(np.mean(np.square(w)) + 1e-12)) * source.scale * (high - low) / 3
    scale = F32(max(spread, 1e-6) / 2 ** (to.bits - 2))
    return Form(to.dtype, float(scale), to.zero, to.bits, to.narrow)


def drawn_layer(rng: np.random.Generator, depthwise: bool) -> Layer:
    """A convolution drawn from the awkward sizes; its window always fits."""
    kernel = (pick(rng, 1, 1, 2, 3, 3, 5), pick(rng, 1, 1, 2, 3, 3, 5))
    dilation = (pick(rng, 1, 1, 2), pick(rng, 1, 1, 2))
    pads = (pick(rng, 0, 1, 2), pick(rng, 0, 1, 2), pick(rng, 0, 1, 2), pick(rng, 0, 1, 2))
    size = [max(1, dilation[i] * (kernel[i] - 1) + 1 - pads[i] - pads[i + 2]) + int(rng.integers(0, 9)) for i in (0, 1)]
    groups = 1
    if depthwise:
        channels = filters = groups = pick(rng, *CHANNELS[3:])
    else:
        groups = pick(rng, 1, 1, 1, 2, 3)
        channels, filters = pick(rng, *CHANNELS) * groups, pick(rng, *CHANNELS) * groups
    return Layer(
        batch=pick(rng, 1, 1, 2, 3),
        channels=channels,
        height=size[0],
        width=size[1],
        filters=filters,
        kernel=kernel,
        stride=(pick(rng, 1, 1, 2, 3), pick(rng, 1, 1, 2, 3)),
        pads=pads,
        dilation=dilation,
        groups=groups,
        weights=str(rng.choice(WEIGHTS)),
        bias=str(rng.choice(BIASES)),
        epilogue=str(rng.choice(EPILOGUES)),
        source=FORMS[int(rng.integers(len(FORMS)))],
        to=FORMS[int(rng.integers(len(FORMS)))],
        float_input=bool(rng.integers(4) == 0),
    )


def listed_layers() -> Iterator[Layer]:
    """Convolutions around the edges of tiles, blocks, quads, windows, padding and number ranges."""
    count = len(FORMS)
    for i, channels in enumerate(CHANNELS):
        other = CHANNELS[(i * 4 + 2) % len(CHANNELS)]
        forms = {"source": FORMS[i % count], "to": FORMS[(i * 3 + 1) % count], "weights": WEIGHTS[i % len(WEIGHTS)]}
        around: dict[str, Any] = {"pads": (1, 1, 1, 1), "epilogue": EPILOGUES[i % len(EPILOGUES)]}
        yield Layer(1 + i % 3, channels, 5, 7, other, bias=BIASES[i % 4], **around, **forms)
        yield Layer(1, channels, 6, 5, other, (1, 1), bias=BIASES[(i + 1) % 4], float_input=i % 2 == 0, **forms)
    for i, kind in enumerate(WEIGHTS):
        yield Layer(1, 17, 4, 5, 19, pads=(1, 1, 1, 1), weights=kind, bias="whole", source=FORMS[i % 6], to=FORMS[(i + 1) % 6])
    for width in range(1, 18):
        yield Layer(1, 3, 2, width, 17, (1, 1), epilogue=EPILOGUES[width % len(EPILOGUES)], bias="real", source=FORMS[2])
    for width in (27, 28, 29, 31, 57):
        yield Layer(1, 16, 1, width, 33, (1, 3), pads=(0, 1, 0, 1), epilogue="relu", source=FORMS[4], bias="whole")
    # Products of the largest numbers, summed over as much as real networks have: no sum may saturate on the way.
    for kind in ("low", "high"):
        for source in (FORMS[2], FORMS[3], FORMS[4]):
            yield Layer(1, 512, 3, 3, 17, weights=kind, extreme=True, source=source, epilogue="real")
        yield Layer(1, 64, 4, 4, 65, pads=(1, 1, 1, 1), weights=kind, extreme=True, source=FORMS[2], bias="whole")
    yield Layer(1, 64, 3, 3, 16, weights="9 bits", extreme=True, source=FORMS[2], epilogue="real")
    # The first layer of a network.
    for form, stride in ((FORMS[0], 2), (FORMS[1], 1), (FORMS[4], 3)):
        first: dict[str, Any] = {"stride": (stride, stride), "source": form, "bias": "whole", "epilogue": "relu"}
        yield Layer(1, 3, 13, 11, 33, (7, 7), pads=(3, 3, 3, 3), float_input=True, **first)
        yield Layer(2, 3, 9, 10, 16, pads=(1, 1, 1, 1), **first)
    yield Layer(1, 1, 9, 9, 5, (5, 5), pads=(2, 2, 2, 2), float_input=True)
    yield Layer(2, 15, 9, 8, 31, (2, 3), (3, 1), (1, 0, 0, 2), (2, 1), source=FORMS[5], bias="real")
    yield Layer(1, 17, 1, 1, 17, pads=(1, 1, 1, 1), source=FORMS[4], bias="whole")
    yield Layer(1, 5, 4, 4, 7, (4, 4), epilogue="clip", source=FORMS[3])
    for i, (groups, per_group, share) in enumerate(
        ((2, 8, 8), (2, 16, 16), (3, 5, 7), (4, 16, 33), (5, 1, 3), (31, 2, 1), (2, 17, 1), (16, 1, 2), (3, 1, 1), (2, 2, 1))
    ):
        grouped: dict[str, Any] = {"groups": groups, "weights": WEIGHTS[i % 4], "source": FORMS[i % count], "bias": BIASES[i % 4]}
        yield Layer(1, groups * per_group, 6, 5, groups * share, pads=(1, 1, 1, 1), epilogue="relu", **grouped)
        yield Layer(2, groups * per_group, 4, 4, groups * share, epilogue="residual", **grouped)


def listed_depthwise() -> Iterator[Layer]:
    """One channel a group."""
    count = len(FORMS)
    for i, channels in enumerate(CHANNELS[3:]):
        forms = {"source": FORMS[i % count], "to": FORMS[(i * 3 + 1) % count]}
        each: dict[str, Any] = {"groups": channels, "pads": (1, 1, 1, 1), "bias": BIASES[i % 4]}
        yield Layer(1 + i % 3, channels, 7, 9, channels, epilogue=EPILOGUES[i % len(EPILOGUES)], **each, **forms)
        yield Layer(1, channels, 9, 8, channels, stride=(2, 2), epilogue="residual relu", weights=WEIGHTS[i], **each, **forms)
    for i, kind in enumerate(WEIGHTS):
        yield Layer(1, 17, 4, 5, 17, groups=17, weights=kind, source=FORMS[i % 6], to=FORMS[(i + 1) % 6], bias="whole")
    for width in range(1, 20):
        form = FORMS[width % count]
        yield Layer(1, 17, 3, width, 17, pads=(1, 1, 1, 1), groups=17, bias=BIASES[width % 4], source=form)
    for kind in ("low", "high"):
        yield Layer(1, 16, 9, 9, 16, (7, 7), groups=16, weights=kind, extreme=True, source=FORMS[2], epilogue="real")
    yield Layer(1, 33, 13, 11, 33, (7, 3), (3, 2), (3, 0, 1, 2), groups=33, source=FORMS[4], float_input=True)
    yield Layer(2, 31, 9, 9, 31, pads=(2, 2, 2, 2), dilation=(2, 2), groups=31, epilogue="norm relu", source=FORMS[3])
    yield Layer(1, 48, 5, 5, 48, (1, 1), groups=48, epilogue="real", source=FORMS[1])


def layer_cases(loop: str, depthwise: bool) -> Iterator[Case]:
    """Listed and random convolutions; every third runs on two threads."""
    for index, shape in enumerate(listed_depthwise() if depthwise else listed_layers()):
        name = f"{loop}/conv{index}"
        yield shape.case(name, np.random.default_rng(seed_of(name)), threads=2 if index % 3 == 0 else 1)
    yield from random_cases(loop, lambda name, rng: drawn_layer(rng, depthwise).case(name, rng, pick(rng, 1, 2)))


def connected_cases(loop: str) -> Iterator[Case]:
    """Products of a matrix of codes with constant weights."""
    index = 0
    for rows in (1, 2, 3, 4, 5, 33):
        for inputs, outputs in ((1, 1), (3, 17), (63, 10), (64, 65), (65, 5), (130, 33)):
            index += 1
            name = f"{loop}/connected{index}"
            rng = np.random.default_rng(seed_of(name))
            wiring = Wiring(rng)
            source, to = FORMS[index % len(FORMS)], FORMS[(index * 3) % len(FORMS)]
            op = "MatMul" if index % 3 == 0 else "Gemm"
            turned = op == "Gemm" and index % 2 == 0
            x = wiring.decoded("x", source, rows, inputs)
            shape = (outputs, inputs) if turned else (inputs, outputs)
            wiring.trees["w"] = weights(WEIGHTS[index % len(WEIGHTS)], rng, shape, 0 if turned else 1)
            sources, kind = [x, "w"], BIASES[index % 4]
            if op == "Gemm" and kind:
                wiring.trees["b"] = bias(kind, rng, source, wiring.trees["w"], outputs)
                sources.append("b")
            value = wiring.add(op, sources, **({"transB": 1} if turned else {}))
            epilogue = ("", "relu", "clip", "real", "real relu")[index % 5]
            fit = fitted(to, wiring.trees["w"], source)
            finish(wiring, value, (rows, outputs), epilogue, fit, fit, fit)
            yield wiring.case(f"{name}: {op} {rows}x{inputs}x{outputs} {epilogue} {source} {to}", 1 + index % 2)
    for kind, source in (("low", FORMS[2]), ("high", FORMS[3])):
        wiring = Wiring(np.random.default_rng(seed_of(f"{loop}/{kind}")))
        data = np.full((2, 4608), source.limits[1], np.uint8 if source.dtype == "u8" else np.int8)
        wiring.trees["w"] = weights(kind, wiring.rng, (4608, 17), 1)
        wiring.add("MatMul", [wiring.decoded("x", source, data=data), "w"], "y")
        yield wiring.case(f"{loop}/extreme {kind}")


def gemm_cases(loop: str) -> Iterator[Case]:
    """Convolutions and products of codes."""
    yield from layer_cases(loop, depthwise=False)
    yield from connected_cases(loop)


def depthwise_cases(loop: str) -> Iterator[Case]:
    """Depthwise convolutions of codes."""
    yield from layer_cases(loop, depthwise=True)


# Operators without weights.

Builder = Callable[[str, np.random.Generator, int], CodeCase]


def each_form(loop: str, build: Builder, counts: int = 44) -> Iterator[Case]:
    """Cases whose channels and quantisers follow from their number; every third runs on two threads."""
    for index in range(counts):
        name = f"{loop}/{index}"
        yield build(name, np.random.default_rng(seed_of(name)), index)


def pool_shape(rng: np.random.Generator, index: int) -> tuple[tuple[int, ...], dict[str, Any]]:
    """A shape of at least 5 channels and a window that always meets the input."""
    kernel = [pick(rng, 1, 2, 3, 5) for _ in range(2)]
    attributes: dict[str, Any] = {
        "kernel_shape": kernel,
        "strides": [pick(rng, 1, 2, 3) for _ in range(2)],
        "ceil_mode": pick(rng, 0, 1),
        "pads": [int(rng.integers(0, k)) for k in (*kernel, *kernel)],
    }
    shape = (1 + index % 3, CHANNELS[3 + index % 8], *(k + int(rng.integers(0, 9)) for k in kernel))
    return shape, attributes


def max_pool_cases(loop: str) -> Iterator[Case]:
    """Maxima of codes, dilated windows among them."""

    def build(name: str, rng: np.random.Generator, index: int) -> CodeCase:
        wiring, form = Wiring(rng), FORMS[index % len(FORMS)]
        shape, attributes = pool_shape(rng, index)
        if index % 5 == 0:
            attributes |= {"dilations": [2, 1]}
            shape = (*shape[:2], shape[2] + 5, shape[3])
        pooled = wiring.add("MaxPool", [wiring.decoded("x", form, *shape)], **attributes)
        wiring.quantise(pooled, form, "y")
        return wiring.case(f"{name}: {shape} {attributes} {form}", 1 + index % 2)

    yield from each_form(loop, build)


def average_pool_cases(loop: str) -> Iterator[Case]:
    """Means of codes over windows and whole maps, with and without padding."""

    def build(name: str, rng: np.random.Generator, index: int) -> CodeCase:
        wiring, form, to = Wiring(rng), FORMS[index % len(FORMS)], FORMS[index * 3 % len(FORMS)]
        shape, attributes = pool_shape(rng, index)
        to = Form(to.dtype, float(F32(form.scale * rng.uniform(0.4, 1.1) * 2 ** (form.bits - to.bits))), to.zero, to.bits, to.narrow)
        attributes["count_include_pad"] = index % 2
        op = "GlobalAveragePool" if index % 4 == 0 else "AveragePool"
        pooled = wiring.add(op, [wiring.decoded("x", form, *shape)], **(attributes if op == "AveragePool" else {}))
        wiring.quantise(pooled, to, "y")
        return wiring.case(f"{name}: {op} {shape} {attributes} {form} {to}", 1 + index // 2 % 2)

    yield from each_form(loop, build)


def add_cases(loop: str) -> Iterator[Case]:
    """Sums of codes of different scales."""

    def build(name: str, rng: np.random.Generator, index: int) -> CodeCase:
        wiring, count = Wiring(rng), len(FORMS)
        a, b, to = FORMS[index % count], FORMS[(index * 3 + 1) % count], FORMS[(index * 7 + 2) % count]
        b = Form(b.dtype, float(F32(a.scale * rng.uniform(0.3, 3))), b.zero, b.bits, b.narrow)
        to = Form(to.dtype, float(F32(a.scale * rng.uniform(0.8, 2) * 2 ** (a.bits - to.bits))), to.zero, to.bits, to.narrow)
        shape = (1 + index % 3, CHANNELS[index % len(CHANNELS)], 1 + index % 7, 1 + int(rng.integers(0, 19)))
        first = wiring.decoded("x", a, *shape)
        second = first if index % 11 == 10 else wiring.decoded("z", b, *shape)
        value = wiring.add("Add", [first, second])
        if index % 3:
            wiring.constants |= {"low": np.array(-1.7 * a.scale, F32), "high": np.array(41 * a.scale, F32)}
            value = wiring.add(*(("Relu", [value]) if index % 3 == 1 else ("Clip", [value, "low", "high"])))
        wiring.quantise(value, to, "y")
        return wiring.case(f"{name}: {shape} {a} {b} {to}", 1 + index % 2)

    yield from each_form(loop, build)


HARD = (np.nan, np.inf, -np.inf, 3.4e38, -3.4e38, 1e-45, -1e-45, 0.0, -0.0, 2.5, 0.5, 1.5, -0.5, -1.5, 1e10, -1e10)


def quantise_cases(loop: str) -> Iterator[Case]:
    """Real numbers that layers read as codes: ties, numbers beyond the range, infinities, no numbers."""

    def build(name: str, rng: np.random.Generator, index: int) -> CodeCase:
        wiring, form = Wiring(rng), FORMS[index % len(FORMS)]
        if index % 2:
            form = Form(form.dtype, 0.25, form.zero, form.bits, form.narrow)  # so that ties are met
        shape = (1 + index % 2, CHANNELS[index % len(CHANNELS)], 1 + index % 3, (5, 17, 1, 3, 300)[index % 5])
        low, high = form.limits
        x = rng.integers(2 * (low - form.zero) - 9, 2 * (high - form.zero) + 9, shape).astype(F32) * F32(form.scale / 2)
        x.reshape(-1)[: len(HARD)] = np.array(HARD, F32)[: x.size]
        rng.shuffle(x.reshape(-1))
        wiring.inputs["x"] = x
        if index % 4 == 3:  # from blocks of channels
            x_name = wiring.add("MaxPool", ["x"], kernel_shape=[1, 1])
        else:
            x_name = "x"
        # An operator that passes codes on: the layer that reads them.
        passed = wiring.add("LeakyRelu", [wiring.again(x_name, form)], alpha=1.0)
        wiring.quantise(passed, form, "y")
        return wiring.case(f"{name}: {shape} {form}", 1 + index // 2 % 2)

    yield from each_form(loop, build)


def dequantise_cases(loop: str) -> Iterator[Case]:
    """Codes that a real operator reads."""

    def build(name: str, rng: np.random.Generator, index: int) -> CodeCase:
        wiring, form = Wiring(rng), FORMS[index % len(FORMS)]
        shape = (1 + index % 3, CHANNELS[3 + index % 8], 1 + index % 4, 1 + int(rng.integers(0, 19)))
        passed = wiring.add("LeakyRelu", [wiring.decoded("x", form, *shape)], alpha=1.0)
        value = wiring.again(passed, form)
        if index % 2:
            wiring.constants["two"] = np.array(2, F32)
            value = wiring.add("Mul", [value, "two"])
        op, sources, _, attributes = wiring.nodes[-1]
        wiring.nodes[-1] = (op, sources, "y", attributes)
        return wiring.case(f"{name}: {shape} {form}", 1 + index // 2 % 2)

    yield from each_form(loop, build)


TABLES: tuple[tuple[str, dict[str, Any], tuple[float, ...]], ...] = (
    ("Relu", {}, ()),
    ("Clip", {}, (-0.4, 1.1)),
    ("LeakyRelu", {"alpha": 0.13}, ()),
    ("Sigmoid", {}, ()),
    ("Tanh", {}, ()),
)


def table_cases(loop: str) -> Iterator[Case]:
    """Functions of one code, codes of one quantiser as codes of another, and parts of a concatenation."""

    def build(name: str, rng: np.random.Generator, index: int) -> CodeCase:
        wiring, count = Wiring(rng), len(FORMS)
        form, to = FORMS[index % count], FORMS[(index * 3 + 1) % count]
        shape = (1 + index % 3, CHANNELS[index % len(CHANNELS)], 1 + index % 5, 1 + int(rng.integers(0, 19)))
        if index % 4 == 0:
            shape = shape[:2]
        op = "Requantize" if index % 3 == 0 else ""
        value = wiring.decoded("x", form, *shape)
        if not op:
            op, attributes, limits = TABLES[index % len(TABLES)]
            names = [wiring.constant(f"limit{i}", np.array(limit, F32)) for i, limit in enumerate(limits)]
            value = wiring.add(op, [value, *names], **attributes)
        wiring.quantise(value, to, "y")
        return wiring.case(f"{name}: {op} {shape} {form} {to}", 1 + index % 2)

    yield from each_form(loop, build, 66)
    for index, sizes in enumerate(((16, 16), (32, 16, 5), (16, 17), (48,), (16, 16, 33), (16, 4), (32, 1), (64, 3))):
        rng = np.random.default_rng(seed_of(f"{loop}/concat{index}"))
        wiring, to = Wiring(rng), FORMS[index % len(FORMS)]
        parts = []
        for i, size in enumerate(sizes):
            form = to if i % 2 else FORMS[(index + i + 1) % len(FORMS)]
            parts.append(wiring.decoded(f"x{i}", form, 1 + index % 2, size, 3, 4))
        wiring.quantise(wiring.add("Concat", parts, axis=1), to, "y")
        yield wiring.case(f"{loop}/concat{index}: {sizes} {to}", 1 + index % 2)


def reorder_cases(loop: str) -> Iterator[Case]:
    """Plain tensors of codes into blocks and back."""
    yield from max_pool_cases(loop)
    yield from table_cases(loop)


GENERATORS: dict[str, Callable[[str], Iterator[Case]]] = {
    "gemm_u8": gemm_cases,
    "depthwise_u8": depthwise_cases,
    "maxpool_u8": max_pool_cases,
    "avgpool_u8": average_pool_cases,
    "add_u8": add_cases,
    "quantize_f32": quantise_cases,
    "dequantize_u8": dequantise_cases,
    "table_u8": table_cases,
    "reorder_codes": reorder_cases,
}
"""The loops on 8-bit codes."""
