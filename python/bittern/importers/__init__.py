"""Faithful import: trained networks of other formats become a Network, nothing lossy."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bittern.container import is_text
from bittern.errors import FormatError, InputError
from bittern.importers.pytorch import export_module, is_module
from bittern.network import Network, read_source
from bittern.preprocess import Preprocess

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch.nn import Module

_SUFFIXES = {".bittern": "bittern", ".onnx": "onnx", ".net": "deep-compression", ".tflite": "tflite"}


def convert(
    source: str | os.PathLike[str] | bytes | ModelProto | Network | Module,
    *,
    example_inputs: Any = None,
    batch: bool = False,
    dynamic_shapes: Any = None,
    source_format: str | None = None,
    preprocess: Mapping[str, Any] | None = None,
    labels: Sequence[str] | None = None,
) -> Network:
    """Import a network.

    ``source`` is a path, the bytes of a file, an ``onnx.ModelProto``, a Network (copied) or a ``torch.nn.Module``,
    which torch exports in inference mode: ``example_inputs`` is what its ``forward`` takes (a tensor, a tuple of
    arguments, a dict of named ones), ``batch=True`` leaves the first dimension of every input free, or
    ``dynamic_shapes`` says which ones are, as ``torch.export.export`` takes them. ``source_format`` is
    ``"onnx"``, ``"tflite"``, ``"deep-compression"`` (the original ``compressed_SqueezeNet.net``) or ``"bittern"``;
    None: the path's suffix says it. ``preprocess`` (docs/format.md) and ``labels`` (class names) are stored in the
    file.

    Raises InputError for a wrong argument or unreadable file, FormatError for a damaged one, UnsupportedError with all
    operators and attributes that cannot be served.
    """
    if is_module(source):
        network = _read_onnx(export_module(source, example_inputs, dynamic_shapes, batch))
    elif example_inputs is not None or batch or dynamic_shapes is not None:
        raise InputError("example_inputs", "is for PyTorch modules", "leave out example_inputs, batch, dynamic_shapes")
    else:
        network = _import(source, source_format)
    if preprocess is not None:
        try:
            network.metadata["preprocess"] = Preprocess.from_dict(dict(preprocess)).to_json()
        except FormatError as error:
            raise InputError(error.place, error.problem, error.remedy) from None
    if labels is not None:
        names = [] if isinstance(labels, str) else list(labels)
        if not names or not all(isinstance(name, str) and is_text(name) for name in names):
            raise InputError("labels", "expected a non-empty list of texts")
        network.metadata["labels"] = json.dumps(names, ensure_ascii=False, separators=(",", ":"))
    return network


def _import(source: Any, source_format: str | None) -> Network:
    if isinstance(source, Network):
        return source.copy()
    if hasattr(source, "SerializeToString"):
        return _read_onnx(source)
    if source_format is None:
        source_format = _format_of(source)
    readers: dict[str, Callable[[Any], Network]] = {
        "bittern": Network.load,
        "deep-compression": _read_deep_compression,
        "onnx": _read_onnx,
        "tflite": _read_tflite,
    }
    if source_format not in readers:
        raise InputError("source_format", f"is {source_format!r}", f"use one of {', '.join(sorted(readers))}")
    return readers[source_format](source)


def _format_of(source: Any) -> str:
    if isinstance(source, (bytes, bytearray, memoryview)):
        if bytes(source[4:8]) == b"TFL3":
            return "tflite"
        return "bittern" if bytes(source[8:9]) == b"{" else "onnx"
    try:
        path = os.fspath(source)
    except TypeError:
        raise InputError("source", f"expected a path, bytes or model, found {type(source).__name__}") from None
    suffix = os.path.splitext(path)[1].lower() if isinstance(path, str) else ""
    if suffix not in _SUFFIXES:
        read_source(source)  # a missing file is the likelier mistake
        known = ", ".join(sorted(_SUFFIXES))
        raise InputError(str(path), f"suffix {suffix!r} tells no format (known: {known})", "say it with source_format")
    return _SUFFIXES[suffix]


def _read_onnx(source: Any) -> Network:
    from bittern.importers.onnx import import_onnx

    return import_onnx(source)


def _read_deep_compression(source: Any) -> Network:
    from bittern.importers.deep_compression import import_deep_compression

    return import_deep_compression(source)


def _read_tflite(source: Any) -> Network:
    from bittern.importers.tflite import import_tflite

    return import_tflite(source)


__all__ = ["convert"]
