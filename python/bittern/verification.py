"""Is a model's answer the original's answer, and where does it first drift?"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bittern.errors import InputError
from bittern.model import Model, load
from bittern.network import Network
from bittern.report.quantities import significant
from bittern.report.table import table
from bittern.values import NUMPY_TYPES

if TYPE_CHECKING:
    from onnx import ModelProto

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class LayerError:
    """How far one value is from the reference: absolute maximum, root mean square, that relative to the value's own.

    Equal infinities and NaN in both agree; where only one side is finite, the error is infinite.
    """

    name: str
    max_abs_error: float
    rms: float
    relative: float


@dataclass(frozen=True)
class VerifyReport:
    """The verdict of :func:`verify` on all values that both networks have, in the order they are computed.

    ``ok``: every output is within ``tolerance`` (absolute). ``first_drift``: the first value that is off by more than
    ``tolerance`` times its largest magnitude, or ``tolerance`` if that is below 1; None if there is none.
    """

    ok: bool
    tolerance: float
    max_error: float
    oracle: str
    layers: list[LayerError]
    first_drift: str | None

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, strings and lists."""
        return asdict(self)

    def __str__(self) -> str:
        rows = [
            (row.name, significant(row.max_abs_error), significant(row.rms), significant(row.relative))
            for row in self.layers
        ]
        verdict = "within" if self.ok else "beyond"
        lines = [
            table(("value", "max error", "rms error", "relative"), rows, "lrrr"),
            f"oracle: {self.oracle}",
            f"largest error of an output: {significant(self.max_error)}, {verdict} the tolerance {self.tolerance:g}",
        ]
        if self.first_drift is not None:
            lines.append(f"first value that drifts: {self.first_drift}")
        return "\n".join(lines)


def verify(
    model: Model | str | os.PathLike[str] | Network,
    against: str | os.PathLike[str] | ModelProto | Network,
    data: Mapping[str, Any] | None = None,
    tolerance: float = 1e-4,
    *,
    seed: int = 0,
) -> VerifyReport:
    """Run ``model`` and the original ``against`` on the same inputs and compare every value they share by name.

    The oracle is ONNX Runtime where it is installed and the original is an ONNX file, else the original's faithful
    conversion with dense weights on the scalar level. ``data`` maps input names to arrays; without it, float32
    inputs are drawn from a normal distribution with ``seed``, others are zeros and ones.
    Raises InputError if the networks do not fit each other.
    """
    model = model if isinstance(model, Model) else load(model)
    feeds = _feeds(model, data, seed)
    reference, oracle = _reference(against, feeds)
    missing = [info.name for info in model.outputs if info.name not in reference]
    if missing:
        remedy = "compare a network with its own original"
        raise InputError(f"output {missing[0]}", "the original has no such value", remedy)
    taps = [name for name in model.values if name in reference and name not in {o.name for o in model.outputs}]
    results = model.run(feeds, taps=taps)
    layers = [_error(name, results[name], reference[name]) for name in model.values if name in results]
    known = {layer.name for layer in layers}
    layers += [_error(o.name, results[o.name], reference[o.name]) for o in model.outputs if o.name not in known]

    drift = None
    for layer in layers:
        exact = reference[layer.name]
        scale = max(1.0, float(np.max(np.abs(exact[np.isfinite(exact)]), initial=0.0)))
        if not layer.max_abs_error <= tolerance * scale:
            drift = layer.name
            break
    names = {info.name for info in model.outputs}
    worst = [layer.max_abs_error for layer in layers if layer.name in names]
    max_error = float(np.max(worst, initial=0.0))
    return VerifyReport(max_error <= tolerance, tolerance, max_error, oracle, layers, drift)


def _feeds(model: Model, data: Mapping[str, Any] | None, seed: int) -> Arrays:
    if data is not None:
        if not isinstance(data, Mapping):
            raise InputError("data", f"a {type(data).__name__}", "give a dict of arrays by input name")
        return {name: np.asarray(value) for name, value in data.items()}
    generator = np.random.default_rng(seed)
    feeds: Arrays = {}
    for info in model.inputs:
        shape = [size if isinstance(size, int) else 1 for size in info.shape or ()]
        if info.dtype == "f32":
            feeds[info.name] = generator.standard_normal(shape).astype(np.float32)
        else:
            feeds[info.name] = generator.integers(0, 2, shape).astype(NUMPY_TYPES[info.dtype])
    return feeds


def _error(name: str, result: NDArray[Any], reference: NDArray[Any]) -> LayerError:
    if result.shape != reference.shape:
        raise InputError(f"value {name}", f"has shape {result.shape}, in the original {reference.shape}")
    if result.size == 0:
        return LayerError(name, 0.0, 0.0, 0.0)
    actual, exact = result.astype(np.float64), reference.astype(np.float64)
    same = (actual == exact) | (np.isnan(actual) & np.isnan(exact))
    with np.errstate(invalid="ignore"):
        difference = np.where(same, 0.0, np.abs(actual - exact))
    difference = np.where(np.isnan(difference), np.inf, difference)
    finite = exact[np.isfinite(exact)]
    rms = float(np.sqrt(np.mean(np.square(difference))))
    level = float(np.sqrt(np.mean(np.square(finite)))) if finite.size else 0.0
    relative = rms / level if level > 0 else (0.0 if rms == 0 else float("inf"))
    return LayerError(name, float(np.max(difference)), rms, relative)


def _reference(against: Any, feeds: Arrays) -> tuple[Arrays, str]:
    """All values of the original that can be had, and who computed them."""
    if not isinstance(against, Network) and not _is_other(against):
        found = _onnxruntime_values(against, feeds)
        if found is not None:
            return found
    from bittern.importers import convert

    network = against if isinstance(against, Network) else convert(against)
    scalar = load(network, isa="scalar", winograd=False)
    _check_names(feeds, [info.name for info in scalar.inputs])
    return scalar.run(feeds, taps=scalar.values), "dense scalar run"


def _is_other(against: Any) -> bool:
    """Whether a path tells a format that ONNX Runtime does not read."""
    return isinstance(against, str | os.PathLike) and os.fspath(against).lower().endswith((".bittern", ".tflite"))


def _check_names(feeds: Arrays, names: list[str]) -> None:
    if set(feeds) != set(names):
        raise InputError("inputs", f"the model takes {sorted(feeds)}, the original {sorted(names)}")


def _onnxruntime_values(against: Any, feeds: Arrays) -> tuple[Arrays, str] | None:
    try:
        import onnx
        import onnxruntime
    except ImportError:
        return None
    from bittern.importers.onnx import read_model

    proto = onnx.ModelProto()
    proto.CopyFrom(read_model(against))
    outputs = {value.name for value in proto.graph.output}
    for node in proto.graph.node:
        for name in node.output:
            if name and name not in outputs:
                outputs.add(name)
                proto.graph.output.append(onnx.ValueInfoProto(name=name))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    _check_names(feeds, [value.name for value in session.get_inputs()])
    names = [value.name for value in session.get_outputs()]
    try:
        arrays = session.run(names, feeds)
    except Exception as error:  # its errors have no common base of their own
        problem = f"ONNX Runtime refuses the data: {' '.join(str(error).split())}"
        raise InputError("the original", problem, "give arrays of its input shapes and types") from None
    known = {n: a for n, a in zip(names, arrays, strict=True) if isinstance(a, np.ndarray) and a.dtype.kind in "biuf"}
    return known, f"onnxruntime {onnxruntime.__version__}"
