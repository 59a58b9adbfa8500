"""Recurrent layers on their weights that are not zero: values, plans, the choice against codes and dense weights."""

from dataclasses import replace

import bittern
import numpy as np
import pytest
from bittern.encodings import Bitmap, Codebook, Dense, Encoding, Packed, Sparse

from tests.builders import floats
from tests.compare import assert_equal, differences
from tests.conftest import seed_of
from tests.reference.arrays import Array
from tests.test_recurrent_codes import GATES, STATES, layer_of, plan_row

F32 = np.float32


def thin(rng: np.random.Generator, shape: tuple[int, ...], density: float, few: bool) -> Encoding:
    """Floats, or codes into a table of 16 whose first entry is zero."""
    mask = rng.random(shape) < density
    count = int(mask.sum())
    if not few:
        return Sparse(Bitmap.of(mask), Dense(0.4 * floats(rng, count)), shape)
    codes = Packed.pack(rng.integers(1, 16, count), 4)
    return Codebook(Sparse(Bitmap.of(mask), codes, shape), Dense(np.append(F32(0), 0.4 * floats(rng, 15)).astype(F32)))


def spmv(isa: str, few: bool) -> str:
    """The kernel's name."""
    level = "avx512" if isa.startswith("avx512") else "avx2" if isa.startswith("avx2") else isa
    form = "lut4" if few else "f32"
    return next(
        k.name for k in bittern.kernels() if k.loop == "spmv" and k.isa == level and f"_f32_{form}_f32_" in k.name
    )


@pytest.mark.parametrize("op", list(GATES))
def test_values(op: str, isa: str) -> None:
    """The kernel by name at every density, with states and lengths, against the definition; equal on two threads."""
    for trial in range(16):
        name = f"recurrent sparse {op} {trial}"
        rng = np.random.default_rng(seed_of(name))
        n, n_in, steps = (int(rng.choice(sizes)) for sizes in ((16, 34, 66), (16, 5, 40), (0, 1, 6)))
        few, batch = trial % 2 == 0, 1 if trial % 3 else int(rng.integers(1, 5))
        made = layer_of(rng, op, "8 bits", "8 bits", n, n_in, batch, steps)
        density = (0.1, 0.0, 0.4, 1.0)[trial % 4]
        layer = replace(made, w=thin(rng, made.w.shape, density, few), r=thin(rng, made.r.shape, density, few))
        x = floats(rng, steps, batch, n_in)
        file = layer.network(x.shape[:2]).to_bytes()
        model = bittern.load(file, isa=isa, threads=1, kernels=[spmv(isa, few)])
        found = model.run({"x": x})
        row = next(row for row in model.plan.layers if row.name == "layer")
        assert row.kernel == spmv(isa, few), f"{name}: {row}"
        assert ("W by gemm" in row.reason or "W by gemv" in row.reason) == (n_in == 5), f"{name}: {row.reason}"
        for output, wanted in zip(layer.outputs, layer.expected(x), strict=True):
            problem = differences(found[output], np.ascontiguousarray(wanted.astype(F32)), STATES)
            assert problem is None, f"{name}, {density}, {layer.attributes}, {output}: {problem}"
        for output, again in bittern.load(file, isa=isa, threads=2, kernels=[spmv(isa, few)]).run({"x": x}).items():
            assert_equal(again, found[output], f"{name}, threads")


def choice(rng: np.random.Generator, density: float, few: bool, x: Array) -> bittern.Layer:
    """What a plan says of an LSTM of 256 units with 128 inputs."""
    layer = layer_of(rng, "LSTM", "8 bits", "8 bits", 256, 128, x.shape[1], x.shape[0])
    ways = layer.w.shape[0]
    w, r = thin(rng, (ways, 1024, 128), density, few), thin(rng, (ways, 1024, 256), density, few)
    return plan_row(replace(layer, w=w, r=r, more=[]).network(), x)


def test_choice(rng: np.random.Generator) -> None:
    """Few weights run as they are; many, or many samples, do not; the plan says which."""
    x = floats(rng, 1, 1, 128)
    row = choice(rng, 0.05, True, x)
    assert row.kernel.startswith("spmv_f32_lut4") and "% of the weights are not zero" in row.reason
    assert "decoded" not in row.reason
    row = choice(rng, 0.05, False, x)
    assert row.kernel.startswith("spmv_f32_f32")
    assert choice(rng, 0.9, True, x).kernel.startswith("gemv_f32_lut4")
    assert choice(rng, 0.9, False, x).kernel.startswith("gemm_f32")
