"""Short ways to build graphs of quantised layers for tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import bittern
import numpy as np
from bittern.encodings import Affine, Codebook, Dense, Encoding, Packed, Signs, Ternary

from tests.builders import NodeSpec, floats
from tests.reference.arrays import Array

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
    """A network whose inputs have their arrays' types and shapes, or another ``batch``."""
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
        return affine(
            rng,
            Dense(byte_range(rng, shape, 0, 254).astype(np.uint8)),
            axis,
            many,
            np.array(0, np.uint8) if not many else np.zeros(shape[axis], np.uint8),
        )
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
    "i8", "u8", "9 bits", "4 bits", "ternary", "signs", "codebook", "i8 zero", "u8 zero 0", "2 bits", "3 bits",
    "5 bits", "6 bits", "7 bits", "8 bits",
)  # fmt: skip
BIASES = ("", "whole", "real", "other")


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


def fitted(to: Form, tree: Encoding, source: Form) -> Form:
    """The result's quantiser with a scale that fits the layer's sums."""
    w = tree.decode().astype(np.float64)
    each = w.size / w.shape[0]
    low, high = source.limits
    spread = float(np.sqrt(each) * np.sqrt(np.mean(np.square(w)) + 1e-12)) * source.scale * (high - low) / 3
    scale = F32(max(spread, 1e-6) / 2 ** (to.bits - 2))
    return Form(to.dtype, float(scale), to.zero, to.bits, to.narrow)


def conv(wiring: Wiring, source: str, form: Form, channels: int, filters: int, **options: Any) -> tuple[str, Form]:
    """A 3x3 or 1x1 convolution with a bias in units of its sums; its result and a quantiser that fits."""
    size, groups = options.pop("size", 3), options.pop("groups", 1)
    name = f"w{len(wiring.trees)}"
    to = options.pop("to", FORMS[1])
    wiring.trees[name] = weights("i8", wiring.rng, (filters, channels // groups, size, size), 0)
    wiring.trees[f"b{name}"] = bias("whole", wiring.rng, form, wiring.trees[name], filters)
    value = wiring.add("Conv", [source, name, f"b{name}"], pads=[size // 2] * 4, group=groups, **options)
    return value, fitted(to, wiring.trees[name], form)


def small_network(wiring: Wiring) -> list[str]:
    """An image through a first layer, a depthwise one, a residual block, pooling and a product: outputs' names."""
    wiring.inputs["image"] = floats(wiring.rng, 2, 3, 11, 9)
    source = Form("u8", 0.03, 114)
    x = wiring.again("image", source)
    value, form = conv(wiring, x, source, 3, 16, strides=[2, 2])
    first = wiring.again(wiring.add("Relu", [value], "first"), form)
    value, deep = conv(wiring, first, form, 16, 16, groups=16)
    second = wiring.again(value, deep)
    value, third = conv(wiring, second, deep, 16, 16, size=1)
    wiring.add("Add", [wiring.again(value, third), first], "sum")
    total = form.scaled(1.7)
    x = wiring.again(wiring.add("Relu", ["sum"]), total)
    x = wiring.again(wiring.add("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]), total)
    x = wiring.again(wiring.add("GlobalAveragePool", [x]), total.scaled(0.5))
    x = wiring.again(wiring.add("Flatten", [x]), total.scaled(0.5))
    wiring.trees["last"] = weights("4 bits", wiring.rng, (10, 16), 0)
    wiring.add("Gemm", [x, "last"], "scores", transB=1)
    return ["scores"]
