"""ONNX models, opset 7 and later, to networks of opset-17 operators."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bittern.encodings import Dense
from bittern.errors import FormatError, InputError, UnsupportedError
from bittern.graph import ValueInfo, joined
from bittern.importers.onnx_operators import Context, Step, Unsupported, translate
from bittern.network import Network, read_source, unique
from bittern.operators import OPERATORS, check_attributes, supported
from bittern.shapes import infer_shapes

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto

OLDEST, NEWEST = 7, 28  # opsets in which the supported operators mean what this importer takes them to mean
_REMEDY = "export the model with supported operators only"
_TYPES = ("F32", "BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "I64")


def import_onnx(source: str | os.PathLike[str] | bytes | ModelProto) -> Network:
    """Import a model: a path (with its external data), bytes or a loaded ModelProto.

    Weights stay dense and exact. Raises UnsupportedError that names every operator, attribute and type that cannot be
    served, FormatError for a damaged model, InputError for an unreadable path.
    """
    model = read_model(source)
    if isinstance(source, (str, os.PathLike)):
        return _Importer(model, os.fspath(source)).run()
    return _Importer(model, model.graph.name or "model").run()


def read_model(source: str | os.PathLike[str] | bytes | ModelProto) -> ModelProto:
    """The model of a path (with its external data) or of bytes; a ModelProto as it is. Raises as ``import_onnx``."""
    try:
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        raise UnsupportedError(
            "onnx", "the package onnx is not installed", "run: pip install 'bittern[onnx]'"
        ) from None
    if isinstance(source, onnx.ModelProto):
        return source
    data, place = read_source(source)
    try:
        model = onnx.load_model_from_string(data)
    except (DecodeError, ValueError):
        model = onnx.ModelProto()
    if not model.HasField("graph") or not model.opset_import:
        raise FormatError(place, "is not an ONNX model", "check the path, or say the format with source_format")
    if isinstance(source, (str, os.PathLike)):
        directory = os.path.dirname(os.path.abspath(source))
        try:
            onnx.load_external_data_for_model(model, directory)
        except (OSError, ValueError, onnx.checker.ValidationError) as error:
            raise InputError(
                place, f"its external data cannot be read ({_line(error)})", "keep those files beside the model"
            ) from None
    return model


def _line(error: BaseException) -> str:
    """The first line of a foreign message."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


