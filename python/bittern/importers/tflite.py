"""TensorFlow Lite models: from graphs in NHWC and integer codes to networks in NCHW and QDQ form."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bittern.encodings import Dense, Encoding
from bittern.errors import FormatError, InputError, UnsupportedError
from bittern.graph import Node, joined
from bittern.importers.onnx_steps import Unsupported
from bittern.importers.tflite_file import File, Operator, Tensor, read_tflite
from bittern.importers.tflite_op import FILE, NCHW, RANGES, TO_NCHW, TO_NHWC, TYPES, Op, is_quantized
from bittern.importers.tflite_operators import TRANSLATIONS
from bittern.network import Network
from bittern.shape_rules.view import Shape
from bittern.shapes import Shapes
from bittern.values import ValueInfo

MAX_RANK = 8
_REMEDY = "export the model with supported operators only"


def import_tflite(source: str | os.PathLike[str] | bytes) -> Network:
    """Import a model: a path or its bytes. Inputs and outputs keep names, shapes (NHWC) and types of the file.

    Weights stay as they are: integers become affine encodings. Integer graphs become QuantizeLinear and
    DequantizeLinear around float operators. Raises UnsupportedError that names every operator and option that cannot
    be served, FormatError for a damaged file, InputError for an unreadable path or the missing package ``tflite``.
    """
    file, place = read_tflite(source)
    return Importer(file, place).run()


class Importer:
    """Translates operator by operator; a tensor of the file may exist in several forms: layout, codes or numbers."""

    def __init__(self, file: File, place: str) -> None:
        self.file, self.place = file, place
        self.network = Network(file.name or "network")
        self.shapes = Shapes(self.network)
        self.values, self.node_names = _Names(), _Names()
        self.names = self._value_names()
        self.forms: dict[tuple[int, bool, str], str] = {}  # tensor, is it numbers, layout -> value
        self.layouts: dict[int, str] = {}  # the layout in which a tensor was computed
        self.formed: set[str] = set()  # the values of all forms
        self.broken: set[int] = set()  # what could not be computed because of a reported reason
        self.made: dict[tuple[int, str], str] = {}  # tensor, role -> constant of the network
        self.constants: dict[int, Tensor] = {t.index: t for t in file.tensors if t.data is not None}
        # What a layer may take in place of a moved value: the map that was flattened, or padded by these zeros.
        self.flattened: dict[int, int] = {}
        self.padded: dict[int, tuple[int, list[int]]] = {}
        self.pending: list[Node] = []
        self.reasons: dict[str, list[str]] = {}

    def run(self) -> Network:
        for operator in self.file.operators:
            if operator.kind not in TRANSLATIONS:
                self.refuse(f"operator {operator.kind} is not supported", self.label(operator))
        self._report()
        self._add_inputs()
        for operator in self.file.operators:
            self._check_flow(operator)
            if any(index in self.broken for index in operator.inputs):
                self.broken.update(operator.outputs)
                continue
            try:
                TRANSLATIONS[operator.kind](Op(self, operator))
                self._flush()
            except Unsupported as reason:
                self.refuse(str(reason), self.label(operator))
                self.broken.update(operator.outputs)
                self.pending.clear()
            except InputError as error:
                problem = f"{error.problem} ({error.place})" if error.place else error.problem
                raise FormatError(self.where(operator), problem, "the file is damaged or was built wrongly") from None
        self._report()
        return self._finished()

    def where(self, operator: Operator) -> str:
        """An operator of the file, for messages."""
        return f"{self.place}: operator {operator.index} ({operator.kind})"

    def label(self, operator: Operator) -> str:
        return self.names[operator.outputs[0]] or f"operator {operator.index}"

    def refuse(self, reason: str, name: str) -> None:
        places = self.reasons.setdefault(reason, [])
        if name not in places:
            places.append(name)

    def _report(self) -> None:
        if not self.reasons:
            return
        problems = []
        for reason, places in self.reasons.items():
            shown = ", ".join(repr(name) for name in places[:3])
            rest = f" and {len(places) - 3} more" if len(places) > 3 else ""
            problems.append(f"{reason} ({shown}{rest})")
        raise UnsupportedError(self.place, joined(problems, 40), _REMEDY)

    # Names and values

    def _value_names(self) -> list[str]:
        """A name for every tensor: inputs and outputs come first and keep theirs.

        Converters join the names of all operators that became one by semicolons: the first of them is enough inside.
        """
        names = [""] * len(self.file.tensors)
        first = list(dict.fromkeys([*self.file.inputs, *self.file.outputs]))
        whole = set(first)
        computed = [index for operator in self.file.operators for index in operator.outputs]
        for index in [*first, *computed, *range(len(names))]:
            if not names[index]:
                name = self.file.tensors[index].name
                name = name if index in whole else name.split(";")[0]
                names[index] = self.values.new(name or f"tensor_{index}")
        return names

    def new(self, name: str) -> str:
        """A name like this one that no value has."""
        return self.values.new(name)

    def _add_inputs(self) -> None:
        for index in dict.fromkeys(self.file.inputs):
            tensor = self.file.tensors[index]
            if tensor.data is not None:
                raise FormatError(f"{self.place}: input {tensor.name!r}", "is a constant", "the file is damaged")
            self._check_type(tensor)
            shape: list[int | str] = []
            for axis, size in enumerate(tensor.signature):
                shape.append(size if size >= 0 else "N" if axis == 0 else f"{self.names[index]}_{axis}")
            if len(shape) > MAX_RANK:
                self.refuse(f"an input of {len(shape)} dimensions is not supported (at most {MAX_RANK})", tensor.name)
            if not self.reasons:
                self.network.add_input(self.names[index], shape, tensor.dtype)
                self.add_form(index, not is_quantized(tensor), FILE, self.names[index])
        self._report()

    def _check_type(self, tensor: Tensor) -> None:
        if tensor.dtype not in TYPES:
            name, allowed = self.names[tensor.index], ", ".join(TYPES)
            self.refuse(f"values of type {tensor.dtype} are not supported (supported: {allowed})", name)
        elif is_quantized(tensor) and tensor.quantization is not None and tensor.quantization.axis is not None:
            self.refuse("computed values with a scale per channel are not supported", self.names[tensor.index])

    def _check_flow(self, operator: Operator) -> None:
        """Inputs are there before they are used, outputs are computed once."""
        for index in operator.inputs:
            if index < 0 or index in self.constants or index in self.broken or self.exists(index):
                continue
            if not self.file.tensors[index].is_variable:
                raise FormatError(
                    self.where(operator), f"uses tensor {index} {self.names[index]!r} before it is computed",
                    "the file is damaged",
                )  # fmt: skip
        for index in operator.outputs:
            if index in self.constants or index in self.broken or self.exists(index):
                problem = f"computes tensor {index} {self.names[index]!r}, which exists already"
                raise FormatError(self.where(operator), problem, "the file is damaged")
            self._check_type(self.file.tensors[index])

    def exists(self, index: int) -> bool:
        return index in self.layouts

    def add_form(self, index: int, numbers: bool, layout: str, name: str) -> None:
        """Remember a value as this form of a tensor."""
        self.forms[index, numbers, layout] = name
        self.layouts.setdefault(index, layout)
        self.formed.add(name)

    def layout(self, index: int) -> str:
        """The layout in which a value was computed."""
        return self.layouts.get(index, FILE)

    def shape(self, index: int) -> Shape | None:
        """The shape of a tensor in the file's order, as far as it is known."""
        if index in self.constants:
            return self.constants[index].shape
        for number in (True, False):
            for layout in (FILE, NCHW):
                name = self.forms.get((index, number, layout))
                known = self.shapes.update().get(name) if name else None
                if known is not None and known.shape is not None:
                    return tuple(known.shape[axis] for axis in TO_NHWC) if layout else known.shape
        return None

    def value(self, index: int, numbers: bool, layout: str) -> str:
        """The value of a computed tensor in a form; what is not there yet is derived from what is."""
        numbers = numbers or not is_quantized(self.file.tensors[index])
        if (index, numbers, layout) in self.forms:
            return self.forms[index, numbers, layout]
        name = self.form_name(index, numbers, layout)
        if numbers and is_quantized(self.file.tensors[index]):
            codes = self.value(index, False, layout)
            inputs = [codes, *self.scale_of(index)]
            self.append("DequantizeLinear", inputs, [name], f"{self.names[index]}.dequantize")
        else:
            other = self.forms[index, numbers, FILE if layout else NCHW]
            perm = list(TO_NCHW if layout else TO_NHWC)
            self.append("Transpose", [other], [name], f"{name}.transpose", {"perm": perm})
        self.add_form(index, numbers, layout, name)
        return name

    def form_name(self, index: int, numbers: bool, layout: str) -> str:
        """The name of a form of a tensor; the one that the file has gets the file's name."""
        decoded = numbers and is_quantized(self.file.tensors[index])
        name = self.names[index] + (".float" if decoded else "") + (f".{layout}" if layout else "")
        return self.new(name) if decoded or layout else name

    def scale_of(self, index: int) -> list[str]:
        """Names of the constants scale and zero point of a quantized value."""
        tensor = self.file.tensors[index]
        assert tensor.quantization is not None
        low, high = RANGES[tensor.dtype]
        point = int(tensor.quantization.zero_point[0])
        if not low <= point <= high or tensor.quantization.scale[0] == 0:
            problem = f"has zero point {point}" if tensor.quantization.scale[0] else "has scale 0"
            raise FormatError(f"{self.place}: tensor {index} {tensor.name!r}", problem, "the file is damaged")
        dtype = {"i8": np.int8, "u8": np.uint8, "i16": np.int16}[tensor.dtype]
        name = self.names[index]
        scale = Dense(tensor.quantization.scale[0].reshape(()).copy())
        return [
            self.constant(index, "scale", lambda: scale, f"{name}.scale"),
            self.constant(index, "zero_point", lambda: Dense(np.array(point, dtype)), f"{name}.zero_point"),
        ]

    def constant(self, index: int, role: str, make: Callable[[], Encoding], name: str = "") -> str:
        """A constant that belongs to a tensor, made once for each role; without a name it gets the tensor's."""
        if (index, role) not in self.made:
            given, name = name, name or self.names[index]
            if given or index in self.file.outputs or name in self.network.constants:
                name = self.new(name)
            self.network.add_constant(name, make())
            self.made[index, role] = name
        return self.made[index, role]

    def add_constant(self, name: str, array: NDArray[Any]) -> str:
        """A constant that operators bring along, with a name like this one."""
        name = self.new(name)
        self.network.add_constant(name, array)
        return name

    def append(
        self, op: str, inputs: list[str], outputs: list[str], name: str, attributes: dict[str, Any] | None = None
    ) -> None:
        self.pending.append(Node(self.node_names.new(name), op, inputs, outputs, attributes or {}))

    def _flush(self) -> None:
        for node in self.pending:
            try:
                self.network.add_node(node.op, node.inputs, node.outputs, node.name, **node.attributes)
            except UnsupportedError as error:
                raise Unsupported(error.problem) from None
        self.pending.clear()
        self.shapes.update()

    # The end

    def _finished(self) -> Network:
        outputs = list(dict.fromkeys(self.file.outputs))
        for index in outputs:
            tensor, name = self.file.tensors[index], self.names[index]
            if index in self.constants:
                self.append("Identity", [Op.constant_name(self, index)], [name], f"{name}.copy")
            elif not self.exists(index):
                raise FormatError(
                    f"{self.place}: output {tensor.name!r}", "no operator computes it", "the file is damaged"
                )
            elif (found := self.value(index, not is_quantized(tensor), FILE)) != name:
                self.append("Identity", [found], [name], f"{name}.copy")
        self._flush()
        infos = [self._output(index) for index in outputs]
        final = Network(self.network.name)
        for info in self.network.inputs:
            final.add_input(info.name, info.shape or (), info.dtype)
        nodes = _needed(self.network.nodes, {info.name for info in infos})
        used = {name for node in nodes for name in node.inputs}
        for name, encoding in self.network.constants.items():
            if name in used:
                final.add_constant(name, encoding)
        for node in nodes:
            final.add_node(node.op, node.inputs, node.outputs, node.name, **node.attributes)
        final.set_outputs(infos)
        return final

    def _output(self, index: int) -> ValueInfo:
        """An output as inferred, which has to agree with what the file declares."""
        tensor = self.file.tensors[index]
        info = self.shapes.update()[self.names[index]]
        declared = [size if size >= 0 else None for size in tensor.signature]
        if info.dtype != tensor.dtype:
            problem = f"is declared as {tensor.dtype}, its operator gives {info.dtype}"
            raise FormatError(f"{self.place}: output {tensor.name!r}", problem, "the file is damaged")
        if info.shape is None or not declared:
            return info
        fits = len(info.shape) == len(declared) and all(
            found == size or isinstance(found, str) or size is None
            for found, size in zip(info.shape, declared, strict=True)
        )
        if not fits:
            problem = f"is declared with shape {list(tensor.signature)}, its operator gives {list(info.shape)}"
            raise FormatError(f"{self.place}: output {tensor.name!r}", problem, "the file is damaged")
        return info


class _Names:
    """Names that are all different."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def new(self, name: str) -> str:
        """``name``, or ``name_2``, ``name_3`` ... if it is taken."""
        candidate = name
        while candidate in self._last:
            self._last[name] += 1
            candidate = f"{name}_{self._last[name]}"
        self._last[candidate] = 1
        return candidate


def _needed(nodes: Sequence[Node], outputs: set[str]) -> list[Node]:
    """The nodes that something is wanted of."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if any(output in wanted for output in node.outputs):
            wanted.update(node.inputs)
            kept.append(node)
    return kept[::-1]
