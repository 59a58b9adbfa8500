"""QuantizeLinear and DequantizeLinear: exact against the reference, their limits, their errors, their form in ONNX."""

from typing import Any

import bittern
import numpy as np
import pytest
from bittern.operators import ROUNDING, significant

from tests.reference import quantize
from tests.reference.arrays import Array

TINY = np.float32(1e-40)  # a run flushes denormal numbers to zero: with a scale of zero that is another question
HARD = np.array([0, -0.0, 0.5, 1.5, 2.5, -0.5, -1.5, 1e9, -1e9, 3e38, np.inf, -np.inf, np.nan, TINY], np.float32)
TYPES: dict[str, Any] = {"u8": np.uint8, "i8": np.int8, "u16": np.uint16, "i16": np.int16, "i32": np.int32}


def network(op: str, arrays: list[Array], attributes: dict[str, Any]) -> bittern.Network:
    """One node; the first array is the input, the others are constants."""
    net = bittern.Network("codes")
    names = ["x", "scale", "zero"][: len(arrays)]
    net.add_input(
        "x", arrays[0].shape, {"f": "f", "i": "i", "u": "u"}[arrays[0].dtype.kind] + str(8 * arrays[0].itemsize)
    )
    for name, array in zip(names[1:], arrays[1:], strict=True):
        net.add_constant(name, array)
    net.add_node(op, names, ["y"], **attributes)
    net.set_outputs(["y"])
    return net


def run(op: str, arrays: list[Array], isa: str | None = None, **attributes: Any) -> Array:
    """The result of one node."""
    return bittern.load(network(op, arrays, attributes), isa=isa).run({"x": arrays[0]})["y"]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("scale", [1.0, 0.1, 0.0])
def test_hard_numbers(dtype: str, scale: float, isa: str) -> None:
    """Ties, overflow, infinities, NaN, a scale of zero: the codes are those of the definition."""
    factor, x = np.float32(scale), HARD if scale else HARD[HARD != TINY]
    for zero in (None, np.array(3, TYPES[dtype]), np.array(np.iinfo(TYPES[dtype]).max, TYPES[dtype])):
        arrays = [x, np.asarray(factor)] + ([] if zero is None else [zero])
        attributes = {"output_dtype": dtype} if zero is None else {}
        expected = quantize.quantize_linear([*arrays], attributes)
        result = run("QuantizeLinear", arrays, isa, **attributes)
        assert result.dtype == TYPES[dtype] and np.array_equal(result, expected), (zero, result, expected)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", range(2, 9))
def test_bits(bits: int, signed: bool, isa: str, rng: np.random.Generator) -> None:
    x = rng.uniform(-200, 200, (3, 50)).astype(np.float32)
    zero = np.array([1, 0, 2], np.int8 if signed else np.uint8)
    scale = np.array([0.5, 1.3, 2.0], np.float32)
    for narrow in (0, 1) if signed else (0,):
        attributes = {"axis": 0, "bits": bits, "narrow": narrow}
        codes = run("QuantizeLinear", [x, scale, zero], isa, **attributes)
        low, high = quantize.code_range("int8" if signed else "uint8", bits, narrow)
        assert codes.min() == low and codes.max() == high
        assert np.array_equal(codes, quantize.quantize_linear([x, scale, zero], attributes))


def test_int32_differences_are_exact(isa: str) -> None:
    """A code minus its zero point may need 33 bits; it is rounded to float32 once."""
    x = np.array([-(2**31), 2**31 - 1, 2**24 + 1, 16777217 + 16777217], np.int32)
    zero, scale = np.array(2**31 - 1, np.int32), np.asarray(np.float32(0.25))
    result = run("DequantizeLinear", [x, scale, zero], isa)
    assert np.array_equal(result, quantize.dequantize_linear([x, scale, zero], {}))
    assert result[0] == np.float32(-(2**32) + 1) * np.float32(0.25)


@pytest.mark.parametrize(
    ("attributes", "scale", "zero", "problem"),
    [
        ({"axis": 2}, (3,), (3,), "axis 2 of a tensor of rank 2"),
        ({"axis": 1}, (2,), (2,), r"scale has shape \[2\] for a tensor \[2, 3\]"),
        ({"axis": 1}, (3,), (2,), r"scale \[3\] and zero point \[2\]"),
        ({"axis": 1, "block_size": 2}, (2, 1), (2, 1), r"or shape \[2, 2\]"),
        ({"axis": 1}, (2, 2), (2, 2), "scales of blocks need block_size"),
        ({"block_size": -1}, (), (), "block_size -1"),
        ({"output_dtype": "i8"}, (), (), "output_dtype is i8, the zero point is u8"),
        ({"narrow": 1}, (), (), "only i8 has a narrow range"),
    ],
)
def test_what_does_not_fit_is_told(attributes: dict[str, Any], scale: Any, zero: Any, problem: str) -> None:
    arrays = [np.zeros((2, 3), np.float32), np.ones(scale, np.float32), np.zeros(zero, np.uint8)]
    with pytest.raises(bittern.FormatError, match=problem):
        run("QuantizeLinear", arrays, **attributes)
    codes = [np.zeros((2, 3), np.uint8), *arrays[1:]]
    if "output_dtype" not in attributes:
        with pytest.raises(bittern.FormatError, match=problem):
            run("DequantizeLinear", codes, **attributes)