class _Importer:
    def __init__(self, model: ModelProto, place: str) -> None:
        self.model, self.graph, self.place = model, model.graph, place
        self.network = Network(model.graph.name or "network")
        self.tensors: dict[str, TensorProto | NDArray[Any]] = {tensor.name: tensor for tensor in self.graph.initializer}
        self.arrays: dict[str, NDArray[Any]] = {}
        self.alias: dict[str, str] = {}
        self.reasons: dict[str, list[str]] = {}  # why something is not supported -> the nodes
        self.outputs = {info.name for info in self.graph.output}
        self.consumed = {name for node in self.graph.node for name in node.input} | self.outputs
        self.names = self._unique_names()
        self.unknown: set[str] = set()  # values that depend on something unsupported
        self.opset = 0

    def run(self) -> Network:
        try:
            self._check_model()
            self._add_inputs()
            for index, node in enumerate(self.graph.node):
                refused = sum(len(nodes) for nodes in self.reasons.values())
                self._add(node, self.names[index])
                if refused != sum(len(nodes) for nodes in self.reasons.values()) or self.unknown & set(node.input):
                    self.unknown.update(output for output in node.output if output)
            self._report()
            self._set_outputs()
        except Unsupported as error:
            raise UnsupportedError(self.place, str(error), _REMEDY) from None
        except InputError as error:
            raise FormatError(
                f"{self.place}: {error.place}", error.problem, "check the model with onnx.checker"
            ) from None
        return self.network

    def _check_model(self) -> None:
        for entry in self.model.opset_import:
            if entry.domain in ("", "ai.onnx"):
                self.opset = entry.version
        if not OLDEST <= self.opset <= NEWEST:
            raise UnsupportedError(
                self.place,
                f"is of opset {self.opset}, supported are {OLDEST} to {NEWEST}",
                "convert it with onnx.version_converter",
            )
        if self.graph.sparse_initializer:
            self._refuse("sparse initializers are not supported", self.graph.sparse_initializer[0].values.name)

    def _unique_names(self) -> list[str]:
        """A name for every node: its own, else operator and number."""
        taken: set[str] = set()
        names = []
        for index, node in enumerate(self.graph.node):
            name = unique(node.name or f"{node.op_type}_{index}", taken)
            taken.add(name)
            names.append(name)
        return names

    def _refuse(self, reason: str, name: str) -> None:
        nodes = self.reasons.setdefault(reason, [])
        if name not in nodes:
            nodes.append(name)

    def _report(self) -> None:
        if not self.reasons:
            return
        problems = []
        for reason, nodes in self.reasons.items():
            shown = ", ".join(repr(name) for name in nodes[:3])
            rest = f" and {len(nodes) - 3} more" if len(nodes) > 3 else ""
            problems.append(f"{reason} ({shown}{rest})")
        if any(reason.startswith("operator") for reason in self.reasons):
            problems.append(f"supported operators: {supported()}")
        raise UnsupportedError(self.place, joined(problems, 40), _REMEDY)

    # Values

    def _add_inputs(self) -> None:
        import onnx

        symbols = {d.dim_param for info in self.graph.input for d in info.type.tensor_type.shape.dim if d.dim_param}
        for info in self.graph.input:
            if info.name in self.tensors:
                continue  # files of IR version 3 list their constants as inputs too
            kind = info.type.tensor_type
            if not info.type.HasField("tensor_type") or kind.elem_type != onnx.TensorProto.FLOAT:
                is_tensor = info.type.HasField("tensor_type")
                found = onnx.TensorProto.DataType.Name(kind.elem_type).lower() if is_tensor else "no tensor"
                self._refuse(f"input of type {found} is not supported (supported: float32 tensors)", info.name)
            elif not kind.HasField("shape"):
                self._refuse("an input without a shape is not supported", info.name)
            else:
                self.network.add_input(info.name, _dimensions(info, symbols))

    def constant(self, name: str) -> NDArray[Any] | None:
        """The array of a constant value; None if nodes compute the value."""
        name = self.alias.get(name, name)
        if name not in self.arrays and name in self.tensors:
            self.arrays[name] = self._array(name, self.tensors[name])
        return self.arrays.get(name)

    def _array(self, name: str, tensor: Any) -> NDArray[Any]:
        if isinstance(tensor, np.ndarray):
            return tensor
        import onnx

        try:
            return np.asarray(onnx.numpy_helper.to_array(tensor))
        except (ValueError, TypeError, OSError, onnx.checker.ValidationError) as error:
            raise FormatError(f"{self.place}: tensor {name!r}", f"cannot be read ({_line(error)})") from None

    def _use(self, name: str, node: str) -> str:
        """The name under which the network knows a value; constants are added when they are first used."""
        name = self.alias.get(name, name)
        array = self.constant(name) if name else None
        if array is None or name in self.network.constants:
            return name
        try:
            encoding = Dense(np.array(array, order="C"))
        except InputError:
            self._refuse(f"constants of type {array.dtype} are not supported (supported: {', '.join(_TYPES)})", node)
            return name
        if array.dtype == np.float16:
            self._refuse("float16 constants are not supported (convert the model to float32)", node)
            return name
        self.network.add_constant(name, encoding)
        return name

    # Nodes

    def _add(self, node: NodeProto, name: str) -> None:
        if node.domain not in ("", "ai.onnx"):
            self._refuse(f"operator {node.op_type} of domain {node.domain!r} is not supported", name)
            return
        if node.op_type == "Constant":
            self._add_constant_node(node, name)
            return
        if node.op_type not in OPERATORS:
            self._refuse(f"operator {node.op_type} is not supported", name)
            return
        if (
            node.op_type == "Identity"
            and node.output[0] not in self.outputs
            and self.constant(node.input[0]) is not None
        ):
            self.alias[node.output[0]] = self.alias.get(node.input[0], node.input[0])
            return
        try:
            steps = translate(self._context(node, name))
        except Unsupported as reason:
            self._refuse(str(reason), name)
            return
        for step in steps:
            self._add_step(step, name)

    def _context(self, node: NodeProto, name: str) -> Context:
        extra = [output for output in node.output[1:] if output]
        if used := [output for output in extra if output in self.consumed]:
            raise Unsupported(f"output {used[0]!r} of {node.op_type}: only the first output is supported")
        inputs = list(node.input)
        while inputs and not inputs[-1]:
            inputs.pop()
        return Context(
            op=node.op_type,
            name=name,
            opset=self.opset,
            inputs=inputs,
            output=node.output[0],
            attributes=_attributes(node),
            constant=self.constant,
            shape=self._shape,
        )

    def _shape(self, name: str) -> tuple[int | str, ...] | None:
        """The shape of a value, None once something unsupported came before it."""
        if self.reasons:
            return None
        return infer_shapes(self.network)[self.alias.get(name, name)].shape

    def _add_step(self, step: Step, node: str) -> None:
        for name, array in step.constants.items():
            self.tensors[name] = array
        problems = check_attributes(step.op, step.attributes)
        for index in OPERATORS[step.op].constant:
            name = step.inputs[index] if index < len(step.inputs) else ""
            if name and name not in self.unknown and self.constant(name) is None:
                problems.append(f"input {index} of {step.op} must be a constant")
        problems += self._rank_problems(step)
        inputs = [self._use(name, node) for name in step.inputs]
        for problem in problems:
            self._refuse(problem, node)
        if not self.reasons:
            self.network.add_node(step.op, inputs, [step.output], step.name, **step.attributes)

    def _rank_problems(self, step: Step) -> list[str]:
        ranks = {"Conv": 4, "Gemm": 2, "MatMul": 2}
        weight = self.constant(step.inputs[1]) if step.op in ranks and len(step.inputs) > 1 else None
        if weight is None or weight.ndim == ranks[step.op]:
            return []
        return [f"{step.op} with a weight of {weight.ndim} dimensions is not supported (supported: {ranks[step.op]})"]

    def _add_constant_node(self, node: NodeProto, name: str) -> None:
        values = _attributes(node)
        if len(values) != 1 or len(node.output) != 1:
            raise InputError(f"node {name!r}", "a Constant needs one attribute and one output")
        key, value = next(iter(values.items()))
        scalars = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
        if key in scalars:
            self.tensors[node.output[0]] = np.asarray(value, dtype=scalars[key])
        elif key == "value":
            self.tensors[node.output[0]] = value
        else:
            self._refuse(f"attribute {key!r} of Constant is not supported", name)

    def _set_outputs(self) -> None:
        inferred = infer_shapes(self.network)
        found = []
        for info in self.graph.output:
            if info.name not in inferred:
                if self.constant(info.name) is None:
                    raise InputError(f"output {info.name!r}", "no node computes it")
                raise Unsupported(f"output {info.name!r} is a constant, which is not supported")
            found.append(_merged(inferred[info.name], info))
        self.network.set_outputs(found)


