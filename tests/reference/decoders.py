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
"""Symbols per chunk of huffman and rans."""


LEAF_KEYS = ("kind", "order", "leaf", "lengths", "frequencies", "offsets", "parts")
"""Keys whose strings are not nodes in short form."""


def spelled(tree: Tree | str) -> Tree:
    """The tree with every dense node that is only the name of its leaf written as an object."""
    if isinstance(tree, str):
        return {"kind": "dense", "leaf": tree}
    return {
        key: spelled(value) if isinstance(value, (Mapping, str)) and key not in LEAF_KEYS else value
        for key, value in tree.items()
    }


def decode(given: Tree | str, leaves: Leaves) -> Array:
    """The constant a tree stands for: float32, or the integer type of a dense integer leaf."""
    tree = spelled(given)
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
    return kind in ("affine", "codebook", "ternary", "signs", "pow2", "sum", "seeded")


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


def real(given: Tree | str, leaves: Leaves) -> Array:
    """A real node's elements in float32."""
    tree = spelled(given)
    kind = tree["kind"]
    if kind == "dense":
        return dense_leaf(tree, leaves).astype(np.float32)
    if kind == "sparse":
        return sparse(tree, leaves, real(tree["values"], leaves))
    if kind == "sum":
        total = real(tree["parts"][0], leaves)
        with np.errstate(over="ignore", invalid="ignore"):
            for part in tree["parts"][1:]:
                total = np.add(total, real(part, leaves), dtype=np.float32)
        return np.asarray(total)
    if kind == "seeded":
        return seeded(tree)
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
    if kind == "pow2":
        scale = along(real(tree["scale"], leaves), codes.shape, tree)
        return np.multiply(scale, powers(codes, tree["terms"], tree["bits"]), dtype=np.float32)
    raise NotImplementedError(kind)


def integers(given: Tree | str, leaves: Leaves) -> Array:
    """An integer node's elements in int64."""
    tree = spelled(given)
    kind = tree["kind"]
    if kind == "dense":
        return dense_leaf(tree, leaves).astype(np.int64)
    if kind == "packed":
        return packed(tree, leaves[tree["leaf"]].data)
    if kind == "trits":
        return trits(tree, leaves[tree["leaf"]].data)
    if kind == "separable_signs":
        return separable_signs(tree, leaves[tree["leaf"]].data)
    if kind == "huffman":
        return huffman(tree, leaves)
    if kind == "rans":
        return rans(tree, leaves)
    if kind == "sparse":
        return sparse(tree, leaves, integers(tree["values"], leaves))
    raise NotImplementedError(kind)


def powers(codes: Array, terms: int, bits: int) -> Array:
    """The sum of the signed powers of two of each code, in float32, term by term."""
    total = np.zeros(codes.shape, np.float32)
    for n in range(1, terms + 1):
        term = codes >> (n - 1) * bits & (2**bits - 1)
        level = term % 2 ** (bits - 1)
        sign = np.where(term >= 2 ** (bits - 1), -1.0, 1.0)
        power = np.where(level > 0, sign * 2.0 ** (2.0 - n - level), 0.0)
        total = total + power.astype(np.float32)
    return total


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
    if kind == "blocks":
        height, width = pattern["height"], pattern["width"]
        grid = np.zeros((shape[0] // height, math.prod(shape[1:]) // width), bool)
        grid.reshape(-1)[positions(pattern["pattern"], leaves, grid.shape)] = True
        return np.flatnonzero(np.repeat(np.repeat(grid, height, axis=0), width, axis=1))
    if kind == "n_of_m":
        places = integers(pattern["places"], leaves).reshape(-1)
        return np.array([i // pattern["n"] * pattern["m"] + int(place) for i, place in enumerate(places)], np.int64)
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


def trits(tree: Tree, data: bytes) -> Array:
    """Five digits to base 3 in each byte, the lowest first."""
    shape = tuple(tree["shape"])
    digits = [byte // 3**i % 3 for byte in data for i in range(5)]
    return np.array(digits[: math.prod(shape)], np.int64).reshape(shape)


def separable_signs(tree: Tree, data: bytes) -> Array:
    """Kernels of 0 and 1 from the signs of their rows but the first, then of their columns."""
    *outer, height, width = tree["shape"]
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little").astype(np.int64)
    signs = 2 * bits[: math.prod(outer) * (height + width - 1)].reshape(-1, height + width - 1) - 1
    kernels = [np.outer([1, *kernel[: height - 1]], kernel[height - 1 :]) for kernel in signs]
    codes: Array = (np.array(kernels, np.int64).reshape(*outer, height, width) + 1) // 2
    return codes


def seeded(tree: Tree) -> Array:
    """Random -1, 0 and +1, number by number in whole numbers without bound."""
    state, found = int(tree["seed"]), []
    for _ in range(math.prod(tree["shape"])):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        z ^= z >> 31
        found.append(0 if z >> 32 >= tree["threshold"] else -1 if z % 2 else 1)
    return np.asarray(np.array(found, np.float32).reshape(tree["shape"]))


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


def rans(tree: Tree, leaves: Leaves) -> Array:
    """Symbols taken one by one out of two states that are refilled by words of 16 bits."""
    shape, slots = tuple(tree["shape"]), 2 ** int(tree["bits"])
    count = math.prod(shape)
    frequencies = [int(frequency) for frequency in leaves[tree["frequencies"]].array()]
    symbol_of = [symbol for symbol, frequency in enumerate(frequencies) for _ in range(frequency)]
    first = {symbol: slot for slot, symbol in reversed([*enumerate(symbol_of)])}
    words = [int(word) for word in leaves[tree["leaf"]].array()]
    starts = [int(offset) for offset in leaves[tree["offsets"]].array()] if "offsets" in tree else [0]
    symbols: list[int] = []
    for start in starts if count else []:
        states = [words[start] + 65536 * words[start + 1], words[start + 2] + 65536 * words[start + 3]]
        at = start + 4
        for i in range(min(CHUNK, count - len(symbols))):
            high, slot = divmod(states[i % 2], slots)
            symbol = symbol_of[slot]
            state = frequencies[symbol] * high + slot - first[symbol]
            if state < 65536:
                state = 65536 * state + words[at]
                at += 1
            states[i % 2] = state
            symbols.append(symbol)
        assert states == [65536, 65536]
    return np.array(symbols, np.int64).reshape(shape)
