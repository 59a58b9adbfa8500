"""Older forms of ONNX operators, and inference forms of training operators, as opset-17 operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Unsupported(Exception):
    """Why a node cannot be translated."""


@dataclass(frozen=True)
class Context:
    """A node of a model, with what its translation may look at."""

    op: str
    name: str
    opset: int
    inputs: list[str]
    output: str
    attributes: dict[str, Any]
    constant: Callable[[str], NDArray[Any] | None]
    shape: Callable[[str], tuple[int | str, ...] | None]  # None: not known, because something before is not supported


@dataclass(frozen=True)
class Step:
    """A node of the network that is built, with the constants that it brings along."""

    op: str
    name: str
    inputs: list[str]
    output: str
    attributes: dict[str, Any] = field(default_factory=dict)
    constants: Mapping[str, NDArray[Any]] = field(default_factory=dict)


def translate(node: Context) -> list[Step]:
    """The nodes that mean what this one means. Raises Unsupported."""
    special = _SPECIAL.get(node.op)
    if special is not None:
        return special(node)
    return [Step(node.op, node.name, node.inputs, node.output, node.attributes)]


def _without(node: Context, *names: str) -> dict[str, Any]:
    return {name: value for name, value in node.attributes.items() if name not in names}


def _batch_normalization(node: Context) -> list[Step]:
    if node.attributes.get("spatial", 1) != 1:
        raise Unsupported("BatchNormalization with spatial=0 is not supported")
    return [Step(node.op, node.name, node.inputs, node.output, _without(node, "spatial", "momentum"))]


def _clip(node: Context) -> list[Step]:
    if node.opset >= 11:
        return [Step(node.op, node.name, node.inputs, node.output, node.attributes)]
    inputs, constants = node.inputs[:1], {}
    for key in ("min", "max"):
        if key in node.attributes:
            constants[f"{node.output}.{key}"] = np.asarray(node.attributes[key], dtype=np.float32)
            inputs.append(f"{node.output}.{key}")
        else:
            inputs.append("")
    while not inputs[-1]:
        inputs.pop()
    return [Step(node.op, node.name, inputs, node.output, _without(node, "min", "max"), constants)]


def _dropout(node: Context) -> list[Step]:
    if len(node.inputs) > 2 and node.inputs[2]:
        training = node.constant(node.inputs[2])
        if training is None or bool(np.any(training)):
            raise Unsupported("Dropout in training mode is not supported")
    return [Step(node.op, node.name, node.inputs[:1], node.output, _without(node, "ratio", "seed"))]


def _max_pool(node: Context) -> list[Step]:
    return [Step(node.op, node.name, node.inputs, node.output, _without(node, "storage_order"))]  # orders indices only


def _average_pool(node: Context) -> list[Step]:
    dilations = node.attributes.get("dilations", [])
    if any(dilation != 1 for dilation in dilations):
        raise Unsupported(f"AveragePool with dilations {dilations} is not supported")
    return [Step(node.op, node.name, node.inputs, node.output, _without(node, "dilations"))]


def _reshape(node: Context) -> list[Step]:
    target = node.constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if node.attributes.get("allowzero") and target is not None and not np.any(target == 0):
        return [Step(node.op, node.name, node.inputs, node.output, _without(node, "allowzero"))]
    return [Step(node.op, node.name, node.inputs, node.output, node.attributes)]


def _squeeze(node: Context) -> list[Step]:
    if len(node.inputs) > 1 or (node.opset < 13 and "axes" in node.attributes):
        return _unsqueeze(node)
    shape = node.shape(node.inputs[0])
    if shape is None or any(isinstance(size, str) for size in shape):
        if shape is None:
            return []
        raise Unsupported("Squeeze without axes of a tensor whose shape is not fixed is not supported")
    return _with_axes(node, [axis for axis, size in enumerate(shape) if size == 1])


def _unsqueeze(node: Context) -> list[Step]:
    if node.opset < 13:
        return _with_axes(node, node.attributes.get("axes", []))
    return [Step(node.op, node.name, node.inputs, node.output, node.attributes)]


def _with_axes(node: Context, axes: list[int]) -> list[Step]:
    name = f"{node.output}.axes"
    constants = {name: np.asarray(axes, dtype=np.int64)}
    return [Step(node.op, node.name, [node.inputs[0], name], node.output, _without(node, "axes"), constants)]


def _softmax(node: Context) -> list[Step]:
    if node.opset >= 13:
        return [Step(node.op, node.name, node.inputs, node.output, node.attributes)]
    # Before opset 13 everything from the axis on is one softmax.
    shape = node.shape(node.inputs[0])
    if shape is None:
        return []
    given = node.attributes.get("axis", 1)
    axis = given + len(shape) if given < 0 else given
    if not 0 <= axis < max(len(shape), 1):
        raise Unsupported(f"Softmax with axis {given} of a tensor of {len(shape)} dimensions is not supported")
    wide = [index for index in range(axis, len(shape)) if shape[index] != 1]
    if len(wide) <= 1:
        only = wide[0] if wide else axis
        return [Step(node.op, node.name, node.inputs, node.output, {"axis": only})]
    if sum(isinstance(size, str) for size in shape) > 1:
        raise Unsupported("Softmax over several dimensions of a tensor with several symbolic sizes is not supported")
    target = np.asarray([-1 if isinstance(size, str) else size for size in shape], dtype=np.int64)
    flat, soft, dims = f"{node.output}.flat", f"{node.output}.softmax", f"{node.output}.shape"
    return [
        Step("Flatten", f"{node.name}.flatten", node.inputs, flat, {"axis": axis}),
        Step("Softmax", node.name, [flat], soft, {"axis": 1}),
        Step("Reshape", f"{node.name}.reshape", [soft, dims], node.output, {}, {dims: target}),
    ]


_SPECIAL: dict[str, Callable[[Context], list[Step]]] = {
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_normalization,
    "Clip": _clip,
    "Dropout": _dropout,
    "MaxPool": _max_pool,
    "Reshape": _reshape,
    "Softmax": _softmax,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
}