def _attributes(node: NodeProto) -> dict[str, Any]:
    """The attributes as Python values; texts are decoded."""
    import onnx

    out: dict[str, Any] = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        elif not isinstance(value, (int, float, onnx.TensorProto)):
            value = list(value) if isinstance(value, (list, tuple)) else _Other(attribute.type)
        out[attribute.name] = value
    return out


class _Other:
    """An attribute of a kind that no supported operator takes, shown by its type."""

    def __init__(self, kind: int) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return f"an attribute of type {self.kind}"


def _dimensions(info: ValueInfoProto, symbols: set[str]) -> list[int | str]:
    """Sizes and symbols; a dimension without either gets a symbol of its own."""
    out: list[int | str] = []
    for axis, dimension in enumerate(info.type.tensor_type.shape.dim):
        if dimension.HasField("dim_value") and dimension.dim_value >= 0:
            out.append(dimension.dim_value)
        elif dimension.dim_param:
            out.append(dimension.dim_param)
        else:
            symbol = unique(f"{info.name}_{axis}", symbols)
            symbols.add(symbol)
            out.append(symbol)
    return out


def _merged(inferred: ValueInfo, declared: ValueInfoProto) -> ValueInfo:
    """The inferred shape; where it has only a made-up symbol, what the model declares."""
    dims = declared.type.tensor_type.shape.dim
    if len(dims) != len(inferred.shape):
        return inferred
    shape = tuple(
        size if isinstance(size, int) or not dim.dim_param else dim.dim_param
        for size, dim in zip(inferred.shape, dims, strict=True)
    )
    return ValueInfo(inferred.name, shape, inferred.dtype)
