"""Older forms of ONNX operators, and inference forms of training operators, in the form of the newest opset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bittern.importers import onnx_qonnx, onnx_qoperators, onnx_quantized
from bittern.importers.onnx_steps import Context, Step, Unsupported, type_name


def translate(node: Context) -> list[Step]:
    """The nodes that mean what this one means. Raises Unsupported."""
    special = DOMAINS.get(node.domain, SPECIAL).get(node.op)
    return [node.step()] if special is None else special(node)


def _moved(node: Context, since: int, kind: type, *names: str) -> list[Step]:
    """Attributes that became the inputs behind the first at some opset."""
    if node.opset >= since:
        return [node.step()]
    inputs, constants = node.inputs[:1], dict[str, NDArray[Any]]()
    for name in names:
        value = node.attributes.get(name)
        if value is not None:
            inputs.append(node.new(f"{node.outputs[0]}.{name}"))
            constants[inputs[-1]] = np.asarray(value, dtype=kind)
        else:
            inputs.append("")
    while not inputs[-1]:
        inputs.pop()
    return [node.step(inputs=inputs, attributes=node.without(*names), constants=constants)]


def _dropping(*names: str) -> Callable[[Context], list[Step]]:
    """Attributes that say nothing about float32."""
    return lambda node: [node.step(attributes=node.without(*names))]


def _batch_normalization(node: Context) -> list[Step]:
    if node.attributes.get("training_mode") or any(node.outputs[1:]):
        raise Unsupported("BatchNormalization in training mode is not supported (training_mode)")
    if node.attributes.get("spatial", 1) == 1:
        return [node.step(outputs=node.outputs[:1], attributes=node.without("spatial", "momentum", "training_mode"))]
    # One mean and variance for every element instead of every channel.
    x, scale, shift, mean, variance = node.inputs
    names = [
        node.new(f"{node.outputs[0]}.{part}") for part in ("epsilon", "sum", "root", "centred", "normal", "scaled")
    ]
    epsilon, total, root, centred, normal, scaled = names
    constants = {epsilon: np.asarray(node.attributes.get("epsilon", 1e-5), dtype=np.float32)}
    return [
        Step("Add", f"{node.name}.sum", [variance, epsilon], [total], constants=constants),
        Step("Sqrt", f"{node.name}.root", [total], [root]),
        Step("Sub", f"{node.name}.centre", [x, mean], [centred]),
        Step("Div", f"{node.name}.normal", [centred, root], [normal]),
        Step("Mul", f"{node.name}.scale", [normal, scale], [scaled]),
        Step("Add", node.name, [scaled, shift], node.outputs[:1]),
    ]


def _cast(node: Context) -> list[Step]:
    return [node.step(attributes={"to": type_name(node.attributes.get("to"), "Cast to")})]


def _constant_of_shape(node: Context) -> list[Step]:
    import onnx

    value = node.attributes.get("value")
    array = np.zeros(1, np.float32)
    if value is not None:
        type_name(value.data_type, "ConstantOfShape of")
        array = np.asarray(onnx.numpy_helper.to_array(value)).reshape(1)
    name = node.new(f"{node.outputs[0]}.value")
    return [node.step(inputs=[*node.inputs, name], attributes={}, constants={name: array})]


def _dropout(node: Context) -> list[Step]:
    if len(node.inputs) > 2 and node.inputs[2]:
        training = node.constant(node.inputs[2])
        if training is None or bool(np.any(training)):
            raise Unsupported("Dropout in training mode is not supported")
    step = node.step(inputs=node.inputs[:1], outputs=node.outputs[:1], attributes=node.without("ratio", "seed"))
    if len(node.outputs) < 2:
        return [step]
    # Nothing is dropped: the mask is true everywhere.
    dims, true = (node.new(f"{node.outputs[1]}.{part}") for part in ("shape", "value"))
    return [
        step,
        Step("Shape", f"{node.name}.shape", node.inputs[:1], [dims]),
        Step("ConstantOfShape", f"{node.name}.mask", [dims, true], [node.outputs[1]], {}, {true: np.ones(1, bool)}),
    ]


def _eye_like(node: Context) -> list[Step]:
    attributes = dict(node.attributes)
    if "dtype" in attributes:
        attributes["dtype"] = type_name(attributes["dtype"], "EyeLike of")
    return [node.step(attributes=attributes)]


def _group_normalization(node: Context) -> list[Step]:
    attributes = node.without("stash_type")
    if node.opset >= 21:
        return [node.step(attributes=attributes)]
    # Before opset 21 scale and bias have an element per group, not per channel.
    shape, groups = node.shape(node.inputs[0]), node.attributes.get("num_groups", 1)
    channels = shape[1] if shape is not None and len(shape) > 1 else None
    if not isinstance(channels, int) or groups < 1 or channels % groups:
        raise Unsupported("GroupNormalization before opset 21 with an unknown number of channels is not supported")
    steps, inputs = [], node.inputs[:1]
    for name in node.inputs[1:3]:
        column, wide, flat, sizes, line = (node.new(f"{name}.{part}") for part in ("c", "w", "flat", "sizes", "line"))
        made = {
            column: np.array([groups, 1]),
            sizes: np.array([groups, channels // groups]),
            line: np.array([channels]),
        }
        constants = {key: array.astype(np.int64) for key, array in made.items()}
        rows = node.new(f"{name}.rows")
        steps.append(Step("Reshape", f"{node.name}.{rows}", [name, column], [rows], constants=constants))
        steps.append(Step("Expand", f"{node.name}.{wide}", [rows, sizes], [wide]))
        steps.append(Step("Reshape", f"{node.name}.{flat}", [wide, line], [flat]))
        inputs.append(flat)
    return [*steps, node.step(inputs=inputs, attributes=attributes)]


def _max_pool(node: Context) -> list[Step]:
    if len(node.outputs) > 1:
        return [node.step()]
    return [node.step(attributes=node.without("storage_order"))]  # orders indices only


def _pad(node: Context) -> list[Step]:
    (step,) = _moved(node, 11, np.int64, "pads")
    if node.opset >= 11 or not node.attributes.get("value"):
        return [node.step(inputs=step.inputs, attributes=_without_value(step), constants=step.constants)]
    name = node.new(f"{node.outputs[0]}.value")
    constants = {**step.constants, name: np.asarray(node.attributes["value"], dtype=np.float32)}
    return [node.step(inputs=[*step.inputs, name], attributes=_without_value(step), constants=constants)]


def _without_value(step: Step) -> dict[str, Any]:
    return {name: value for name, value in step.attributes.items() if name != "value"}


def _reduce(since: int) -> Callable[[Context], list[Step]]:
    return lambda node: _moved(node, since, np.int64, "axes")


def _reshape(node: Context) -> list[Step]:
    target = node.constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if node.attributes.get("allowzero") and target is not None and not np.any(target == 0):
        return [node.step(attributes=node.without("allowzero"))]
    return [node.step()]


def _resize(node: Context) -> list[Step]:
    if node.opset < 11:
        return _upsample(node)
    inputs = list(node.inputs)
    for index in range(1, len(inputs)):
        array = node.constant(inputs[index]) if inputs[index] else None
        if array is not None and array.size == 0:  # how opset 11 leaves out an input
            inputs[index] = ""
    if node.attributes.get("coordinate_transformation_mode") != "tf_crop_and_resize" and len(inputs) > 1:
        inputs[1] = ""
    return [node.step(inputs=_trimmed(inputs))]


def _upsample(node: Context) -> list[Step]:
    constants: dict[str, NDArray[Any]] = {}
    scales = node.inputs[1] if len(node.inputs) > 1 else node.new(f"{node.outputs[0]}.scales")
    if len(node.inputs) < 2:
        constants[scales] = np.asarray(node.attributes.get("scales", []), dtype=np.float32)
    mode = node.attributes.get("mode", "nearest")
    attributes = {
        "mode": "linear" if mode in ("bilinear", "trilinear") else mode,
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "floor",
    }
    return [node.step(op="Resize", inputs=[node.inputs[0], "", scales], attributes=attributes, constants=constants)]


def _recurrent(node: Context) -> list[Step]:
    attributes = dict(node.attributes)
    if isinstance(names := attributes.get("activations"), list):
        attributes["activations"] = ",".join(str(name) for name in names)
    return [node.step(attributes=attributes)]


def _scatter(node: Context) -> list[Step]:
    return [node.step(op="ScatterElements")]


def _slice(node: Context) -> list[Step]:
    return _moved(node, 10, np.int64, "starts", "ends", "axes")


def _softmax(node: Context) -> list[Step]:
    if node.opset >= 13:
        return [node.step()]
    # Before opset 13 everything from the axis on is one softmax.
    shape, axis = node.shape(node.inputs[0]), node.attributes.get("axis", 1)
    flat, soft, dims = (node.new(f"{node.outputs[0]}.{part}") for part in ("flat", "softmax", "shape"))
    constants: dict[str, NDArray[Any]] = {}
    if shape is not None:
        first = axis + len(shape) if axis < 0 else axis
        if not 0 <= first < max(len(shape), 1):
            raise Unsupported(f"{node.op} with axis {axis} of a tensor of {len(shape)} dimensions is not supported")
        wide = [index for index in range(first, len(shape)) if shape[index] != 1]
        if len(wide) <= 1:
            return [node.step(attributes={"axis": wide[0] if wide else first})]
        if sum(isinstance(size, str) for size in shape) <= 1:
            target = [-1 if isinstance(size, str) else size for size in shape]
            constants[dims] = np.asarray(target, dtype=np.int64)
    measure = [] if constants else [Step("Shape", f"{node.name}.shape", node.inputs, [dims])]
    return [
        *measure,
        Step("Flatten", f"{node.name}.flatten", node.inputs, [flat], {"axis": axis}),
        Step(node.op, node.name, [flat], [soft], {"axis": 1}),
        Step("Reshape", f"{node.name}.reshape", [soft, dims], node.outputs, {}, constants),
    ]


def _split(node: Context) -> list[Step]:
    (step,) = _moved(node, 13, np.int64, "split")
    if len(step.inputs) > 1 or "num_outputs" in step.attributes:
        return [step]
    return [node.step(attributes={**step.attributes, "num_outputs": len(node.outputs)})]


def _top_k(node: Context) -> list[Step]:
    if node.opset >= 10:
        return [node.step()]
    name = node.new(f"{node.outputs[0]}.k")
    k = np.asarray([node.attributes.get("k", 1)], dtype=np.int64)
    return [node.step(inputs=[*node.inputs, name], attributes=node.without("k"), constants={name: k})]


def _trimmed(names: Sequence[str]) -> list[str]:
    kept = list(names)
    while kept and not kept[-1]:
        kept.pop()
    return kept


_LATER = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
SPECIAL: dict[str, Callable[[Context], list[Step]]] = {
    **dict.fromkeys(("LayerNormalization", "RMSNormalization", "Range"), _dropping("stash_type")),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), _softmax),
    **dict.fromkeys((f"Reduce{name}" for name in _LATER), _reduce(18)),
    "BatchNormalization": _batch_normalization,
    "Cast": _cast,
    "CastLike": _dropping("saturate", "round_mode"),
    "Clip": lambda node: onnx_quantized.clip(node) or _moved(node, 11, np.float32, "min", "max"),
    "ConstantOfShape": _constant_of_shape,
    "DequantizeLinear": onnx_quantized.dequantize_linear,
    "Dropout": _dropout,
    "EyeLike": _eye_like,
    "GroupNormalization": _group_normalization,
    "MaxPool": _max_pool,
    "Pad": _pad,
    "QLinearConv": onnx_qoperators.qlinear_conv,
    "QLinearMatMul": onnx_qoperators.qlinear_matmul,
    "QuantizeLinear": onnx_quantized.quantize_linear,
    "ReduceSum": _reduce(13),
    "Reshape": _reshape,
    "Resize": _resize,
    "Scatter": _scatter,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": lambda node: _moved(node, 13, np.int64, "axes"),
    "TopK": _top_k,
    "Transpose": onnx_quantized.transpose,
    "Unsqueeze": lambda node: _moved(node, 13, np.int64, "axes"),
    "Upsample": _upsample,
}
DOMAINS: dict[str, dict[str, Callable[[Context], list[Step]]]] = {
    "bittern": {"WinogradConv": lambda node: [node.step()]},
    "com.microsoft": onnx_qoperators.MICROSOFT,
    **dict.fromkeys(("finn.custom_op.general", "onnx.brevitas", "qonnx.custom_op.general"), onnx_qonnx.QONNX),
}
"""What is taken of other domains than ONNX's own."""
