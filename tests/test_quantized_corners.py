"""Corners of quantised plans: what a careless comparison, scale or order of bounds would get wrong."""

from typing import Any

import bittern
import numpy as np
import pytest
from bittern.encodings import Affine, Codebook, Dense, Encoding, Packed, Pow2

from tests.compare import assert_equal
from tests.quantized_graphs import code_network
from tests.reference.arrays import Array

F32 = np.float32
Nodes = list[tuple[str, list[str], str, dict[str, Any]]]


def scalar(value: float) -> Encoding:
    return Dense(np.array(value, F32))


def answer(
    inputs: dict[str, Array], constants: dict[str, Any], nodes: list[Any], isa: str | None = None, **options: Any
) -> Array:
    net = code_network(inputs, constants, nodes, ["y"])
    return bittern.load(net, isa=isa, **options).run(inputs)["y"]


def test_a_view_from_unsigned_to_signed_codes() -> None:
    """The same scale and zero, but other bytes."""
    x = np.array([[0, 1, 127, 128, 200, 255]], np.uint8).repeat(2, axis=0)
    constants = {"s": scalar(0.05), "u": np.array(128, np.uint8), "i": np.array(0, np.int8), "to": np.array([3, 4])}
    nodes: Nodes = [
        ("DequantizeLinear", ["x", "s", "u"], "r", {}),
        ("Reshape", ["r", "to"], "v", {}),
        ("QuantizeLinear", ["v", "s", "i"], "y", {}),
    ]
    assert_equal(answer({"x": x}, constants, nodes), (x.astype(int) - 128).astype(np.int8).reshape(3, 4))


def test_codes_beyond_a_narrow_quantiser_saturate() -> None:
    """Nothing is computed between the quantisers, but the second one has fewer codes."""
    x = np.full((1, 8, 2, 2), 200, np.uint8)
    constants = {"s": scalar(0.05), "z": np.array(0, np.uint8), "to": np.array([1, 32])}
    few = {"bits": 4}
    for op, sources, attributes in (
        ("MaxPool", ["r"], {"kernel_shape": [1, 1]}),
        ("GlobalAveragePool", ["r"], {}),
        ("Reshape", ["r", "to"], {}),
    ):
        for rounding in ("", "tflite"):
            nodes: Nodes = [
                ("DequantizeLinear", ["x", "s", "z"], "r", few),
                (op, sources, "v", attributes),
                ("QuantizeLinear", ["v", "s", "z"], "y", {**few, "requantize": rounding}),
            ]
            assert np.unique(answer({"x": x}, constants, nodes)).tolist() == [15], (op, rounding)


@pytest.mark.parametrize(
    ("scale", "code"), [(2.0**29, 255), (2.0**31, 255), (1e10, 255), (1e20, 255), (np.inf, 255), (1e-30, 0)]
)
def test_fixed_point_scales_at_the_ends(scale: float, code: int) -> None:
    """Sums times what 31 bits cannot hold saturate; what is too small for a shift gives zero."""
    constants = {
        "w": Affine(Dense(np.ones((8, 8, 1, 1), np.int8)), scalar(scale)),
        "one": scalar(1),
        "z": np.array(0, np.uint8),
    }
    nodes: Nodes = [
        ("DequantizeLinear", ["x", "one", "z"], "r", {}),
        ("Conv", ["r", "w"], "c", {}),
        ("QuantizeLinear", ["c", "one", "z"], "y", {"requantize": "tflite"}),
    ]
    result = answer({"x": np.full((1, 8, 2, 2), 3, np.uint8)}, constants, nodes)
    assert np.unique(result).tolist() == [code]


def test_fixed_point_takes_a_bias_in_its_own_units_only() -> None:
    """A bias of another scale is a real number, whatever rounding is asked for."""
    constants = {
        "w": Affine(Dense(np.ones((8, 8, 1, 1), np.int8)), scalar(0.01)),
        "b": Affine(Dense(np.full(8, 3, np.int32)), scalar(1.0)),
        "s": scalar(0.05),
        "z": np.array(0, np.uint8),
    }
    nodes: Nodes = [
        ("DequantizeLinear", ["x", "s", "z"], "r", {}),
        ("Conv", ["r", "w", "b"], "c", {}),
        ("QuantizeLinear", ["c", "s", "z"], "y", {"requantize": "tflite"}),
    ]
    assert np.unique(answer({"x": np.zeros((1, 8, 2, 2), np.uint8)}, constants, nodes)).tolist() == [60]


