"""What plans do with quantised graphs: which layers run on codes, what is fused, and that results stay right."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import bittern
import numpy as np
import pytest
from bittern.encodings import Affine, Bitmap, Codebook, Dense, Encoding, Huffman, Packed, Signs, Sparse, Ternary

from tests import tolerances
from tests.builders import floats, reference
from tests.compare import assert_equal, assert_same_bits, assert_within
from tests.conftest import seed_of
from tests.quantized_graphs import F32, FORMS, Form, Wiring, conv, fitted, small_network, weights
from tests.quantized_random import random_case
from tests.reference import codes, run
from tests.reference.arrays import Array

U8, I8 = FORMS[0], FORMS[1]


def check(
    net: bittern.Network, feeds: dict[str, Array], taps: Sequence[str] = (), what: str = "", **options: Any
) -> bittern.Model:
    """A model whose results are exactly what the network means in whole numbers."""
    file = net.to_bytes()
    model = bittern.load(file, **options)
    expected = codes.run(file, feeds, taps)
    for name, value in model.run(feeds, taps=taps).items():
        assert_equal(value, expected[name], f"{what} {name}")
    return model


def kernels_of(model: bittern.Model, *ops: str) -> list[str]:
    """The loops that run the layers of some operators, in the plan's order."""
    loops = {kernel.name: kernel.loop for kernel in bittern.kernels()}
    return [loops.get(layer.kernel, "") for layer in model.plan.layers if not ops or layer.op in ops]


def layer_of(model: bittern.Model, op: str) -> Any:
    """The only layer of an operator."""
    (found,) = [layer for layer in model.plan.layers if layer.op == op]
    return found


Run = tuple[dict[str, Array], list[str], dict[str, Array]]
"""Inputs, taps, and what is expected of them."""


@cache
def random_runs(seed: int) -> tuple[bytes, list[Run]]:
    """A random network's file and its runs: outputs alone, all values tapped and some, at two batch sizes."""
    maker, net = random_case(seed)
    file, feeds = net.to_bytes(), dict(maker.inputs)
    some = [name for name in maker.tappable if maker.rng.random() < 0.25]
    first = {name: value[:1] for name, value in feeds.items()}
    nothing: list[str] = []
    choices = ((feeds, nothing), (first, some), (feeds, maker.tappable), (first, nothing), (feeds, some))
    return file, [(batch, taps, codes.run(file, batch, taps)) for batch, taps in choices]


@pytest.mark.parametrize("index", range(60))
def test_random_plan(index: int, isa: str) -> None:
    """One model is right with and without taps and whatever the batch size was before."""
    seed = seed_of(f"quantised planner {index}") % 2**32
    file, runs = random_runs(seed)
    model = bittern.load(file, isa=isa, threads=1 + index % 2)
    for feeds, taps, expected in runs:
        for name, value in model.run(feeds, taps=taps).items():
            assert_equal(value, expected[name], f"seed {seed}, {len(taps)} taps: {name}")


# What plans say.


def test_a_network_on_codes(isa: str, rng: np.random.Generator) -> None:
    """Every operator runs on codes; only the first quantiser and the last result are real numbers."""
    wiring = Wiring(rng)
    net = wiring.network(small_network(wiring))
    model = check(net, wiring.inputs, isa=isa)
    operators = [layer.op for layer in model.plan.layers if layer.op != "Reorder"]
    assert operators == ["QuantizeLinear", "Conv", "Conv", "Conv", "MaxPool", "GlobalAveragePool", "Flatten", "Gemm"]
    loops = ["quantize_f32", "gemm_u8", "depthwise_u8", "gemm_u8", "maxpool_u8", "avgpool_u8", "", "gemm_u8"]
    assert kernels_of(model, *operators) == loops
    assert kernels_of(model, "Reorder") == []
    for layer in model.plan.layers:
        assert layer.isa == (isa if layer.kernel else ""), layer
        assert layer.kernel == "" or layer.layout, layer
    last = [layer for layer in model.plan.layers if layer.op == "Conv"][-1]
    assert "sum_node" in last.fused, "the residual is fused"
    assert len(last.fused) == 4  # two quantisers, sum, activation
    assert all(
        layer.macs > 0 and layer.encoded_bytes > 0 for layer in model.plan.layers if layer.op in ("Conv", "Gemm")
    )


