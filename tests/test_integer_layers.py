"""Integer layers, products of more than two dimensions, thresholds and what moves codes: exact, on integer kernels."""

from collections.abc import Callable
from typing import Any

import bittern
import numpy as np
import pytest
from bittern.encodings import Dense

from tests.builders import reference
from tests.compare import assert_equal
from tests.conftest import seed_of
from tests.quantized_graphs import F32, FORMS, Form, Wiring, fitted, packed, weights
from tests.reference import codes, run
from tests.reference.arrays import Array

U8, I8 = FORMS[0], FORMS[1]
TYPES = {"u8": np.uint8, "i8": np.int8}


def code_range(kind: str) -> tuple[int, int]:
    return (0, 256) if kind == "u8" else (-128, 128)


def integers(rng: np.random.Generator, kind: str, *shape: int) -> Array:
    """Codes of a type, the ends among them."""
    found = rng.integers(*code_range(kind), shape).astype(TYPES[kind])
    found.reshape(-1)[:2] = [code_range(kind)[1] - 1, code_range(kind)[0]][: found.size]
    return found


def integer_network(rng: np.random.Generator, conv: bool) -> tuple[bittern.Network, dict[str, Array]]:
    """One random layer of integers; zero points are left out, constant or computed."""

    def pick(*values: Any) -> Any:
        return values[int(rng.integers(len(values)))]

    x_kind, w_kind = pick("u8", "i8"), pick("u8", "i8")
    net = bittern.Network("integer")
    attributes: dict[str, Any] = {}
    if conv:
        groups = pick(1, 1, 2, 8)
        per_group, filters = pick(1, 3, 16, 17) if groups == 1 else pick(1, 3), groups * pick(1, 2, 5)
        size = pick(1, 3)
        sizes = pick((7, 5), (9,), (3, 11))
        x = integers(rng, x_kind, pick(1, 2), groups * per_group, *sizes)
        w = integers(rng, w_kind, filters, per_group, *[size] * len(sizes))
        attributes = {"group": groups, "pads": [size // 2] * 2 * len(sizes), "strides": [pick(1, 2)] * len(sizes)}
        zeros = pick(1, filters)
    else:
        depth, columns = pick(1, 5, 33, 130), pick(1, 3, 16, 17, 65)
        x = integers(rng, x_kind, *pick((1,), (4,), (2, 3), (2, 1, 3)), depth)
        w, zeros = integers(rng, w_kind, depth, columns), pick(1, columns)
    few = pick(False, False, True)
    if few:  # weights of few bits stay so
        low = code_range(w_kind)[0]
        w = (w.astype(np.int64) % 4 + max(low, 0)).astype(TYPES[w_kind])
    net.add_input("x", ("N", *x.shape[1:]), x_kind)
    net.add_constant("w", w)
    names, feeds = ["x", "w"], {"x": x}
    form = pick("none", "constant", "constant", "computed")
    zero = np.asarray(rng.integers(*code_range(x_kind)), TYPES[x_kind])
    if form == "constant":
        net.add_constant("x_zero", zero)
    if form == "computed":
        net.add_input("x_zero", (), x_kind)
        feeds["x_zero"] = zero
    names.append("x_zero" if form != "none" else "")
    if pick(True, True, False):
        middle = 128 if w_kind == "u8" else 0
        values = rng.integers(middle - 100, middle + 100, zeros).astype(TYPES[w_kind])
        net.add_constant("w_zero", values.reshape(() if zeros == 1 and pick(False, True) else -1))
        names.append("w_zero")
    while not names[-1]:
        names.pop()
    net.add_node("ConvInteger" if conv else "MatMulInteger", names, ["y"], **attributes)
    net.set_outputs(["y"])
    return net, feeds


@pytest.mark.parametrize("index", range(40))
def test_sums_are_exact(index: int, isa: str) -> None:
    """Types, zero points, groups, strides, ranks and few bits; the plan names an integer kernel, or says why not."""
    seed = seed_of(f"integer layer {index}") % 2**32
    net, feeds = integer_network(np.random.default_rng(seed), conv=index % 2 == 0)
    expected = run(reference(net), feeds)["y"]
    model = bittern.load(net, isa=isa, threads=1 + index // 2 % 2)
    assert_equal(model.run(feeds)["y"], expected, f"seed {seed}")
    layer = next(
        layer for layer in model.plan_for({k: v.shape for k, v in feeds.items()}).layers if "Integer" in layer.op
    )
    assert "_u8" in layer.kernel or "weights two bytes" in layer.reason, f"seed {seed}: {layer}"


def layer_reason(net: bittern.Network, op: str) -> str:
    (layer,) = [layer for layer in bittern.load(net).plan.layers if layer.op == op]
    assert layer.kernel == "plain"
    return layer.reason


def test_reasons_against_integer_kernels(rng: np.random.Generator) -> None:
    """What has no integer kernel says so, and gives the same."""
    net = bittern.Network("reasons")
    net.add_input("a", (3, 5), "u8")
    net.add_input("b", (5, 4), "i8")
    net.add_node("MatMulInteger", ["a", "b"], ["y"])
    net.set_outputs(["y"])
    assert "no integer kernel, because its weights are computed at run time" in layer_reason(net, "MatMulInteger")
    net = bittern.Network("reasons")
    net.add_input("a", (3, 5), "u8")
    net.add_constant("b", integers(rng, "i8", 5, 4))
    net.add_constant("rows", integers(rng, "u8", 3))
    net.add_node("MatMulInteger", ["a", "b", "rows"], ["y"])
    net.set_outputs(["y"])
    assert "its input has a zero point for each row" in layer_reason(net, "MatMulInteger")
    feeds = {"a": integers(rng, "u8", 3, 5)}
    assert_equal(bittern.load(net).run(feeds)["y"], run(reference(net), feeds)["y"])
    net = bittern.Network("reasons")
    net.add_input("a", (1, 5), "u8")
    net.add_constant("b", np.full((5, 4), 255, np.uint8))
    net.add_node("MatMulInteger", ["a", "b"], ["y"])
    net.set_outputs(["y"])
    assert "its weights two bytes" in layer_reason(net, "MatMulInteger")


def test_codes_read_with_two_zero_points(isa: str, rng: np.random.Generator) -> None:
    """The code around a map is that of zero, which two convolutions take for two codes."""
    net = bittern.Network("two")
    net.add_input("x", (1, 3, 6, 6), "u8")
    net.add_constant("w", integers(rng, "i8", 4, 3, 3, 3))
    for name, zero in (("p", 7), ("q", 200)):
        net.add_constant(f"{name}_zero", np.array(zero, np.uint8))
        net.add_node("ConvInteger", ["x", "w", f"{name}_zero"], [name], pads=[1, 1, 1, 1])
    net.set_outputs(["p", "q"])
    feeds = {"x": integers(rng, "u8", 1, 3, 6, 6)}
    model, expected = bittern.load(net, isa=isa), run(reference(net), feeds)
    for name, value in model.run(feeds).items():
        assert_equal(value, expected[name], name)
    assert "read with two zero points" in [layer for layer in model.plan.layers if layer.op == "ConvInteger"][1].reason


# Products of more than two dimensions.


@pytest.mark.parametrize("index", range(24))
def test_products_of_rows(index: int, isa: str) -> None:
    """Products, sums, tables and requantised rows of ranks 2 to 5 stay in codes from the first to the last."""
    seed = seed_of(f"products of rows {index}") % 2**32
    rng = np.random.default_rng(seed)
    wiring, form = Wiring(rng), FORMS[index % len(FORMS)]
    leading = ((3,), (2, 3), (1, 4), (2, 1, 3), (1, 2, 1, 2))[index % 5]
    depth = (5, 16, 33, 48)[index % 4]
    x = wiring.decoded("x", form, *leading, depth)
    count = 1 + index % 3
    for step in range(count):
        columns = depth if step == 0 and index % 2 else (3, 16, 17, 40)[(index + step) % 4]
        wiring.trees[f"w{step}"] = weights(
            ("i8", "u8", "4 bits", "9 bits")[(index + step) % 4], rng, (depth, columns), 1
        )
        value = wiring.add("MatMul", [x, f"w{step}"])
        # `fitted` takes the outputs to come first.
        to = fitted(FORMS[(index + step + 3) % len(FORMS)], wiring.trees[f"w{step}"], form)
        if index % 3 == 0:
            wiring.constants[f"b{step}"] = rng.standard_normal(columns).astype(F32)
            value = wiring.add("Add", [value, f"b{step}"])
        if (index + step) % 4 == 0:
            value = wiring.add("Relu", [value])
        y = wiring.again(value, to)
        if columns == depth and len(leading) < 4:
            total = to.scaled(1.3)
            y, to = wiring.again(wiring.add("Add", [y, x]), total), total
        if (index + step) % 5 == 1 and len(leading) < 4:
            y = wiring.again(wiring.add("HardSwish", [y]), to)
        if (index + step) % 5 == 2 and len(leading) < 4:
            to = to.scaled(0.7)
            y = wiring.again(y, to)
        x, form, depth = y, to, columns
    op, sources, _, attributes = wiring.nodes[-1]
    wiring.nodes[-1] = (op, sources, "y", attributes)
    net = wiring.network(["y"], "N")
    file = net.to_bytes()
    model = bittern.load(file, isa=isa, threads=1 + index % 2)
    assert_equal(model.run(wiring.inputs)["y"], codes.run(file, wiring.inputs)["y"], f"seed {seed}")
    plan = model.plan_for({"x": wiring.inputs["x"].shape})
    products = [layer for layer in plan.layers if layer.op == "MatMul"]
    assert len(products) == count and all("_u8" in layer.kernel for layer in products), f"seed {seed}: {products}"
    real = [layer for layer in plan.layers if layer.op not in ("MatMul", "Add", "HardSwish", "Requantize", "Reorder")]
    assert [layer.op for layer in real] in ([], ["DequantizeLinear"]), f"seed {seed}"


def test_convolution_and_product_of_the_same_codes(isa: str, rng: np.random.Generator) -> None:
    """Blocks of channels win: the product computes with real numbers, and says so."""
    wiring = Wiring(rng)
    x = wiring.decoded("x", U8, 2, 6, 3, 5)
    wiring.trees["k"], wiring.trees["w"] = weights("i8", rng, (4, 6, 3, 3), 0), weights("i8", rng, (5, 7), 1)
    wiring.add("Conv", [x, "k"], "c", pads=[1] * 4)
    wiring.add("MatMul", [x, "w"], "m")
    net = wiring.network(["c", "m"])
    model = bittern.load(net, isa=isa)
    (product,) = [layer for layer in model.plan.layers if layer.op == "MatMul"]
    assert "in float32, because its input is kept in blocks of channels for other layers" in product.reason
    found, expected = model.run(wiring.inputs), run(reference(net), wiring.inputs)
    for name in ("c", "m"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-5 * np.abs(expected[name]).max())


# Thresholds.


@pytest.mark.parametrize("index", range(12))
def test_layers_and_thresholds_stay_in_codes(index: int, isa: str) -> None:
    """Convolution or product, thresholds, the next layer: exactly the plain operators' numbers."""
    seed = seed_of(f"thresholds {index}") % 2**32
    rng = np.random.default_rng(seed)
    wiring, source = Wiring(rng), Form("u8", 1.0, 0, bits=4)
    conv, steps = index % 2 == 0, (3, 7, 15, 255)[index % 4]
    inputs, middle, outputs = (3, 5, 17)[index % 3], (4, 16, 18)[index // 3 % 3], 9
    shape = (2, inputs, 6, 5) if conv else ((3, inputs) if index % 4 == 1 else (2, 3, inputs))
    x = wiring.decoded("x", source, *shape)
    counts = Form("u8", 0.5, 2 if index % 3 else 0)
    for step, (before, after) in enumerate(((inputs, middle), (middle, outputs))):
        size = (after, before, 3, 3) if conv else (before, after)
        values = rng.integers(-3, 4, size)
        wiring.trees[f"w{step}"] = bittern.encodings.Affine(packed(values, 4), Dense(np.array(1, F32)))
        padding: dict[str, Any] = {"pads": [1] * 4} if conv else {}
        x = wiring.add("Conv" if conv else "MatMul", [x, f"w{step}"], **padding)
        if step == 0:
            table = np.sort(rng.integers(-90, 200, (middle if index % 3 else 1, steps)), axis=1).astype(F32)
            layout = "NCHW" if conv else "NC" if len(shape) == 2 else "NWC"
            x = wiring.add("MultiThreshold", [x, wiring.constant("t", table)], data_layout=layout)
            codes_of = wiring.quantise(x, Form("u8", 1.0, 0))
            x = wiring.dequantise(codes_of, counts)
    net = wiring.network([x], "N")
    model = bittern.load(net, isa=isa, threads=1 + index % 2)
    # Every number is a small multiple of a half: the plain operators are exact.
    assert_equal(model.run(wiring.inputs)[x], run(reference(net), wiring.inputs)[x], f"seed {seed}")
    layers = [layer for layer in model.plan_for({"x": shape}).layers if layer.op != "Reorder"]
    assert [layer.kernel.split("_u8")[0] for layer in layers] in (
        ["gemm", "threshold", "gemm"],
        ["gemv", "threshold", "gemv"],
        ["spmm", "threshold", "gemm"],  # weights of few values have zeros
        ["spmm", "threshold", "spmm"],
        ["gemm", "threshold", "spmm"],
    )
    if conv:
        assert not [layer for layer in model.plan_for({"x": shape}).layers if layer.kernel.startswith("reorder_f32")][
            1:
        ]


# What moves codes, and functions with a constant number.

Move = tuple[str, dict[str, Any], dict[str, Array], Callable[[Array], Array]]
MOVES: tuple[Move, ...] = (
    ("Transpose", {"perm": [0, 2, 3, 1]}, {}, lambda x: x.transpose(0, 2, 3, 1)),
    (
        "Slice",
        {},
        {"starts": np.array([1]), "ends": np.array([4]), "axes": np.array([2])},
        lambda x: x[:, :, 1:4],
    ),
    (
        "Resize",
        {"mode": "nearest"},
        {"scales": np.array([1, 1, 2, 3], F32)},
        lambda x: x.repeat(2, axis=2).repeat(3, axis=3),
    ),
    (
        "DepthToSpace",
        {"blocksize": 2},
        {},
        lambda x: x.reshape(2, 2, 2, 2, 6, 5).transpose(0, 3, 4, 1, 5, 2).reshape(2, 2, 12, 10),
    ),
    (
        "Pad",
        {"mode": "reflect"},
        {"pads": np.array([0, 0, 1, 2, 0, 0, 0, 1])},
        lambda x: np.pad(x, ((0, 0), (0, 0), (1, 0), (2, 1)), mode="reflect"),
    ),
    ("Reshape", {}, {"shape": np.array([2, -1, 3])}, lambda x: x.reshape(2, -1, 3)),
)


@pytest.mark.parametrize("move", MOVES, ids=[move[0] for move in MOVES])
@pytest.mark.parametrize("form", [U8, I8, FORMS[6]], ids=["u8", "i8", "4 bits"])
def test_codes_are_moved_as_they_are(move: Move, form: Form, rng: np.random.Generator) -> None:
    op, attributes, constants, meaning = move
    wiring = Wiring(rng)
    wiring.inputs["x"] = rng.standard_normal((2, 8, 6, 5)).astype(F32)
    quantised = wiring.quantise("x", form)
    names = [wiring.constant(name, value) for name, value in constants.items() if name]
    if op == "Resize":
        names.insert(0, "")
    y = wiring.quantise(wiring.add(op, [wiring.dequantise(quantised, form), *names], **attributes), form)
    net = wiring.network([y])
    model = bittern.load(net)
    (layer,) = [layer for layer in model.plan.layers if layer.op == op]
    assert "codes as they are" in layer.reason or layer.reason == "a view of its input"
    assert "DequantizeLinear" not in {layer.op for layer in model.plan.layers}
    found = model.run(wiring.inputs, taps=[quantised])
    assert_equal(model.run(wiring.inputs)[y], meaning(found[quantised]))


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("side", [0, 1])
def test_functions_of_a_code_and_a_number(op: str, side: int, isa: str, rng: np.random.Generator) -> None:
    """A constant number on either side, of any shape that broadcasts to nothing more."""
    for form, to, number in ((U8, I8, 1.7), (FORMS[5], U8, -0.35)):
        wiring = Wiring(rng)
        x = wiring.decoded("x", form, 2, 17, 3, 4)
        sides = [x, wiring.constant("c", np.full((1, 1, 1), number, F32))]
        y = wiring.quantise(wiring.add(op, sides if side == 0 else sides[::-1]), to)
        file = wiring.network([y]).to_bytes()
        model = bittern.load(file, isa=isa)
        assert_equal(model.run(wiring.inputs)[y], codes.run(file, wiring.inputs)[y], f"{op} {form}")
        assert [layer.kernel.split("__")[0] for layer in model.plan.layers if layer.op == op] == ["table_u8"]


@pytest.mark.parametrize("activation", ["Relu", "Clip"])
def test_an_activation_behind_a_number_is_in_the_table(activation: str, isa: str, rng: np.random.Generator) -> None:
    """The quantiser behind it reaches beyond its bounds."""
    for shape in ((2, 17, 3, 4), (3, 7)):
        wiring = Wiring(rng)
        value = wiring.add("Add", [wiring.decoded("x", U8, *shape), wiring.constant("c", np.array(-0.2, F32))])
        bounds = [wiring.constant("lo", np.array(-0.3, F32)), wiring.constant("hi", np.array(0.4, F32))]
        value = wiring.add(activation, [value, *(bounds if activation == "Clip" else [])])
        y = wiring.quantise(value, I8)
        file = wiring.network([y]).to_bytes()
        model = bittern.load(file, isa=isa)
        assert_equal(model.run(wiring.inputs)[y], codes.run(file, wiring.inputs)[y], f"{activation} {shape}")
        assert [layer.kernel.split("__")[0] for layer in model.plan.layers if layer.op == "Add"] == ["table_u8"]


def test_functions_of_one_code_are_tables(rng: np.random.Generator) -> None:
    """Every common activation between codes, in maps, rows and maps of one dimension."""
    for shape in ((2, 5), (2, 17, 3), (1, 6, 4, 3)):
        for op in (
            "Sigmoid",
            "HardSwish",
            "Relu",
            "LeakyRelu",
            "Elu",
            "Gelu",
            "HardSigmoid",
            "Tanh",
            "Softplus",
            "Mish",
        ):
            wiring = Wiring(rng)
            wiring.quantise(wiring.add(op, [wiring.decoded("x", U8, *shape)]), I8, "y")
            layers = bittern.load(wiring.network(["y"])).plan.layers
            assert [layer.kernel.split("__")[0] for layer in layers if layer.op == op] == ["table_u8"], (op, shape)


RARE = ("Reciprocal", "Shrink", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh")


@pytest.mark.parametrize("op", RARE)
def test_tables_are_what_the_float_operator_gives(op: str, rng: np.random.Generator) -> None:
    """All 256 codes, among them such of no number and of infinities."""
    wiring, to = Wiring(rng), Form("u8", 0.02, 100)
    value = wiring.add(op, [wiring.decoded("x", Form("u8", 0.0125, 128), 4, 64)])
    y = wiring.quantise(value, to)
    (name,) = wiring.inputs
    wiring.inputs[name] = np.arange(256, dtype=np.uint8).reshape(4, 64)
    model = bittern.load(wiring.network([y]))
    found = model.run(wiring.inputs)[y]
    assert [layer.kernel.split("__")[0] for layer in model.plan.layers if layer.op == op] == ["table_u8"]
    real = model.run(wiring.inputs, taps=[value])[value]
    quantiser = codes.Quantiser("uint8", F32(to.scale), to.zero, 0, 255)
    assert_equal(found, quantiser.codes(real), op)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_softmax_of_codes(form: Form, isa: str, rng: np.random.Generator) -> None:
    """Rows of any length as defined, and at most one code from what float32 gives."""
    for shape in ((1, 1), (2, 5), (3, 257), (40, 1000)):
        for to in (Form("u8", 1 / 256, 0), Form("i8", 1 / 256, -128), Form("u8", 0.001, 3, bits=4)):
            wiring = Wiring(rng)
            value = wiring.add("Softmax", [wiring.decoded("x", form, *shape)], axis=1)
            y = wiring.quantise(value, to)
            file = wiring.network([y]).to_bytes()
            model = bittern.load(file, isa=isa, threads=2)
            found = model.run(wiring.inputs)[y]
            (layer,) = [layer for layer in model.plan.layers if layer.op == "Softmax"]
            assert layer.kernel.startswith("quantize_f32") and "256 differences" in layer.reason
            assert_equal(found, codes.run(file, wiring.inputs)[y], f"{shape} {to}")
            quantiser = codes.Quantiser(found.dtype.name, F32(to.scale), to.zero, *to.limits)
            real = quantiser.codes(model.run(wiring.inputs, taps=[value])[value])
            assert np.abs(found.astype(int) - real.astype(int)).max() <= 1, f"{shape} {to}"


def test_reasons_of_operators_between_codes(rng: np.random.Generator) -> None:
    """What computes with real numbers between codes says why."""
    cases: tuple[tuple[str, dict[str, Any], Form, str], ...] = (
        ("Softmax", {}, U8, "no kernel computes it on codes"),
        ("Transpose", {}, I8, "its result has another scale, zero point or type than its input"),
        ("MaxPool", {"kernel_shape": [2, 2]}, U8.scaled(2), "its result has another scale, zero point or type"),
    )
    for op, attributes, to, why in cases:
        wiring = Wiring(rng)
        wiring.quantise(wiring.add(op, [wiring.decoded("x", U8, 1, 6, 4, 4)], **attributes), to, "y")
        (layer,) = [layer for layer in bittern.load(wiring.network(["y"])).plan.layers if layer.op == op]
        assert f"in float32, because {why}" in layer.reason
    wiring = Wiring(rng)
    sides = [wiring.decoded("x", U8, 2, 3, 4), wiring.decoded("z", U8, 2, 4, 5)]
    wiring.quantise(wiring.add("MatMul", sides), U8, "y")
    (layer,) = [layer for layer in bittern.load(wiring.network(["y"])).plan.layers if layer.op == "MatMul"]
    assert "in float32, because its weights are computed at run time" in layer.reason
