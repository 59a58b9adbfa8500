"""Cases of layers on planes of bits: quantisers of few levels, weights of few values, thresholds, pooling, borders."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from bittern.encodings import Affine, Dense, Encoding, Packed, Signs, Sum, Ternary

from tests.builders import reference, small_integers
from tests.conftest import seed_of
from tests.kernels.cases import Case, exact
from tests.kernels.convolution import Convolution, acceptance_shapes, random_convolution
from tests.quantized_graphs import F32, Wiring, code_network
from tests.reference import run
from tests.reference.arrays import Array

RANDOM_CASES = 60
LEVELS = (
    "bipolar", "bipolar half", "threshold", "thresholds 3", "thresholds 15", "thresholds each 2", "minus thresholds",
    "u2", "u4 zero", "i2 narrow", "i4", "u8", "sign form", "residual 2", "residual 4", "residual 3 scaled",
    "residual 3 from the first",
)  # fmt: skip
"""How real numbers become few levels. ``each``: thresholds of every channel's own. ``residual``: sums of levels."""
WEIGHTS = (
    "signs", "signs each", "ternary", "odd", "u1", "u3", "i4", "sum", "two scales each", "two scales", "mixed sum",
)  # fmt: skip
"""All scales are powers of two, so that every float32 number on the way is exact."""


