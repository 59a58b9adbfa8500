"""Cases of the loop over weights that are not zero."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from bittern.encodings import Affine, Dense

from tests import tolerances
from tests.builders import NodeSpec, floats
from tests.conftest import seed_of
from tests.kernels import one_row
from tests.kernels.cases import Case, CodeCase, exact, random_cases
from tests.kernels.code_layers import Layer, connected_cases, drawn_layer, listed_layers
from tests.kernels.convolution import Convolution, ConvolutionBound, listed, pick, random_convolution
from tests.quantized_graphs import FORMS
from tests.reference.arrays import Array

DENSITIES = (0.1, 0.0, 0.3, 1.0, 0.03)


def thinned(case: Case, density: float, rng: np.random.Generator) -> Case:
    """The case with some of its weights zero."""
    w = case.constants["w"]
    return replace(case, constants={**case.constants, "w": np.where(rng.random(w.shape) < density, w, w.dtype.type(0))})


def large() -> Iterator[Convolution]:
    """Several chunks of output channels, blocks of inputs and panels of pixels; maps of whole vectors and not."""
    yield Convolution(1, 300, 7, 7, 270, kernel=(1, 1), epilogue="residual relu")
    yield Convolution(1, 300, 8, 16, 40, kernel=(1, 1), epilogue="relu")
    yield Convolution(2, 70, 14, 14, 150, pads=(1, 1, 1, 1), epilogue="residual relu")
    yield Convolution(1, 60, 30, 30, 20, stride=(2, 2), pads=(1, 1, 1, 1), integers=False)
    yield Convolution(1, 80, 9, 21, 600, groups=2, pads=(1, 1, 1, 1), epilogue="clip")
    yield Convolution(1, 3, 40, 40, 33, kernel=(11, 11), stride=(4, 4), pads=(2, 2, 2, 2), epilogue="relu")


def normalized(rng: np.random.Generator) -> Case:
    """A scaling per channel behind the layer: folded into its weights, or into the sums of codes."""
    shape = Convolution(1, 20, 9, 9, 12, pads=(1, 1, 1, 1))
    case = thinned(shape.case("spmm/normalized", rng), 0.2, rng)
    parameters = {
        name: np.abs(floats(rng, 12)) + np.float32(0.5) if name == "variance" else floats(rng, 12)
        for name in ("scale", "shift", "mean", "variance")
    }
    nodes: tuple[NodeSpec, ...] = (
        ("Conv", ["x", "w", "b"], "c", shape.attributes()),
        ("BatchNormalization", ["c", *parameters], "y", {}),
    )

    def bound(values: Mapping[str, Array], expected: Array) -> Array:
        factor = (np.abs(values["scale"]) / np.sqrt(values["variance"]))[:, None, None]
        around = np.abs(values["shift"]) + np.abs(values["mean"]) * factor[:, 0, 0]
        plain = ConvolutionBound(shape)(values, expected) + 8 * 2.0**-24 * around[:, None, None]
        return np.asarray(4 * factor * plain + plain, np.float64)

    return replace(case, constants={**case.constants, **parameters}, nodes=nodes, bound=bound)


def emptied() -> Iterator[Case]:
    """Input channels without weights: behind one whose taps alone fill a block, and far between those with some."""
    for index, (shape, kept) in enumerate(
        (
            (Convolution(1, 3, 30, 30, 4, kernel=(12, 12)), [0]),
            (Convolution(1, 3, 30, 30, 300, kernel=(12, 12)), [0]),
            (Convolution(1, 4, 30, 30, 5, kernel=(13, 12), pads=(1, 1, 1, 1)), [0, 2]),
            (Convolution(1, 3, 40, 40, 6, kernel=(12, 12), stride=(2, 3)), [1]),
            (Convolution(1, 700, 8, 16, 9, kernel=(1, 1)), [0, 1, 300, 698]),
        )
    ):
        name = f"spmm/emptied{index}"
        case = shape.case(name, np.random.default_rng(seed_of(name)))
        w = np.zeros_like(case.constants["w"])
        w[:, kept] = case.constants["w"][:, kept]
        yield replace(case, constants={**case.constants, "w": w})


def of_two_values(case: Case, density: float, rng: np.random.Generator) -> Case:
    """The case with at most two values besides zero in each output channel: some of one magnitude, some of one sign."""
    w = case.constants["w"]
    transposed = case.nodes[0][3].get("transB") if case.nodes[0][0] == "Gemm" else True
    rows = w if transposed else w.T
    one = abs(float(rng.standard_normal())) + 0.1
    pairs = [(one, -one), (one, 0.7 * one), (one, one), (-one, 0.3 * one), (-one, 0.0)]
    if np.array_equal(w, np.rint(w)):
        pairs = [(2.0, -2.0), (-3.0, -3.0), (1.0, -4.0), (8.0, 2.0), (-1.0, 0.0)]
    made = np.zeros(rows.shape, np.float32)
    for row in made:
        first, second = pairs[int(rng.integers(len(pairs)))]
        kept = rng.random(row.shape) < density
        row[...] = np.where(kept, np.where(rng.random(row.shape) < rng.random(), first, second), 0)
    made = made if transposed else np.ascontiguousarray(made.T)
    return replace(case, constants={**case.constants, "w": made})


def cases_of_two_values(loop: str) -> Iterator[Case]:
    """What kernels without values in their lists run: convolutions, products of several rows, folded scalings."""
    for index, shape in enumerate([*large(), *list(listed())[::2]]):
        name = f"{loop}/two values{index}"
        rng = np.random.default_rng(seed_of(name))
        yield of_two_values(shape.case(name, rng, 1 + index % 2), (0.3, 0.6, 0.05, 1.0)[index % 4], rng)
    for case in (*products(f"{loop}/two values"), *emptied()):
        yield of_two_values(case, 0.4, np.random.default_rng(seed_of(f"two values {case.name}")))
    yield of_two_values(normalized(np.random.default_rng(seed_of("spmm/normalized"))), 0.5, np.random.default_rng(6))


def cases_of_blocks(loop: str) -> Iterator[Case]:
    """Four output channels that have their weights at the same places, and one weight more somewhere."""
    for index, shape in enumerate(
        (
            Convolution(1, 300, 7, 7, 272, kernel=(1, 1), epilogue="residual relu"),
            Convolution(2, 70, 14, 14, 520, pads=(1, 1, 1, 1), epilogue="residual clip"),
            Convolution(1, 60, 30, 30, 20, stride=(2, 2), pads=(1, 1, 1, 1), integers=False),
            Convolution(1, 40, 15, 9, 64, pads=(2, 2, 2, 2), dilation=(2, 2), bias=False, integers=False),
            Convolution(1, 64, 8, 16, 4, kernel=(1, 1), epilogue="relu"),
        )
    ):
        name = f"{loop}/blocks{index}"
        rng = np.random.default_rng(seed_of(name))
        case = shape.case(name, rng, 1 + index % 2)
        w = case.constants["w"]
        kept = np.repeat(rng.random((w.shape[0] // 4, *w.shape[1:])) < (0.2, 0.02, 0.5)[index % 3], 4, axis=0)
        kept[1, 0, 0, 0] = True
        yield replace(case, constants={**case.constants, "w": np.where(kept, w, w.dtype.type(0))})


def sparse_cases(loop: str) -> Iterator[Case]:
    """Convolutions of every density."""
    for index, shape in enumerate([*large(), *listed()]):
        name = f"{loop}/sparse{index}"
        rng = np.random.default_rng(seed_of(name))
        yield thinned(shape.case(name, rng, 1 + index % 2), DENSITIES[index % len(DENSITIES)], rng)
    yield from emptied()
    yield from products(loop)
    yield from cases_of_two_values(loop)
    yield from cases_of_blocks(loop)
    yield normalized(np.random.default_rng(seed_of("spmm/normalized")))
    yield from random_cases(
        loop,
        lambda name, rng: thinned(
            random_convolution(rng, depthwise=False).case(name, rng, pick(rng, 1, 2)), float(rng.random()) ** 2, rng
        ),
    )


@dataclass(frozen=True)
class SparseRow(Case):
    """Rows of real numbers times sparse weights, judged by the rounding bound."""

    def expected(self, file: bytes) -> tuple[Array, Array]:
        """By the reference, and what the rounding of as many products may amount to."""
        found, _ = super().expected(file)
        values = {**self.constants, **self.inputs}
        w = values["w"].T if self.nodes[0][3] else values["w"]
        magnitude = np.abs(values["x"]).astype(np.float64) @ np.abs(w).astype(np.float64)
        return found, tolerances.dot_bound(w.shape[0] + 1, magnitude + np.abs(values.get("b", np.zeros(1))))


def products(loop: str) -> Iterator[Case]:
    """Several rows: few and many, up to more than a panel, few values and many."""
    sizes = ((2, 1, 1), (3, 17, 40), (16, 33, 300), (32, 200, 65), (130, 64, 31), (5, 700, 9), (64, 300, 600))
    for index, (rows, inputs, outputs) in enumerate(sizes * 2):
        name = f"{loop}/product{index} {rows}x{inputs}x{outputs}"
        rng = np.random.default_rng(seed_of(name))
        few, turned = index % 3 == 0, index % 2 == 0
        shape = (outputs, inputs) if turned else (inputs, outputs)
        w = rng.choice(floats(rng, 40), shape) if few else floats(rng, *shape)
        w = np.where(rng.random(shape) < DENSITIES[index % len(DENSITIES)], w, np.float32(0))
        constants, sources = {"w": w}, ["x", "w"]
        if index % 3:
            constants["b"] = floats(rng, outputs)
            sources.append("b")
        nodes: list[NodeSpec] = [("Gemm", sources, "y" if index % 4 else "t", {"transB": 1} if turned else {})]
        if index % 4 == 0:
            nodes.append(("Relu", ["t"], "y", {}))
        yield SparseRow(name, {"x": floats(rng, rows, inputs)}, constants, tuple(nodes), exact, 1 + index % 2)


def sparse_row_cases(loop: str) -> Iterator[Case]:
    """One row: few values and many, every density, inputs that fill no window, outputs that fill no group."""
    sizes = ((1, 1), (3, 17), (16, 16), (15, 33), (33, 5), (64, 65), (63, 10), (130, 31), (1000, 70))
    for index, (inputs, outputs) in enumerate(sizes * 2):
        name = f"{loop}/row{index} {inputs}x{outputs}"
        rng = np.random.default_rng(seed_of(name))
        few, turned = index < len(sizes), index % 2 == 0
        shape = (outputs, inputs) if turned else (inputs, outputs)
        w = rng.choice(floats(rng, 15), shape) if few else floats(rng, *shape)
        w = np.where(rng.random(shape) < DENSITIES[index % len(DENSITIES)], w, np.float32(0))
        constants, sources = {"w": w}, ["x", "w"]
        if index % 3:
            constants["b"] = floats(rng, outputs)
            sources.append("b")
        nodes: list[NodeSpec] = [("Gemm", sources, "y" if index % 4 else "t", {"transB": 1} if turned else {})]
        if index % 4 == 0:
            nodes.append(("Relu", ["t"], "y", {}))
        yield SparseRow(name, {"x": floats(rng, 1, inputs)}, constants, tuple(nodes), exact, 1 + index % 2)
    # Windows that stand further apart than one step reaches, and rows that wait for each other.
    for index, kept in enumerate(([0, 1700, 4999], [511, 1022, 1023, 4998], [4999], [])):
        name = f"{loop}/far{index}"
        rng = np.random.default_rng(seed_of(name))
        w = np.zeros((37, 5000 + index), np.float32)
        w[np.ix_([0, 3, 20], kept)] = floats(rng, 3, len(kept))
        w[4, 100:160] = 1
        yield SparseRow(
            name, {"x": floats(rng, 1, 5000 + index)}, {"w": w}, (("Gemm", ["x", "w"], "y", {"transB": 1}),), exact
        )


def thinned_codes(case: Case, density: float, together: int, rng: np.random.Generator) -> Case:
    """The case with weights zero, ``together`` neighbouring input channels at a time; weights with zero points stay."""
    assert isinstance(case, CodeCase)
    w = case.trees["w"]
    if not isinstance(w, Affine) or w.zero_point is not None:
        return case
    codes = w.codes.decode()
    turned = any(node[0] == "Gemm" and node[3].get("transB") for node in case.nodes)
    axis = 1 if codes.ndim == 4 or turned else 0  # products have their weights inputs x outputs, unless they say so
    cells = list(codes.shape)
    cells[axis] = -(-cells[axis] // together)
    kept = np.repeat(rng.random(cells) < density, together, axis).take(range(codes.shape[axis]), axis)
    tree = replace(w, codes=Dense(np.where(kept, codes, codes.dtype.type(0))))
    return replace(case, trees={**case.trees, "w": tree})


def code_row_cases(loop: str) -> Iterator[Case]:
    """One row of codes: every density, and windows that stand further apart than one step reaches."""
    for index, case in enumerate(one_row.code_row_cases(loop)):
        yield thinned_codes(
            case, DENSITIES[index % len(DENSITIES)], (1, 4)[index // 2 % 2], np.random.default_rng(index)
        )
    for index, case in enumerate(one_row.code_row_cases(f"{loop}/far", ((2700, 21),))):
        rng = np.random.default_rng(index)
        yield replace(thinned_codes(case, 0.0005, 1, rng), name=f"{case.name} far")


def large_on_codes() -> Iterator[Layer]:
    """Several chunks of output channels, blocks of quads and panels of pixels; some with strides, dilations, groups."""
    yield Layer(1, 300, 7, 7, 270, (1, 1), epilogue="residual relu", source=FORMS[0], bias="whole")
    yield Layer(1, 1100, 8, 16, 40, (1, 1), epilogue="relu", source=FORMS[2])
    yield Layer(2, 70, 14, 14, 150, pads=(1, 1, 1, 1), epilogue="residual relu", source=FORMS[1], bias="real")
    yield Layer(1, 60, 30, 30, 20, stride=(2, 2), pads=(1, 1, 1, 1), source=FORMS[4], epilogue="real")
    yield Layer(1, 80, 9, 21, 600, groups=2, pads=(1, 1, 1, 1), epilogue="clip", source=FORMS[3])
    yield Layer(1, 90, 17, 19, 60, (3, 2), (3, 1), (2, 0, 1, 2), (2, 3), groups=3, source=FORMS[5], epilogue="residual")
    yield Layer(1, 256, 15, 15, 513, (1, 1), (2, 2), epilogue="norm relu", source=FORMS[0])


def code_cases(loop: str) -> Iterator[Case]:
    """Convolutions and products of codes, with weights of every density, zero one by one and in quads."""
    for index, shape in enumerate([*large_on_codes(), *listed_layers()]):
        name = f"{loop}/sparse{index}"
        rng = np.random.default_rng(seed_of(name))
        case = shape.case(name, rng, 1 + index % 2)
        yield thinned_codes(case, DENSITIES[index % len(DENSITIES)], (4, 1)[index // 2 % 2], rng)
    for index, product in enumerate(connected_cases(loop)):
        yield thinned_codes(product, DENSITIES[index % 4], 4, np.random.default_rng(seed_of(product.name)))

    def drawn(name: str, rng: np.random.Generator) -> Case:
        case = drawn_layer(rng, depthwise=False).case(name, rng, pick(rng, 1, 2))
        return thinned_codes(case, float(rng.random()) ** 2, pick(rng, 1, 4), rng)

    yield from random_cases(loop, drawn)
