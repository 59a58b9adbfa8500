"""A recurrent cell in whole numbers (Shin, Hwang, Sung, arXiv 1512.01322): weights of three bits, signals of eight.

Steps are powers of two, so that nothing is rounded but where the definition says so, and fifty steps must agree in
every code with the definition in integers.
"""

from __future__ import annotations

import bittern
import numpy as np
import pytest
from bittern.compression.quantize.fixed_point import best_step, steps
from bittern.encodings import Affine, Dense, Packed

from tests.compare import assert_equal
from tests.quantized_graphs import F32, Wiring
from tests.reference.arrays import Array

STEPS, BATCH, INPUTS, HIDDEN = 50, 2, 12, 16
LIMITS = {"i8": (np.int8, -128, 127), "u8": (np.uint8, 0, 255), "i16": (np.int16, -32768, 32767)}
GATE, SIGNAL, SUM, CELL = ("u8", 8), ("i8", 7), ("i8", 4), ("i16", 10)
"""Type of codes and digits behind the binary point: of sigmoids; of inputs, states and hyperbolic tangents; of what
goes into both; of the cell, which needs more."""

Form = tuple[str, int]


class Cell:
    """Weights of an LSTM, with or without peepholes: floats as given, and whole numbers with their binary digits."""

    def __init__(self, rng: np.random.Generator, peepholes: bool) -> None:
        self.w, self.r = (rng.normal(0, 0.4, (n, 4 * HIDDEN)) for n in (INPUTS, HIDDEN))
        self.bias = np.rint(rng.normal(0, 0.5, 4 * HIDDEN) * 2**6)  # over 2**6
        self.peepholes = np.rint(rng.normal(0, 0.5, (3, HIDDEN)) * 2**4) * peepholes  # over 2**4
        self.digits = [round(-np.log2(best_step(m.reshape(1, -1), 3)[0, 0])) for m in (self.w, self.r)]
        self.codes = [
            steps(m, np.array(2.0**-digits), 3).astype(np.int64)
            for m, digits in zip((self.w, self.r), self.digits, strict=True)
        ]


def rounded(whole: Array, digits: int, form: Form) -> Array:
    """Whole numbers over ``2**digits`` as codes of a form: halves to even, saturated."""
    _, low, high = LIMITS[form[0]]
    return np.clip(np.rint(whole / 2.0 ** (digits - form[1])), low, high).astype(np.int64)


def function(codes: Array, name: str) -> Array:
    """Codes of a sigmoid or hyperbolic tangent of codes of a sum, in 64-bit floats."""
    x = codes / 2.0 ** SUM[1]
    value = 1 / (1 + np.exp(-x)) if name == "Sigmoid" else np.tanh(x)
    return rounded(value * 2.0**30, 30, GATE if name == "Sigmoid" else SIGNAL)


def in_whole_numbers(cell: Cell, x: Array) -> list[tuple[Array, Array]]:
    """State and cell after each step, as codes: nothing but integers outside the two functions' tables."""
    h, c = np.zeros((BATCH, HIDDEN), np.int64), np.zeros((BATCH, HIDDEN), np.int64)
    found = []
    for row in x.astype(np.int64):
        unit = 30
        sums = (row @ cell.codes[0]) << (unit - SIGNAL[1] - cell.digits[0])
        sums = sums + ((h @ cell.codes[1]) << (unit - SIGNAL[1] - cell.digits[1]))
        sums = sums + (cell.bias.astype(np.int64) << (unit - 6))
        i, f, g, o = np.split(sums, 4, axis=1)
        inner = cell.peepholes.astype(np.int64)
        shift = unit - CELL[1] - 4
        i_code, f_code = (
            function(rounded(s + ((c * p) << shift), unit, SUM), "Sigmoid") for s, p in zip((i, f), inner, strict=False)
        )
        g_code = function(rounded(g, unit, SUM), "Tanh")
        mixed = f_code * c + ((i_code * g_code) << (CELL[1] - SIGNAL[1]))
        c = rounded(mixed, GATE[1] + CELL[1], CELL)
        o_code = function(rounded(o + ((c * inner[2]) << shift), unit, SUM), "Sigmoid")
        h = rounded(o_code * function(rounded(c, CELL[1], SUM), "Tanh"), GATE[1] + SIGNAL[1], SIGNAL)
        found.append((h, c))
    return found


