"""Cases of products with one row, whose weights are decoded in registers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import bittern
import numpy as np
from bittern.encodings import Codebook, Dense, Encoding, Packed, Ternary

from tests import tolerances
from tests.builders import reference
from tests.conftest import seed_of
from tests.kernels.cases import Case, code_case
from tests.kernels.code_layers import finish
from tests.quantized_graphs import BIASES, F32, FORMS, WEIGHTS, Wiring, bias, code_network, fitted, weights
from tests.reference import run
from tests.reference.arrays import Array

SIZES = ((1, 1), (3, 17), (7, 16), (8, 33), (9, 64), (63, 10), (64, 65), (65, 5), (131, 130), (1000, 31))
FEW_LETTERS = ("4 bits", "ternary", "signs", "codebook", "2 bits", "3 bits")


def code_row_cases(loop: str, sizes: Sequence[tuple[int, int]] = SIZES) -> Iterator[Case]:
    """One row of codes: weights of every kind, awkward sizes."""
    index = 0
    for kind in (*WEIGHTS, "low", "high"):
        for inputs, outputs in sizes:
            index += 1
            name = f"{loop}/{kind} {inputs}x{outputs}"
            rng = np.random.default_rng(seed_of(name))
            wiring = Wiring(rng)
            source, to = FORMS[index % len(FORMS)], FORMS[(index * 3) % len(FORMS)]
            turned = index % 2 == 0
            x = wiring.decoded("x", source, 1, inputs)
            shape = (outputs, inputs) if turned else (inputs, outputs)
            wiring.trees["w"] = weights(kind, rng, shape, 0 if turned else 1)
            sources, form = [x, "w"], BIASES[index % 4]
            if form:
                wiring.trees["b"] = bias(form, rng, source, wiring.trees["w"], outputs)
                sources.append("b")
            attributes: dict[str, Any] = {"transB": 1} if turned else {}
            value = wiring.add("Gemm", sources, **attributes)
            fit = fitted(to, wiring.trees["w"], source)
            finish(wiring, value, (1, outputs), ("", "relu", "clip", "real", "real relu")[index % 5], fit, fit, fit)
            yield code_case(wiring, name, 1 + index % 2)


@dataclass(frozen=True)
class RealRow(Case):
    """One row of real numbers times weights of few bits: judged by the rounding bound."""

    trees: Mapping[str, Encoding] = field(default_factory=dict)

    def network(self) -> bittern.Network:
        """The network, whose only output is called y."""
        return code_network(self.inputs, {**self.constants, **self.trees}, self.nodes, ["y"])

    def expected(self, file: bytes) -> tuple[Array, Array]:
        """In float64, and what the rounding of as many products may amount to."""
        network = reference(self.network())
        values: Mapping[str, Array] = {**network.constants, **self.inputs}
        w = values["w"].astype(np.float64)
        magnitude = np.abs(values["x"]).astype(np.float64) @ np.abs(w.T if self.nodes[0][3] else w)
        if "b" in values:
            magnitude = magnitude + np.abs(values["b"])
        # A scale is applied behind the sum here, before it there: two roundings more.
        return run(network, self.inputs)["y"], tolerances.dot_bound(values["x"].shape[1] + 2, magnitude)


def real_weights(kind: str, rng: np.random.Generator, shape: tuple[int, ...], axis: int, index: int) -> Encoding:
    """Weights of a kind, those among them that layers of codes do not run."""
    if kind == "floats":
        table = Dense(rng.standard_normal(1 + index % 16).astype(F32))
        return Codebook(Packed.pack(rng.integers(0, table.shape[0], shape), 4), table)
    if kind == "own codebooks":
        tables = Dense(rng.standard_normal((shape[axis], 1 + index % 4)).astype(F32))
        return Codebook(Packed.pack(rng.integers(0, tables.shape[1], shape), 2), tables, axis)
    if kind == "two values":
        count = (shape[axis],) if index % 4 else ()
        positive, negative = (Dense(rng.uniform(0.2, 1.5, count).astype(F32)) for _ in range(2))
        return Ternary(Packed.pack(rng.integers(0, 3, shape), 2), positive, negative, axis if count else None)
    return weights(kind, rng, shape, axis)


def real_row_cases(loop: str) -> Iterator[Case]:
    """One row of real numbers."""
    index = 0
    for kind in (*FEW_LETTERS, "floats", "two values", "own codebooks", "i8", "6 bits"):
        for inputs, outputs in SIZES:
            index += 1
            name = f"{loop}/{kind} {inputs}x{outputs}"
            rng = np.random.default_rng(seed_of(name))
            wiring = Wiring(rng)
            turned = index % 2 == 0
            shape = (outputs, inputs) if turned else (inputs, outputs)
            wiring.trees["w"] = real_weights(kind, rng, shape, 0 if turned else 1, index)
            wiring.inputs["x"] = rng.standard_normal((1, inputs)).astype(F32)
            sources = ["x", "w"]
            if index % 3:
                wiring.trees["b"] = Dense(rng.standard_normal(outputs if index % 3 == 1 else 1).astype(F32))
                sources.append("b")
            attributes: dict[str, Any] = {"transB": 1} if turned else {}
            if index % 4 == 0:
                wiring.add("Relu", [wiring.add("Gemm", sources, **attributes)], "y")
            else:
                wiring.add("Gemm", sources, "y", **attributes)
            case = code_case(wiring, name, 1 + index % 2)
            yield RealRow(**vars(case))
