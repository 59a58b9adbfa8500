"""bittern as a backend of the package onnx, and its node test cases: ``python -m bittern.onnx_backend``.

The package onnx generates its node test cases (``onnx.backend.test.case.node``): models of one operator, or of the
operators that one is defined by, with inputs and expected outputs. The command runs all that are within what bittern
is for, and says of every other one why it is not.
"""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bittern.errors import Error, InputError, UnsupportedError
from bittern.importers import convert
from bittern.importers.onnx_codes import NARROW, widened
from bittern.importers.onnx_functions import inlined, missing_operators
from bittern.model import Model, load
from bittern.operators import OPERATORS
from bittern.system import cpu

try:
    import onnx
    import onnx.backend.base
except ImportError:
    missing = UnsupportedError("onnx", "the package onnx is not installed", "run: pip install 'bittern[onnx]'")
    if __name__ != "__main__":
        raise missing from None
    print(f"bittern: {missing}", file=sys.stderr)
    sys.exit(2)

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto


class BitternRep(onnx.backend.base.BackendRep):  # type: ignore[misc,unused-ignore]
    """A prepared model."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def run(self, inputs: Any, **kwargs: Any) -> tuple[NDArray[Any], ...]:
        """The outputs for arrays in the order of the inputs, or by name. Raises InputError where one does not fit.

        Codes of fewer than 8 bits may come in the types of ml_dtypes; those of outputs are in bytes.
        """
        if isinstance(inputs, dict):
            feeds = inputs
        else:
            arrays = [inputs] if isinstance(inputs, np.ndarray) else list(inputs)
            names = [info.name for info in self.model.inputs]
            if len(arrays) != len(names):
                raise InputError("inputs", f"{len(arrays)} given", f"the model takes {len(names)}")
            feeds = dict(zip(names, arrays, strict=True))
        results = self.model.run({name: _array(array) for name, array in feeds.items()})
        return tuple(results[info.name] for info in self.model.outputs)


class BitternBackend(onnx.backend.base.Backend):  # type: ignore[misc,unused-ignore]
    """The functions that onnx asks of a backend. ``isa`` and ``threads`` are passed to :func:`bittern.load`."""

    @classmethod
    def prepare(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> BitternRep:
        """Convert and load a model. Raises what :func:`bittern.convert` and :func:`bittern.load` raise."""
        if not cls.supports_device(device):
            raise UnsupportedError(f"device {device}", "there are no kernels for it", "use CPU")
        options = {name: kwargs[name] for name in ("isa", "threads") if name in kwargs}
        return BitternRep(load(convert(model), **options))

    @classmethod
    def run_model(cls, model: ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any) -> tuple[Any, ...]:
        """Prepare and run once."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls, node: NodeProto, inputs: Any, device: str = "CPU", outputs_info: Any = None, **kwargs: Any
    ) -> tuple[Any, ...]:
        """Run one operator on arrays, in the operator set ``opset_version`` (default: the newest)."""
        arrays = [np.asarray(array) for array in inputs]
        names = [name for name in node.input if name]
        if len(arrays) != len(names):
            raise InputError("inputs", f"{len(arrays)} given", f"the node takes {len(names)}")
        infos = [
            onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in zip(names, arrays, strict=True)
        ]
        outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
        graph = onnx.helper.make_graph([node], node.op_type or "node", infos, outputs)
        opset = kwargs.pop("opset_version", onnx.defs.onnx_opset_version())
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
        return cls.run_model(model, arrays, device, **kwargs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """True for the CPU."""
        return device.split(":")[0].upper() == "CPU"


prepare = BitternBackend.prepare
run_model = BitternBackend.run_model
run_node = BitternBackend.run_node
supports_device = BitternBackend.supports_device


# The node test cases


@dataclass(frozen=True)
class CaseResult:
    """What became of a case: ``passed``, ``failed`` or ``excluded``; why, if it did not pass."""

    name: str
    outcome: str
    reason: str = ""


def node_cases() -> list[Any]:
    """All node test cases of the installed package onnx, as ``onnx.backend.test.case.test_case.TestCase``."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        unique: dict[str, Any] = {case.name: case for case in collect_testcases()}
    return [unique[name] for name in sorted(unique)]


def exclusion(model: ModelProto) -> str:
    """Why a model is not within what bittern is for; empty if it is. Computed from the model alone."""
    for made_of in (model, inlined(model, "model")):
        kinds = sorted({kind for kind in _kinds(made_of.graph) if kind})
        if kinds:
            return kinds[0]
    model = made_of
    domains = sorted({node.domain for node in model.graph.node if node.domain not in ("", "ai.onnx")})
    if domains:
        return f"operators of domain {domains[0]}"
    operators = sorted(missing_operators(model))
    if operators:
        return f"operator {operators[0]}"
    return next(filter(None, (_node_exclusion(node) for node in model.graph.node)), "")


_ELEMENT_TYPES = {"FLOAT", "BOOL", *(f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64))}
_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
_CONTROL = ("If", "Loop", "Scan", "SequenceMap")


_NARROW = {onnx.TensorProto.DataType.Name(n).lower() for n in NARROW if n in onnx.TensorProto.DataType.values()}


def _kinds(graph: GraphProto) -> Iterator[str]:
    """Types of values that exclude a model, and control flow."""
    codes = all(node.op_type in _QUANTIZERS for node in graph.node)  # which may have fewer than 8 bits
    for info in [*graph.input, *graph.output]:
        if not (codes and info.type.tensor_type.elem_type in NARROW):
            yield _kind(info.type)
    for tensor in graph.initializer:
        if not (codes and tensor.data_type in NARROW):
            yield _element_type(tensor.data_type)
    for node in graph.node:
        if node.op_type in _CONTROL:
            yield "control flow"
        for attribute in node.attribute:
            if attribute.name == "to" and node.op_type == "Cast":
                yield _element_type(attribute.i)
            if node.op_type in _QUANTIZERS and attribute.name in ("output_dtype", "precision") and attribute.i:
                yield "" if attribute.i in NARROW else _element_type(attribute.i)
            if attribute.name == "dtype" and node.op_type in OPERATORS:
                yield _element_type(attribute.i)
            if attribute.HasField("t"):
                yield _element_type(attribute.t.data_type)
            if attribute.name in ("value_string", "value_strings"):
                yield _element_type(onnx.TensorProto.STRING)


def _kind(type_: Any) -> str:
    which = type_.WhichOneof("value")
    if which == "tensor_type":
        return _element_type(type_.tensor_type.elem_type)
    return f"values that are {str(which).removesuffix('_type')}s" if which else ""


def _element_type(number: int) -> str:
    name = onnx.TensorProto.DataType.Name(number)
    return "" if name in _ELEMENT_TYPES or name == "UNDEFINED" else f"element type {name.lower()}"


def _node_exclusion(node: NodeProto) -> str:
    attributes = {attribute.name: attribute for attribute in node.attribute}
    if node.op_type == "BatchNormalization" and ("training_mode" in attributes and attributes["training_mode"].i):
        return "training mode"
    if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2]:
        return "training mode"
    if "kernel_shape" in attributes and len(attributes["kernel_shape"].ints) > 3:
        return f"windows of {len(attributes['kernel_shape'].ints)} dimensions"
    return ""


def run_case(case: Any, isa: str | None = None) -> CaseResult:
    """Run one case: numbers within its tolerances, integers and booleans equal, shapes and types as expected."""
    reason = exclusion(case.model)
    if reason:
        return CaseResult(case.name, "excluded", reason)
    try:
        prepared = BitternBackend.prepare(case.model, isa=isa)
        for inputs, outputs in case.data_sets:
            results = prepared.run(list(inputs))
            if len(results) != len(outputs):
                return CaseResult(case.name, "failed", f"{len(results)} outputs, {len(outputs)} are expected")
            for info, result, expected in zip(prepared.model.outputs, results, outputs, strict=True):
                if problem := _difference(result, _array(expected), case.rtol, case.atol):
                    return CaseResult(case.name, "failed", f"output {info.name}: {problem}")
    except Error as error:
        return CaseResult(case.name, "failed", str(error))
    return CaseResult(case.name, "passed")


def _array(value: Any) -> NDArray[Any]:
    """An array of a case, which may be a tensor of a file; codes of fewer than 8 bits in bytes, as bittern has them."""
    number = value.data_type if isinstance(value, onnx.TensorProto) else 0
    array = np.asarray(onnx.numpy_helper.to_array(value) if number else value)
    if array.dtype.name in _NARROW:
        number = getattr(onnx.TensorProto, array.dtype.name.upper())
    return widened(array, number)


def _difference(result: NDArray[Any], expected: NDArray[Any], rtol: float, atol: float) -> str:
    """What is wrong with a result; empty if nothing is."""
    if result.dtype != expected.dtype:
        return f"is {result.dtype}, expected {expected.dtype}"
    if result.shape != expected.shape:
        return f"has shape {result.shape}, expected {expected.shape}"
    if expected.dtype.kind != "f":
        wrong = result != expected
    else:
        with np.errstate(invalid="ignore"):
            wrong = ~np.isclose(result, expected, rtol=rtol, atol=atol, equal_nan=True)
    if not np.any(wrong):
        return ""
    first = tuple(int(i[0]) for i in np.nonzero(wrong)) if wrong.ndim else ()
    count = int(np.count_nonzero(wrong))
    return (
        f"{count} of {wrong.size} elements differ, first at {list(first)}: {result[first]}, expected {expected[first]}"
    )


def run_cases(cases: Iterable[Any], isa: str | None = None) -> list[CaseResult]:
    """The results of cases, in their order."""
    return [run_case(case, isa) for case in cases]


def _check_isa(isa: str) -> None:
    usable = cpu().isa_levels_usable
    if isa not in usable:
        raise InputError(f"--isa {isa}", "is no level of this build and CPU", f"use one of {', '.join(usable)}")


def report(results: Sequence[CaseResult]) -> str:
    """Failures, exclusions by reason with an example, and counts."""
    lines = [f"failed    {result.name}: {result.reason}" for result in results if result.outcome == "failed"]
    classes: dict[str, list[str]] = {}
    for result in results:
        if result.outcome == "excluded":
            classes.setdefault(result.reason, []).append(result.name)
    for reason, names in sorted(classes.items(), key=lambda item: (-len(item[1]), item[0])):
        lines.append(f"excluded  {len(names):4}  {reason} (such as {names[0]})")
    counts = {outcome: sum(r.outcome == outcome for r in results) for outcome in ("passed", "failed", "excluded")}
    lines.append(", ".join(f"{count} {outcome}" for outcome, count in counts.items()) + f", onnx {onnx.__version__}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit code 0: nothing failed; 1: something did; 2: an error."""
    parser = argparse.ArgumentParser(
        prog="python -m bittern.onnx_backend",
        description="Run the node test cases of the installed package onnx.",
    )
    parser.add_argument(
        "--list", action="store_true", help="list the cases, with the reason of those excluded; run none"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    parser.add_argument("--filter", default="", metavar="REGEX", help="only cases whose names match")
    parser.add_argument("--isa", metavar="LEVEL", help="instruction set level (default: the best)")
    arguments = parser.parse_args(argv)
    try:
        pattern = re.compile(arguments.filter)
    except re.error as error:
        print(f"bittern: --filter {arguments.filter}: is no regular expression ({error})", file=sys.stderr)
        return 2
    try:
        if arguments.isa is not None:
            _check_isa(arguments.isa)
        cases = [case for case in node_cases() if pattern.search(case.name)]
        if arguments.list:
            reasons = {case.name: exclusion(case.model) for case in cases}
            results = [
                CaseResult(name, "excluded" if reason else "included", reason) for name, reason in reasons.items()
            ]
        else:
            results = run_cases(cases, arguments.isa)
    except Error as error:
        print(f"bittern: {error}", file=sys.stderr)
        return 2
    if arguments.json:
        from bittern.report import json_text

        counts = {o: sum(r.outcome == o for r in results) for o in sorted({r.outcome for r in results})}
        document = {"onnx": onnx.__version__, "isa": arguments.isa, **counts, "cases": [asdict(r) for r in results]}
        print(json_text(document))
    elif arguments.list:
        print("\n".join(f"{r.name}: {r.reason}" if r.reason else r.name for r in results))
    else:
        print(report(results))
    return 1 if any(result.outcome == "failed" for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
