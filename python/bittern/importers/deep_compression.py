"""The original Deep Compression SqueezeNet, ``compressed_SqueezeNet.net``.

Han, Mao, Dally: Deep Compression (arXiv 1510.00149); Iandola et al.: SqueezeNet (arXiv 1602.07360). The file has no
header but the number of entries of each layer; names and shapes come from the network, SqueezeNet v1.0.
"""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bittern.compression.deep_compression import encode
from bittern.encodings import Dense, Packed, RelativeIndex, Sparse
from bittern.errors import FormatError
from bittern.network import Network, read_source

_CODES = 256  # entries of a layer's codebook
_GAP_BITS = 4
# Fire modules: name, squeeze, expand (each of 1x1 and 3x3); "" is a max-pooling.
_FIRES = {"fire2": (16, 64), "fire3": (16, 64), "fire4": (32, 128), "pool4": (0, 0), "fire5": (32, 128),
          "fire6": (48, 192), "fire7": (48, 192), "fire8": (64, 256), "pool8": (0, 0), "fire9": (64, 256)}  # fmt: skip
PREPROCESS = {"resize": [256, 256], "crop": [227, 227], "color": "BGR", "mean": [104, 117, 123]}


def import_deep_compression(source: str | os.PathLike[str] | bytes) -> Network:
    """Import the file: input ``data`` [N, 3, 227, 227], output ``logits`` [N, 1000] (before softmax).

    Codebooks and codes stay as they are; positions and codes are written in the smallest form there is for each layer,
    so the file's fillers go.
    Raises FormatError if the file is truncated, has bytes left over, or a stream does not fit its layer.
    """
    data, place = read_source(source)
    network = _squeezenet()
    layers = [node for node in network.nodes if node.op == "Conv"]
    reader = _Reader(data, place)
    counts = reader.take("the header", "<u4", len(layers))
    for node, count in zip(layers, counts.tolist(), strict=True):
        shape = _weight_shape(network, node.name)
        table = reader.take(f"codebook of {node.name}", "<f4", _CODES)
        bias = reader.take(f"bias of {node.name}", "<f4", shape[0])
        codes = reader.take(f"codes of {node.name}", "u1", count)
        gaps = reader.take(f"gaps of {node.name}", "u1", (count + 1) // 2).copy()
        if table.view(np.uint32)[0] != 0:
            raise FormatError(f"{place}: {node.name}", f"codebook[0] is {table[0]}, fillers need 0.0")
        if not np.isfinite(table).all() or not np.isfinite(bias).all():
            raise FormatError(f"{place}: {node.name}", "codebook or bias holds a value that is not finite")
        if count % 2:
            gaps[-1] &= 15  # the spare half of the last byte carries nothing
        position = int(Packed(gaps, _GAP_BITS, (count,)).decode().astype(np.int64).sum()) + count
        if position > int(np.prod(shape)):
            raise FormatError(
                f"{place}: {node.name}", f"entries reach position {position - 1} of {int(np.prod(shape))} weights"
            )
        pattern = RelativeIndex(Packed(gaps, _GAP_BITS, (count,)))
        every = Sparse(pattern, Dense(codes), shape).decode().reshape(-1)
        positions = np.flatnonzero(every)
        network.constants[f"{node.name}.weight"] = encode(
            shape, positions.astype(np.int64), every[positions].astype(np.uint32), table[1:]
        )
        network.constants[f"{node.name}.bias"] = Dense(bias)
    if reader.left:
        raise FormatError(place, f"{reader.left} bytes are left over after the last layer")
    network.metadata["preprocess"] = json.dumps(PREPROCESS, sort_keys=True, separators=(",", ":"))
    return network


class _Reader:
    """Takes arrays off the front of the file."""

    def __init__(self, data: bytes, place: str) -> None:
        self._data, self._place, self._position = data, place, 0

    @property
    def left(self) -> int:
        return len(self._data) - self._position

    def take(self, what: str, dtype: str, count: int) -> NDArray[Any]:
        size = count * np.dtype(dtype).itemsize
        if size > self.left:
            raise FormatError(
                self._place, f"{what} takes {size} bytes, {self.left} are left", "the file is cut off or is another one"
            )
        bytes_of = np.frombuffer(self._data, np.uint8, size, self._position) if size else np.empty(0, np.uint8)
        self._position += size
        array: NDArray[Any] = bytes_of.copy().view(dtype)  # copied: sections of the file are not aligned
        return array


def _squeezenet() -> Network:
    """SqueezeNet v1.0 with empty weights of the right shape."""
    network = Network("squeezenet_v1.0_deep_compression")
    network.add_input("data", ["N", 3, 227, 227])
    value = _conv(network, "conv1", "data", (96, 3, 7, 7), strides=[2, 2])
    value = _pool(network, "pool1", value)
    channels = 96
    for name, (squeeze, expand) in _FIRES.items():
        if not squeeze:
            value = _pool(network, name, value)
            continue
        value = _conv(network, f"{name}/conv1x1_1", value, (squeeze, channels, 1, 1))
        left = _conv(network, f"{name}/conv1x1_2", value, (expand, squeeze, 1, 1))
        right = _conv(network, f"{name}/conv3x3_2", value, (expand, squeeze, 3, 3), pads=[1, 1, 1, 1])
        value, channels = f"{name}/concat", 2 * expand
        network.add_node("Concat", [left, right], [value], value, axis=1)
    # The 1x1 convolution is padded: its border is relu(bias).
    value = _conv(network, "conv_final", value, (1000, channels, 1, 1), pads=[1, 1, 1, 1])
    network.add_node("GlobalAveragePool", [value], ["gap"], "pool_final")
    network.add_node("Flatten", ["gap"], ["logits"], "flatten", axis=1)
    network.set_outputs(["logits"])
    return network


def _conv(network: Network, name: str, value: str, shape: tuple[int, ...], **attributes: list[int]) -> str:
    network.add_constant(f"{name}.weight", np.zeros(shape, np.float32))
    network.add_constant(f"{name}.bias", np.zeros(shape[0], np.float32))
    kernel = list(shape[2:])
    inputs = [value, f"{name}.weight", f"{name}.bias"]
    network.add_node("Conv", inputs, [f"{name}_c"], name, kernel_shape=kernel, **attributes)
    network.add_node("Relu", [f"{name}_c"], [f"{name}_r"], f"{name}_relu")
    return f"{name}_r"


def _pool(network: Network, name: str, value: str) -> str:
    network.add_node("MaxPool", [value], [name], name, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    return name


def _weight_shape(network: Network, layer: str) -> tuple[int, ...]:
    return network.constants[f"{layer}.weight"].shape