def test_taps_inside_fused_layers(isa: str, rng: np.random.Generator) -> None:
    """Asking for a value inside of a fused layer gives it, and does not change the others."""
    wiring = Wiring(rng)
    net = wiring.network(small_network(wiring))
    for tap in ("first", "sum", *(target for op, _, target, _ in wiring.nodes if op.endswith("Linear"))):
        check(net, wiring.inputs, [tap], f"tap {tap}:", isa=isa)


def test_same_bits_everywhere(rng: np.random.Generator) -> None:
    """All levels and numbers of threads give the same codes and numbers."""
    wiring = Wiring(rng)
    net = wiring.network(small_network(wiring))
    expected = codes.run(net.to_bytes(), wiring.inputs)["scores"]
    for level in bittern.cpu().isa_levels_usable:
        for threads in (1, 2):
            actual = bittern.load(net, isa=level, threads=threads).run(wiring.inputs)["scores"]
            assert_same_bits(actual, expected, f"{level}, {threads} threads")


def test_two_shapes_on_one_model(isa: str, rng: np.random.Generator) -> None:
    """Weights are packed once, whatever the shapes that a plan was made for."""
    wiring = Wiring(rng)
    net = wiring.network(small_network(wiring), "N")
    model = bittern.load(net, isa=isa)
    for batch in (1, 2, 1):
        feeds = {"image": wiring.inputs["image"][:batch]}
        assert_equal(model.run(feeds)["scores"], codes.run(net.to_bytes(), feeds)["scores"])
        plan = model.plan_for({"image": (batch, 3, 11, 9)})
        assert plan.output_shapes == {"scores": (batch, 10)}
        kernels = [layer.kernel.split("_u8")[0] for layer in plan.layers if layer.op in ("Conv", "Gemm")]
        assert kernels == ["gemm", "depthwise", "gemm", "gemv" if batch == 1 else "gemm"]


def test_codes_that_are_outputs_too(isa: str, rng: np.random.Generator) -> None:
    """Codes that callers and layers read, in blocks and as a plain tensor."""
    wiring = Wiring(rng)
    x = wiring.decoded("x", U8, 2, 5, 6, 7)
    value, form = conv(wiring, x, U8, 5, 17)
    quantised = wiring.quantise(value, form)
    value, to = conv(wiring, wiring.dequantise(quantised, form), form, 17, 3)
    last = wiring.quantise(value, to)
    model = check(wiring.network([quantised, last]), wiring.inputs, isa=isa)
    assert kernels_of(model, "Conv") == ["gemm_u8", "gemm_u8"]
    assert [str(value.dtype) for value in model.run(wiring.inputs).values()] == ["int8", "int8"]


def branches(wiring: Wiring, filters: Sequence[int], size: int = 3) -> list[tuple[str, Form]]:
    """Convolutions of one input, each with its own quantiser."""
    x = wiring.decoded("x", U8, 2, 6, size, size)
    found = [conv(wiring, x, U8, 6, count, to=FORMS[i % 3]) for i, count in enumerate(filters)]
    return [(wiring.again(value, form), form) for value, form in found]


def test_a_concatenation_in_place(isa: str, rng: np.random.Generator) -> None:
    """Branches with scales of their own write where the result stands, in its scale."""
    wiring = Wiring(rng)
    parts = branches(wiring, (16, 32, 5))
    to = parts[0][1].scaled(1.1)
    joined = wiring.again(wiring.add("Concat", [name for name, _ in parts], axis=1), to)
    value, form = conv(wiring, joined, to, 53, 7)
    model = check(wiring.network([wiring.quantise(value, form)]), wiring.inputs, isa=isa)
    assert "in place" in layer_of(model, "Concat").reason and layer_of(model, "Concat").kernel == ""
    assert kernels_of(model, "Conv") == ["gemm_u8"] * 4


