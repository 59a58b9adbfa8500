"""Reading arrays and labels, checking and writing outputs: every failure names its file."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bittern.atomic_file import write_atomic
from bittern.errors import InputError, UnsupportedError
from bittern.values import NUMPY_TYPES, ValueInfo

Arrays = dict[str, NDArray[Any]]


def check_output(path: str, inputs: Sequence[str | None] = (), onnx: bool = False) -> None:
    """Refuse an output that cannot be written or is one of the inputs, before any work is done; `onnx`: may be ONNX."""
    if not path:
        raise InputError("output", "its path is empty", "give the path of a file")
    if os.path.isdir(path):
        raise InputError(path, "is a directory", "give the path of a file")
    if path.lower().endswith(".onnx") and not onnx:
        raise UnsupportedError(
            path,
            "what this makes is a .bittern file",
            "name it FILE.bittern; bittern convert makes ONNX of it",
        )
    directory = os.path.dirname(path) or "."
    if not os.path.isdir(directory):
        raise InputError(path, f"the directory {directory} does not exist", "create it or choose another path")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise InputError(path, f"the directory {directory} is not writable", "choose another path")
    if os.path.exists(path):
        for source in inputs:
            if source is not None and os.path.exists(source) and os.path.samefile(path, source):
                raise InputError(path, "is the input itself", "choose another output path")


def read_arrays(path: str) -> Arrays:
    """The arrays of an .npz file by name, or of an .npy file under the empty name."""
    try:
        with open(path, "rb") as stream:
            magic = stream.read(6)
            stream.seek(0)
            if magic == b"\x93NUMPY":
                return {"": np.lib.format.read_array(stream, allow_pickle=False)}
            if magic[:2] == b"PK":
                with np.load(stream, allow_pickle=False) as archive:
                    return {name: archive[name] for name in archive.files}
    except OSError as error:
        if error.errno is not None:
            raise
        raise _damaged(path, error) from None
    except (ValueError, EOFError, KeyError, SyntaxError, zipfile.BadZipFile, NotImplementedError) as error:
        raise _damaged(path, error) from None
    except Exception as error:
        if type(error).__module__ not in ("zlib", "tokenize"):
            raise
        raise _damaged(path, error) from None
    raise InputError(path, "is neither an .npy nor an .npz file", "save arrays with numpy.save or numpy.savez")


def read_inputs(path: str, inputs: Sequence[ValueInfo]) -> Arrays:
    """The arrays for a network's inputs; a single array serves a single input under any name. InputError otherwise.

    An input of integers or booleans takes any array whose values it can hold.
    """
    names = [info.name for info in inputs]
    arrays = read_arrays(path)
    if len(names) == 1 and len(arrays) == 1:
        arrays = {names[0]: next(iter(arrays.values()))}
    if not all(name in arrays for name in names):
        found = "one unnamed array" if "" in arrays else ", ".join(sorted(arrays)) or "nothing"
        raise InputError(
            path, f"holds {found}, the network wants {', '.join(names)}", "save an .npz file with these names"
        )
    chosen = {name: arrays[name] for name in names}
    for info in inputs:
        array = chosen[info.name]
        if array.dtype.kind not in "biuf":
            raise InputError(path, f"holds {array.dtype} for {info.name}, which is no number", "save numbers")
        if info.dtype not in ("f32", "f16", "bf16", "f64") and array.dtype != NUMPY_TYPES[info.dtype]:
            with np.errstate(invalid="ignore"):
                converted = array.astype(NUMPY_TYPES[info.dtype])
            if not np.array_equal(converted, array):
                problem = f"holds {array.dtype} for {info.name}, with values that are no {info.dtype}"
                raise InputError(path, problem, f"save it as numpy.{NUMPY_TYPES[info.dtype]}")
            chosen[info.name] = converted
    return chosen


def _damaged(path: str, error: Exception) -> InputError:
    return InputError(path, f"cannot be read ({error})", "save the arrays again, without objects")


def write_arrays(path: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write an .npy (one array) or .npz file, whole or not at all, with the same bytes for the same arrays."""
    buffer = io.BytesIO()
    if path.lower().endswith(".npy"):
        if len(arrays) != 1:
            raise InputError(path, f"an .npy file holds one array, the network has {len(arrays)}", "write an .npz file")
        np.save(buffer, next(iter(arrays.values())), allow_pickle=False)
    else:
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for name, array in arrays.items():
                member = io.BytesIO()
                np.save(member, array, allow_pickle=False)
                archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())
    write_atomic(path, buffer.getvalue())


def check_array_output(path: str, inputs: Sequence[str]) -> None:
    """Refuse names that are neither .npy nor .npz, as well as what check_output refuses."""
    if not path.lower().endswith((".npy", ".npz")):
        raise InputError(path, "is neither .npy nor .npz", "name the output y.npz or y.npy")
    check_output(path, inputs)


def read_labels(path: str) -> list[str]:
    """Class names from a text file with one per line, or a JSON list of strings."""
    with open(path, encoding="utf-8-sig") as stream:
        try:
            text = stream.read()
        except UnicodeDecodeError as error:
            raise InputError(path, f"is not UTF-8 text ({error.reason})", "save it as UTF-8") from None
    if text.lstrip().startswith("["):
        try:
            labels = json.loads(text)
        except (ValueError, RecursionError):
            labels = None
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise InputError(path, "is not a JSON list of strings", "write one class name per line instead")
    else:
        labels = [line.strip() for line in text.splitlines()]
        while labels and not labels[-1]:
            labels.pop()
    if not labels:
        raise InputError(path, "holds no labels", "write one class name per line")
    return labels
