"""Quantised networks here and in ONNX Runtime, rewritten as it likes: the same codes, but for documented cases."""

from dataclasses import dataclass, field
from typing import Any

import bittern
import numpy as np
import pytest
from bittern.importers import convert

from tests.compare import assert_equal
from tests.conftest import seed_of
from tests.quantized_graphs import Form
from tests.reference.arrays import Array
from tests.test_import_integers import VNNI
from tests.test_import_quantized import TensorProto, model_of, node, tensor

F32 = np.float32
WIDE = bool(set(VNNI) & set(bittern.cpu().features))
"""Elsewhere ONNX Runtime adds products of bytes in 16 bits, which saturates: weights of 7 bits do not reach that."""
U8, I8 = Form("u8", 0.03, 128), Form("i8", 0.04, 0)


@dataclass
class Maker:
    """A model of ONNX whose layers stand between DequantizeLinear and QuantizeLinear."""

    rng: np.random.Generator
    nodes: list[Any] = field(default_factory=list)
    tensors: list[Any] = field(default_factory=list)
    shape: tuple[int, ...] = ()
    form: Form = U8
    value: str = "x"
    codes: dict[str, str] = field(default_factory=dict)  # and their types

    def name(self) -> str:
        return f"v{len(self.nodes) + len(self.tensors)}"

    def constant(self, value: Array) -> str:
        self.tensors.append(tensor(self.name(), value))
        return str(self.tensors[-1].name)

    def add(self, op: str, inputs: list[str], **attributes: Any) -> str:
        self.nodes.append(node(op, inputs, self.name(), **attributes))
        return str(self.nodes[-1].output[0])

    def parameters(self, form: Form) -> list[str]:
        zero = np.array(form.zero, np.uint8 if form.dtype == "u8" else np.int8)
        return [self.constant(np.array(form.scale, F32)), self.constant(zero)]

    def quantise(self, value: str, form: Form, shape: tuple[int, ...]) -> None:
        """The value in codes and read again; what follows works on it."""
        codes = self.add("QuantizeLinear", [value, *self.parameters(form)])
        self.codes[codes] = form.dtype
        self.value = self.add("DequantizeLinear", [codes, *self.parameters(form)])
        self.form, self.shape = form, shape

    def weights(self, shape: tuple[int, ...], axis: int, many: bool) -> tuple[str, Array]:
        """Whole numbers of 8 or 7 bits times scales."""
        limit = 127 if WIDE else 63
        whole = self.rng.integers(-limit, limit + 1, shape).astype(np.int8)
        scale = self.rng.uniform(0.001, 0.004, shape[axis] if many else ()).astype(F32)
        zero = np.zeros(scale.shape, np.int8)
        real = self.add("DequantizeLinear", [self.constant(each) for each in (whole, scale, zero)], axis=axis)
        return real, scale

    def bias(self, scale: Array, channels: int) -> str:
        """Whole numbers in units of the sums."""
        whole = self.rng.integers(-9000, 9000, channels).astype(np.int32)
        own = np.broadcast_to(F32(self.form.scale) * scale, channels).astype(F32)
        parameters = [whole, own, np.zeros(channels, np.int32)]
        return self.add("DequantizeLinear", [self.constant(each) for each in parameters], axis=0)

    def fitting(self, each: int, relu: bool) -> Form:
        """A quantiser for sums of so many products; the one behind Relu has its zero at the lowest code."""
        reach = float(np.sqrt(each)) * 127 * 0.0025 * self.form.scale * 30
        kind = "u8" if self.rng.integers(2) else "i8"
        zero = (
            (0 if kind == "u8" else -128) if relu else int(self.rng.integers(100, 156)) - (0 if kind == "u8" else 128)
        )
        return Form(kind, float(F32(reach / 60)), zero)

    def conv(self) -> None:
        n, c, h, w = self.shape
        groups = int(self.rng.choice([1, 1, c])) if c > 1 else 1
        filters = c if groups == c else int(self.rng.choice([4, 7, 16, 18]))
        size, stride = int(self.rng.choice([1, 3])), int(self.rng.choice([1, 1, 2]))
        pad = size // 2
        # Scales per channel and one bias for each.
        weights, scale = self.weights((filters, c // groups, size, size), 0, bool(self.rng.integers(2)))
        inputs = [self.value, weights]
        if self.rng.integers(2):
            inputs.append(self.bias(scale, filters))
        value = self.add("Conv", inputs, pads=[pad] * 4, strides=[stride] * 2, group=groups)
        relu = bool(self.rng.integers(2))
        form = self.fitting(c // groups * size * size, relu)
        if relu:
            value = self.add("Relu", [value])
        sizes = tuple((each + 2 * pad - size) // stride + 1 for each in (h, w))
        self.quantise(value, form, (n, filters, *sizes))

    def max_pool(self) -> None:
        n, c, h, w = self.shape
        if min(h, w) < 3:
            return
        value = self.add("MaxPool", [self.value], kernel_shape=[2, 2], strides=[2, 2])
        self.quantise(value, self.form, (n, c, h // 2, w // 2))

    def rows(self) -> None:
        """Features of pixels as rows of a product."""
        n, c, h, w = self.shape
        shape = self.constant(np.array([0, c, -1]))
        self.quantise(self.add("Reshape", [self.value, shape]), self.form, (n, c, h * w))
        self.matmul()

    def matmul(self) -> None:
        depth, columns = self.shape[-1], int(self.rng.choice([3, 10, 16, 33]))
        weights, _ = self.weights((depth, columns), 1, False)
        self.quantise(
            self.add("MatMul", [self.value, weights]), self.fitting(depth, False), (*self.shape[:-1], columns)
        )

    def flatten(self) -> None:
        count = int(np.prod(self.shape[1:]))
        self.quantise(self.add("Flatten", [self.value]), self.form, (self.shape[0], count))

    def gemm(self) -> None:
        depth, columns = self.shape[-1], int(self.rng.choice([3, 10, 16]))
        weights, scale = self.weights((columns, depth), 0, False)
        inputs = [self.value, weights]
        if self.rng.integers(2):
            inputs.append(self.bias(scale, columns))
        self.quantise(self.add("Gemm", inputs, transB=1), self.fitting(depth, False), (self.shape[0], columns))

    def model(self, shape: tuple[int, ...]) -> Any:
        """The model; all codes are outputs."""
        made = model_of(self.nodes, {"x": ("N", *shape[1:])}, self.tensors, opset=17)
        del made.graph.output[:]
        for name, kind in self.codes.items():
            info = made.graph.output.add(name=name)
            info.type.tensor_type.elem_type = TensorProto.UINT8 if kind == "u8" else TensorProto.INT8
        return made


def compared(
    maker: Maker, shape: tuple[int, ...], isa: str, threads: int
) -> tuple[dict[str, Array], dict[str, Array], bittern.Plan]:
    """All codes here and there, and the plan."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    made = maker.model(shape)
    x = (maker.rng.standard_normal(shape) * 2).astype(F32)
    model = bittern.load(convert(made), isa=isa, threads=threads)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = dict(zip(maker.codes, session.run(list(maker.codes), {"x": x}), strict=True))
    return model.run({"x": x}), expected, model.plan_for({"x": shape})


@pytest.mark.parametrize("index", range(20))
def test_layers_have_the_same_codes(index: int, isa: str) -> None:
    """Convolutions, products, maxima and reshapes: every code of a whole network is equal."""
    seed = seed_of(f"codes of ONNX Runtime {index}") % 2**32
    maker = Maker(np.random.default_rng(seed))
    shape = (1 + index % 2, int(maker.rng.choice([1, 3, 6])), 9, 8)
    maker.quantise("x", (U8, I8)[index % 2], shape)
    for step in range(3):
        maker.conv()
        if step == 0 and index % 3 == 0:
            maker.max_pool()
    if index % 4 == 1:
        maker.rows()
    maker.flatten()
    (maker.gemm if index % 2 else maker.matmul)()
    found, expected, plan = compared(maker, shape, isa, 1 + index // 2 % 2)
    assert len(np.unique(np.concatenate([codes.reshape(-1) for codes in expected.values()]))) > 50, f"seed {seed}"
    for name in maker.codes:
        assert_equal(found[name], expected[name], f"seed {seed}: {name}")
    weighted = [layer for layer in plan.layers if layer.op in ("Conv", "MatMul", "Gemm")]
    assert all("_u8" in layer.kernel for layer in weighted), f"seed {seed}: {weighted}"


NEAR: dict[str, tuple[dict[str, Any], Form]] = {
    "Add": ({}, Form("u8", 0.05, 120)),
    "Mul": ({}, Form("u8", 0.2, 120)),
    "AveragePool": ({"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 0, 0]}, U8),
    "GlobalAveragePool": ({}, Form("u8", 0.004, 130)),
    "LeakyRelu": ({"alpha": 0.1}, Form("u8", 0.02, 60)),
    "Sigmoid": ({}, Form("u8", 1 / 256, 0)),
    "Softmax": ({"axis": 1}, Form("u8", 1 / 256, 0)),
    "Concat": ({"axis": 1}, Form("u8", 0.05, 120)),
}
"""Operators that ONNX Runtime computes with other steps: a scale of the result, or where they are."""


@pytest.mark.parametrize("op", NEAR)
def test_other_operators_are_at_most_a_code_away(op: str, isa: str, rng: np.random.Generator) -> None:
    """A result next to a tie may fall to the other side: few do, and by one code."""
    attributes, to = NEAR[op]
    maker, shape = Maker(rng), (2, 16, 9, 8)
    maker.quantise("x", U8, shape)
    first = maker.value
    inputs = [first]
    if op in ("Add", "Mul", "Concat"):
        maker.quantise("x", Form("u8", 0.021, 77), shape)
        inputs.append(maker.value)
    maker.quantise(maker.add(op, inputs, **attributes), to, shape)
    found, expected, _ = compared(maker, shape, isa, 2)
    (*first_codes, last) = maker.codes
    for name in first_codes:
        assert_equal(found[name], expected[name], name)
    away = np.abs(found[last].astype(np.int64) - expected[last].astype(np.int64))
    assert away.max() <= 1, f"codes differ by up to {away.max()}"
    assert np.mean(away > 0) < 0.02, f"{np.mean(away > 0):.3%} of the codes differ"