@pytest.mark.parametrize("reader", ["Flatten", "Add", "Relu", "Requantize", "MaxPool", "Conv", "depthwise", "output"])
def test_a_part_of_a_concatenation_read_by_others(reader: str, isa: str, rng: np.random.Generator) -> None:
    """A branch of the concatenation's own scale is in place, and something else reads it as well."""
    for channels in (17, 3) if reader != "Flatten" else (17,):
        wiring = Wiring(rng)
        size = 1 if reader == "Flatten" else 4
        x = wiring.decoded("x", U8, 2, 6, size, size)
        first, to = conv(wiring, x, U8, 6, 16)
        second, _ = conv(wiring, x, U8, 6, channels)
        left, right = wiring.again(first, to), wiring.again(second, to)
        joined = wiring.quantise(wiring.add("Concat", [left, right], axis=1), to)
        if reader == "Flatten":
            flat = wiring.again(wiring.add("Flatten", [right]), to)
            wiring.trees["m"] = weights("i8", rng, (channels, 5), 1)
            last = wiring.add("MatMul", [flat, "m"])
        elif reader == "Add":
            other = wiring.decoded("z", to, 2, channels, size, size)
            last = wiring.quantise(wiring.add("Add", [right, other]), to)
        elif reader in ("Relu", "MaxPool"):
            attributes: dict[str, Any] = {} if reader == "Relu" else {"kernel_shape": [2, 2]}
            last = wiring.quantise(wiring.add(reader, [right], **attributes), to)
        elif reader == "Requantize":
            last = wiring.quantise(right, to.scaled(1.5))
        elif reader == "output":
            last = right
        else:
            value, form = conv(wiring, right, to, channels, channels, groups=1 if reader == "Conv" else channels)
            last = wiring.quantise(value, form)
        check(wiring.network([joined, last]), wiring.inputs, what=f"{channels} channels:", isa=isa)


def test_a_concatenation_of_fewer_codes(isa: str, rng: np.random.Generator) -> None:
    """The same scale, but fewer bits behind the concatenation than before it."""
    wiring = Wiring(rng)
    wide, few = Form("i8", 0.1, 0), Form("i8", 0.1, 0, bits=5)
    parts = []
    for name in ("x", "z"):
        pooled = wiring.add("MaxPool", [wiring.decoded(name, wide, 1, 16, 5, 5)], kernel_shape=[2, 2])
        parts.append(wiring.again(pooled, wide))
    joined = wiring.quantise(wiring.add("Concat", parts, axis=1), few)
    check(wiring.network([joined]), wiring.inputs, isa=isa)


def test_windows_without_elements(isa: str, rng: np.random.Generator) -> None:
    """A dilated maximum over padding alone is the lowest code."""
    for form in (U8, I8, Form("i8", 0.1, 1, bits=4, narrow=1)):
        wiring = Wiring(rng)
        x = wiring.decoded("x", form, 1, 6, 2, 2)
        pooled = wiring.add("MaxPool", [x], kernel_shape=[2, 2], dilations=[3, 3], pads=[1, 1, 1, 1])
        check(wiring.network([wiring.quantise(pooled, form)]), wiring.inputs, what=str(form), isa=isa)


def test_sums_of_codes_with_themselves(isa: str, rng: np.random.Generator) -> None:
    """x + x, a chain of residuals, and a residual that is computed behind the layer it belongs to."""
    wiring = Wiring(rng)
    x = wiring.decoded("x", U8, 1, 16, 5, 5)
    double = wiring.again(wiring.add("Add", [x, x]), U8.scaled(2))
    value, form = conv(wiring, double, U8.scaled(2), 16, 16)
    first = wiring.again(value, form)
    value, later = conv(wiring, x, U8, 16, 16)
    second = wiring.again(value, later)
    total = wiring.again(wiring.add("Add", [first, second]), form.scaled(1.5))
    again = wiring.again(wiring.add("Add", [total, first]), form.scaled(2))
    same = wiring.quantise(wiring.add("Add", [again, again]), form.scaled(4))
    model = check(wiring.network([same]), wiring.inputs, isa=isa)
    assert kernels_of(model, "Conv") == ["gemm_u8", "gemm_u8"]
    assert kernels_of(model, "Add") == ["add_u8"] * 3, "the first sum of two layers is fused into the second"


