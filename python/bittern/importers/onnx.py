"""ONNX models, opset 7 and later, to networks of the newest operators."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bittern.encodings import Dense, Encoding, Packed
from bittern.errors import FormatError, InputError, UnsupportedError
from bittern.graph import joined
from bittern.importers.onnx_codes import CODE_TYPES, MOVES, NARROW, READERS, bits_of_limits, packed, widened
from bittern.importers.onnx_functions import inlined
from bittern.importers.onnx_hints import Hints
from bittern.importers.onnx_integers import with_quantisers
from bittern.importers.onnx_operators import DOMAINS, SPECIAL, translate
from bittern.importers.onnx_signs import encode_signs
from bittern.importers.onnx_sparse import dense_array, encode_zeros
from bittern.importers.onnx_steps import Context, Step, Unsupported, attributes_of, type_name
from bittern.network import Network, read_source, unique
from bittern.operators import OPERATORS, check_attributes, supported
from bittern.shapes import Shapes, made_up
from bittern.values import ValueInfo

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto

OLDEST, NEWEST = 7, 28  # opsets in which the supported operators mean what this importer takes them to mean
MAX_RANK = 8  # dimensions of a tensor that the engine runs
_REMEDY = "export the model with supported operators only"
_TYPES = ("F32", "BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "I64")


def import_onnx(source: str | os.PathLike[str] | bytes | ModelProto) -> Network:
    """Import a model: a path (with its external data), bytes or a loaded ModelProto.

    Weights stay exact: floats dense, quantised ones in their codes, both sparse where their zeros make that smaller.
    Functions of the model are inlined. Raises UnsupportedError that names every operator, attribute and type that
    cannot be served, FormatError for a damaged model, InputError for an unreadable path.
    """
    model = read_model(source)
    named = isinstance(source, (str, os.PathLike))
    place = os.fspath(source) if isinstance(source, (str, os.PathLike)) else model.graph.name or "model"
    return _Importer(inlined(model, place), place if named else model.graph.name or "model").run()


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
        self.hints = Hints(model)
        self.shapes = Shapes(self.network, self.hints)
        self.tensors: dict[str, TensorProto | NDArray[Any] | Encoding] = {}
        self.arrays: dict[str, NDArray[Any]] = {}
        self.alias: dict[str, str] = {}
        self.bits: dict[str, int] = {}  # of values whose codes have fewer than 8
        self.reasons: dict[str, list[str]] = {}  # why something is not supported -> the nodes
        self.outputs = {info.name for info in self.graph.output}
        self.consumed = {name for node in self.graph.node for name in node.input} | self.outputs
        self.taken = {name for node in self.graph.node for name in [*node.input, *node.output]}
        self.taken |= {info.name for info in [*self.graph.input, *self.graph.output]}
        self.taken |= {tensor.name for tensor in self.graph.initializer}
        self.taken |= {tensor.values.name for tensor in self.graph.sparse_initializer}
        self.names = self._unique_names()
        self.opset = 0

    def run(self) -> Network:
        try:
            self._check_model()
            for tensor in self.graph.initializer:
                self._hold(tensor.name, tensor)
            for sparse in self.graph.sparse_initializer:
                name = sparse.values.name
                self._hold(name, dense_array(sparse, f"{self.place}: sparse tensor {name!r}"))
            self._add_inputs()
            for index, node in enumerate(self.graph.node):
                self._add(node, self.names[index])
            self._report()
            self._set_outputs()
        except Unsupported as error:
            raise UnsupportedError(self.place, str(error), _REMEDY) from None
        except InputError as error:
            raise FormatError(
                f"{self.place}: {error.place}", error.problem, "check the model with onnx.checker"
            ) from None
        # Last: other rewritings look for dense weights.
        encode_signs(self.network)
        network = with_quantisers(self.network)
        encode_zeros(network)
        return network

    def _check_model(self) -> None:
        for entry in self.model.opset_import:
            if entry.domain in ("", "ai.onnx"):
                self.opset = entry.version
        if not (OLDEST <= self.opset <= NEWEST or self._is_as_in_oldest()):
            raise UnsupportedError(
                self.place,
                f"is of opset {self.opset}, supported are {OLDEST} to {NEWEST}",
                "convert it with onnx.version_converter",
            )

    def _is_as_in_oldest(self) -> bool:
        """True for an older model whose operators have not changed until the oldest opset that is supported."""
        import onnx

        def since(node: NodeProto, opset: int) -> int | None:
            try:
                return int(onnx.defs.get_schema(node.op_type, opset).since_version)
            except onnx.defs.SchemaError:
                return None

        return 0 < self.opset < OLDEST and all(
            since(node, self.opset) == since(node, OLDEST) is not None for node in self.graph.node
        )

    def _unique_names(self) -> list[str]:
        """A name for every node: its own, else operator and number."""
        taken: set[str] = set()
        names = []
        for index, node in enumerate(self.graph.node):
            name = unique(node.name or f"{node.op_type}_{index}", taken)
            taken.add(name)
            names.append(name)
        return names

    def _new(self, name: str) -> str:
        """A name like this one that no value has."""
        name = unique(name, self.taken)
        self.taken.add(name)
        return name

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
            problems.append(supported())
        raise UnsupportedError(self.place, joined(problems, 40), _REMEDY)

    # Values

    def _add_inputs(self) -> None:
        symbols = {d.dim_param for info in self.graph.input for d in info.type.tensor_type.shape.dim if d.dim_param}
        for info in self.graph.input:
            if self.alias.get(info.name, info.name) in self.tensors:
                continue  # files of IR version 3 list their constants as inputs too
            kind = info.type.tensor_type
            if not info.type.HasField("tensor_type"):
                self._refuse(
                    f"input of type {info.type.WhichOneof('value')} is not supported (supported: tensors)", info.name
                )
                continue
            try:
                if kind.elem_type in NARROW:
                    dtype, self.bits[info.name] = CODE_TYPES[kind.elem_type]
                else:
                    dtype = type_name(kind.elem_type, "input of type")
            except Unsupported as reason:
                self._refuse(str(reason), info.name)
                continue
            if not kind.HasField("shape"):
                self._refuse("an input without a shape is not supported", info.name)
            elif (rank := len(kind.shape.dim)) > MAX_RANK:
                self._refuse(f"an input of {rank} dimensions is not supported (at most {MAX_RANK})", info.name)
            else:
                self.network.add_input(info.name, _dimensions(info, symbols), dtype)

    def _hold(self, name: str, tensor: TensorProto | NDArray[Any] | Encoding) -> None:
        """Remember a constant; one that is an output of the network has another name, and is copied at the end."""
        if name in self.outputs:
            self.alias[name] = self._new(f"{name}.value")
        self.tensors[self.alias.get(name, name)] = tensor

    def constant(self, name: str) -> NDArray[Any] | None:
        """The array of a constant value; None if nodes compute the value."""
        name = self.alias.get(name, name)
        if name not in self.arrays and name in self.tensors:
            self.arrays[name] = self._array(name, self.tensors[name])
        return self.arrays.get(name)

    def _array(self, name: str, tensor: Any) -> NDArray[Any]:
        if isinstance(tensor, np.ndarray):
            return tensor
        if isinstance(tensor, Encoding):
            return tensor.decode()
        import onnx

        try:
            return widened(np.asarray(onnx.numpy_helper.to_array(tensor)), tensor.data_type)
        except (ValueError, TypeError, OSError, onnx.checker.ValidationError) as error:
            raise FormatError(f"{self.place}: tensor {name!r}", f"cannot be read ({_line(error)})") from None

    def encoding(self, name: str) -> Encoding | None:
        """The encoding of a constant value: integers in their bits; None if nodes compute the value."""
        name = self.alias.get(name, name)
        tensor = self.tensors.get(name)
        if tensor is None or isinstance(tensor, Encoding):
            return tensor
        array = self.constant(name)
        if array is None or array.dtype.kind not in "iu":
            return None if array is None or array.dtype != np.float32 else Dense(np.array(array, order="C"))
        return packed(array, self._bits(name))

    def _bits(self, name: str) -> int:
        """The bits of the codes of a value."""
        name = self.alias.get(name, name)
        tensor = self.tensors.get(name)
        if isinstance(tensor, Packed):
            return tensor.bits
        if tensor is not None and not isinstance(tensor, (np.ndarray, Encoding)) and tensor.data_type in NARROW:
            return NARROW[tensor.data_type]
        array = self.constant(name)
        return self.bits.get(name, 8) if array is None else 8 * array.dtype.itemsize

    def _dtype(self, name: str) -> str | None:
        """The element type of a value; None once something unsupported came before it."""
        info = None if self.reasons else self.shapes.update().get(self.alias.get(name, name))
        return None if info is None else info.dtype

    def _use(self, name: str, node: str) -> str:
        """The name under which the network knows a value; constants are added when they are first used."""
        name = self.alias.get(name, name)
        array = self.constant(name) if name else None
        if array is None or name in self.network.constants:
            return name
        if array.ndim > MAX_RANK:
            self._refuse(f"a constant of {array.ndim} dimensions is not supported (at most {MAX_RANK})", node)
            return name
        held = self.tensors.get(name)
        try:
            coded = held if isinstance(held, Encoding) and held.is_real else None
            encoding = coded or Dense(np.array(array, order="C"))
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
        own = node.domain in ("", "ai.onnx")
        if not own and node.op_type not in DOMAINS.get(node.domain, {}):
            self._refuse(f"operator {node.op_type} of domain {node.domain!r} is not supported", name)
            return
        if own and node.op_type == "Constant":
            self._add_constant_node(node, name)
            return
        if own and node.op_type not in OPERATORS and node.op_type not in SPECIAL:
            self._refuse(f"operator {node.op_type} is not supported", name)
            return
        if (
            node.op_type == "Identity"
            and node.output[0] not in self.outputs
            and self.constant(node.input[0]) is not None
        ):
            self.alias[node.output[0]] = self.alias.get(node.input[0], node.input[0])
            return
        if own and node.op_type == "Clip" and self._limits_codes(node):
            return
        if (bits := self._narrow(node)) < 8 and node.op_type not in MOVES and node.op_type not in READERS:
            self._refuse(f"operator {node.op_type} on codes of {bits} bits is not supported", name)
            return
        try:
            steps = translate(self._context(node, name))
        except Unsupported as reason:
            self._refuse(str(reason), name)
            return
        for step in steps:
            self._add_step(step, name)
        if bits < 8 and node.op_type in MOVES:
            self.bits[node.output[0]] = bits

    def _limits_codes(self, node: NodeProto) -> bool:
        """True for a Clip of codes that nobody else reads to those of fewer bits: the quantiser saturates to them."""
        if len(node.input) != 3 or self.reasons or not self.network.nodes:
            return False
        name = self.alias.get(node.input[0], node.input[0])
        fits = bits_of_limits(self.constant(node.input[1]), self.constant(node.input[2]))
        quantizer = next((other for other in reversed(self.network.nodes) if name in other.outputs), None)
        readers = sum(reader == name for other in self.graph.node for reader in other.input) + (name in self.outputs)
        if fits is None or quantizer is None or quantizer.op != "QuantizeLinear" or readers != 1:
            return False
        if (
            "bits" in quantizer.attributes
            or node.output[0] in self.outputs
            or self._dtype(name) != self._dtype_of(node)
        ):
            return False
        bits, narrow = fits
        quantizer.attributes.update({"bits": bits, "narrow": narrow})
        self.bits[name] = bits
        self.alias[node.output[0]] = name
        return True

    def _dtype_of(self, node: NodeProto) -> str | None:
        """The element type of the limits of a Clip."""
        low = self.constant(node.input[1])
        return None if low is None else {"int8": "i8", "uint8": "u8"}.get(str(low.dtype))

    def _narrow(self, node: NodeProto) -> int:
        """The bits of the narrowest codes that a node reads."""
        return min((self._bits(name) for name in node.input if name), default=8)

    def _context(self, node: NodeProto, name: str) -> Context:
        inputs = list(node.input)
        while inputs and not inputs[-1]:
            inputs.pop()
        return Context(
            op=node.op_type,
            name=name,
            domain="" if node.domain == "ai.onnx" else node.domain,
            opset=self.opset,
            inputs=inputs,
            outputs=self._outputs(node, name),
            attributes=attributes_of(node),
            constant=self.constant,
            encoding=self.encoding,
            bits=self._bits,
            dtype=self._dtype,
            shape=self._shape,
            new=self._new,
        )

    def _outputs(self, node: NodeProto, name: str) -> list[str]:
        """The outputs without those at the end that may be left out and that nobody wants; omitted ones get names."""
        operator = OPERATORS.get(node.op_type)
        outputs = [output if output in self.consumed else "" for output in node.output]
        if operator is None or operator.most_outputs is not None:
            least = 1 if operator is None else operator.least_outputs
            while len(outputs) > least and not outputs[-1]:
                outputs.pop()
        known = list(node.output)
        return [output or known[i] or self._new(f"{name}.output{i}") for i, output in enumerate(outputs)]

    def _shape(self, name: str) -> tuple[int | str, ...] | None:
        """The shape of a value; None if it is not known, or once something unsupported came before it."""
        if self.reasons:
            return None
        info = self.shapes.update().get(self.alias.get(name, name))
        if info is None:
            array = self.constant(name)
            return None if array is None else array.shape
        return info.shape

    def _add_step(self, step: Step, node: str) -> None:
        if step.op == "Constant":
            for output in step.outputs:
                self._hold(output, step.constants[output])
            return
        for name, array in step.constants.items():
            self.tensors[name] = array
        if step.op == "QuantizeLinear" and "bits" in step.attributes:
            self.bits[step.outputs[0]] = step.attributes["bits"]
        problems = check_attributes(step.op, step.attributes) + self._rank_problems(step)
        inputs = [self._use(name, node) for name in step.inputs]
        for problem in problems:
            self._refuse(problem, node)
        if not self.reasons:
            self.network.add_node(step.op, inputs, step.outputs, step.name, **step.attributes)

    def _rank_problems(self, step: Step) -> list[str]:
        if step.op not in ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool"):
            return []
        weight = self.constant(step.inputs[1]) if len(step.inputs) > 1 else None
        kernel = step.attributes.get("kernel_shape", [1] if weight is None else weight.shape[2:])
        rank = len(kernel) if isinstance(kernel, (list, tuple)) else 1
        return [] if rank in (1, 2, 3) else [f"{step.op} in {rank} dimensions is not supported (supported: 1 to 3)"]

    def _add_constant_node(self, node: NodeProto, name: str) -> None:
        values = attributes_of(node)
        if len(values) != 1 or len(node.output) != 1:
            raise InputError(f"node {name!r}", "a Constant needs one attribute and one output")
        key, value = next(iter(values.items()))
        scalars = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
        if key in scalars:
            self._hold(node.output[0], np.asarray(value, dtype=scalars[key]))
        elif key == "value":
            self._hold(node.output[0], value)
        elif key == "sparse_value":
            sparse = node.attribute[0].sparse_tensor
            self._hold(node.output[0], dense_array(sparse, f"{self.place}: node {name!r}"))
        else:
            self._refuse(f"attribute {key!r} of Constant is not supported", name)

    def _set_outputs(self) -> None:
        for info in self.graph.output:
            if self.constant(info.name) is not None:
                name = unique(f"{info.name}.copy", {node.name for node in self.network.nodes})
                self._add_step(Step("Identity", name, [self.alias[info.name]], [info.name]), name)
        self._report()
        inferred = self.shapes.update()
        found = []
        for info in self.graph.output:
            if info.name not in inferred:
                raise InputError(f"output {info.name!r}", "no node computes it")
            found.append(_merged(inferred[info.name], info))
        self.network.set_outputs(found)


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
    """The inferred shape; where it has only a made-up symbol or nothing at all, what the model declares."""
    if not declared.type.tensor_type.HasField("shape"):
        return inferred
    dims = list(declared.type.tensor_type.shape.dim)
    shape = inferred.shape
    if shape is None:
        shape = tuple(made_up(inferred.name, axis) for axis in range(len(dims)))
    if len(dims) != len(shape):
        return inferred
    merged: list[int | str] = []
    for axis, (size, dim) in enumerate(zip(shape, dims, strict=True)):
        if isinstance(size, str) and dim.dim_param:
            size = dim.dim_param
        elif size == made_up(inferred.name, axis) and dim.HasField("dim_value") and dim.dim_value >= 0:
            size = dim.dim_value
        merged.append(size)
    return ValueInfo(inferred.name, tuple(merged), inferred.dtype)
