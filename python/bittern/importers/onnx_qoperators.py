"""Quantised ONNX: operators on codes, taken apart into quantisers and operators on numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from bittern.importers.onnx_codes import affine, packed
from bittern.importers.onnx_quantized import dequantize_linear, quantize_linear
from bittern.importers.onnx_steps import Context, Step, Unsupported


class _Lowered:
    """Operators on codes taken apart: their inputs dequantised, the operator on numbers, its result quantised."""

    def __init__(self, node: Context, inputs: int) -> None:
        node.needs(inputs)
        self.node = node
        self.steps: list[Step] = []

    def number(self, code: int, scale: int, zero: int | None = None, axis: int = 1) -> str:
        """The numbers of an input of codes, by the places of its scale and zero point."""
        inputs = [self._input(code), self._input(scale)]
        if zero is not None and self._input(zero):
            inputs.append(self._input(zero))
        return self.dequantized(inputs, axis)

    def dequantized(self, inputs: list[str], axis: int = 1) -> str:
        output = self.node.new(f"{inputs[0]}.real")
        self.steps += dequantize_linear(
            replace(
                self.node,
                op="DequantizeLinear",
                name=f"{self.node.name}.{output}",
                inputs=inputs,
                outputs=[output],
                attributes={} if axis == 1 else {"axis": axis},
            )
        )
        return output

    def bias(self, codes: str, one: str, two: str, factor: float = 1.0) -> str:
        """The numbers of 32-bit codes whose scale is the product of two."""
        scales = [self.node.constant(name) for name in (one, two)]
        name = self.node.new(f"{codes}.scale")
        if scales[0] is not None and scales[1] is not None:
            product = scales[0].reshape(-1) * scales[1].reshape(-1) * np.float32(factor)
            array = self.node.constant(codes)
            if array is not None and product.dtype == np.float32:
                axis = 1 if array.ndim == 2 else 0
                real = self.node.new(f"{codes}.real")
                tree = affine(packed(array), product, None, axis)
                self.steps.append(Step("Constant", f"{self.node.name}.{real}", [], [real], constants={real: tree}))
                return real
        if factor != 1.0:
            raise Unsupported(f"{self.node.op} with alpha and a bias whose scale is computed is not supported")
        self.steps.append(Step("Mul", f"{self.node.name}.{name}", [one, two], [name]))
        return self.dequantized([codes, name], axis=0)

    def apply(self, op: str, inputs: list[str], attributes: dict[str, Any], scale: int, zero: int) -> list[Step]:
        """The operator, and its result in codes by the places of scale and zero point; in numbers if there are none."""
        node = self.node
        if not self._input(scale):
            return [*self.steps, Step(op, node.name, inputs, node.outputs, attributes)]
        real = node.new(f"{node.outputs[0]}.real")
        self.steps.append(Step(op, f"{node.name}.{op}", inputs, [real], attributes))
        return self.quantized(real, scale, zero)

    def quantized(self, real: str, scale: int, zero: int) -> list[Step]:
        """The node's output in codes."""
        names = [real, self._input(scale), self._input(zero)]
        array = self.node.constant(names[1])
        if array is not None and array.size != 1:
            raise Unsupported(f"{self.node.op} with several scales of its result is not supported")
        last = replace(self.node, op="QuantizeLinear", inputs=names if names[2] else names[:2], attributes={})
        return [*self.steps, *quantize_linear(last)]

    def _input(self, place: int) -> str:
        return self.node.inputs[place] if place < len(self.node.inputs) else ""


def qlinear_conv(node: Context) -> list[Step]:
    """Convolution of codes."""
    if node.attributes.get("channels_last"):
        raise Unsupported("QLinearConv with channels_last is not supported")
    lowered = _Lowered(node, 8)
    inputs = [lowered.number(0, 1, 2), lowered.number(3, 4, 5, axis=0)]
    if len(node.inputs) > 8:
        inputs.append(lowered.bias(node.inputs[8], node.inputs[1], node.inputs[4]))
    return lowered.apply("Conv", inputs, node.without("channels_last"), 6, 7)


def qlinear_matmul(node: Context) -> list[Step]:
    """Product of matrices of codes; scales may be one per row of the first and per column of the second."""
    lowered = _Lowered(node, 8)
    for place in (1, 4):
        scale = node.constant(node.inputs[place])
        if scale is not None and scale.ndim > 1 and scale.size > 1:
            raise Unsupported(f"QLinearMatMul with a scale of {scale.ndim} dimensions is not supported")
    return lowered.apply("MatMul", [lowered.number(0, 1, 2, axis=-2), lowered.number(3, 4, 5, axis=-1)], {}, 6, 7)


