"""Functions: those of a model, and operators that ONNX defines by others, replaced by what they are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bittern.errors import FormatError
from bittern.importers.onnx_operators import SPECIAL
from bittern.operators import OPERATORS

if TYPE_CHECKING:
    from onnx import ModelProto

_DEEPEST = 4  # functions made of functions


def inlined(model: ModelProto, place: str) -> ModelProto:
    """The model without functions of its own, and without operators that others here can stand for.

    Raises FormatError if the model's functions cannot be inlined.
    """
    if model.functions:
        try:
            import onnx.inliner

            model = onnx.inliner.inline_local_functions(model, convert_version=True)
        except Exception as error:  # its errors have no common base of their own
            line = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise FormatError(place, f"its functions cannot be inlined ({line})") from None
    return _expanded(model)


def missing_operators(model: ModelProto) -> set[str]:
    """The operators of ONNX in a model's main graph that there is no kernel for."""
    used = {node.op_type for node in model.graph.node if node.domain in ("", "ai.onnx")}
    return used - set(OPERATORS) - set(SPECIAL) - {"Constant"}


def _expanded(model: ModelProto, depth: int = 0) -> ModelProto:
    """Each operator replaced by its definition, where that leaves nothing that is missing."""
    missing = missing_operators(model)
    for op in sorted(missing):
        candidate = _defined_by_others(model, op)
        if candidate is None:
            continue
        if depth < _DEEPEST:
            candidate = _expanded(candidate, depth + 1)
        if missing_operators(candidate) <= missing - {op}:
            model, missing = candidate, missing - {op}
    return model


def _defined_by_others(model: ModelProto, op: str) -> ModelProto | None:
    try:
        import onnx.inliner

        whole = _with_defaults(model, op)
        result = onnx.inliner.inline_selected_functions(whole, [("", op)], inline_schema_functions=True)
    except Exception:  # releases without it, models that it cannot take: the operator is refused by its name then
        return None
    return None if op in missing_operators(result) else result


def _with_defaults(model: ModelProto, op: str) -> ModelProto:
    """The model with all attributes of an operator's nodes: definitions refer to them."""
    import onnx

    opsets = {entry.domain: entry.version for entry in model.opset_import}
    schema = onnx.defs.get_schema(op, opsets.get("", opsets.get("ai.onnx", 1)))
    defaults = [schema.attributes[name].default_value for name in schema.attributes]
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        if node.op_type == op and node.domain in ("", "ai.onnx"):
            given = {attribute.name for attribute in node.attribute}
            node.attribute.extend(default for default in defaults if default.name and default.name not in given)
    return copy