def levels(wiring: Wiring, kind: str, value: str, channels: int) -> str:
    """A quantiser behind a value of so many channels (the second dimension)."""
    rng, name = wiring.rng, f"l{len(wiring.nodes)}"
    word, _, rest = kind.partition(" ")
    if word == "residual":
        return residual(wiring, rest, value)
    if word == "bipolar":
        scale = wiring.constant(f"{name}.s", np.array(0.5 if rest else 1, F32))
        return wiring.add("BipolarQuant", [value, scale])
    if kind == "sign form":
        table = wiring.constant(f"{name}.t", np.zeros((1, 1), F32))
        return wiring.add("MultiThreshold", [value, table], out_scale=2.0, out_bias=-1.0)
    if "threshold" in kind:
        count = int(rest.split()[-1]) if word == "thresholds" else 2
        rows = channels if rest.startswith("each") else 1
        steps = np.sort(rng.integers(-16, 17, (rows, count)), axis=1).astype(F32) / F32(2)
        table = wiring.constant(f"{name}.t", steps)
        if word == "minus":
            return wiring.add("MultiThreshold", [value, table], out_scale=-1.0, out_bias=1.0)
        factor, shift = (0.5, -0.25) if count == 1 else (1.0, -float(count // 2))
        return wiring.add("MultiThreshold", [value, table], out_scale=factor, out_bias=shift)
    bits, signed = int(word[1]), word[0] == "i"
    zero = {"zero": 5}.get(rest, 0)
    attributes: dict[str, Any] = {"bits": bits} | ({"narrow": 1} if rest == "narrow" else {})
    s = wiring.constant(f"{name}.s", np.array(0.5, F32))
    z = wiring.constant(f"{name}.z", np.array(zero, np.int8 if signed else np.uint8))
    codes = wiring.add("QuantizeLinear", [value, s, z], **attributes)
    return wiring.add("DequantizeLinear", [codes, s, z], **attributes)


def residual(wiring: Wiring, kind: str, value: str, factors: Sequence[float] = (4, 1, 0.5, 0.25)) -> str:
    """Levels of which each quantises what those before it left (arXiv 1711.01243), in forms that people write."""
    count, _, form = kind.partition(" ")
    left, total = value, ""
    for level, factor in enumerate(factors[: int(count)]):
        g = wiring.constant(f"g{len(wiring.nodes)}", np.array(factor, F32))
        if form == "signs":
            term = wiring.add("Mul", [g, wiring.add("Sign", [left])])
        elif form == "scaled":
            one = wiring.constant(f"one{len(wiring.nodes)}", np.array(1, F32))
            bits = wiring.add("BipolarQuant", [left, one])
            term = wiring.add("Mul", [bits, g])
        else:
            term = wiring.add("BipolarQuant", [left, g])
        total = wiring.add("Add", [term, total] if level % 2 else [total, term]) if total else term
        if level + 1 < int(count):
            left = wiring.add("Sub", [value, total] if "from" in form else [left, term])
    return total


def weights(kind: str, rng: np.random.Generator, shape: tuple[int, ...], axis: int) -> Encoding:
    """Weights of few values with scales that are powers of two."""
    channels = shape[axis]
    if kind.startswith("signs"):
        each = kind.endswith("each")
        scale = F32(2) ** rng.integers(-2, 3, channels if each else ()).astype(F32)
        return Signs(
            Packed.pack(rng.integers(0, 2, shape).astype(np.uint8), 1),
            Dense(np.asarray(scale, F32)),
            axis if each else None,
        )
    if kind.startswith("two scales"):
        plus, minus = (
            F32(2) ** rng.integers(-2, 3, channels if kind.endswith("each") else ()).astype(F32) for _ in range(2)
        )
        minus *= F32(2)  # most channels have two scales
        trits = Packed.pack(rng.integers(0, 3, shape).astype(np.uint32), 2)
        return Ternary(
            trits, Dense(np.asarray(plus)), Dense(np.asarray(minus)), axis if kind.endswith("each") else None
        )
    if kind == "sum":
        return Sum(tuple(weights(f"signs{each}", rng, shape, axis) for each in ("", " each", " each")))
    if kind == "mixed sum":
        return Sum(
            (
                Sum((weights("odd", rng, shape, axis), weights("two scales", rng, shape, axis))),
                weights("u1", rng, shape, axis),
            )
        )
    if kind == "odd":
        codes, bits, signed = 2 * rng.integers(-2, 2, shape) + 1, 3, True
    elif kind == "ternary":
        codes, bits, signed = rng.integers(-1, 2, shape), 2, True
    else:
        bits, signed = int(kind[1]), kind[0] == "i"
        codes = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape) if signed else rng.integers(0, 2**bits, shape)
    return Affine(
        Packed.pack(codes.astype(np.int32 if signed else np.uint32), bits, signed=signed), Dense(np.array(0.25, F32))
    )


@dataclass(frozen=True)
class BitCase(Case):
    """A network around layers on bits; every float32 number in it is exact."""

    trees: dict[str, Encoding] = field(default_factory=dict)

    def network(self) -> Any:
        """The network, whose only output is called y."""
        return code_network(self.inputs, {**self.constants, **self.trees}, self.nodes, ["y"])

    def expected(self, file: bytes) -> tuple[Array, Array | float]:
        """By the reference, node by node."""
        return run(reference(self.network()), self.inputs)["y"], 0.0


def finished(wiring: Wiring, name: str, threads: int) -> BitCase:
    """The case of a wired network."""
    return BitCase(name, wiring.inputs, wiring.constants, tuple(wiring.nodes), exact, threads, wiring.trees)


def source(rng: np.random.Generator, *shape: int) -> Array:
    """Quarters around zero, zeros of both signs and NaN among them."""
    found: Array = small_integers(rng, *shape, limit=24) / F32(4)
    flat = found.reshape(-1)
    flat[: min(3, flat.size)] = np.array([0.0, -0.0, np.nan], F32)[: flat.size]
    return found


def normalised(wiring: Wiring, value: str, channels: int) -> str:
    """Batch normalisation by powers of two, with negative and zero factors."""
    rng, name = wiring.rng, f"n{len(wiring.nodes)}"
    gamma = rng.choice(np.array([-2, -0.5, 0.5, 1, 2], F32), channels)
    gamma[channels // 2] = 0
    parts = [gamma, *(small_integers(rng, channels, limit=8) / F32(2) for _ in range(2)), np.full(channels, 4, F32)]
    names = [wiring.constant(f"{name}.{i}", part) for i, part in enumerate(parts)]
    return wiring.add("BatchNormalization", [value, *names], epsilon=0.0)


def layer(wiring: Wiring, value: str, shape: Convolution, kind: str) -> str:
    """A convolution of a value of few levels."""
    name = f"w{len(wiring.nodes)}"
    wiring.trees[name] = weights(kind, wiring.rng, (shape.filters, shape.channels // shape.groups, *shape.kernel), 0)
    sources = [value, name]
    if shape.bias:
        sources.append(wiring.constant(f"{name}.b", small_integers(wiring.rng, shape.filters)))
    attributes: dict[str, Any] = shape.attributes()
    return wiring.add("Conv", sources, **attributes)


def chain(
    shape: Convolution,
    into: str,
    between: str,
    kind: str,
    extra: str,
    name: str,
    rng: np.random.Generator,
    threads: int,
) -> BitCase:
    """Quantiser, layer, what ``extra`` says, quantiser, layer of one tap that shows every bit."""
    wiring = Wiring(rng)
    wiring.inputs["x"] = source(rng, shape.batch, shape.channels, shape.height, shape.width)
    value = "x"
    if "normal first" in extra:
        value = normalised(wiring, value, shape.channels)
    value = levels(wiring, into, value, shape.channels)
    if "pool first" in extra:
        value = wiring.add("MaxPool", [value], kernel_shape=[2, 3], pads=[0, 1, 1, 1], strides=[1, 1])
    if "border" in extra and into == "bipolar":
        top = wiring.constant("pads", np.array([0, 0, 1, 2, 0, 0, 1, 0], np.int64))
        value = wiring.add("Pad", [value, top, wiring.constant("pad", np.array(1 if "plus" in extra else -1, F32))])
    value = layer(wiring, value, shape, kind)
    if "pooled" in extra:
        value = wiring.add("MaxPool", [value], kernel_shape=[2, 3], strides=[2, 1], pads=[1, 1, 0, 1])
    if "normal" in extra:
        value = normalised(wiring, value, shape.filters)
    if "residual" in extra and not between:
        result = run(reference(_shown(wiring, value)), wiring.inputs)[value].shape
        wiring.inputs["r"] = source(rng, *result)
        value = wiring.add("Add", [value, "r"])
    if "clip" in extra:
        low, high = (wiring.constant(f"c{i}", np.array(limit, F32)) for i, limit in enumerate((-6.5, 4)))
        value = wiring.add("Clip", [value, low, high])
    if between:
        value = levels(wiring, between, value, shape.filters)
        if "pool last" in extra:
            value = wiring.add("MaxPool", [value], kernel_shape=[2, 2], strides=[2, 2], pads=[1, 1, 1, 1])
        if "flatten" in extra:
            value = wiring.add("Flatten", [value])
            # The reference says how many there are.
            found = run(reference(_shown(wiring, value)), wiring.inputs)[value].shape[1]
            wiring.trees["last"] = weights("signs", rng, (found, 7), 1)
            wiring.add("MatMul", [value, "last"], "y")
        else:
            last = Convolution(1, shape.filters, 1, 1, 9, kernel=(1, 1), bias=False)
            value = layer(wiring, value, last, "signs")
            wiring.nodes[-1] = (*wiring.nodes[-1][:2], "y", wiring.nodes[-1][3])
    else:
        wiring.nodes[-1] = (*wiring.nodes[-1][:2], "y", wiring.nodes[-1][3])
    text = f"{name}: {shape.label()} {into} -> {between or 'real'} {kind} {extra}"
    return finished(wiring, text, threads)


def _shown(wiring: Wiring, value: str) -> Any:
    return code_network(wiring.inputs, {**wiring.constants, **wiring.trees}, wiring.nodes, [value])


def connected(
    batch: int, inputs: int, outputs: int, into: str, between: str, kind: str, name: str, threads: int
) -> BitCase:
    """Two products of matrices."""
    wiring = Wiring(np.random.default_rng(seed_of(name)))
    wiring.inputs["x"] = source(wiring.rng, batch, inputs)
    value = levels(wiring, into, "x", inputs)
    wiring.trees["w"] = weights(kind, wiring.rng, (outputs, inputs), 0)
    value = wiring.add("Gemm", [value, "w"], transB=1)
    value = normalised(wiring, value, outputs)
    value = levels(wiring, between, value, outputs)
    wiring.trees["w2"] = weights("signs each", wiring.rng, (outputs, 5), 1)
    wiring.add("MatMul", [value, "w2"], "y")
    return finished(wiring, f"{name}: {batch}x{inputs} -> {outputs} {into} {between} {kind}", threads)


def fullest(loop: str, kind: str) -> BitCase:
    """Every bit of 2,100 products counts: sums of bytes in between must not overflow."""
    wiring = Wiring(np.random.default_rng(0))
    wiring.inputs["x"] = np.ones((3, 2100), F32)
    value = levels(wiring, "bipolar", "x", 2100)
    bit = 0 if kind == "signs" else 1  # -1 differs from all inputs; 1 is where all inputs are
    codes = Packed.pack(np.full((40, 2100), bit, np.uint8), 1)
    one = Dense(np.array(1, F32))
    wiring.trees["w"] = Signs(codes, one) if kind == "signs" else Affine(codes, one)
    wiring.add("Gemm", [value, "w"], "y", transB=1)
    return finished(wiring, f"{loop}/fullest {kind}", 1)


def bit_cases(loop: str) -> Iterator[BitCase]:
    """The standard acceptance shapes with each padding, products, and random shapes."""
    yield fullest(loop, "signs")
    yield fullest(loop, "u1")
    extras = (
        "normal", "normal pool last", "", "normal first border", "clip", "normal flatten", "border plus normal",
        "pool first", "residual", "normal residual clip", "pooled normal", "pooled", "pooled normal pool last",
    )  # fmt: skip
    for i, shape in enumerate(acceptance_shapes()):
        if shape.channels == 256:  # enough of it, for slow levels
            shape = Convolution(1, 256, 5, 4, 96, pads=(1, 1, 1, 1))
        for j, extra in enumerate(("normal", "pooled normal", "border normal", "border plus normal pool last")):
            name = f"{loop}/standard{i}.{j}"
            rng = np.random.default_rng(seed_of(name))
            yield chain(shape, "bipolar", "bipolar" if j else "", "signs each", extra, name, rng, 1 + j % 2)
    for i, (batch, inputs, outputs) in enumerate((3, n, m) for n in (1, 63, 64, 65, 1000) for m in (1, 10, 257)):
        kind, into = WEIGHTS[i % len(WEIGHTS)], LEVELS[i % len(LEVELS)]
        yield connected(
            batch if i % 2 else 1,
            inputs,
            outputs,
            into,
            LEVELS[(i * 5 + 1) % len(LEVELS)],
            kind,
            f"{loop}/product{i}",
            1,
        )
    for index in range(RANDOM_CASES):
        name = f"{loop}/random{index}"
        rng = np.random.default_rng(seed_of(name))
        into, between = (str(rng.choice(choices)) for choices in (LEVELS, ("", *LEVELS)))
        kind, extra = str(rng.choice(WEIGHTS)), str(rng.choice(extras))
        yield chain(random_convolution(rng, depthwise=False), into, between, kind, extra, name, rng, 1 + index % 2)
