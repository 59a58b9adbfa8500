"""Recurrent layers whose weights stay codes of few bits: values, plans, what recipes make of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bittern
import numpy as np
import pytest
from bittern import Network
from bittern.encodings import Affine, Codebook, Dense, Encoding, Packed, Pow2, Signs, Ternary

from tests import tolerances
from tests.builders import floats
from tests.compare import assert_equal, assert_within, differences
from tests.conftest import seed_of
from tests.reference.arrays import Array
from tests.reference.recurrent import Recurrent, recurrent

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
HIDDEN, INPUTS, STEPS = (1, 3, 31, 33, 65), (1, 5, 33), (0, 1, 7)
F32 = np.float32

KINDS = {
    "codebook": "lut4", "4 bits": "lut4", "3 bits": "lut4", "pow2": "lut4",
    "ternary": "lut2", "2 bits": "lut2", "signs": "lut2", "codebook of 4": "lut2", "a pair": "lut2",
    "pairs": "lut2c", "own codebooks": "lut2c", "8 bits": "s8", "6 bits": "s8", "shifted": "s8",
}  # fmt: skip
"""Kinds of weights, and the kernel that they take."""


def kernel_of(kind: str, tree: Encoding) -> str:
    """The kernel that a kind takes; a table for each direction is one table where there is one direction."""
    axis = getattr(tree, "axis", None)
    return "lut2" if KINDS[kind] == "lut2c" and axis == 0 and tree.shape[0] == 1 else KINDS[kind]


STATES = 2e-5
"""Largest error of a state of these layers: their sums stay below a hundred, gates and states near 1."""


def tree_of(kind: str, rng: np.random.Generator, shape: tuple[int, ...], axis: int | None) -> Encoding:
    """Weights of a kind; numbers of the whole tensor (no axis), each direction (0) or each row of the gates (1)."""
    dims = () if axis is None else (shape[axis],)

    def numbers(most: float) -> Dense:
        return Dense((0.4 / most * rng.uniform(0.5, 1.0, dims)).astype(F32))

    if kind.startswith("codebook"):
        entries = 4 if kind.endswith("4") else 16
        table = Dense((0.4 * rng.standard_normal(entries)).astype(F32))
        return Codebook(Packed.pack(rng.integers(0, entries, shape), entries.bit_length() - 1), table)
    if kind == "pow2":
        return Pow2.of(rng.integers(-7, 8, (*shape, 1)), Dense(rng.uniform(0.5, 1.0, dims).astype(F32)), 4, axis=axis)
    if kind == "signs":
        return Signs(Packed.pack(rng.integers(0, 2, shape), 1), numbers(2), axis)
    if kind == "ternary":
        scale = numbers(1)
        return Ternary(Packed.pack(rng.integers(0, 3, shape), 2), scale, scale, axis)
    if kind == "a pair":
        return Ternary(Packed.pack(rng.integers(0, 3, shape), 2), Dense(np.array(0.3, F32)), Dense(np.array(0.1, F32)))
    if kind in ("pairs", "own codebooks") and axis is None:
        return tree_of(kind, rng, shape, 1)
    if kind == "own codebooks" and axis is not None:
        entries = int(rng.integers(1, 5))
        tables = Dense((0.4 * rng.standard_normal((shape[axis], entries))).astype(F32))
        return Codebook(Packed.pack(rng.integers(0, entries, shape), 2), tables, axis)
    if kind == "pairs":
        return Ternary(Packed.pack(rng.integers(0, 3, shape), 2), numbers(1), numbers(2), axis)
    if kind == "shifted":
        zero = np.full(dims, 128, np.uint8)
        return Affine(Dense(rng.integers(0, 256, shape).astype(np.uint8)), numbers(128), Dense(zero), axis)
    bits = int(kind[0])
    codes = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape)
    return Affine(Packed.pack(codes, bits, signed=True), numbers(2 ** (bits - 1)), None, axis)


@dataclass
class Layer:
    """A recurrent layer, its weights (trees, or arrays for dense ones) and the inputs behind them."""

    definition: Recurrent
    w: Encoding
    r: Encoding
    more: Sequence[Array | None]  # B, lengths, h, c, P
    attributes: dict[str, Any]

    @property
    def outputs(self) -> list[str]:
        """Of the network: also the last states."""
        return ["y", "y_h", "y_c"] if self.definition.op == "LSTM" else ["y", "y_h"]

    def network(self, shape: Sequence[int | str] = ("T", "N"), layout: int = 0) -> Network:
        """An input x of any length and batch, or these; all else is constant."""
        net = Network("recurrent")
        net.add_input("x", (*shape, self.w.shape[2]))
        net.add_constant("W", self.w)
        net.add_constant("R", self.r)
        names = ["x", "W", "R"]
        for name, array in zip(("B", "lengths", "h", "c", "P"), self.more, strict=False):
            names.append("" if array is None else name)
            if array is not None:
                net.add_constant(name, np.swapaxes(array, 0, 1).copy() if layout and name in "hc" else array)
        net.add_node(self.definition.op, names, self.outputs, "layer", layout=layout, **self.attributes)
        net.set_outputs(self.outputs)
        return net

    def expected(self, x: Array) -> list[Array]:
        """By the definition, in float64."""
        return list(recurrent(self.definition, [x, self.w.decode(), self.r.decode(), *self.more])[: len(self.outputs)])


def layer_of(
    rng: np.random.Generator, op: str, w_kind: str, r_kind: str, n: int, n_in: int, batch: int, steps: int
) -> Layer:
    """A layer with some of its options."""
    direction = str(rng.choice(["forward", "reverse", "bidirectional"]))
    ways = 2 if direction == "bidirectional" else 1
    axes = [None if axis < 0 else int(axis) for axis in rng.integers(-1, 2, 2)]
    rows = GATES[op] * n

    def some(*shape: int) -> Array | None:
        return floats(rng, *shape) * F32(0.5) if rng.random() < 0.6 else None

    more: list[Array | None] = [
        some(ways, 2 * rows),
        rng.integers(0, steps + 1, batch).astype(np.int32) if rng.random() < 0.3 else None,
        some(ways, batch, n),
    ]
    if op == "LSTM":
        more += [some(ways, batch, n), some(ways, 3 * n)]
    first = int(rng.integers(2)) if op == "GRU" else 0
    clip = float(rng.choice([0.0, 0.7]))
    attributes: dict[str, Any] = {"direction": direction, "hidden_size": n}
    attributes |= {"clip": clip} if clip else {}
    attributes |= {"linear_before_reset": first} if op == "GRU" else {}
    definition = Recurrent(op, direction, clip=clip, linear_before_reset=first)
    w, r = (
        tree_of(kind, rng, (ways, rows, k), axis)
        for kind, k, axis in zip((w_kind, r_kind), (n_in, n), axes, strict=True)
    )
    return Layer(definition, w, r, more, attributes)


@pytest.mark.parametrize("op", list(GATES))
def test_values(op: str, isa: str) -> None:
    """Awkward sizes, all kinds of weights, with and without states, against the definition; equal on two threads."""
    kinds = list(KINDS)
    used = set()
    for trial in range(40):
        name = f"recurrent codes {op} {trial}"
        rng = np.random.default_rng(seed_of(name))
        n, n_in, steps = (int(rng.choice(sizes)) for sizes in (HIDDEN, INPUTS, STEPS))
        batch, layout = (1 if trial % 3 else int(rng.integers(1, 5))), int(trial % 5 == 0)
        w_kind = kinds[trial % len(kinds)]
        r_kind = w_kind if trial % 2 else kinds[(trial * 5 + 1) % len(kinds)]
        layer = layer_of(rng, op, w_kind, r_kind, n, n_in, batch, steps)
        x = floats(rng, steps, batch, n_in)
        given = np.swapaxes(x, 0, 1).copy() if layout else x
        file = layer.network(given.shape[:2], layout).to_bytes()
        model = bittern.load(file, isa=isa, threads=1)
        found = model.run({"x": given})
        (row,) = (row for row in model.plan.layers if row.name == "layer")
        kernel = kernel_of(r_kind, layer.r)
        assert row.kernel.startswith(f"gemv_f32_{kernel}_"), f"{name}: {row}"
        assert f"gemv_f32_{kernel_of(w_kind, layer.w)}_" in row.kernel + row.reason, f"{name}: {row}"
        assert "decoded to dense" not in row.reason
        used |= {kernel_of(w_kind, layer.w), KINDS[r_kind]}
        for output, wanted in zip(layer.outputs, layer.expected(x), strict=True):
            if layout:
                wanted = np.moveaxis(wanted, 2, 0) if output == "y" else np.swapaxes(wanted, 0, 1)
            problem = differences(found[output], np.ascontiguousarray(wanted.astype(F32)), STATES)
            assert problem is None, f"{name}, {w_kind}, {r_kind}, {layer.attributes}, {output}: {problem}"
        for output, again in bittern.load(file, isa=isa, threads=2).run({"x": given}).items():
            assert_equal(again, found[output], f"{name}, threads")
    assert used == set(KINDS.values())


@pytest.mark.parametrize("kind", ["4 bits", "pairs", "8 bits", "2 bits"])
def test_exact_sums(kind: str, isa: str) -> None:
    """Where no sum is rounded there is no error: whole numbers, and after one step states of few bits."""
    rng = np.random.default_rng(seed_of(f"exact {kind}"))
    for n, n_in, batch in ((1, 1, 1), (3, 5, 2), (31, 33, 1), (33, 5, 4), (65, 33, 1)):
        trees: list[Encoding] = []
        for k in (n_in, n):
            shape = (2, n, k)
            if kind == "pairs":
                p, q = (Dense(rng.integers(1, 5, n).astype(F32)) for _ in range(2))
                trees.append(Ternary(Packed.pack(rng.integers(0, 3, shape), 2), p, q, 1))
            else:
                half = 2 ** (int(kind[0]) - 1)
                codes = Packed.pack(rng.integers(-half, half, shape), int(kind[0]), signed=True)
                trees.append(Affine(codes, Dense(rng.choice([0.5, 1.0], n).astype(F32)), axis=1))
        names, slope = ["HardSigmoid"] * 2, 2.0**-7 if kind == "8 bits" else 2.0**-4
        definition = Recurrent("RNN", "bidirectional", names, [slope] * 2, [0.5] * 2)
        attributes: dict[str, Any] = {"direction": "bidirectional", "hidden_size": n, "activations": ",".join(names)}
        attributes |= {"activation_alpha": [slope] * 2, "activation_beta": [0.5] * 2}
        layer = Layer(definition, trees[0], trees[1], [], attributes)
        x = rng.integers(-1, 2, (2, batch, n_in)).astype(F32)
        model = bittern.load(layer.network(), isa=isa, threads=1 + batch % 2)
        found = model.run({"x": x})
        assert model.plan.layers[0].kernel.startswith("gemv_f32_")
        for output, wanted in zip(layer.outputs, layer.expected(x), strict=True):
            assert n < 31 or np.unique(wanted).size > 4
            assert_equal(found[output], wanted.astype(F32), f"{kind} {n}x{n_in} {output}")


def plan_row(net: Network, x: Array, **options: Any) -> bittern.Layer:
    """The row of the only layer, for this input."""
    model = bittern.load(net, **options)
    assert model.run({"x": x})["y"].shape[0] == x.shape[0]
    return next(row for row in model.plan_for({"x": x.shape}).layers if row.name == "layer")


def test_plan_says_how_weights_run(rng: np.random.Generator) -> None:
    """Encoding, kernel, bytes and reason; what has no kernel is decoded, and the plan says why."""
    x = floats(rng, 3, 1, 33)
    layer = layer_of(rng, "LSTM", "4 bits", "4 bits", 65, 33, 1, 3)
    ways = layer.w.shape[0]
    row = plan_row(layer.network(), x)
    assert (row.encoding, row.kernel[:13]) == ("affine(packed(4))", "gemv_f32_lut4")
    assert row.reason == "row by row: weights stay 4-bit codes, looked up in registers"
    elements = 4 * 65 * (33 + 65) * ways
    assert elements / 2 < row.packed_bytes < elements  # a quarter of the floats: scales and full panels are the rest

    mixed = Layer(layer.definition, layer.w, Dense(layer.r.decode()), layer.more, layer.attributes)
    row = plan_row(mixed.network(), x)
    assert row.kernel.startswith("gemv_f32_lut4") and "R by gemm_f32" in row.reason
    assert row.encoding == "affine(packed(4)), dense"

    groups = Affine(Packed.pack(rng.integers(-8, 8, (ways, 260, 33)), 4, signed=True), Dense(np.ones(33, F32)), axis=2)
    row = plan_row(Layer(layer.definition, groups, layer.r, layer.more, layer.attributes).network(), x)
    assert "decoded to dense f32 at load: no kernel has scales along the inputs" in row.reason
    tables = Dense(np.where(np.arange(4) < 1, np.inf, np.ones((260, 4))).astype(F32))
    endless = Codebook(Packed.pack(rng.integers(1, 4, (ways, 260, 33)), 2), tables, 1)
    row = plan_row(Layer(layer.definition, endless, layer.r, layer.more, layer.attributes).network(), x)
    assert "W by gemm_f32" in row.reason and "R by gemv_f32" in row.reason  # zeros that fill up meet no infinity
    tile = next(kernel.name for kernel in bittern.kernels() if kernel.loop == "gemm" and kernel.usable)
    row = plan_row(layer.network(), x, kernels=[tile])
    assert row.kernel.startswith("gemm_") and row.reason.endswith("decoded to dense f32 at load: tiles were asked for")


@pytest.mark.parametrize("op", list(GATES))
def test_one_model_runs_any_batch(op: str, isa: str) -> None:
    """A few samples run as codes one by one, many on tiles: the same numbers within rounding."""
    rng = np.random.default_rng(seed_of(f"any batch {op}"))
    layer = layer_of(rng, op, "codebook", "8 bits", 33, 5, 1, 6)
    plain = Layer(layer.definition, layer.w, layer.r, [layer.more[0]], layer.attributes)
    model = bittern.load(plain.network(), isa=isa)
    for batch, coded in ((1, True), (4, True), (5, False), (40, False)):
        x = floats(rng, 6, batch, 5)
        found = model.run({"x": x})
        row = next(row for row in model.plan_for({"x": x.shape}).layers if row.name == "layer")
        assert row.kernel.startswith("gemv_") == coded
        assert coded or f"a batch of {batch} shares them on a tile" in row.reason
        for output, wanted in zip(plain.outputs, plain.expected(x), strict=True):
            problem = differences(found[output], wanted.astype(F32), STATES)
            assert problem is None, f"batch {batch}, {output}: {problem}"


@pytest.mark.parametrize(
    ("recipe", "options", "kernel", "share"),
    [
        ("codebook4", {}, "lut4", 0.16),
        ("int4", {}, "lut4", 0.16),
        ("int8", {}, "s8", 0.29),
        ("quantize", {}, "s8", 0.29),
        ("ternary", {}, "lut2c", 0.16),
        ("ternary", {"per_channel": False}, "lut2", 0.1),
    ],
)
@pytest.mark.parametrize("op", ["LSTM", "GRU"])
def test_recipes(op: str, recipe: str, options: dict[str, Any], kernel: str, share: float) -> None:
    """What a recipe makes of a float layer stays codes at batch 1; the result is that of the decoded weights."""
    rng = np.random.default_rng(seed_of(f"recipe {op}"))
    n, n_in = 64, 40
    weights = [(0.3 * rng.standard_normal((2, GATES[op] * n, k))).astype(F32) for k in (n_in, n)]
    definition = Recurrent(op, "bidirectional")
    attributes: dict[str, Any] = {"direction": "bidirectional", "hidden_size": n}
    dense = Layer(definition, Dense(weights[0]), Dense(weights[1]), [], attributes).network()
    net = bittern.convert(dense.to_onnx())
    x = floats(rng, 9, 1, n_in)
    made = bittern.compress(net, recipe=recipe, calibration=[{"x": x}], **options)
    coded = Layer(definition, made.constants["W"], made.constants["R"], [], attributes)
    model = bittern.load(made)
    found = model.run({"x": x})
    row = next(row for row in model.plan.layers if row.op == op)
    assert row.kernel.startswith(f"gemv_f32_{kernel}_"), row
    assert row.packed_bytes < share * 4 * sum(w.size for w in weights)
    for output, wanted in zip(coded.outputs, coded.expected(x), strict=True):
        problem = differences(found[output], wanted.astype(F32), STATES)
        assert problem is None, f"{output}: {problem}"


def test_published_noise_suppressor(shared_data: Path, isa: str) -> None:
    """Its weights are 8-bit numbers over 256, so that its GRUs lose nothing as codes."""
    net = bittern.convert(shared_data / "rnnoise" / "mp.onnx")
    expected = np.load(shared_data / "rnnoise" / "expected_mp.npz")
    coded = Network(net.name)
    for info in net.inputs:
        coded.add_input(info.name, info.shape or ())
    weights = {name for node in net.nodes if node.op == "GRU" for name in node.inputs[1:3]}
    assert len(weights) == 6
    for name, tree in net.constants.items():
        if name in weights:
            codes = np.rint(tree.decode() * 256)
            assert_equal((codes / 256).astype(F32), tree.decode(), name)
            tree = Affine(Dense(codes.astype(np.int8)), Dense(np.array(1 / 256, F32)))
        coded.add_constant(name, tree)
    for node in net.nodes:
        coded.add_node(node.op, node.inputs, node.outputs, node.name, **node.attributes)
    coded.set_outputs([info.name for info in net.outputs])
    features = expected["features"][:50, None]
    for way, network in (("dense", net), ("codes", coded)):
        model = bittern.load(network, isa=isa)
        found = model.run({"features": features})
        rows = [row for row in model.plan.layers if row.op == "GRU"]
        assert len(rows) == 3
        assert all(row.kernel.startswith("gemv_f32_s8_" if way == "codes" else "gemm_") for row in rows)
        for name in ("gains", "vad"):
            assert_within(found[name][:, 0], expected[name][:50], tolerances.NOISE_SUPPRESSOR, f"{way} {name}")


def test_digits_by_an_lstm_of_few_bits(shared_data: Path) -> None:
    """The published LSTM keeps reading digits, row by row through codes."""
    net = bittern.convert(shared_data / "tflite_micro" / "mnist_lstm_float.tflite")
    digits = np.load(shared_data / "mnist" / "mnist_test_1000.npz")
    images = (digits["images"] / 255).astype(F32).reshape(-1, 1, 28, 28)
    name = net.inputs[0].name
    calibration = [{name: image} for image in images[:50]]
    for recipe, kernel, least in (("quantize", "s8", 0.98), ("codebook4", "lut4", 0.95)):
        model = bittern.load(bittern.compress(net, recipe=recipe, calibration=calibration))
        found = np.concatenate([model.run({name: image})[net.outputs[0].name] for image in images])
        assert any(row.op == "LSTM" and f"gemv_f32_{kernel}" in row.kernel for row in model.plan.layers)
        assert np.mean(found.argmax(axis=1) == digits["labels"]) > least
