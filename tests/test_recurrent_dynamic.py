"""Recurrent layers whose inputs and states are quantised to 8 bits as they come: values, plans, recipes."""

from dataclasses import replace
from typing import Any

import bittern
import numpy as np
import pytest
from bittern.encodings import Affine, Dense, Packed

from tests.builders import floats
from tests.compare import assert_equal, differences
from tests.conftest import seed_of
from tests.reference.recurrent import Recurrent
from tests.test_recurrent_codes import F32, GATES, HIDDEN, INPUTS, STATES, Layer, layer_of

KINDS = {
    "8 bits": 8, "6 bits": 6, "4 bits": 4, "3 bits": 3, "2 bits": 2, "signs": 2, "ternary": 2, "shifted": 8,
}  # fmt: skip
"""Kinds of weights that are whole numbers times scales, and the bits of their kernel."""

FLIPPED = 0.02
"""After a step, states that are the same but for rounding may lie on two sides of a bound: a neighbouring code."""


def dynamic(layer: Layer) -> Layer:
    """The same layer on inputs and states of 8 bits."""
    definition = replace(layer.definition, dynamic=True, functions=[])
    return Layer(definition, layer.w, layer.r, layer.more, {**layer.attributes, "dynamic_quantization": 1})


def plan_of(model: bittern.Model) -> bittern.Layer:
    """The row of the only layer, for the shapes that ran last."""
    return next(row for row in model.plan.layers if row.name == "layer")


