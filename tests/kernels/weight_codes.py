"""Cases of layers on real numbers whose weights stay codes in memory, expanded panel by panel."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import bittern
import numpy as np
from bittern.encodings import Affine, Codebook, Dense, Encoding, Packed, Pow2, Ternary

from tests import tolerances
from tests.builders import reference
from tests.conftest import seed_of
from tests.kernels.cases import Bound, Case, data
from tests.kernels.convolution import CHANNELS, EPILOGUES, Convolution, pick, random_convolution
from tests.quantized_graphs import F32, code_network, weights
from tests.reference import apply, run
from tests.reference.arrays import Array

RANDOM_CASES = 25
KINDS = (
    "table 2", "table 4 zero", "table 3", "table 16", "table 9 zero", "table 17", "table 40 zero", "table 65",
    "table 200 zero", "table 256", "tables 3", "tables 4", "tables 16", "tables 100", "tables 256", "two ternary",
    "two ternary each", "pow2", "2 bits", "3 bits", "4 bits", "5 bits", "6 bits", "7 bits", "i8", "u8 zero 0",
    "ternary", "signs", "codebook", "float scale", "groups of 5", "groups of 16", "groups with zeros",
)  # fmt: skip
"""``table n``: a codebook of n real numbers, zero among them or not; ``tables n``: one for each output channel;
``groups``: scales of groups of inputs."""


def real_weights(kind: str, rng: np.random.Generator, shape: tuple[int, ...], axis: int = 0) -> Encoding:
    """Weights of one of KINDS; ``axis`` is that of the output channels."""
    channels = shape[axis]
    word, _, rest = kind.partition(" ")
    if word in ("table", "tables"):
        entries = int(rest.split()[0])
        table = rng.standard_normal((channels, entries) if word == "tables" else entries).astype(F32)
        if rest.endswith("zero"):
            table[entries // 2] = 0
        codes = Packed.pack(rng.integers(0, entries, shape), max(1, (entries - 1).bit_length()))
        return Codebook(codes, Dense(table), axis=axis if word == "tables" else None)
    if word == "two":
        many = rest.endswith("each")
        up, down = (Dense(rng.uniform(0.1, 1, channels if many else ()).astype(F32)) for _ in range(2))
        return Ternary(Packed.pack(rng.integers(0, 3, shape), 2), up, down, axis=axis if many else None)
    if kind == "pow2":
        levels = rng.integers(-3, 4, (*shape, 1))
        return Pow2.of(levels, Dense(np.array(0.37, F32)), 3)
    if word == "groups":
        inner, group, zeros = 1 - axis, 5 if rest.endswith("5") else 16, rest.endswith("zeros")
        few = tuple(-(-size // group) if d == inner else size for d, size in enumerate(shape))
        codes = Packed.pack(rng.integers(0, 16, shape) if zeros else rng.integers(-8, 8, shape), 4, signed=not zeros)
        zero = Dense(rng.integers(0, 16, few).astype(np.uint8)) if zeros else None
        return Affine(codes, Dense(rng.uniform(0.1, 1, few).astype(F32)), zero, inner, group)
    if kind == "float scale":
        codes = Packed.pack(rng.integers(-8, 8, shape), 4, signed=True)
        return Affine(codes, Dense(rng.uniform(-1, 1, channels).astype(F32)), axis=axis)
    return weights(kind, rng, shape, axis)


@dataclass(frozen=True)
class CodedCase(Case):
    """A layer on real numbers whose weight is an encoding tree."""

    trees: Mapping[str, Encoding] = field(default_factory=dict)

    def network(self) -> bittern.Network:
        """The network, whose only output is called y."""
        return code_network(self.inputs, {**self.constants, **self.trees}, self.nodes, ["y"])

    def expected(self, file: bytes) -> tuple[Array, Array | float]:
        """By the reference, with the decoded weights; and the rounding bound."""
        net = reference(self.network())
        found = run(net, self.inputs)["y"]
        return found, self.bound({**net.constants, **self.inputs}, found)


def coded(shape: Convolution, kind: str, name: str, rng: np.random.Generator, threads: int) -> CodedCase:
    """The convolution with weights of a kind."""
    case = replace(shape, integers=False).case(name, rng, threads)
    tree = real_weights(kind, rng, case.constants["w"].shape)
    constants = {key: value for key, value in case.constants.items() if key != "w"}
    return CodedCase(f"{case.name} {kind}", case.inputs, constants, case.nodes, case.bound, threads, {"w": tree})


def listed() -> Iterator[Convolution]:
    """Channels around panels and blocks, first layers on planes, strides, dilation, groups, batches."""
    for i, channels in enumerate(CHANNELS):
        other = CHANNELS[(i * 4 + 2) % len(CHANNELS)]
        yield Convolution(1 + i % 3, channels, 5, 7, other, pads=(1, 1, 1, 1), epilogue=EPILOGUES[i % len(EPILOGUES)])
        yield Convolution(1, channels, 6, 5, other, kernel=(1, 1), bias=False)
    yield Convolution(1, 3, 23, 21, 63, kernel=(7, 7), stride=(2, 2), pads=(3, 3, 3, 3), epilogue="relu")
    yield Convolution(2, 15, 9, 8, 31, (2, 3), (3, 1), (1, 0, 0, 2), (2, 1), epilogue="residual clip")
    yield Convolution(1, 130, 5, 4, 9, kernel=(5, 3), stride=(2, 2), pads=(2, 2, 2, 2))
    yield Convolution(3, 64, 14, 14, 64, pads=(1, 1, 1, 1), epilogue="residual relu")
    for groups, each, share in ((2, 16, 64), (2, 8, 8), (3, 5, 7), (4, 16, 33), (31, 2, 1)):
        yield Convolution(1, groups * each, 6, 5, groups * share, pads=(1, 1, 1, 1), groups=groups, epilogue="relu")


@dataclass(frozen=True)
class ProductBound:
    """The rounding bound of a product of matrices."""

    transposed: bool

    def __call__(self, values: Mapping[str, Array], expected: Array) -> Array:
        sources = [np.abs(values[name]) for name in ("x", "w", "b") if name in values]
        magnitude = apply("Gemm", sources, {"transB": 1} if self.transposed else {})
        return tolerances.dot_bound(values["x"].shape[1], magnitude)


def product(kind: str, size: tuple[int, int, int], index: int, name: str) -> CodedCase:
    """Some rows times weights of a kind."""
    rng = np.random.default_rng(seed_of(name))
    (rows, inputs, outputs), turned = size, index % 2 == 0
    shape = (outputs, inputs) if turned else (inputs, outputs)
    constants: dict[str, Array] = {}
    sources = ["x", "w"]
    if index % 3:
        constants["b"] = data(rng, False, *((outputs,) if index % 3 == 1 else (rows, outputs)))
        sources.append("b")
    attributes: dict[str, Any] = {"transB": 1} if turned else {}
    nodes = [("Gemm", sources, "y", attributes)]
    bound: Bound = ProductBound(turned)
    tree = real_weights(kind, rng, shape, 0 if turned else 1)
    x = {"x": data(rng, False, rows, inputs)}
    return CodedCase(f"{name}: {kind} {size}", x, constants, tuple(nodes), bound, 1 + index % 2, {"w": tree})


def real_cases(loop: str) -> Iterator[Case]:
    """Every kind of weights under several shapes."""
    shapes = list(listed())
    for index in range(max(len(KINDS), len(shapes)) * 2):
        name = f"{loop}/conv{index}"
        rng = np.random.default_rng(seed_of(name))
        # The lists have no common rhythm, so that the second round has other pairs.
        shape, kind = shapes[index % len(shapes)], KINDS[(index * 7 + index // len(KINDS)) % len(KINDS)]
        yield coded(shape, kind, name, rng, 1 + index % 2)
    for index in range(RANDOM_CASES):
        name = f"{loop}/random{index}"
        rng = np.random.default_rng(seed_of(name))
        yield coded(random_convolution(rng, depthwise=False), str(rng.choice(KINDS)), name, rng, pick(rng, 1, 2))
    sizes = ((1, 65, 33), (2, 17, 16), (7, 33, 65), (33, 100, 31), (5, 1, 1), (12, 64, 130))
    for index, kind in enumerate(KINDS):
        yield product(kind, sizes[index % len(sizes)], index, f"{loop}/product{index}")
