"""Shapes as the package onnx infers them: a help where the rules of the network know nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto, TypeProto

_SMALL = 1024  # elements of a constant that may hold a shape


class Hints:
    """The shape of a value by name, inferred at the first question; None where nothing is known."""

    def __init__(self, model: ModelProto) -> None:
        self._model = model
        self._shapes: dict[str, list[int | str | None]] | None = None

    def __call__(self, name: str) -> list[int | str | None] | None:
        if self._shapes is None:
            self._shapes = _inferred(self._model)
        return self._shapes.get(name)


def _inferred(model: ModelProto) -> dict[str, list[int | str | None]]:
    import onnx

    try:
        result = onnx.shape_inference.infer_shapes(_without_weights(model), data_prop=True)
    except Exception:  # a hint is not worth a refusal: what is wrong with the model is told elsewhere
        return {}
    infos = [*result.graph.value_info, *result.graph.output]
    return {info.name: shape for info in infos if (shape := _shape(info.type)) is not None}


def _without_weights(model: ModelProto) -> ModelProto:
    """The model with inputs in place of large constants, and nothing declared about computed values."""
    import onnx

    light = onnx.ModelProto(ir_version=max(model.ir_version, 4))
    light.opset_import.extend(model.opset_import)
    light.graph.name = model.graph.name
    light.graph.node.extend(model.graph.node)
    light.graph.input.extend(model.graph.input)
    listed = {info.name for info in model.graph.input}
    for tensor in model.graph.initializer:
        size = 1
        for dim in tensor.dims:
            size *= dim
        if size <= _SMALL:
            light.graph.initializer.append(tensor)
        elif tensor.name not in listed:
            light.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    for info in model.graph.output:
        bare = light.graph.output.add(name=info.name)
        if info.type.HasField("tensor_type"):
            bare.type.tensor_type.elem_type = info.type.tensor_type.elem_type
    return light


def _shape(kind: TypeProto) -> list[int | str | None] | None:
    if not kind.tensor_type.HasField("shape"):
        return None
    sizes: list[int | str | None] = []
    for dim in kind.tensor_type.shape.dim:
        if dim.HasField("dim_value") and dim.dim_value >= 0:
            sizes.append(dim.dim_value)
        else:
            named = dim.dim_param and not dim.dim_param.startswith("unk__")
            sizes.append(dim.dim_param if named else None)
    return sizes
