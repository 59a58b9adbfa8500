"""Adversarial plans: shared constants, many consumers, nested concatenations, residual chains, several shapes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import bittern
import numpy as np
import pytest

from tests.builders import NodeSpec, floats, network, one_node, output, reference, small_integers
from tests.compare import assert_equal, assert_within
from tests.conftest import seed_of
from tests.reference import run
from tests.reference.arrays import Array

Shape = tuple[int, ...]
OPERATIONS = [
    *["conv"] * 5, *["tail"] * 5, *["pair"] * 4, *["concat"] * 3,
    "relu", "pool", "average", "identity", "round trip", "norm", "broadcast", "matrix",
]  # fmt: skip


@dataclass
class Maker:
    """A random graph whose values are multiples of a small power of two, so that every result is exact."""

    rng: np.random.Generator
    shapes: dict[str, Shape] = field(default_factory=dict)  # of the values of rank 4
    constants: dict[str, Array] = field(default_factory=dict)
    nodes: list[NodeSpec] = field(default_factory=list)
    halvings: int = 0

    def pick(self, values: Sequence[Any]) -> Any:
        return values[int(self.rng.integers(len(values)))]

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def add(self, op: str, sources: Sequence[str], shape: Shape, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append((op, sources, name, attributes))
        if len(shape) == 4:
            self.shapes[name] = shape
        return name

    def constant(self, kind: str, shape: Shape, values: Sequence[float]) -> str:
        """A constant of these values: sometimes one that other nodes use already."""
        known = [name for name, array in self.constants.items() if name.startswith(f"{kind}_") and array.shape == shape]
        if known and self.chance(0.6):
            return str(self.pick(known))
        name = f"{kind}_{len(self.constants)}"
        self.constants[name] = self.rng.choice(np.array(values, np.float32), shape)
        return name

    def clip(self, source: str) -> str:
        self.constants.setdefault("low", np.array(-8, np.float32))
        self.constants.setdefault("high", np.array(8, np.float32))
        return self.add("Clip", [source, "low", "high"], self.shapes[source])

    def conv(self, source: str) -> str:
        n, c, h, w = self.shapes[source]
        group = self.pick([1, 1, 1, c, 2 if c % 2 == 0 else 1])
        filters = (
            c if group == c and self.chance(0.8) else group * self.pick([1, 3, 8, 16, 17, 33][: 6 if group < 3 else 2])
        )
        size = self.pick([1, 1, 3]) if min(h, w) >= 3 else 1
        stride = self.pick([1, 1, 1, 2])
        pad = self.pick([0, size // 2, size // 2])
        sources = [source, self.constant(f"w{group}", (filters, c // group, size, size), [-1, 0, 1])]
        if self.chance(0.5):
            sources.append(self.constant("b", (filters,), [-2, -1, 1, 3]))
        shape = (n, filters, (h + 2 * pad - size) // stride + 1, (w + 2 * pad - size) // stride + 1)
        attributes = {"pads": [pad] * 4, "strides": [stride] * 2, "group": group}
        return self.add("Conv", sources, shape, **attributes)

    def affine(self, source: str) -> str:
        """A constant per channel, or one number, on either side."""
        shape = self.shapes[source]
        channel = self.pick([(), (1,), (shape[1], 1, 1), (1, shape[1], 1, 1), (1, 1, 1, 1)])
        op = self.pick(["Add", "Sub", "Mul", "Div"])
        if op == "Div" and self.halvings >= 2:
            op = "Mul"
        self.halvings += op == "Div"
        number = self.constant("k" if op in ("Add", "Sub") else "s", channel, [-2, -1, 1, 2])
        sides = [source, number]
        if op != "Div" and self.chance(0.3):
            sides.reverse()
        return self.add(op, sides, shape)

    def norm(self, source: str) -> str:
        channels = (self.shapes[source][1],)
        parameters = [
            self.constant("gamma", channels, [-1, 0, 1, 2]),
            self.constant("beta", channels, [-1, 0, 2]),
            self.constant("mean", channels, [-2, 0, 1]),
            self.constant("variance", channels, [1]),
        ]
        return self.add("BatchNormalization", [source, *parameters], self.shapes[source], epsilon=0.0)

    def activation(self, source: str) -> str:
        if self.chance(0.5):
            return self.add("Relu", [source], self.shapes[source])
        bound = self.constant("bound", (), [-1, 0, 3])
        return self.add("Clip", [source, bound] if self.chance(0.5) else [source, "", bound], self.shapes[source])

    def pair(self, source: str) -> str:
        others = [name for name, shape in self.shapes.items() if shape == self.shapes[source]]
        sides = [source, str(self.pick(others))]
        if self.chance(0.5):
            sides.reverse()
        return self.add(self.pick(["Add", "Add", "Add", "Sub", "Mul"]), sides, self.shapes[source])

    def tail(self, source: str) -> str:
        """A convolution and what may be fused into it, in any order."""
        value = self.conv(source)
        for _ in range(int(self.rng.integers(1, 5))):
            step = self.pick([self.affine, self.norm, self.activation, self.pair])
            value = step(value)
            if step == self.pair:
                value = self.clip(value)
        return value

    def concat(self, source: str) -> str:
        axis = self.pick([1, 1, 1, 1, 3, 0])
        shape = self.shapes[source]
        fitting = [
            name for name, other in self.shapes.items()
            if all(a == b for i, (a, b) in enumerate(zip(shape, other, strict=True)) if i != axis)
        ]  # fmt: skip
        parts = [source, *(str(self.pick(fitting)) for _ in range(int(self.rng.integers(0, 4))))]
        self.rng.shuffle(parts)
        total = sum(self.shapes[part][axis] for part in parts)
        if total > (70, 70, 0, 20)[axis] or axis == 0:
            parts, total = [source], shape[axis]
        result = tuple(total if i == axis else size for i, size in enumerate(shape))
        return self.add("Concat", parts, result, axis=self.pick([axis, axis - 4]))

    def round_trip(self, source: str) -> str:
        """Through another layout or shape and back."""
        n, c, h, w = self.shapes[source]
        if self.chance(0.5):
            moved = self.add("Transpose", [source], (n, h, w, c), perm=[0, 2, 3, 1])
            return self.add("Transpose", [moved], (n, c, h, w), perm=[0, 3, 1, 2])
        self.constants.setdefault(f"shape_{c}_{h}_{w}", np.array([-1, c, h, w], np.int64))
        flat = self.add("Flatten", [source], (n, c * h * w))
        return self.add("Reshape", [flat, f"shape_{c}_{h}_{w}"], (n, c, h, w))

    def matrix(self, source: str) -> str:
        """A product along the last axis of four: its channels are not axis 1."""
        n, c, h, w = self.shapes[source]
        columns = self.pick([1, 3, 16, 17])
        value = self.add("MatMul", [source, self.constant("m", (w, columns), [-1, 0, 1])], (n, c, h, columns))
        return self.affine(value) if self.chance(0.5) else self.norm(value)

    def step(self, source: str) -> str:
        kind = str(self.pick(OPERATIONS))
        shape = self.shapes[source]
        n, c, h, w = shape
        if kind == "pool" and min(h, w) >= 2:
            return self.add("MaxPool", [source], (n, c, h - 1, w - 1), kernel_shape=[2, 2])
        if kind == "average" and self.halvings < 2 and min(h, w) >= 2:
            self.halvings += 2
            return self.add("AveragePool", [source], (n, c, h - 1, w - 1), kernel_shape=[2, 2])
        if kind == "broadcast":
            small = self.add("GlobalMaxPool", [source], (n, c, 1, 1))
            return self.add("Add", [small, source] if self.chance(0.5) else [source, small], shape)
        if kind == "identity":
            return self.add(self.pick(["Identity", "Dropout"]), [source], shape)
        names = {
            "conv": self.conv, "tail": self.tail, "pair": self.pair, "concat": self.concat, "relu": self.activation,
            "round trip": self.round_trip, "norm": self.norm, "matrix": self.matrix,
        }  # fmt: skip
        return names.get(kind, self.activation)(source)


def random_case(seed: int) -> tuple[bittern.Network, list[dict[str, Array]], list[str]]:
    """A network with a free batch size, inputs of two batch sizes, and the names of all values."""
    rng = np.random.default_rng(seed)
    maker = Maker(rng)
    sizes = {
        name: (int(rng.choice([1, 3, 7, 8, 16, 17, 32])), int(rng.integers(3, 8)), int(rng.integers(3, 8)))
        for name in ("x", "z")[: int(rng.integers(1, 3))]
    }
    maker.shapes.update({name: (1, *size) for name, size in sizes.items()})
    for _ in range(int(rng.integers(4, 14))):
        recent = list(maker.shapes)[-5:]
        maker.clip(maker.step(str(maker.pick(recent))))
    used = {name for _, sources, _, _ in maker.nodes for name in sources}
    values = [target for _, _, target, _ in maker.nodes]
    outputs = [name for name in values if name not in used]
    outputs += [name for name in values if name in used and maker.chance(0.15)]
    constants = {name: array for name, array in maker.constants.items() if name in used}
    net = network({name: ("N", *size) for name, size in sizes.items()}, constants, maker.nodes, outputs)
    feeds = [{name: small_integers(rng, n, *size) for name, size in sizes.items()} for n in (2, 1)]
    return net, feeds, values


def check_case(seed: int, isa: str, winograd: bool = False) -> None:
    """Outputs alone, every value tapped, and some values tapped, at two batch sizes on one model."""
    net, feeds, values = random_case(seed)
    model = bittern.load(net, isa=isa, threads=1 + seed % 2, winograd=winograd)
    rng = np.random.default_rng(seed)
    some = [name for name in values if rng.random() < 0.3]
    for batch in (*feeds, feeds[0]):
        expected = run(reference(net), batch, values)
        for taps in ([], values, some):
            for name, value in model.run(batch, taps=taps).items():
                largest = float(np.abs(expected[name]).max(initial=0.0))
                bound = 1e-3 * max(1.0, largest) if winograd else 0.0
                assert_within(value, expected[name], bound, f"seed {seed}, {len(taps)} taps: {name}")


@pytest.mark.parametrize("index", range(40))
def test_random_plan(index: int, isa: str) -> None:
    check_case(seed_of(f"planner {index}") % 2**32, isa)


@pytest.mark.parametrize("index", range(10))
def test_random_plan_with_winograd(index: int, isa: str) -> None:
    check_case(seed_of(f"planner {index}") % 2**32, isa, winograd=True)


PRODUCT_TAILS: dict[str, tuple[Shape, list[NodeSpec]]] = {
    "batch norm": ((2, 3, 4, 5), [("BatchNormalization", ["m", *"stuv"], "y", {})]),
    "scaled": ((2, 3, 4, 5), [("Mul", ["m", "per_axis_1"], "y", {})]),
    "shifted": ((2, 3, 4, 5), [("Add", ["per_axis_1", "m"], "y", {})]),
    "as many columns": ((2, 6, 4, 5), [("Sub", ["m", "per_axis_1"], "y", {})]),
}


@pytest.mark.parametrize("name", PRODUCT_TAILS)
def test_a_channel_is_no_column(name: str, isa: str, rng: np.random.Generator) -> None:
    """Behind a product of rank 4, channels are axis 1 and columns axis 3: one is not folded into the other."""
    shape, tail = PRODUCT_TAILS[name]
    channels = shape[1]
    constants = {"w": small_integers(rng, 5, 6), "per_axis_1": small_integers(rng, channels, 1, 1)}
    constants |= {key: small_integers(rng, channels) for key in "stu"} | {"v": np.ones(channels, np.float32)}
    nodes: list[NodeSpec] = [("MatMul", ["x", "w"], "m", {}), *tail]
    used = {source for _, sources, _, _ in nodes for source in sources}
    net = network({"x": shape}, {k: v for k, v in constants.items() if k in used}, nodes, ["y"])
    x = small_integers(rng, *shape)
    expected = run(reference(net), {"x": x})["y"]
    bound = 1e-3 if name == "batch norm" else 0.0
    assert_within(output(bittern.load(net, isa=isa), x), expected, bound)


def test_too_many_dimensions(rng: np.random.Generator) -> None:
    """More than eight are refused at load, for inputs and constants, and eight work from any memory."""
    for rank in (9, 20):
        with pytest.raises(bittern.UnsupportedError, match=f"input x has {rank} dimensions"):
            bittern.load(network({"x": (1,) * rank}, {}, [("Flatten", ["x"], "y", {})], ["y"]))
        constants = {"c": np.ones((1,) * rank, np.float32)}
        with pytest.raises(bittern.UnsupportedError, match=f"constant c has {rank} dimensions"):
            bittern.load(network({"x": (1,)}, constants, [("Add", ["x", "c"], "y", {})], ["y"]))
    x = floats(rng, 2, 1, 3, 1, 2, 2, 1, 3).T
    net = one_node("Relu", x)
    out = np.zeros(x.shape[::-1], np.float32).T
    assert_equal(output(bittern.load(net), x, out=out), np.maximum(x, 0))


def test_sizes_that_cannot_be() -> None:
    """Negative sizes, sizes beyond any machine, and sizes that overflow beside a zero."""
    nodes: list[NodeSpec] = [("Concat", ["x", "x"], "y", {"axis": 0}), ("Transpose", ["y"], "t", {})]
    model = bittern.load(network({"x": ("A", "B", "C")}, {}, nodes, ["t"]))
    for shape in ((-1, 2, 3), (0, -1, 3), (2, 3, -(2**40))):
        with pytest.raises(bittern.InputError, match="negative"):
            model.plan_for({"x": shape})
    for shape in ((2**62, 1, 0), (0, 2**40, 2**40), (2**30, 2**30, 1), (2**43, 1, 1)):
        with pytest.raises(bittern.ResourceError):
            model.plan_for({"x": shape})
    assert model.plan_for({"x": (0, 2**20, 3)}).output_shapes == {"t": (3, 2**20, 0)}


def test_constant_layers_with_computed_parameters(isa: str, rng: np.random.Generator) -> None:
    """A layer over constants alone whose neighbours are folded."""
    constants = {"a": small_integers(rng, 3, 4), "b": small_integers(rng, 4, 5), "c": small_integers(rng, 5)}
    nodes: list[NodeSpec] = [
        ("Relu", ["a"], "p", {}),
        ("MatMul", ["p", "b"], "q", {}),
        ("Add", ["c", "c"], "d", {}),
        ("Gemm", ["q", "e", "d"], "g", {}),
        ("Add", ["g", "x"], "y", {}),
    ]
    nodes.insert(3, ("Transpose", ["f"], "e", {}))
    constants["f"] = small_integers(rng, 5, 5)
    x = small_integers(rng, 3, 5)
    net = network({"x": x.shape}, constants, nodes, ["y", "e"])
    expected = run(reference(net), {"x": x})
    for name, value in bittern.load(net, isa=isa).run({"x": x}).items():
        assert_equal(value, expected[name], name)


def test_names_made_to_collide(isa: str, rng: np.random.Generator) -> None:
    """Names that look like the planner's own do not make two layers share weights."""
    kernels = [
        kernel.name for kernel in bittern.kernels() if kernel.isa == isa and kernel.loop in ("gemm", "depthwise")
    ]
    for how in ("depthwise", "depthwise bias", "scale", "shift", *(f"{name} block 16" for name in kernels)):
        constants = {f"A|{how}": small_integers(rng, 1, 1, 1, 4), "w": small_integers(rng, 16, 1, 3, 3)}
        nodes: list[NodeSpec] = [("Add", ["x", f"A|{how}"], "a", {})]
        net = network({"x": (1, 16, 4, 4)}, constants, nodes, ["a"])
        net.add_node("Conv", ["a", "w"], ["y"], name="constant A", group=16, pads=[1, 1, 1, 1])
        net.set_outputs(["y"])
        x = small_integers(rng, 1, 16, 4, 4)
        forced = [how.removesuffix(" block 16")] if how.startswith("gemm") else []
        actual = output(bittern.load(net, isa=isa, winograd=False, kernels=forced), x)
        assert_equal(actual, run(reference(net), {"x": x})["y"], how)
