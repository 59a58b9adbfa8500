"""Sparse tensors of ONNX files (coordinates and values), and weights whose zeros become a sparse encoding."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bittern.encodings import Affine, Dense
from bittern.errors import FormatError, ResourceError
from bittern.importers.onnx_codes import widened
from bittern.network import Network
from bittern.operators import OPERATORS

if TYPE_CHECKING:
    from onnx import SparseTensorProto

# Bytes of a sparse tensor, which the importer writes out: so many, and some for each of its own, as the engine has it.
MAX_BYTES, MAX_BYTES_EACH = 2**30, 4096


def dense_array(tensor: SparseTensorProto, place: str) -> NDArray[Any]:
    """The array of a sparse tensor, zeros included.

    ``indices`` are flat positions ``[nnz]`` or coordinates ``[nnz, rank]``, sorted, none twice. Raises FormatError
    where they or the values are otherwise, ResourceError for a tensor that does not fit the memory.
    """
    import onnx

    try:
        values = widened(np.asarray(onnx.numpy_helper.to_array(tensor.values)), tensor.values.data_type)
        indices = np.asarray(onnx.numpy_helper.to_array(tensor.indices))
    except (ValueError, TypeError, OSError, onnx.checker.ValidationError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise FormatError(place, f"cannot be read ({reason})") from None
    shape = tuple(tensor.dims)
    if any(size < 0 for size in shape):
        raise FormatError(place, f"is of shape {list(shape)}")
    extent = math.prod(size for size in shape if size)  # sizes beside a zero must be such that NumPy takes them, too
    most = (MAX_BYTES + MAX_BYTES_EACH * tensor.ByteSize()) // values.itemsize
    if extent > most:
        raise ResourceError(
            place, f"is of shape {list(shape)}, at most {most} elements are imported from so few values"
        )
    if indices.dtype != np.int64:
        raise FormatError(place, f"has indices of type {indices.dtype}, expected int64")
    if values.ndim != 1 or indices.shape not in ((values.size,), (values.size, len(shape))):
        raise FormatError(
            place,
            f"has values of shape {list(values.shape)} and indices of shape {list(indices.shape)}",
            f"for the shape {list(shape)} indices are [nnz] or [nnz, {len(shape)}]",
        )
    if indices.ndim == 2:
        if ((indices < 0) | (indices >= np.array(shape, np.int64))).any():
            raise FormatError(place, f"has coordinates outside its shape {list(shape)}")
        indices = indices @ np.array([math.prod(shape[axis + 1 :]) for axis in range(len(shape))], np.int64)
    elif indices.size and (int(indices.min()) < 0 or int(indices.max()) >= math.prod(shape)):
        raise FormatError(place, f"has indices outside 0..{math.prod(shape) - 1}")
    if (np.diff(indices) <= 0).any():
        raise FormatError(place, "has indices that do not strictly increase")
    try:
        array = np.zeros(math.prod(shape), values.dtype)
        array[indices] = values
    except MemoryError:
        raise ResourceError(place, f"no memory for a tensor of shape {list(shape)}") from None
    return array.reshape(shape)


def encode_zeros(network: Network) -> None:
    """Give every weight of float32 numbers or of codes with zeros its smallest sparse encoding, where that is smaller.

    Values stay exact.
    """
    from bittern.compression.zeros import sparse_codes, sparse_form

    for node in network.nodes:
        for index in OPERATORS[node.op].weights:
            name = node.inputs[index] if index < len(node.inputs) else ""
            tree = network.constants.get(name)
            if isinstance(tree, Dense) and not tree.bf16 and tree.leaf.dtype == np.float32 and not tree.order:
                network.constants[name] = sparse_form(tree.leaf) or tree
            elif isinstance(tree, Affine):
                network.constants[name] = sparse_codes(tree) or tree