# What stays in real numbers.


def close_to_real(wiring: Wiring, outputs: Sequence[str], bound: Array | None = None, **options: Any) -> bittern.Model:
    """A model whose codes are at most one off what real numbers give."""
    net = wiring.network(outputs)
    expected = run(reference(net), wiring.inputs)
    model = bittern.load(net, **options)
    for name, value in model.run(wiring.inputs).items():
        if value.dtype.kind == "f":
            few = tolerances.dot_bound(100, np.abs(expected[name]).max())
            assert_within(value, expected[name], few if bound is None else bound, name)
        else:
            assert value.dtype == expected[name].dtype
            assert_within(value.astype(np.int64), expected[name].astype(np.int64), 1, name)
    return model


def test_codes_with_two_meanings(isa: str, rng: np.random.Generator) -> None:
    """Two DequantizeLinear of one value with different scales or zero points: neither is taken for the other."""
    for other in (U8.scaled(2), Form("u8", 0.03, 100)):
        wiring = Wiring(rng)
        x = wiring.decoded("x", U8, 1, 5, 6, 7)
        again = wiring.dequantise("x", other)
        value, form = conv(wiring, x, U8, 5, 9)
        first = wiring.quantise(value, form)
        value, form = conv(wiring, again, other, 5, 9)
        second = wiring.quantise(value, form)
        model = close_to_real(wiring, [first, second], isa=isa)
        assert not {"gemm_u8", "depthwise_u8"} & set(kernels_of(model))


def test_codes_read_with_another_zero_point(isa: str, rng: np.random.Generator) -> None:
    """QuantizeLinear and DequantizeLinear of one value that disagree: padding is not the code of zero."""
    wiring = Wiring(rng)
    x = wiring.decoded("x", U8, 1, 5, 6, 7)
    value, form = conv(wiring, x, U8, 5, 9, to=FORMS[0])
    other = Form(form.dtype, form.scale, form.zero + 9)
    value, to = conv(wiring, wiring.dequantise(wiring.quantise(value, form), other), other, 9, 4)
    model = close_to_real(wiring, [wiring.quantise(value, to)], isa=isa)
    assert [loop == "gemm_u8" for loop in kernels_of(model, "Conv")] == [True, False]


@pytest.mark.parametrize("kind", ["per axis", "i16", "u16", "computed scale", "blocks"])
def test_quantisers_of_other_kinds(kind: str, isa: str, rng: np.random.Generator) -> None:
    """Before and behind a layer: what is no quantiser of 8 bits for a whole tensor stays as it is."""
    wiring = Wiring(rng)
    wiring.inputs["x"] = floats(rng, 1, 4, 6, 6)
    attributes: dict[str, Any] = {}
    scale, zero = np.array(0.03, F32), np.array(3, np.int8)
    if kind == "per axis":
        scale, zero = rng.uniform(0.02, 0.04, 4).astype(F32), rng.integers(-9, 9, 4).astype(np.int8)
        attributes = {"axis": 1}
    elif kind == "blocks":
        scale, zero = rng.uniform(0.02, 0.04, (1, 2, 6, 6)).astype(F32), np.zeros((1, 2, 6, 6), np.int8)
        attributes = {"axis": 1, "block_size": 2}
    elif kind in ("i16", "u16"):
        scale, zero = np.array(0.0003, F32), np.array(200, np.dtype(kind.replace("i", "int").replace("u16", "uint16")))
    wiring.constants |= {"scale": scale, "zero": zero}
    name = "scale"
    if kind == "computed scale":
        wiring.inputs["given"] = np.array([0.03], F32)
        wiring.constants["axes"] = np.array([0], np.int64)
        name = wiring.add("Squeeze", ["given", "axes"])
    quantised = wiring.add("QuantizeLinear", ["x", name, "zero"], **attributes)
    x = wiring.add("DequantizeLinear", [quantised, name, "zero"], **attributes)
    value, _ = conv(wiring, x, U8, 4, 4)
    quantised = wiring.add("QuantizeLinear", [value, name, "zero"], **attributes)
    last = wiring.add("DequantizeLinear", [quantised, name, "zero"], **attributes)
    net = wiring.network([last])
    expected = run(reference(net), wiring.inputs)[last]
    model = bittern.load(net, isa=isa)
    assert_within(model.run(wiring.inputs)[last], expected, 1.001 * float(scale.max()))
    assert not any(loop.endswith("_u8") for loop in kernels_of(model))


