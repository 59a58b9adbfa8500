"""Quantised ONNX: QuantizeLinear and DequantizeLinear; constants become encodings that layers read directly."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bittern.encodings import Packed
from bittern.importers.onnx_codes import CODE_TYPES, affine, limits, packed, quantized, transposed
from bittern.importers.onnx_steps import Context, Step, Unsupported
from bittern.values import NUMPY_TYPES

_FLOAT = 1  # onnx.TensorProto.FLOAT


def _element_name(number: Any) -> str:
    import onnx

    known = number in onnx.TensorProto.DataType.values()
    return str(onnx.TensorProto.DataType.Name(number)).lower() if known else f"type {number}"


def _parameters(node: Context) -> tuple[NDArray[Any] | None, NDArray[Any] | None]:
    """Scale and zero point where they are constants, of types that are computed with. Raises Unsupported."""
    scale = node.constant(node.inputs[1])
    zero = node.constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if scale is not None and scale.dtype != np.float32:
        raise Unsupported(f"{node.op} with a scale of type {scale.dtype} is not supported (supported: float32)")
    if zero is not None and zero.dtype not in ("u1", "i1", "u2", "i2", "i4"):
        raise Unsupported(f"{node.op} with codes of type {zero.dtype} is not supported (supported: integers)")
    for name in ("output_dtype", "precision"):
        number = node.attributes.get(name, 0)
        wanted = CODE_TYPES if name == "output_dtype" and node.op == "QuantizeLinear" else (_FLOAT,)
        if number and number not in wanted:
            raise Unsupported(f"{node.op} with {name} {_element_name(number)} is not supported")
    return scale, zero


def _bits(bits: int) -> dict[str, Any]:
    return {"bits": bits} if bits < 8 else {}


def quantize_linear(node: Context) -> list[Step]:
    """Codes of values computed at run time; those of a constant are computed here."""
    scale, zero = _parameters(node)
    attributes = node.without("saturate", "precision", "output_dtype")
    named = node.attributes.get("output_dtype", 0)
    dtype, bits = CODE_TYPES[named] if named else ("u8", 8)
    if len(node.inputs) > 2:
        bits = node.bits(node.inputs[2])
    elif named and named != 2:
        attributes["output_dtype"] = dtype
    x = node.constant(node.inputs[0])
    if x is not None and scale is not None and (zero is not None or len(node.inputs) < 3):
        if zero is None:
            zero = np.zeros(scale.shape, NUMPY_TYPES[dtype])
        axis, block = node.attributes.get("axis", 1), node.attributes.get("block_size", 0)
        codes = quantized(x.astype(np.float32), scale, zero, limits(zero.dtype, bits), axis, block)
        return [Step("Constant", node.name, [], node.outputs, constants={node.outputs[0]: packed(codes, bits)})]
    steps, inputs = [], list(node.inputs)
    if node.dtype(inputs[0]) == "i32":
        inputs[0] = node.new(f"{inputs[0]}.float")
        steps.append(Step("Cast", f"{node.name}.cast", node.inputs[:1], [inputs[0]], {"to": "f32"}))
    return [*steps, node.step(inputs=inputs, attributes={**attributes, **_bits(bits)})]


def dequantize_linear(node: Context) -> list[Step]:
    """Numbers of codes computed at run time; constant codes become an affine encoding."""
    scale, zero = _parameters(node)
    attributes = node.without("output_dtype")
    codes = node.encoding(node.inputs[0])
    if codes is not None and scale is not None and (zero is not None or len(node.inputs) < 3):
        if codes.is_real:
            raise Unsupported("DequantizeLinear of constants that are no integers is not supported")
        tree = affine(codes, scale, zero, node.attributes.get("axis", 1), node.attributes.get("block_size", 0))
        return [Step("Constant", node.name, [], node.outputs, constants={node.outputs[0]: tree})]
    return [node.step(attributes={**attributes, **_bits(node.bits(node.inputs[0]))})]


def transpose(node: Context) -> list[Step]:
    """Encoded constants are turned here, so that the layer behind reads them directly."""
    tree = node.encoding(node.inputs[0])
    if tree is not None and not isinstance(tree, Packed):
        turned = transposed(tree, node.attributes.get("perm"))
        if turned is not None:
            return [Step("Constant", node.name, [], node.outputs, constants={node.outputs[0]: turned})]
    return [node.step()]