@pytest.mark.parametrize("attributes", [{"bits": 1}, {"bits": 9}, {"narrow": 2}, {"output_dtype": "f32"}])
def test_attributes_have_limits(attributes: dict[str, Any]) -> None:
    with pytest.raises(bittern.UnsupportedError, match=f"attribute {next(iter(attributes))}.*supported"):
        network("QuantizeLinear", [np.zeros(2, np.float32), np.ones((), np.float32)], attributes)


@pytest.mark.parametrize("dtype", ["u8", "i8"])
@pytest.mark.parametrize("bits", [2, 4, 5, 8])
@pytest.mark.parametrize("narrow", [0, 1])
@pytest.mark.parametrize("with_zero", [False, True])
def test_onnx_runtime_agrees_with_what_is_exported(
    dtype: str, bits: int, narrow: int, with_zero: bool, rng: np.random.Generator
) -> None:
    """Codes of 4 bits get their own type in ONNX, other narrow ones limits; the numbers are equal."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    if narrow and dtype == "u8":
        return
    net = bittern.Network("there")
    net.add_input("x", ("N", 3))
    net.add_constant("scale", np.array([0.5, 0.25, 0.3], np.float32))
    names = ["scale"]
    if with_zero:
        net.add_constant("zero", np.array([1, 0, 3], TYPES[dtype]))
        names.append("zero")
    attributes: dict[str, Any] = {"axis": 1, "bits": bits, "narrow": narrow} | (
        {} if with_zero else {"output_dtype": dtype}
    )
    net.add_node("QuantizeLinear", ["x", *names], ["codes"], **attributes)
    net.add_node("DequantizeLinear", ["codes", *names], ["y"], axis=1, bits=bits)
    net.set_outputs(["y"])
    model = net.to_onnx()
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = rng.uniform(-9, 9, (40, 3)).astype(np.float32)
    expected = session.run(None, {"x": x})[0]
    for found in (net, bittern.convert(model)):
        assert np.array_equal(bittern.load(found).run({"x": x})["y"], expected)
    kept = significant("QuantizeLinear", bittern.convert(model).nodes[0].attributes)
    assert (kept.get("bits", 8), kept.get("narrow", 0)) == (bits, narrow)
    assert any(node.op_type == "Clip" for node in model.graph.node) == (narrow or bits not in (4, 8))


def one_node(op: str, arrays: list[Array | None], outputs: int = 1, **attributes: Any) -> list[Array]:
    """The results of one node, every input computed at run time."""
    net = bittern.Network("node")
    names = ["" if array is None else f"x{i}" for i, array in enumerate(arrays)]
    for name, array in zip(names, arrays, strict=True):
        if array is not None:
            kind = {"f": "f", "i": "i", "u": "u"}[array.dtype.kind]
            net.add_input(name, array.shape, kind + str(8 * array.itemsize))
    results = [f"y{i}" for i in range(outputs)]
    net.add_node(op, names, results, **attributes)
    net.set_outputs(results)
    feeds = {name: array for name, array in zip(names, arrays, strict=True) if array is not None}
    found = bittern.load(net).run(feeds)
    return [found[name] for name in results]


def test_integer_sums_wrap_around() -> None:
    """Exact modulo 2^32: here 66,000 products of 255 and 255 go beyond it, and no runtime may say anything else."""
    a, b = np.full((1, 66_000), 255, np.uint8), np.full((66_000, 1), 255, np.uint8)
    (product,) = one_node("MatMulInteger", [a, b])
    expected = np.array(66_000 * 255 * 255, np.int64).astype(np.int32)
    assert product.dtype == np.int32 and product[0, 0] == expected < 0
    (sums,) = one_node("ConvInteger", [a.reshape(1, 66, 1000), b.reshape(1, 66, 1000)])
    assert sums.reshape(()) == expected


@pytest.mark.parametrize("signed", [False, True])
def test_zero_points_of_rows_and_columns(signed: bool, rng: np.random.Generator) -> None:
    dtype = np.int8 if signed else np.uint8
    low, high = (-128, 128) if signed else (0, 256)

    def codes(*shape: int) -> Array:
        return rng.integers(low, high, shape).astype(dtype)

    for a, b, rows, columns in (
        (codes(3, 5), codes(5, 4), codes(3), codes(4)),
        (codes(2, 3, 5), codes(2, 5, 4), codes(2, 3, 1), codes(2, 1, 4)),
        (codes(5), codes(5, 4), None, codes(4)),
        (codes(3, 0), codes(0, 4), codes(3), None),
    ):
        (product,) = one_node("MatMulInteger", [a, b, rows, columns] if columns is not None else [a, b, rows])
        assert np.array_equal(product, quantize.matmul_integer([a, b, rows, columns], {}))


def test_dynamic_ranges_contain_zero() -> None:
    """All of one sign, nothing at all, NaN, a tie of the zero point."""
    for numbers in ([1.0, 2.0, 3.0], [-1.0, -4.0], [0.0, 0.0], [np.nan, 2.0, -1.0], [-0.5, 254.5], []):
        x = np.array(numbers, np.float32)
        codes, scale, zero = one_node("DynamicQuantizeLinear", [x], outputs=3)
        low, high = (min(0.0, *numbers[1:], 0.0), max(0.0, *numbers[1:], 0.0)) if numbers else (0.0, 0.0)
        if numbers and not np.isnan(numbers[0]):
            low, high = min(low, numbers[0]), max(high, numbers[0])
        expected = np.float32(np.float32(high) - np.float32(low)) / np.float32(255) if high > low else np.float32(1)
        assert scale == expected and scale.dtype == np.float32 and scale.shape == zero.shape == ()
        assert int(zero) == round(float(np.float32(-low) / expected))
        assert np.array_equal(codes, quantize.quantize_linear([x, scale, zero], {}))


ROUNDED = {
    # number: ROUND, CEIL, FLOOR, UP, DOWN, HALF_UP, HALF_DOWN, as the specification of QONNX has them
    5.5: (6, 6, 5, 6, 5, 6, 5),
    2.5: (2, 3, 2, 3, 2, 3, 2),
    1.6: (2, 2, 1, 2, 1, 2, 2),
    1.1: (1, 2, 1, 2, 1, 1, 1),
    1.0: (1, 1, 1, 1, 1, 1, 1),
    -1.0: (-1, -1, -1, -1, -1, -1, -1),
    -1.1: (-1, -1, -2, -2, -1, -1, -1),
    -1.6: (-2, -1, -2, -2, -1, -2, -2),
    -2.5: (-2, -2, -3, -3, -2, -3, -2),
    -5.5: (-6, -5, -6, -6, -5, -6, -5),
}


@pytest.mark.parametrize("number", range(7))
def test_rounding_modes(number: int, isa: str) -> None:
    mode = ROUNDING[number]
    x = np.array([*ROUNDED, 0.49999997, -0.49999997, 0.0, 7.5, -8.5, np.inf, -np.inf, np.nan], np.float32)
    parameters = [np.array(value, np.float32) for value in (1, 0, 4)]
    (result,) = one_node("Quant", [x, *parameters], rounding_mode=mode)
    assert np.array_equal(result[: len(ROUNDED)], [row[number] for row in ROUNDED.values()])
    assert np.array_equal(result, quantize.quant([x, *parameters], {"rounding_mode": mode}))
    assert np.all(result[-4:] == [-8, 7, -8, -8])


@pytest.mark.parametrize(
    ("signed", "narrow", "bits", "low", "high"),
    [(1, 0, 3, -4, 3), (1, 1, 3, -3, 3), (0, 0, 3, 0, 7), (0, 1, 3, 0, 6), (1, 0, 1, -1, 1), (0, 0, 1, 0, 1)],
)
def test_limits_of_quant(signed: int, narrow: int, bits: int, low: int, high: int, rng: np.random.Generator) -> None:
    x = np.append(rng.uniform(-9, 9, 200), [np.nan, 0.0]).astype(np.float32)
    parameters = [np.array(value, np.float32) for value in (0.75, 0, bits)]
    (result,) = one_node("Quant", [x, *parameters], signed=signed, narrow=narrow)
    assert result.min() == low * 0.75 and result.max() == high * 0.75 and result[-2] == low * 0.75
    assert np.array_equal(result, quantize.quant([x, *parameters], {"signed": signed, "narrow": narrow}))


@pytest.mark.parametrize(
    ("op", "shapes", "attributes", "problem"),
    [
        ("Quant", [(2, 3), (2,), (), ()], {}, "cannot be broadcast"),
        ("Quant", [(3,), (2, 3), (), ()], {}, "must broadcast to the first input"),
        ("Quant", [(2, 3), (), (), (3,)], {}, "input 3 has shape .3."),
        ("Trunc", [(2, 3), (), (2, 1), (), ()], {}, "input 2 has shape .2, 1."),
        ("MultiThreshold", [(2, 3), (2, 4)], {}, "thresholds .2, 4. for 3 channels"),
        ("MultiThreshold", [(), (1, 4)], {}, "at least one dimension"),
        ("MultiThreshold", [(2, 3), (3,)], {}, "rank 2 is needed"),
    ],
)
def test_shapes_of_qonnx(op: str, shapes: list[Any], attributes: dict[str, Any], problem: str) -> None:
    with pytest.raises(bittern.Error, match=problem):
        one_node(op, [np.ones(shape, np.float32) for shape in shapes], **attributes)