def test_layers_that_stay_real(isa: str, rng: np.random.Generator) -> None:
    """Weights without whole numbers or with too large ones, sums that leave 32 bits, attributes, real residuals."""
    real = Dense(floats(rng, 9, 5, 3, 3))
    large = Affine(Dense(rng.integers(-300, 300, (9, 5, 3, 3)).astype(np.int16)), Dense(np.array(0.01, F32)))
    for tree in (real, large):
        wiring = Wiring(rng)
        wiring.trees["w"] = tree
        value = wiring.add("Conv", [wiring.decoded("x", U8, 1, 5, 6, 7), "w"])
        model = close_to_real(wiring, [wiring.quantise(value, fitted(I8, tree, U8))], isa=isa)
        assert "gemm_u8" not in kernels_of(model, "Conv")
    wiring = Wiring(rng)
    wiring.trees["w"] = weights("9 bits", rng, (2, 60000), 0)
    wiring.add("Gemm", [wiring.decoded("x", U8, 2, 60000), "w"], "y", transB=1)
    magnitude = 128 * 0.03 * np.abs(wiring.trees["w"].decode()).sum(axis=1)
    bound = tolerances.dot_bound(60000, magnitude)
    assert kernels_of(close_to_real(wiring, ["y"], bound, isa=isa), "Gemm") == ["gemm"]
    for attributes in ({"alpha": 0.5}, {"beta": 2.0}, {"transA": 1}):
        wiring = Wiring(rng)
        wiring.trees["w"] = weights("i8", rng, (6, 6), 0)
        wiring.trees["b"] = Dense(floats(rng, 6))
        wiring.add("Gemm", [wiring.decoded("x", U8, 6, 6), "w", "b"], "y", **attributes)
        assert kernels_of(close_to_real(wiring, ["y"], isa=isa), "Gemm") == ["gemm"]
    wiring = Wiring(rng)
    x = wiring.decoded("x", U8, 1, 16, 5, 5)
    value, form = conv(wiring, x, U8, 16, 16)
    close_to_real(wiring, [wiring.quantise(wiring.add("Add", [value, x]), form)], isa=isa)


def test_a_value_read_as_numbers_and_as_codes(isa: str, rng: np.random.Generator) -> None:
    """A layer whose result one reader wants in real numbers and another one as codes."""
    wiring = Wiring(rng)
    value, form = conv(wiring, wiring.decoded("x", U8, 1, 16, 5, 5), U8, 16, 17)
    soft = wiring.add("Mul", [value, wiring.constant("two", np.array(2, F32))])
    read, to = conv(wiring, wiring.again(value, form), form, 17, 5)
    model = check(wiring.network([soft, wiring.quantise(read, to)]), wiring.inputs, isa=isa)
    assert kernels_of(model, "Conv") == ["gemm_u8", "gemm_u8"]


