"""Layers on 8-bit codes with most weights zero: the planner's choice, what it says, and the same codes everywhere."""

from pathlib import Path

import bittern
import numpy as np
import pytest
from bittern.encodings import Affine, Bitmap, Dense, Encoding, Sparse
from bittern.sparse_choices import measure_choices, sparse_choices

CHANNELS = 48
SHAPE = (2, CHANNELS, 13, 11)


def weights(density: float, together: int, outputs: int = CHANNELS, encoded: bool = True) -> Encoding:
    """Codes of a 3x3 convolution, zero for ``together`` input channels at a time."""
    rng = np.random.default_rng(3)
    dims = (outputs, CHANNELS, 3, 3)
    mask = np.repeat(rng.random((outputs, CHANNELS // together, 3, 3)) < density, together, axis=1)
    codes = np.where(mask, rng.integers(-128, 128, dims), 0).astype(np.int8)
    kept = codes != 0
    stored = Sparse(Bitmap.of(kept), Dense(codes[kept]), dims) if encoded else Dense(codes)
    return Affine(stored, Dense(np.full(outputs, 0.003, np.float32)), axis=0)


def quantise(net: bittern.Network, op: str, value: str, output: str) -> str:
    """A quantiser of activations, or back."""
    net.add_node(op, [value, "scale", "zero"], [output])
    return output


def network() -> bittern.Network:
    """Few weights in blocks, few one by one, in a plain array, most weights, and all."""
    net = bittern.Network("codes")
    net.add_input("x", ("N", *SHAPE[1:]))
    net.add_constant("scale", np.array(0.05, np.float32))
    net.add_constant("zero", np.array(117, np.uint8))
    at = quantise(net, "QuantizeLinear", "x", "x.q")
    forms = {
        "blocks": weights(0.1, 4),
        "single": weights(0.08, 1),
        "plain": weights(0.1, 4, encoded=False),
        "most": weights(0.68, 1),
        "full": weights(1.0, 1),
    }
    for name, tree in forms.items():
        net.add_constant(f"{name}.w", tree)
        real = quantise(net, "DequantizeLinear", at, f"{name}.x")
        net.add_node("Conv", [real, f"{name}.w"], [f"{name}.y"], name=name, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        at = quantise(net, "QuantizeLinear", f"{name}.y", f"{name}.q")
    net.add_node("DequantizeLinear", [at, "scale", "zero"], ["y"])
    net.set_outputs(["y"])
    return net


def convolutions(model: bittern.Model) -> dict[str, bittern.Layer]:
    """The plan's rows of convolutions by name."""
    return {layer.name: layer for layer in model.plan_for({"x": SHAPE}).layers if layer.op == "Conv"}


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(5).standard_normal(SHAPE, np.float32)


def test_the_plan_says_what_was_compared(isa: str) -> None:
    plan = bittern.load(network(), isa=isa).plan_for({"x": SHAPE})
    choices = {each.name: each for each in sparse_choices(plan)}
    assert set(choices) == {"blocks", "single", "plain", "most"}  # a layer without zeros is not looked at
    for each in choices.values():
        assert each.sparse_kernel.startswith("spmm_u8_s8_s32_") and each.dense_kernel.startswith("gemm_u8_s8_s32_")
        assert each.sparse_kernel.endswith(f"__{isa}") and each.dense_estimate > 0 and each.sparse_estimate > 0
    assert choices["blocks"].sparse and choices["plain"].sparse and not choices["most"].sparse
    assert choices["blocks"].density == pytest.approx(0.1, abs=0.02)
    assert choices["blocks"].estimated_speed > choices["most"].estimated_speed
    assert "of quads of channels" in choices["blocks"].reason and "dense although" in choices["most"].reason
    # One by one, a weight in twelve meets more than a quarter of the quads.
    assert choices["single"].sparse_estimate > 1.3 * choices["blocks"].sparse_estimate


def test_codes_equal_those_of_the_dense_kernel(isa: str, x: np.ndarray) -> None:
    """Whatever the kernel and the number of threads."""
    net = network()
    dense = next(each.name for each in bittern.kernels() if each.loop == "gemm_u8" and each.isa == isa)
    sparse = next(each.name for each in bittern.kernels() if each.loop == "spmm_u8" and each.isa == isa)
    forced = bittern.load(net, isa=isa, kernels=[dense])
    assert {layer.kernel for layer in convolutions(forced).values()} == {dense}
    expected = forced(x)
    for threads in (1, 2, 3):
        chosen = bittern.load(net, isa=isa, threads=threads)
        assert convolutions(chosen)["blocks"].kernel == sparse and convolutions(chosen)["full"].kernel != sparse
        np.testing.assert_array_equal(chosen(x), expected)
        asked = bittern.load(net, isa=isa, threads=threads, kernels=[sparse])
        assert {layer.kernel for layer in convolutions(asked).values()} == {sparse}
        np.testing.assert_array_equal(asked(x), expected)


def test_a_second_shape_and_memory(x: np.ndarray) -> None:
    """Packed once, planned for each shape; no weights that are zero are kept."""
    model = bittern.load(network())
    whole = model.run({"x": x})["y"]
    np.testing.assert_array_equal(model.run({"x": x[:1]})["y"], whole[:1])
    layers = convolutions(model)
    assert layers["blocks"].packed_bytes < 0.5 * layers["full"].packed_bytes


def test_both_kernels_are_measured(x: np.ndarray) -> None:
    net = network()
    plan = bittern.load(net).plan_for({"x": SHAPE})
    found = measure_choices(net, plan, [{"x": x}], threads=1, rounds=2)
    assert [each.name for each in found] == ["blocks", "single", "plain", "most"]
    for each in found:
        assert each.dense_ms is not None and each.sparse_ms is not None and each.measured_speed is not None
        assert each.measured_kernel.startswith("gemm_u8_s8_s32_")


def test_a_file_keeps_them(tmp_path: Path, x: np.ndarray) -> None:
    path = tmp_path / "net.bittern"
    network().save(path)
    np.testing.assert_array_equal(bittern.load(path)(x), bittern.load(network())(x))


def test_a_pruned_and_quantised_network() -> None:
    """What the recipe makes with blocks of four input channels runs on quads alone; the dense kernel gives the same."""
    rng = np.random.default_rng(7)
    net = bittern.Network("trained")
    net.add_input("x", (1, 16, 20, 20))
    at = "x"
    for index, (inputs, outputs) in enumerate(((16, 64), (64, 64), (64, 32))):
        window = rng.standard_normal((outputs, inputs, 3, 3)).astype(np.float32)
        net.add_constant(f"w{index}", window / np.float32(np.sqrt(9 * inputs)))
        net.add_node("Conv", [at, f"w{index}"], [f"c{index}"], name=f"c{index}", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        net.add_node("Relu", [f"c{index}"], [f"r{index}"])
        at = f"r{index}"
    net.set_outputs([at])
    images = rng.standard_normal((4, 16, 20, 20), np.float32)
    made = bittern.compress(
        net,
        recipe="prune",
        sparsity=0.85,
        pattern="1x4",
        quantize="int8",
        method="magnitude",
        calibration={"x": images},
    )
    model = bittern.load(made)
    kernels = {layer.name: layer.kernel for layer in model.plan.layers if layer.op == "Conv"}
    assert kernels["c1"].startswith("spmm_u8_"), kernels
    dense = [each.name for each in bittern.kernels() if each.loop == "gemm_u8" and each.usable][-1]
    np.testing.assert_array_equal(model(images[:1]), bittern.load(made, kernels=[dense])(images[:1]))


def row_network(dynamic: bool) -> bittern.Network:
    """A product with weights zero in quads of inputs; its activations have a quantiser, or get one at run time."""
    rng = np.random.default_rng(5)
    mask = np.repeat(rng.random((250, 75)) < 0.1, 4, axis=1)
    codes = np.where(mask, rng.integers(-128, 128, mask.shape), 0).astype(np.int8)
    tree = Affine(
        Sparse(Bitmap.of(codes != 0), Dense(codes[codes != 0]), mask.shape), Dense(np.array(0.01, np.float32))
    )
    net = bittern.Network("row")
    net.add_input("x", ("N", 300))
    net.add_constant("w", tree)
    net.add_constant("b", rng.standard_normal(250).astype(np.float32))
    if dynamic:
        net.add_node("DynamicQuantizeLinear", ["x"], ["x.q", "scale", "zero"])
    else:
        net.add_constant("scale", np.array(0.02, np.float32))
        net.add_constant("zero", np.array(131, np.uint8))
        net.add_node("QuantizeLinear", ["x", "scale", "zero"], ["x.q"])
    net.add_node("DequantizeLinear", ["x.q", "scale", "zero"], ["x.r"])
    net.add_node("Gemm", ["x.r", "w", "b"], ["y"], name="product", transB=1)
    net.set_outputs(["y"])
    return net


@pytest.mark.parametrize("dynamic", [False, True])
def test_one_row_runs_sparse_and_equals_several(isa: str, dynamic: bool) -> None:
    """Several rows take the dense or the panels' kernel: the same exact sums."""
    x = np.random.default_rng(1).standard_normal((3, 300)).astype(np.float32)
    x[:, 0], x[:, 1] = -4, 4  # so that all rows have one range
    x = x.clip(-4, 4)
    models = [bittern.load(row_network(dynamic), isa=isa, threads=threads) for threads in (1, 2)]
    (one,) = (layer for layer in models[0].plan_for({"x": (1, 300)}).layers if layer.name == "product")
    (some,) = (layer for layer in models[0].plan_for({"x": (3, 300)}).layers if layer.name == "product")
    level = isa.removesuffix("icl") + "vnni" * isa.endswith("icl")
    assert one.kernel.startswith("spmv_u8_") and one.kernel.endswith(f"__{level}"), f"{one}"
    assert not some.kernel.startswith("spmv_u8_")
    assert one.dense_kernel.startswith("gemv_u8_") and one.sparse_estimate < one.dense_estimate
    assert "10." in one.reason or "9." in one.reason
    together = models[0].run({"x": x})["y"]
    for row in range(3):
        for model in models:
            np.testing.assert_array_equal(model.run({"x": x[row : row + 1]})["y"], together[row : row + 1])
