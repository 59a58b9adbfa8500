"""A loaded network: run it, look at its plan, profile it."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from bittern import _native
from bittern.errors import InputError
from bittern.values import NUMPY_TYPES, ValueInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bittern.network import Network
    from bittern.plan import Plan, Profile

    Source = str | os.PathLike[str] | bytes | Network


class Model:
    """A network ready to run. Safe to use from several threads at once. Made by :func:`load`."""

    def __init__(self, native: _native.Model) -> None:
        self._native = native
        self.inputs = [ValueInfo(*info) for info in native.inputs]
        self.outputs = [ValueInfo(*info) for info in native.outputs]
        decides = zip(self.inputs, native.shape_deciding_inputs, strict=True)
        self._deciding = [info.name for info, decided in decides if decided]

    @property
    def name(self) -> str:
        """The network's name."""
        return self._native.name

    @property
    def isa(self) -> str:
        """The highest instruction-set level its kernels use."""
        return self._native.isa

    @property
    def metadata(self) -> dict[str, str]:
        """What the file says about itself: preprocessing, labels, provenance."""
        return self._native.metadata

    @property
    def shape_deciding_inputs(self) -> list[str]:
        """Names of the inputs whose elements decide shapes: a plan is for these elements."""
        return list(self._deciding)

    @property
    def values(self) -> list[str]:
        """Names of the values that nodes compute, in order: what ``run`` takes as taps."""
        return self._native.values

    @property
    def constants(self) -> list[str]:
        """Names of the weights and other constants."""
        return self._native.constants

    @property
    def weight_bytes(self) -> int:
        """Bytes that packed and decoded weights and scratch memory take at present."""
        return self._native.weight_bytes

    def constant(self, name: str) -> NDArray[Any]:
        """The constant ``name``, decoded: float32, or its own integer type. Raises InputError for an unknown name."""
        return self._native.constant(_texts([name], "constant")[0])

    def __call__(
        self, *args: Any, out: NDArray[Any] | Mapping[str, NDArray[Any]] | None = None, **named: Any
    ) -> NDArray[Any] | dict[str, NDArray[Any]]:
        """Run on arrays given in the order of ``inputs`` or by name.

        Arrays are of the inputs' element types, NumPy or anything with DLPack or the buffer protocol; strided ones are
        copied. Numbers and lists without a type of their own are taken in the input's. ``out`` takes
        the result: one array, or a dict by name. Returns the array of a single output, else a dict by name.
        Raises InputError where a name, shape or type does not fit.
        """
        results = self._run(self._feeds(args, named), self._out_arrays(out), [])
        return results[self.outputs[0].name] if len(self.outputs) == 1 else results

    def run(self, feeds: Mapping[str, Any], *, taps: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
        """Run on arrays by name; returns the outputs and the values named in ``taps``, always by name.

        Taps are values inside the unfused network, for example what a Conv gives before its Relu.
        Raises InputError where a name, shape or type does not fit.
        """
        if not isinstance(feeds, Mapping):
            raise InputError("feeds", f"a {type(feeds).__name__}", "give a dict of arrays by input name")
        return self._run(feeds, [None] * len(self.outputs), _texts(taps, "taps"))

    @property
    def plan(self) -> Plan:
        """How each layer runs here; free sizes count as 1. See :meth:`plan_for`, also for what it raises: InputError if
        elements of an input decide shapes.
        """
        return self.plan_for({})

    def plan_for(self, shapes: Mapping[str, Sequence[int] | NDArray[Any]]) -> Plan:
        """The plan for the given input shapes by name; inputs left out keep their declared sizes, free ones 1.

        For an input in ``shape_deciding_inputs`` give a NumPy array, as for ``run``, in place of a shape: the plan is
        for its elements. Of other inputs' arrays only the shape counts.

        Raises InputError where a name, shape or array does not fit or elements that decide shapes are not given,
        ResourceError where the plan would take too much memory.
        """
        if not isinstance(shapes, Mapping):
            raise InputError("shapes", f"a {type(shapes).__name__}", "give a dict of shapes by input name")
        unknown = set(shapes) - {info.name for info in self.inputs}
        if unknown:
            raise InputError(f"input {min(map(str, unknown))}", "the network has no such input", self._input_names())
        missing = [name for name in self._deciding if not isinstance(shapes.get(name), np.ndarray)]
        if missing:
            remedy = f"give an array for it: model.plan_for({{{missing[0]!r}: numpy.array(...)}})"
            raise InputError(
                f"input {missing[0]}", "its elements decide shapes, so there is no plan without them", remedy
            )
        wanted = []
        for info in self.inputs:
            default = [size if isinstance(size, int) else 1 for size in info.shape or ()]
            shape = shapes.get(info.name, default)
            shape = shape.shape if isinstance(shape, np.ndarray) else shape
            if not isinstance(shape, Iterable):
                raise InputError(f"input {info.name}", f"the shape {shape!r}", "give one size per dimension")
            wanted.append([_integer(size, f"input {info.name}", 2**63 - 1) for size in shape])
        if not self._deciding:
            return _plan(self._native.plan(wanted, [], []))
        arrays = []
        for info, sizes in zip(self.inputs, wanted, strict=True):
            given = shapes[info.name] if info.name in self._deciding else None
            # Of other inputs nobody reads an element: one is enough for all.
            filler = np.broadcast_to(np.zeros((), NUMPY_TYPES[info.dtype]), sizes)
            arrays.append(given if isinstance(given, np.ndarray) else filler)
        return _plan(self._native.plan([], arrays, []))

    def profile(self, *args: Any, runs: int = 10, **named: Any) -> Profile:
        """Time every layer on the given inputs: the median of ``runs`` runs, after one that is not counted.

        Raises InputError where a name, shape or type does not fit.
        """
        from bittern.plan import LayerTime, Profile

        arrays = self._ordered(self._feeds(args, named))
        runs = _integer(runs, "runs", 2**31 - 1)
        self._native.profile(arrays, 1)
        times = self._native.profile(arrays, runs)
        plan = _plan(self._native.plan([list(array.shape) for array in arrays], arrays, []))
        total = sum(times) or 1.0
        rows = [
            LayerTime(layer, ms, ms / total, 2e-6 * layer.macs / ms if ms > 0 else 0.0)
            for layer, ms in zip(plan.layers, times, strict=True)
        ]
        return Profile(rows, runs)

    def __repr__(self) -> str:
        def text(infos: list[ValueInfo]) -> str:
            return ", ".join(f"{i.name} {'?' if i.shape is None else 'x'.join(map(str, i.shape))}" for i in infos)

        return f"<bittern.Model {self.name}: {text(self.inputs)} -> {text(self.outputs)}, {self.isa}>"

    def _input_names(self) -> str:
        return "its inputs are " + ", ".join(info.name for info in self.inputs)

    def _feeds(self, args: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
        if len(args) > len(self.inputs):
            raise InputError("inputs", f"{len(args)} given", f"the network takes {len(self.inputs)}")
        feeds = dict(zip((info.name for info in self.inputs), args, strict=False))
        for name, value in named.items():
            if name in feeds:
                raise InputError(f"input {name}", "given twice", "by position or by name")
            feeds[name] = value
        return feeds

    def _ordered(self, feeds: Mapping[str, Any]) -> list[NDArray[Any]]:
        names = [info.name for info in self.inputs]
        unknown = sorted(map(str, set(feeds) - set(names)))
        if unknown:
            raise InputError(f"input {unknown[0]}", "the network has no such input", self._input_names())
        missing = [name for name in names if name not in feeds]
        if missing:
            raise InputError(f"input {missing[0]}", "missing", self._input_names())
        return [_as_array(feeds[info.name], info) for info in self.inputs]

    def _out_arrays(self, out: Any) -> list[NDArray[Any] | None]:
        if out is None:
            return [None] * len(self.outputs)
        if isinstance(out, Mapping):
            unknown = sorted(map(str, set(out) - {info.name for info in self.outputs}))
            if unknown:
                known = "its outputs are " + ", ".join(info.name for info in self.outputs)
                raise InputError(f"output {unknown[0]}", "the network has no such output", known)
            arrays = [out.get(info.name) for info in self.outputs]
        elif len(self.outputs) != 1:
            raise InputError("out", "one array for several outputs", "give a dict by name")
        else:
            arrays = [out]
        for array in arrays:
            if array is not None and not isinstance(array, np.ndarray):
                raise InputError("out", f"a {type(array).__name__}", "it must be a NumPy array")
        return arrays

    def _run(
        self, feeds: Mapping[str, Any], outputs: list[NDArray[Any] | None], taps: list[str]
    ) -> dict[str, NDArray[Any]]:
        results = self._native.run(self._ordered(feeds), outputs, taps)
        names = [info.name for info in self.outputs] + taps
        return dict(zip(names, results, strict=True))


def _plan(found: tuple[list[Any], list[Any], int]) -> Plan:
    # Loading and running a file should not wait for the import of what only describes it.
    from bittern.plan import Layer, Plan

    layers, outputs, arena_bytes = found
    return Plan([Layer(**layer) for layer in layers], {name: shape for name, shape, _ in outputs}, arena_bytes)


def load(
    source: Source,
    *,
    threads: int = 0,
    isa: str | None = None,
    device: str = "cpu",
    memory_limit: int = 0,
    checksum: str = "eager",
    kernels: Sequence[str] | None = None,
    winograd: bool = True,
) -> Model:
    """Load a network from a ``.bittern`` file, its bytes, or a :class:`Network`.

    ``threads``: at most so many for a run, 0 for all CPUs granted to the process. ``isa``: the highest instruction-set
    level to use, None for BITTERN_ISA or else the best. ``memory_limit``: bytes for weights and scratch memory, 0 for
    what the machine grants. ``winograd``: allow Winograd convolution, which is faster and rounds more. ``checksum``:
    "eager", "lazy" (verified at the first run) or "skip". ``kernels``: names of kernels to use wherever they fit, for
    tests and benchmarks.

    Raises FormatError (damaged file), UnsupportedError, ResourceError (memory), InputError (missing file, options).
    """
    options = (
        _integer(threads, "threads", 2**31 - 1),
        _texts([isa or ""], "isa")[0],
        _texts([device], "device")[0],
        _integer(memory_limit, "memory_limit", 2**64 - 1),
        _texts([checksum], "checksum")[0],
        _texts(kernels or (), "kernels"),
        bool(winograd),
    )
    if isinstance(source, bytes | bytearray | memoryview):
        return Model(_native.Model.from_bytes(bytes(source), "<bytes>", *options))
    if isinstance(source, str | os.PathLike):
        return Model(_native.Model.load(os.fsencode(source), *options))
    from bittern.network import Network

    if isinstance(source, Network):
        return Model(_native.Model.from_bytes(source.to_bytes(), f"<network {source.name}>", *options))
    raise InputError("source", f"a {type(source).__name__}", "it must be a path, bytes or a Network")


def _integer(value: Any, place: str, most: int) -> int:
    """A whole number that is not negative."""
    try:
        number = operator.index(value)
    except TypeError:
        raise InputError(place, f"{value!r}", "it must be a whole number") from None
    if not 0 <= number <= most:
        raise InputError(place, f"{number}", "it cannot be negative" if number < 0 else f"at most {most} is allowed")
    return number


def _texts(values: Iterable[Any], place: str) -> list[str]:
    """A list of strings; a single string is not taken for a list of its letters."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise InputError(place, f"{values!r}", "give a list of names")
    texts = list(values)
    for text in texts:
        if not isinstance(text, str):
            raise InputError(place, f"{text!r}", "it must be a string")
    return texts


def _as_array(value: Any, info: ValueInfo) -> NDArray[Any]:
    if isinstance(value, np.ndarray):
        return value
    wanted = f"give an array of {NUMPY_TYPES.get(info.dtype, info.dtype)}"
    try:
        if isinstance(value, bool | int | float | list | tuple):
            return _untyped(value, info, wanted)
        array = np.from_dlpack(value) if hasattr(value, "__dlpack__") else np.asarray(value)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        problem = f"a {type(value).__name__} that is no array ({error})"
        raise InputError(f"input {info.name}", problem, wanted) from None
    if array.dtype == object:
        raise InputError(f"input {info.name}", f"a {type(value).__name__} that is no array", wanted)
    return cast("NDArray[Any]", array)


def _untyped(value: Any, info: ValueInfo, wanted: str) -> NDArray[Any]:
    """Plain numbers in the input's type; numbers that it does not hold are refused."""
    plain = np.asarray(value)
    array = plain.astype(NUMPY_TYPES.get(info.dtype, plain.dtype.str), copy=False)
    if array.dtype.kind not in "f" and not np.array_equal(array, plain):
        raise InputError(f"input {info.name}", f"{value!r} is no {info.dtype}", wanted)
    return array