def test_one_dimension(isa: str, rng: np.random.Generator) -> None:
    """Convolution and pooling along one axis are those of maps of one row."""
    results = []
    for line in (True, False):
        wiring = Wiring(np.random.default_rng(5))
        shape: tuple[int, ...] = (2, 17, 12) if line else (2, 17, 1, 12)
        x = wiring.decoded("x", U8, *shape)
        window = (33, 17, 3) if line else (33, 17, 1, 3)
        wiring.trees["w"] = weights("i8", wiring.rng, window, 0)
        form = fitted(I8, wiring.trees["w"], U8)
        pads = [1, 1] if line else [0, 1, 0, 1]
        x = wiring.again(wiring.add("Relu", [wiring.add("Conv", [x, "w"], pads=pads)]), form)
        pooled = [2] if line else [1, 2]
        x = wiring.again(wiring.add("MaxPool", [x], kernel_shape=pooled), form)
        x = wiring.again(wiring.add("AveragePool", [x], kernel_shape=pooled), form.scaled(0.7))
        x = wiring.again(wiring.add("Add", [x, x]), form)
        last = wiring.quantise(wiring.add("GlobalAveragePool", [x]), form)
        model = bittern.load(wiring.network([last]), isa=isa)
        results.append(model.run(wiring.inputs)[last].reshape(2, 33))
        assert "gemm_u8" in kernels_of(model, "Conv")
    assert_equal(results[0], results[1])


def test_weights_in_another_order(isa: str, rng: np.random.Generator) -> None:
    """Weights stored as OHWI are the same layer."""
    values = rng.integers(-128, 128, (9, 5, 3, 2)).astype(np.int8)
    scale = Dense(rng.uniform(0.01, 0.02, 9).astype(F32))
    results = []
    for order in ("OIHW", "OHWI"):
        stored = values if order == "OIHW" else np.ascontiguousarray(values.transpose(0, 2, 3, 1))
        wiring = Wiring(np.random.default_rng(3))
        wiring.trees["w"] = Affine(Dense(stored), scale, axis=0, order="" if order == "OIHW" else order)
        value = wiring.add("Conv", [wiring.decoded("x", U8, 1, 5, 6, 7), "w"])
        last = wiring.quantise(value, Form("i8", 1.0, 0))
        model = check(wiring.network([last]), wiring.inputs, isa=isa)
        assert kernels_of(model, "Conv") == ["gemm_u8"]
        results.append(model.run(wiring.inputs)[last])
    assert_equal(results[0], results[1])


def test_folded_scales(isa: str, rng: np.random.Generator) -> None:
    """Numbers per channel behind a layer are part of its scale and bias."""
    for source in (FORMS[0], FORMS[5]):
        wiring = Wiring(rng)
        value, form = conv(wiring, wiring.decoded("x", source, 2, 5, 6, 7), source, 5, 17)
        value = wiring.add("Mul", [value, wiring.constant("m", rng.uniform(0.5, 2, (17, 1, 1)).astype(F32))])
        value = wiring.add("Add", [wiring.constant("p", rng.uniform(-9, 9, (1, 17, 1, 1)).astype(F32)), value])
        value = wiring.add("Div", [value, wiring.constant("d", rng.uniform(0.5, 2, (17, 1, 1)).astype(F32))])
        value = wiring.add("Sub", [value, wiring.constant("s", np.array(0.3, F32))])
        last = wiring.quantise(wiring.add("Relu", [value]), form)
        model = check(wiring.network([last]), wiring.inputs, isa=isa)
        assert kernels_of(model, "Conv") == ["gemm_u8"] and len(layer_of(model, "Conv").fused) == 6


@pytest.mark.parametrize("scale", [3e38, 1e30, 1e-30, 1e-45])
def test_scales_at_the_ends(scale: float, isa: str, rng: np.random.Generator) -> None:
    """Ratios of scales that leave float32: no number is the lowest code, infinities saturate."""
    source = Form("u8", float(F32(scale)), 100)
    for to in (Form("i8", 1e-3, 3), Form("u8", 1e30, 200)):
        wiring = Wiring(rng)
        x = wiring.decoded("x", source, 1, 17, 4, 5)
        outputs = [wiring.quantise(x, to), wiring.quantise(wiring.add("Add", [x, x]), to)]
        outputs.append(wiring.quantise(wiring.add("AveragePool", [x], kernel_shape=[2, 2]), to))
        outputs.append(wiring.quantise(wiring.add("Sigmoid", [x]), to))
        wiring.trees["w"] = weights("i8", rng, (5, 17, 3, 3), 0)
        value = wiring.add("Conv", [x, "w"])
        outputs += [value, wiring.quantise(wiring.add("Conv", [x, "w"]), to)]
        if scale > 1e-38:
            check(wiring.network(outputs), wiring.inputs, isa=isa)
        else:  # numbers below the normal ones are flushed to zero
            found = bittern.load(wiring.network(outputs), isa=isa).run(wiring.inputs)
            assert all(np.isfinite(value).all() for value in found.values())