def _qgemm(node: Context) -> list[Step]:
    lowered = _Lowered(node, 6)
    columns = 0 if node.number("transB", 0) else 1
    inputs = [lowered.number(0, 1, 2), lowered.number(3, 4, 5, axis=columns)]
    if len(node.inputs) > 6 and node.inputs[6]:
        alpha = node.number("alpha", 1.0)
        inputs.append(lowered.bias(node.inputs[6], node.inputs[1], node.inputs[4], alpha))
    return lowered.apply("Gemm", inputs, node.attributes, 7, 8)


def _binary(op: str) -> Callable[[Context], list[Step]]:
    def lower(node: Context) -> list[Step]:
        lowered = _Lowered(node, 2)
        return lowered.apply(op, [lowered.number(0, 1, 2), lowered.number(3, 4, 5)], {}, 6, 7)

    return lower


def _unary(op: str) -> Callable[[Context], list[Step]]:
    def lower(node: Context) -> list[Step]:
        if node.attributes.get("channels_last"):
            raise Unsupported(f"{node.op} with channels_last is not supported")
        lowered = _Lowered(node, 2)
        return lowered.apply(op, [lowered.number(0, 1, 2)], node.without("channels_last"), 3, 4)

    return lower


def _product(lowered: _Lowered, x: str, weights: int, scale: int, zero: int, bias: int) -> list[Step]:
    """A product of numbers with codes that have a scale for each column, and a bias."""
    node = lowered.node
    inputs = [x, lowered.number(weights, scale, zero, axis=-1)]
    given = node.inputs[bias] if len(node.inputs) > bias else ""
    result = node.new(f"{node.outputs[0]}.product") if given else node.outputs[0]
    steps = [*lowered.steps, Step("MatMul", node.name, inputs, [result])]
    return [*steps, Step("Add", f"{node.name}.Add", [result, given], node.outputs)] if given else steps


def _dynamic_matmul(node: Context) -> list[Step]:
    lowered = _Lowered(node, 3)
    names = [node.new(f"{node.inputs[0]}.{part}") for part in ("codes", "scale", "zero")]
    lowered.steps.append(Step("DynamicQuantizeLinear", f"{node.name}.quantise", node.inputs[:1], names))
    return _product(lowered, lowered.dequantized(names), 1, 2, 3, 4)


def _matmul_to_float(node: Context) -> list[Step]:
    lowered = _Lowered(node, 4)
    return _product(lowered, lowered.number(0, 2, 4, axis=-2), 1, 3, 5, 6)


def _concat(node: Context) -> list[Step]:
    lowered = _Lowered(node, 5)
    inputs = [lowered.number(place, place + 1, place + 2) for place in range(2, len(node.inputs), 3)]
    return lowered.apply("Concat", inputs, node.attributes, 0, 1)


def _where(node: Context) -> list[Step]:
    lowered = _Lowered(node, 9)
    inputs = [node.inputs[0], lowered.number(1, 2, 3), lowered.number(4, 5, 6)]
    return lowered.apply("Where", inputs, {}, 7, 8)


def _softmax(node: Context) -> list[Step]:
    from bittern.importers.onnx_operators import translate

    lowered = _Lowered(node, 5)
    real = lowered.number(0, 1, 2)
    output = node.new(f"{node.outputs[0]}.real")
    opset = node.number("opset", 13)
    inner = replace(
        node,
        op="Softmax",
        domain="",
        name=f"{node.name}.Softmax",
        opset=opset,
        inputs=[real],
        outputs=[output],
        attributes=node.without("opset"),
        shape=lambda name: node.shape(node.inputs[0]),
    )
    lowered.steps += translate(inner)
    return lowered.quantized(output, 3, 4)


MICROSOFT: dict[str, Callable[[Context], list[Step]]] = {
    "DequantizeLinear": dequantize_linear,
    "DynamicQuantizeMatMul": _dynamic_matmul,
    "MatMulIntegerToFloat": _matmul_to_float,
    "QGemm": _qgemm,
    "QLinearAdd": _binary("Add"),
    "QLinearAveragePool": _unary("AveragePool"),
    "QLinearConcat": _concat,
    "QLinearConv": qlinear_conv,
    "QLinearGlobalAveragePool": _unary("GlobalAveragePool"),
    "QLinearLeakyRelu": _unary("LeakyRelu"),
    "QLinearMul": _binary("Mul"),
    "QLinearSigmoid": _unary("Sigmoid"),
    "QLinearSoftmax": _softmax,
    "QLinearWhere": _where,
    "QuantizeLinear": quantize_linear,
}
"""Operators of the domain com.microsoft, which ONNX Runtime's quantisation writes."""
