"""Random graphs of quantised operators, all of which have a meaning in whole numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import bittern
import numpy as np

from tests.quantized_graphs import F32, FORMS, Form, Wiring, bias, conv, fitted, weights


@dataclass
class Maker(Wiring):
    """A random graph of quantised operators, all of which have a meaning in whole numbers."""

    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)  # of decoded values
    forms: dict[str, Form] = field(default_factory=dict)
    quantised: dict[str, str] = field(default_factory=dict)  # the codes behind decoded values
    tappable: list[str] = field(default_factory=list)  # each once

    def pick(self, values: Sequence[Any]) -> Any:
        return values[int(self.rng.integers(len(values)))]

    def done(self, value: str, shape: tuple[int, ...], form: Form, tap: bool = True) -> None:
        """Quantise a real value and read it again."""
        quantised = self.quantise(value, form)
        decoded = self.dequantise(quantised, form)
        self.quantised[decoded] = quantised
        self.shapes[decoded], self.forms[decoded] = shape, form
        self.tappable += [quantised, decoded, *([value] if tap else [])]

    def start(self, name: str, shape: tuple[int, ...]) -> None:
        """An input of codes, or of real numbers that are quantised."""
        form = self.pick(FORMS)
        if self.rng.integers(2):
            low, high = form.limits
            numbers = self.rng.uniform(low - 9 - form.zero, high + 9 - form.zero, shape) * form.scale
            self.inputs[name] = numbers.astype(F32)
            self.done(name, shape, form, tap=False)
        else:
            decoded = self.decoded(name, form, *shape)
            self.quantised[decoded] = name
            self.shapes[decoded], self.forms[decoded] = shape, form

    def read(self, decoded: str) -> str:
        """A decoded value, or the same codes decoded once more, as converters write it for every reader."""
        if self.rng.random() < 0.6:
            return decoded
        again = self.dequantise(self.quantised[decoded], self.forms[decoded])
        return self.add("Identity", [again]) if self.rng.random() < 0.2 else again

    def activation(self, value: str, form: Form) -> str:
        kind = int(self.rng.integers(4))
        if kind == 0:
            return self.add("Relu", [value])
        if kind == 1:
            names = [f"lo{len(self.nodes)}", f"hi{len(self.nodes)}"]
            self.constants[names[0]] = np.array(-21.3 * form.scale, F32)
            self.constants[names[1]] = np.array(35.1 * form.scale, F32)
            return self.add("Clip", [value, *names])
        return value

    def near(self, form: Form, factor: float) -> Form:
        """Another quantiser of about the same reach, or the same one."""
        to: Form = self.pick([form, *FORMS])
        if to is form:
            return form
        scale = F32(form.scale * factor * self.rng.uniform(0.6, 1.2) * 2.0 ** (form.bits - to.bits))
        return Form(to.dtype, float(scale), to.zero, to.bits, to.narrow)

    def layer(self, source: str) -> None:
        form, (n, c, h, w) = self.forms[source], self.shapes[source]
        groups = self.pick([1, 1, 1, c, 2 if c % 2 == 0 else 1])
        filters = c if groups == c else groups * self.pick([1, 3, 5, 16, 16, 17, 32, 33][: 8 if groups == 1 else 3])
        size, stride = self.pick([1, 3]) if min(h, w) >= 3 else 1, self.pick([1, 1, 1, 2])
        pad = self.pick([0, size // 2, size // 2])
        name = f"w{len(self.trees)}"
        kind = self.pick(["i8", "u8", "9 bits", "4 bits", "ternary", "codebook"])
        self.trees[name] = weights(kind, self.rng, (filters, c // groups, size, size), 0)
        sources = [self.read(source), name]
        if self.rng.integers(2):
            self.trees[f"b{name}"] = bias(
                self.pick(["whole", "real", "other"]), self.rng, form, self.trees[name], filters
            )
            sources.append(f"b{name}")
        value = self.add("Conv", sources, pads=[pad] * 4, strides=[stride] * 2, group=groups)
        to = fitted(self.pick(FORMS), self.trees[name], form)
        shape = (n, filters, (h + 2 * pad - size) // stride + 1, (w + 2 * pad - size) // stride + 1)
        self.done(self.activation(value, to), shape, to)

    def pair(self, source: str) -> None:
        shape, form = self.shapes[source], self.forms[source]
        other = self.pick([name for name, found in self.shapes.items() if found == shape])
        sides = [self.read(source), self.read(other)]
        if self.rng.integers(2):
            sides.reverse()
        to = self.near(form, 1.5)
        self.done(self.activation(self.add("Add", sides), to), shape, to)

    def residual(self, source: str) -> None:
        """A convolution that keeps the shape, and its sum with another value."""
        form, (_, c, _, _) = self.forms[source], self.shapes[source]
        value, to = conv(self, self.read(source), form, c, c, groups=self.pick([1, 1, c]))
        self.done(self.activation(value, to), self.shapes[source], to)
        self.pair(list(self.shapes)[-1])

    def concat(self, source: str) -> None:
        n, _, h, w = self.shapes[source]
        fitting = [name for name, (_, _, oh, ow) in self.shapes.items() if (h, w) == (oh, ow)]
        parts = [source, *(str(self.pick(fitting)) for _ in range(int(self.rng.integers(0, 3))))]
        parts.sort(key=lambda name: self.shapes[name][1] % 16 != 0)
        total = sum(self.shapes[part][1] for part in parts)
        if total > 70:
            parts, total = [source], self.shapes[source][1]
        form = self.pick([self.forms[part] for part in parts])
        to = self.near(form, 1.0)
        joined = self.add("Concat", [self.read(part) for part in parts], axis=1)
        self.done(joined, (n, total, h, w), to)

    def branches(self, source: str) -> None:
        """Convolutions of one value whose results stand side by side; others may read them too."""
        form, (n, c, h, w) = self.forms[source], self.shapes[source]
        parts: list[str] = []
        for filters in (16, self.pick([16, 32]), self.pick([3, 5, 16])):
            value, to = conv(self, self.read(source), form, c, filters, size=self.pick([1, 3]), to=self.pick(FORMS))
            to = self.pick([to, self.forms[parts[-1]] if parts else to])
            self.done(self.activation(value, to), (n, filters, h, w), to)
            parts.append(list(self.shapes)[-1])
        to = self.pick([self.forms[part] for part in parts])
        joined = self.add("Concat", [self.read(part) for part in parts], axis=1)
        self.done(joined, (n, sum(self.shapes[part][1] for part in parts), h, w), to)

    def turn(self, source: str) -> None:
        """Another shape of the same codes."""
        n, c, h, w = self.shapes[source]
        shape = self.pick([(n, c, w, h), (n, c * h, w, 1), (n, c, 1, h * w), (n, h, c, w)])
        name = f"shape{len(self.nodes)}"
        self.constants[name] = np.array([-1, *shape[1:]], np.int64)
        self.done(self.add("Reshape", [self.read(source), name]), shape, self.forms[source])

    def move(self, source: str) -> None:
        """The same codes elsewhere."""
        perm = self.pick([[0, 1, 3, 2], [0, 2, 1, 3], [0, 3, 1, 2]])
        shape = tuple(self.shapes[source][i] for i in perm)
        self.done(self.add("Transpose", [self.read(source)], perm=perm), shape, self.forms[source])

    def number(self, source: str) -> None:
        """A function of a code and a constant number."""
        name, form = f"number{len(self.nodes)}", self.forms[source]
        op = self.pick(["Mul", "Add", "Sub", "Div"])
        value = 0.3 if op == "Mul" else 3.1 if op == "Div" else 7.7 * form.scale
        self.constants[name] = np.full((1,) * int(self.rng.integers(0, 4)), value, F32)
        sides = [self.read(source), name]
        if op != "Div" and self.rng.integers(2):
            sides.reverse()
        self.done(self.add(op, sides), self.shapes[source], self.near(form, 1.0))

    def step(self, source: str) -> None:
        shape, form = self.shapes[source], self.forms[source]
        n, c, h, w = shape
        kind = self.pick(
            ["layer"] * 4
            + ["residual"] * 3
            + ["pair", "concat", "branches", "max", "mean", "table", "again", "turn"]
            + ["move", "number"]
        )
        if kind == "max" and min(h, w) >= 2:
            self.done(self.add("MaxPool", [self.read(source)], kernel_shape=[2, 2]), (n, c, h - 1, w - 1), form)
        elif kind == "mean" and min(h, w) >= 2 and c > 4:
            pooled = self.add("AveragePool", [self.read(source)], kernel_shape=[2, 2])
            self.done(pooled, (n, c, h - 1, w - 1), self.near(form, 0.7), tap=False)
        elif kind == "table":
            op, attributes = self.pick([("Relu", {}), ("LeakyRelu", {"alpha": 0.2})])
            self.done(self.add(op, [self.read(source)], **attributes), shape, self.near(form, 1.0))
        elif kind == "again":
            self.done(source, shape, self.near(form, 1.0), tap=False)
        elif kind in ("residual", "pair", "concat", "branches", "turn", "move", "number"):
            getattr(self, kind)(source)
        else:
            self.layer(source)

    def head(self, source: str) -> None:
        """Means of whole maps, and a product."""
        form, (n, c, h, w) = self.forms[source], self.shapes[source]
        if c > 4 and self.rng.integers(2):
            to = self.near(form, 0.5)
            self.done(self.add("GlobalAveragePool", [source]), (n, c, 1, 1), to, tap=False)
            source, form, h, w = list(self.shapes)[-1], to, 1, 1
        if self.rng.integers(3) == 0:  # maps as rows of a product
            self.constants["rows"] = np.array([0, c, -1], np.int64)
            flat = self.again(self.add("Reshape", [source, "rows"]), form)
            self.trees["wide"] = weights(self.pick(["i8", "u8"]), self.rng, (h * w, 18), 1)
            to = fitted(self.pick(FORMS), self.trees["wide"], form)
            self.tappable.append(self.again(self.add("MatMul", [flat, "wide"]), to))
            return
        flat = self.again(self.add("Flatten", [source]), form)
        name = f"w{len(self.trees)}"
        self.trees[name] = weights("i8", self.rng, (10, c * h * w), 0)
        value = self.add("Gemm", [flat, name], transB=1)
        if self.rng.integers(2):
            value = self.quantise(value, fitted(self.pick(FORMS), self.trees[name], form))
        self.tappable.append(value)


def random_case(seed: int) -> tuple[Maker, bittern.Network]:
    """A network of quantised operators with a free batch size."""
    rng = np.random.default_rng(seed)
    maker = Maker(rng)
    for name in ("x", "z")[: int(rng.integers(1, 3))]:
        shape = (2, int(rng.choice([1, 3, 5, 16, 17, 32])), int(rng.integers(3, 8)), int(rng.integers(3, 8)))
        maker.start(name, shape)
    for _ in range(int(rng.integers(3, 10))):
        maker.step(str(maker.pick(list(maker.shapes)[-4:])))
    maker.head(list(maker.shapes)[-1])
    used = {name for _, sources, _, _ in maker.nodes for name in sources}
    values = [target for _, _, target, _ in maker.nodes]
    outputs = [name for name in values if name not in used]
    outputs += [name for name in maker.tappable if name in used and rng.random() < 0.1]
    return maker, maker.network(list(dict.fromkeys(outputs)), "N")