class Graph(Wiring):
    """The same as a graph of quantisers, products and functions, unrolled."""

    def form(self, form: Form) -> list[str]:
        """The constants of a form."""
        scale, zero = f"{form[0]}.{form[1]}.scale", f"{form[0]}.{form[1]}.zero"
        self.constants[scale] = np.array(2.0 ** -form[1], F32)
        self.constants[zero] = np.array(0, LIMITS[form[0]][0])
        return [scale, zero]

    def coded(self, value: str, form: Form, target: str = "") -> str:
        """The numbers of a value's codes."""
        codes = self.add("QuantizeLinear", [value, *self.form(form)], target)
        return self.add("DequantizeLinear", [codes, *self.form(form)])

    def gate(self, total: str, name: str) -> str:
        """A function of a sum, both in codes."""
        return self.coded(self.add(name, [self.coded(total, SUM)]), GATE if name == "Sigmoid" else SIGNAL)

    def unrolled(self, cell: Cell, x: Array, peepholes: bool) -> tuple[bittern.Network, list[str]]:
        """All steps; the names of the codes of states and cells."""
        for name, codes, digits in zip(("w", "r"), cell.codes, cell.digits, strict=True):
            self.trees[name] = Affine(Packed.pack(codes, 3, signed=True), Dense(np.array(2.0**-digits, F32)))
        self.constant("bias", (cell.bias / 2**6).astype(F32))
        for name, row in zip("ifo", cell.peepholes, strict=True):
            self.constant(f"p.{name}", (row / 2**4).astype(F32))
        self.constant("split", np.full(4, HIDDEN, np.int64))
        self.constant("none", np.zeros((BATCH, HIDDEN), F32))
        h, c = "", "none"
        names = []
        for t in range(STEPS):
            self.inputs[f"x{t}"] = x[t]
            real = self.add("DequantizeLinear", [f"x{t}", *self.form(SIGNAL)])
            total = self.add("Add", [self.add("MatMul", [real, "w"]), "bias"])
            if h:
                total = self.add("Add", [total, self.add("MatMul", [h, "r"])])
            parts = [f"part{t}.{gate}" for gate in "ifgo"]
            self.nodes.append(("Split", [total, "split"], ",".join(parts), {"axis": 1}))
            if peepholes:
                for k, gate in ((0, "i"), (1, "f")):
                    parts[k] = self.add("Add", [parts[k], self.add("Mul", [c, f"p.{gate}"])])
            i, f = (self.gate(part, "Sigmoid") for part in parts[:2])
            kept = self.add("Add", [self.add("Mul", [f, c]), self.add("Mul", [i, self.gate(parts[2], "Tanh")])])
            c = self.coded(kept, CELL, f"c{t}")
            if peepholes:
                parts[3] = self.add("Add", [parts[3], self.add("Mul", [c, "p.o"])])
            state = self.add("Mul", [self.gate(parts[3], "Sigmoid"), self.gate(c, "Tanh")])
            h = self.coded(state, SIGNAL, f"h{t}")
            names += [f"h{t}", f"c{t}"]
        net = bittern.Network("cell")
        for name, value in self.inputs.items():
            net.add_input(name, value.shape, "i8")
        for name, constant in self.constants.items():
            net.add_constant(name, constant)
        for name, tree in self.trees.items():
            net.add_constant(name, tree)
        for op, sources, target, attributes in self.nodes:
            net.add_node(op, sources, target.split(","), **attributes)
        net.set_outputs(names)
        return net, names


@pytest.mark.parametrize("peepholes", [True, False])
def test_fifty_steps_of_whole_numbers(peepholes: bool, isa: str, rng: np.random.Generator) -> None:
    cell = Cell(rng, peepholes)
    assert all(np.abs(codes).max() == 3 and np.unique(codes).size == 7 for codes in cell.codes)
    x = rng.integers(-128, 128, (STEPS, BATCH, INPUTS)).astype(np.int8)
    graph = Graph(rng)
    net, _ = graph.unrolled(cell, x, peepholes)
    model = bittern.load(net.to_bytes(), isa=isa, threads=1)
    found = model.run(graph.inputs)
    for t, (h, c) in enumerate(in_whole_numbers(cell, x)):
        assert_equal(found[f"h{t}"], h.astype(np.int8), f"state {t}")
        assert_equal(found[f"c{t}"], c.astype(np.int16), f"cell {t}")
    states = np.stack([found[f"h{t}"] for t in range(STEPS)])
    assert np.unique(states).size > 60 and np.abs(states).max() > 60, "the signals fill their codes"
    products = [layer for layer in model.plan.layers if layer.op == "MatMul"]
    assert len(products) == 2 * STEPS - 1
    assert all(layer.kernel.startswith("gemm_u8_s8_s32") for layer in products)