def encoded_weights(rng: np.random.Generator) -> dict[str, tuple[Encoding, bool]]:
    """Weights of 9x5x3x3 in one encoding over another, and whether they are whole numbers times a scale."""
    shape = (9, 5, 3, 3)
    scale, scales = Dense(np.array(0.01, F32)), Dense(rng.uniform(0.01, 0.02, 9).astype(F32))
    small = rng.integers(0, 16, shape)
    mask = rng.random(shape) < 0.3
    kept = rng.integers(-128, 128, int(mask.sum())).astype(np.int8)
    threes = Packed.pack(rng.integers(0, 3, shape), 2)
    tables = Dense(rng.standard_normal((9, 16)).astype(F32))
    return {
        "huffman": (Affine(Huffman.code(small), scales, Dense(np.full(9, 7, np.uint8)), axis=0), True),
        "sparse codes": (Affine(Sparse(Bitmap.of(mask.reshape(-1)), Dense(kept), shape), scales, axis=0), True),
        "32 bits": (Affine(Packed.pack(small - 8, 32, signed=True), scale), True),
        "nested scale": (Affine(Dense(small.astype(np.uint8)), Affine(Dense(np.array(3, np.uint8)), scale)), True),
        "booleans": (Signs(Dense(rng.random(shape) < 0.5), scales, axis=0), True),
        "other axis": (Affine(Dense(small.astype(np.uint8)), Dense(np.full(5, 0.01, F32)), axis=1), False),
        "groups": (
            Affine(Dense(small.astype(np.uint8)), Dense(np.full((5, 5, 3, 3), 0.01, F32)), axis=0, group=2),
            False,
        ),
        "unequal": (Ternary(threes, scale, Dense(np.array(0.02, F32))), False),
        "tables": (Codebook(Packed.pack(small, 4), tables, axis=0), False),
    }


def test_encodings_of_weights(isa: str, rng: np.random.Generator) -> None:
    """What is whole numbers times scales per output channel runs on codes, however the numbers are written."""
    for kind, (tree, whole) in encoded_weights(rng).items():
        wiring = Wiring(rng)
        wiring.trees["w"] = tree
        value = wiring.add("Conv", [wiring.decoded("x", U8, 1, 5, 6, 7), "w"])
        last = wiring.quantise(value, fitted(I8, tree, U8))
        if whole:
            model = check(wiring.network([last]), wiring.inputs, what=kind, isa=isa)
        else:
            model = close_to_real(wiring, [last], isa=isa)
        on_codes = {"gemm_u8", "spmm_u8"} & set(kernels_of(model, "Conv"))
        assert bool(on_codes) == whole, kind


def test_the_plan_says_why_a_layer_stays_real(rng: np.random.Generator) -> None:
    """Every layer of a quantised network that computes with real numbers names its reason."""
    reasons = {}
    for name in ("input", "weights", "good"):
        wiring = Wiring(rng)
        x = "real" if name == "input" else wiring.decoded("x", U8, 1, 5, 6, 7)
        if name == "input":
            wiring.inputs["real"] = rng.standard_normal((1, 5, 6, 7)).astype(F32)
        tree = weights("4 bits", rng, (9, 5, 3, 3), 0)
        wiring.trees["w"] = Dense(tree.decode()) if name == "weights" else tree
        last = wiring.quantise(wiring.add("Conv", [x, "w"]), fitted(I8, tree, U8))
        plan = bittern.load(wiring.network([last])).plan
        reasons[name] = next(layer.reason for layer in plan.layers if layer.op == "Conv")
    assert "in float32, because its input is no tensor of 8-bit codes" in reasons["input"]
    assert "in float32, because its weights are not whole numbers" in reasons["weights"]
    assert "float32" not in reasons["good"]