@pytest.mark.parametrize("kind", [np.int64, np.uint32])
def test_codes_of_many_bits(kind: type, isa: str, rng: np.random.Generator) -> None:
    """Codes in integers wider than kernels take are decoded, not refused."""
    codes: Array = rng.integers(0, 4, (8, 8)).astype(kind)
    x = rng.standard_normal((1, 8)).astype(F32)
    w = Codebook(Dense(codes), Dense(np.array([-1, 0, 0.5, 2], F32)))
    result = answer({"x": x}, {"w": w}, [("Gemm", ["x", "w"], "y", {})], isa)
    assert np.abs(result - x.astype(np.float64) @ w.decode()).max() < 1e-5
    constants = {"w": Affine(Dense(codes), scalar(0.1)), "s": scalar(0.05), "z": np.array(128, np.uint8)}
    nodes: Nodes = [("DequantizeLinear", ["q", "s", "z"], "r", {}), ("MatMul", ["r", "w"], "y", {})]
    q = rng.integers(0, 256, (1, 8)).astype(np.uint8)
    expected = (q.astype(np.float64) - 128) * 0.05 @ (codes.astype(np.float64) * 0.1)
    assert np.abs(answer({"q": q}, constants, nodes, isa) - expected).max() < 1e-4


def test_powers_of_two_beyond_integers(isa: str) -> None:
    """Terms of eight bits reach 2^-127: no integer form, decoded instead."""
    w = Pow2(Packed.pack(np.array([[1, 2], [3, 127]]), 8), scalar(1.0), 1, 8)
    x = np.array([[1, 2]], F32)
    assert_equal(answer({"x": x}, {"w": w}, [("MatMul", ["x", "w"], "y", {})], isa), x @ w.decode())


def test_a_nan_stays_among_real_numbers(isa: str) -> None:
    """Codes cannot hold one; a layer that gives real numbers can."""
    constants = {
        "w": Affine(Dense(np.ones((8, 8, 1, 1), np.int8)), scalar(0.01)),
        "b": Dense(np.full(8, np.nan, F32)),
        "s": scalar(0.05),
        "z": np.array(0, np.uint8),
    }
    nodes: Nodes = [("DequantizeLinear", ["x", "s", "z"], "r", {}), ("Conv", ["r", "w", "b"], "y", {})]
    assert np.isnan(answer({"x": np.ones((1, 8, 2, 2), np.uint8)}, constants, nodes, isa)).all()


def test_bounds_that_cross(isa: str) -> None:
    """Clip whose minimum is above its maximum gives the maximum on every level."""
    constants = {
        "w": Affine(Dense(np.ones((16, 1, 3, 3), np.int8)), scalar(0.01)),
        "low": np.array(3, F32),
        "high": np.array(1, F32),
        "s": scalar(0.05),
        "z": np.array(10, np.uint8),
    }
    nodes: Nodes = [
        ("DequantizeLinear", ["x", "s", "z"], "r", {}),
        ("Conv", ["r", "w"], "c", {"group": 16}),
        ("Clip", ["c", "low", "high"], "k", {}),
        ("QuantizeLinear", ["k", "s", "z"], "y", {}),
    ]
    result = answer({"x": np.full((1, 16, 8, 8), 90, np.uint8)}, constants, nodes, isa)
    assert np.unique(result).tolist() == [30]


def test_a_kernel_that_this_machine_cannot_run_is_refused() -> None:
    """Asking for it is an error, not a crash."""
    absent = [kernel for kernel in bittern.kernels() if not kernel.usable]
    if not absent:
        pytest.skip("this machine runs every kernel of the build")
    net = code_network({"x": np.zeros((1, 4), F32)}, {}, [("Relu", ["x"], "y", {})], ["y"])
    with pytest.raises(bittern.UnsupportedError, match="cannot run"):
        bittern.load(net, kernels=[absent[0].name])
