"""Calibration data as a list of samples: one dict of arrays by input name for each run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bittern.errors import InputError
from bittern.network import Network
from bittern.preprocess import Preprocess
from bittern.values import NUMPY_TYPES, ValueInfo

Feeds = dict[str, NDArray[Any]]
RECURRENT = ("LSTM", "GRU", "RNN")
SYNTHETIC = 16  # samples made up where none are given
REMEDY = "give a dict of arrays by input name, an .npz file of such, or images for a network with preprocessing"


def samples_of(network: Network, data: Any, seed: int = 0) -> list[Feeds]:
    """Samples from what a user gives as calibration data; made up, from a normal distribution, for None.

    Accepted: arrays by input name (the first dimension counts samples), an .npz or .npy file of such, an array for the
    only input, a sequence of dicts, or, where the network has preprocessing, a sequence of images (files or uint8
    arrays). Where layers are recurrent, a free first dimension may be time, so that an array is one sample: give
    several in a sequence of dicts. Raises InputError for anything else, and for arrays that do not fit.
    """
    if data is None:
        return _synthetic(network, seed)
    if isinstance(data, (str, os.PathLike)):
        data = _read(os.fspath(data))
    if isinstance(data, np.ndarray) and not _are_images(network, [data]):
        data = {"": data}
    if isinstance(data, Mapping):
        found = _split(network, data)
    elif isinstance(data, Sequence) and data and all(isinstance(item, Mapping) for item in data):
        found = [sample for item in data for sample in _split(network, item)]
    elif isinstance(data, (Sequence, np.ndarray)) and len(data) and _are_images(network, data):
        prepare = Preprocess.from_json(network.metadata["preprocess"])
        found = [{network.inputs[0].name: prepare.apply(image)} for image in data]
    else:
        raise InputError("calibration", f"is {_what(data)}", REMEDY)
    if not found:
        raise InputError("calibration", "holds no samples", REMEDY)
    return found


def _are_images(network: Network, data: Sequence[Any] | NDArray[Any]) -> bool:
    if "preprocess" not in network.metadata or len(network.inputs) != 1:
        return False
    return all(
        isinstance(item, (str, os.PathLike))
        or (isinstance(item, np.ndarray) and item.dtype == np.uint8 and item.ndim in (2, 3, 4))
        for item in data
    )


def _what(data: Any) -> str:
    if isinstance(data, (Sequence, np.ndarray)) and not len(data):
        return "empty"
    return f"a {type(data).__name__}"


def _read(path: str) -> Feeds:
    from bittern.cli.files import read_arrays

    try:
        return read_arrays(path)
    except OSError as error:
        raise InputError(path, f"cannot be read: {error.strerror or error}") from None


def _split(network: Network, data: Mapping[str, Any]) -> list[Feeds]:
    """Arrays with a leading dimension of samples, cut where the network's own first dimension allows."""
    names = [info.name for info in network.inputs]
    if len(names) == 1 and len(data) == 1:
        data = {names[0]: next(iter(data.values()))}
    if sorted(map(str, data)) != sorted(names):
        found = ", ".join(sorted(map(repr, data))) or "nothing"
        raise InputError("calibration", f"has {found}, the network's inputs are {', '.join(names)}", REMEDY)
    whole = any(node.op in RECURRENT for node in network.nodes)
    parts = {info.name: _parts(info, np.asarray(data[info.name]), whole) for info in network.inputs}
    counts = {len(part) for part in parts.values()}
    if len(counts) > 1:
        listed = ", ".join(f"{len(part)} of {name}" for name, part in parts.items())
        raise InputError("calibration", f"has {listed}", "give as many samples of each input")
    return [{name: part[index] for name, part in parts.items()} for index in range(counts.pop() if counts else 0)]


def _parts(info: ValueInfo, array: NDArray[Any], whole: bool) -> list[NDArray[Any]]:
    place = f"calibration of {info.name!r}"
    wanted = NUMPY_TYPES.get(info.dtype, "float32")
    if array.dtype.kind not in "biuf":
        raise InputError(place, f"is an array of {array.dtype}", f"give numbers, {wanted}")
    if array.dtype.kind == "f" and wanted.startswith("float") and not np.isfinite(array).all():
        raise InputError(place, "holds values that are not finite", "leave those samples out")
    array = np.ascontiguousarray(array.astype(wanted, copy=False))
    shape = info.shape or ()
    step = shape[0] if shape and isinstance(shape[0], int) else array.shape[0] if whole and array.ndim else 1
    fits = array.ndim == len(shape) and all(
        not isinstance(size, int) or size == found for size, found in zip(shape[1:], array.shape[1:], strict=True)
    )
    if array.ndim == len(shape) + 1:
        return [part for item in array for part in _parts(info, item, whole)]
    if not fits or (array.ndim and array.shape[0] % max(step, 1)):
        raise InputError(place, f"has shape {list(array.shape)}", f"its shape is {list(shape)}, the first for samples")
    if not array.ndim:
        return [array]
    return [np.ascontiguousarray(array[i : i + step]) for i in range(0, array.shape[0], max(step, 1))]


def _synthetic(network: Network, seed: int) -> list[Feeds]:
    generator = np.random.default_rng(seed)
    preprocess = network.metadata.get("preprocess")
    found = []
    for _ in range(SYNTHETIC):
        feeds: Feeds = {}
        for info in network.inputs:
            shape = [size if isinstance(size, int) else 1 for size in info.shape or ()]
            if info.dtype != "f32":
                feeds[info.name] = generator.integers(0, 2, shape).astype(NUMPY_TYPES[info.dtype])
            elif preprocess and len(network.inputs) == 1 and len(shape) == 4:
                feeds[info.name] = _noise_image(Preprocess.from_json(preprocess), shape, generator)
            else:
                feeds[info.name] = generator.standard_normal(shape).astype(np.float32)
        found.append(feeds)
    return found


def _noise_image(preprocess: Preprocess, shape: list[int], generator: np.random.Generator) -> NDArray[Any]:
    """An image of random pixels, scaled as real ones are."""
    height, width = shape[2:] if preprocess.layout == "NCHW" else shape[1:3]
    pixels = generator.integers(0, 256, (height, width, preprocess.channels), dtype=np.uint8)
    plain = {**preprocess.to_dict(), "resize": None, "crop": None}
    kept = {key: value for key, value in plain.items() if value is not None}
    return Preprocess.from_dict(kept).apply(pixels)
