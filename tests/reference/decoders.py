"""Every encoding kind decoded by its definition in docs/format.md, straight from the JSON and the leaves."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.reference.arrays import Array
from tests.reference.container import Leaf

Leaves = Mapping[str, Leaf]
Tree = Mapping[str, Any]

CHUNK = 65536
"""Symbols per Huffman chunk."""


def decode(tree: Tree, leaves: Leaves) -> Array:
    """The constant a tree stands for: float32, or the integer type of a dense integer leaf."""
    value = real(tree, leaves) if is_real(tree, leaves) else dense_leaf(tree, leaves)
    if tree.get("order", "OIHW") == "OHWI":
        value = value.transpose(0, 3, 1, 2)
    return np.asarray(value, order="C")


def is_real(tree: Tree, leaves: Leaves) -> bool:
    """Whether a node yields float32 numbers (else integers)."""
    kind = tree["kind"]
    if kind == "dense":
        return leaves[tree["leaf"]].dtype in ("F32", "F16", "BF16")
    if kind == "sparse":
        return is_real(tree["values"], leaves)
    return kind in ("affine", "codebook", "ternary", "signs")


def dense_leaf(tree: Tree, leaves: Leaves) -> Array:
    """A dense node's leaf, in its own type."""
    assert tree["kind"] == "dense"
    return leaves[tree["leaf"]].array()


def along(parameter: Array, shape: tuple[int, ...], tree: Tree) -> Array:
    """A parameter repeated to the shape of the codes: whole tensor, per axis, or per group of an axis."""
    if "group" in tree:
        axis, size = tree["axis"], tree["group"]
        entry = np.arange(shape[axis]) // size
        repeated: Array = np.take(parameter, entry, axis=axis)
        return repeated
    if "axis" in tree:
        column = [1] * len(shape)
        column[tree["axis"]] = shape[tree["axis"]]
        return np.broadcast_to(parameter.reshape(column), shape)
    return np.broadcast_to(parameter.reshape(()), shape)


def real(tree: Tree, leaves: Leaves) -> Array:
    """A real node's elements in float32."""
    kind = tree["kind"]
    if kind == "dense":
        return dense_leaf(tree, leaves).astype(np.float32)
    if kind == "sparse":
        return sparse(tree, leaves, real(tree["values"], leaves))
    codes = integers(tree["codes"], leaves)
    if kind == "affine":
        scale = along(real(tree["scale"], leaves), codes.shape, tree)
        difference = codes
        if "zero_point" in tree:
            difference = codes - along(integers(tree["zero_point"], leaves), codes.shape, tree)
        return np.multiply(scale, difference.astype(np.float32), dtype=np.float32)
    if kind == "codebook":
        table = real(tree["table"], leaves)
        if "axis" not in tree:
            return table[codes]
        row = np.arange(codes.shape[tree["axis"]])
        return table[along(row, codes.shape, tree), codes]
    if kind == "ternary":
        positive = along(real(tree["positive"], leaves), codes.shape, tree)
        negative = along(real(tree["negative"], leaves), codes.shape, tree)
        return np.where(codes == 1, positive, np.where(codes == 2, -negative, np.float32(0)))
    if kind == "signs":
        scale = along(real(tree["scale"], leaves), codes.shape, tree)
        return np.where(codes == 1, scale, -scale)
    raise NotImplementedError(kind)


def integers(tree: Tree, leaves: Leaves) -> Array:
    """An integer node's elements in int64."""
    kind = tree["kind"]
    if kind == "dense":
        return dense_leaf(tree, leaves).astype(np.int64)
    if kind == "packed":
        return packed(tree, leaves[tree["leaf"]].data)
    if kind == "huffman":
        return huffman(tree, leaves)
    if kind == "sparse":
        return sparse(tree, leaves, integers(tree["values"], leaves))
    raise NotImplementedError(kind)


def sparse(tree: Tree, leaves: Leaves, values: Array) -> Array:
    """Zeros with the values put at the pattern's positions, in order."""
    shape = tuple(tree["shape"])
    flat = np.zeros(math.prod(shape), values.dtype)
    flat[positions(tree["pattern"], leaves, shape)] = values
    return flat.reshape(shape)


def positions(pattern: Tree, leaves: Leaves, shape: tuple[int, ...]) -> Array:
    """The flat positions of a pattern, in order."""
    kind = pattern["kind"]
    if kind == "bitmap":
        return np.flatnonzero(integers(pattern["mask"], leaves).reshape(-1) == 1)
    if kind == "relative_index":
        return np.cumsum(integers(pattern["gaps"], leaves).reshape(-1) + 1) - 1
    if kind == "csr":
        row_ptr = integers(pattern["row_ptr"], leaves)
        columns = integers(pattern["columns"], leaves)
        width = math.prod(shape[1:])
        found = [row * width + columns[row_ptr[row] : row_ptr[row + 1]] for row in range(shape[0])]
        return np.concatenate(found) if found else np.zeros(0, np.int64)
    raise NotImplementedError(kind)


def packed(tree: Tree, data: bytes) -> Array:
    """Codes of `bits` bits in one stream, least significant bit first."""
    shape, bits = tuple(tree["shape"]), int(tree["bits"])
    count = math.prod(shape)
    stream = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[: count * bits]
    weights = np.left_shift(np.int64(1), np.arange(bits, dtype=np.int64))
    if tree.get("signed", False):
        weights[-1] = -weights[-1]
    codes: Array = (stream.reshape(count, bits).astype(np.int64) * weights).sum(axis=1, dtype=np.int64)
    return codes.reshape(shape)


def huffman(tree: Tree, leaves: Leaves) -> Array:
    """Canonical Huffman codes, read bit by bit from the most significant end of each byte."""
    shape = tuple(tree["shape"])
    count = math.prod(shape)
    lengths = [int(length) for length in leaves[tree["lengths"]].array()]
    book: dict[tuple[int, int], int] = {}
    code, last = 0, 0
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(lengths) if length > 0):
        code <<= length - last
        book[length, code] = symbol
        code, last = code + 1, length
    bits = np.unpackbits(np.frombuffer(leaves[tree["leaf"]].data, np.uint8)).tolist()
    starts = [0]
    if "offsets" in tree:
        starts = [int(offset) for offset in leaves[tree["offsets"]].array()]
    symbols: list[int] = []
    for start in starts:
        at = 8 * start
        for _ in range(min(CHUNK, count - len(symbols))):
            length, word = 1, bits[at]
            while (length, word) not in book:
                word = 2 * word + bits[at + length]
                length += 1
            symbols.append(book[length, word])
            at += length
    return np.array(symbols, np.int64).reshape(shape)