@pytest.mark.parametrize("op", list(GATES))
def test_values(op: str, isa: str) -> None:
    """One step, whose products are exact, and several; sizes that fill no vector; equal on two threads."""
    kinds = list(KINDS)
    used = set()
    for trial in range(32):
        name = f"dynamic {op} {trial}"
        rng = np.random.default_rng(seed_of(name))
        n, n_in = (int(rng.choice(sizes)) for sizes in (HIDDEN, INPUTS))
        steps, batch = (1, 0, 1, 7)[trial // 8], (1 if trial % 3 else int(rng.integers(1, 8)))
        w_kind, r_kind = kinds[trial % 8], kinds[(trial * 3 + trial // 8) % 8]
        layer = dynamic(layer_of(rng, op, w_kind, r_kind, n, n_in, batch, steps))
        x = floats(rng, steps, batch, n_in)
        file = layer.network(x.shape[:2]).to_bytes()
        model = bittern.load(file, isa=isa, threads=1)
        found = model.run({"x": x})
        row = plan_of(model)
        assert row.kernel.startswith(f"gemv_u8_s{KINDS[r_kind]}_"), f"{name}: {row}"
        assert "quantised on the fly" in row.reason and "decoded" not in row.reason
        used.add(KINDS[w_kind])
        for output, wanted in zip(layer.outputs, layer.expected(x), strict=True):
            problem = differences(found[output], wanted.astype(F32), STATES if steps == 1 else FLIPPED)
            assert problem is None, f"{name}, {w_kind}, {r_kind}, {layer.attributes}, {output}: {problem}"
        for output, again in bittern.load(file, isa=isa, threads=2).run({"x": x}).items():
            assert_equal(again, found[output], f"{name}, threads")
    assert used == set(KINDS.values())


@pytest.mark.parametrize("kind", ["codebook", "pairs", "wide", "dense"])
def test_other_weights(kind: str, isa: str) -> None:
    """Weights that are no whole numbers of 8 bits meet the decoded codes; the plan says so."""
    for op in GATES:
        rng = np.random.default_rng(seed_of(f"dynamic {op} {kind}"))
        layer = dynamic(layer_of(rng, op, "8 bits", "8 bits" if kind in ("wide", "dense") else kind, 33, 5, 2, 1))
        if kind == "wide":
            numbers = rng.integers(-500, 500, layer.r.shape).astype(np.int16)
            layer.r = Affine(Dense(numbers), Dense(np.array(1e-3, F32)))
        elif kind == "dense":
            layer.r = Dense(layer.r.decode())
        x = floats(rng, 1, 2, 5)
        model = bittern.load(layer.network(x.shape[:2]), isa=isa)
        found = model.run({"x": x})
        assert "on the fly, and decoded for weights that are no whole numbers" in plan_of(model).reason
        for output, wanted in zip(layer.outputs, layer.expected(x), strict=True):
            assert (problem := differences(found[output], wanted.astype(F32), STATES)) is None, (
                f"{op} {output}: {problem}"
            )


def test_zeros_and_extremes(isa: str) -> None:
    """Inputs without a range, and of numbers that only a large scale holds."""
    rng = np.random.default_rng(seed_of("dynamic extremes"))
    layer = dynamic(layer_of(rng, "RNN", "8 bits", "4 bits", 31, 33, 1, 1))
    model = bittern.load(layer.network((1, 1)), isa=isa)
    for x in (np.zeros((1, 1, 33), F32), np.full((1, 1, 33), 1e30, F32), -np.full((1, 1, 33), 1e-30, F32)):
        found = model.run({"x": x})
        for output, wanted in zip(layer.outputs, layer.expected(x), strict=True):
            assert (problem := differences(found[output], wanted.astype(F32), STATES)) is None, (
                f"{x[0, 0, 0]}: {problem}"
            )


@pytest.mark.parametrize(
    ("recipe", "kernel", "most"), [("int8", "s8", 0.02), ("int4", "s4", 0.2), ("codebook4", "", 0.2)]
)
@pytest.mark.parametrize("op", list(GATES))
def test_recipes(op: str, recipe: str, kernel: str, most: float) -> None:
    """What a recipe makes of a float layer, and how far from that layer it is; ONNX has no such layers."""
    rng = np.random.default_rng(seed_of(f"dynamic recipe {op}"))
    n, n_in = 48, 40
    w, r = (Dense((0.2 * rng.standard_normal((2, GATES[op] * n, k))).astype(F32)) for k in (n_in, n))
    attributes: dict[str, Any] = {"direction": "bidirectional", "hidden_size": n}
    net = Layer(Recurrent(op, "bidirectional"), w, r, [], attributes).network()
    made = bittern.compress(net, recipe=recipe, activations="dynamic", reconstruct=False)
    x = floats(rng, 9, 1, n_in)
    exact, model = bittern.load(net).run({"x": x}), bittern.load(made)
    found = model.run({"x": x})
    row = next(row for row in model.plan_for({"x": x.shape}).layers if row.op == op)
    assert row.kernel.startswith(f"gemv_u8_{kernel}_" if kernel else "gemv_f32_"), row
    assert ("on the fly" in row.reason) == bool(kernel)
    assert ("states of 1 recurrent layers are quantised to 8 bits" in str(made.summary())) == bool(kernel)
    for output in ("y", "y_h"):
        assert np.linalg.norm(found[output] - exact[output]) < most * np.linalg.norm(exact[output]), output
    if kernel:
        weights_only = bittern.load(bittern.compress(net, recipe=recipe, reconstruct=False)).run({"x": x})
        assert not np.array_equal(weights_only["y"], found["y"])
        with pytest.raises(bittern.UnsupportedError, match="compress without activations='dynamic'"):
            made.to_onnx()
        left = bittern.compress(net, recipe=recipe, activations="dynamic", reconstruct=False, exclude=["R"])
        assert "dynamic_quantization" not in left.nodes[0].attributes


def test_one_model_runs_any_batch(isa: str) -> None:
    """All samples of a step share a scale; the weights are packed once."""
    rng = np.random.default_rng(seed_of("dynamic batches"))
    w, r = (
        Affine(Packed.pack(rng.integers(-8, 8, (1, 99, k)), 4, signed=True), Dense(np.array(0.05, F32)))
        for k in (7, 33)
    )
    layer = dynamic(Layer(Recurrent("GRU"), w, r, [], {"hidden_size": 33}))
    model = bittern.load(layer.network(), isa=isa)
    for batch in (1, 5, 40):
        x = floats(rng, 3, batch, 7)
        found = model.run({"x": x})
        for output, wanted in zip(layer.outputs, layer.expected(x), strict=True):
            assert (problem := differences(found[output], wanted.astype(F32), FLIPPED)) is None, f"{batch}: {problem}"
