"""A plain Huffman encoder for tests of the decoders."""

import heapq

import numpy as np

from tests.rawfile import RawLeaf, leaf
from tests.reference.arrays import Array
from tests.reference.decoders import CHUNK

LONGEST = 15


def code_lengths(counts: list[int]) -> list[int]:
    """Code length per symbol; counts are flattened until no code is too long."""
    used = [symbol for symbol, count in enumerate(counts) if count > 0]
    lengths = [0] * len(counts)
    if len(used) == 1:
        lengths[used[0]] = 1
        return lengths
    heap = [(counts[symbol], symbol, [symbol]) for symbol in used]
    heapq.heapify(heap)
    while len(heap) > 1:
        (a, first, left), (b, _, right) = heapq.heappop(heap), heapq.heappop(heap)
        for symbol in left + right:
            lengths[symbol] += 1
        heapq.heappush(heap, (a + b, first, left + right))
    if max(lengths) > LONGEST:
        return code_lengths([(count + 1) // 2 for count in counts])
    return lengths


def canonical(lengths: list[int]) -> dict[int, str]:
    """The canonical code of each symbol as a string of bits."""
    book, code, last = {}, 0, 0
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(lengths) if length):
        code <<= length - last
        book[symbol] = format(code, f"0{length}b")
        code, last = code + 1, length
    return book


def encode(
    codes: Array, alphabet: int, prefix: str, lengths: list[int] | None = None
) -> tuple[dict[str, object], dict[str, RawLeaf]]:
    """The JSON node and the leaves (named with a prefix) of a Huffman stream."""
    flat = codes.reshape(-1).tolist()
    if lengths is None:
        lengths = code_lengths(np.bincount(codes.reshape(-1), minlength=alphabet).tolist())
    book = canonical(lengths)
    stream, offsets, total = bytearray(), [], 0
    for start in range(0, len(flat), CHUNK):
        offsets.append(len(stream))
        bits = "".join(book[symbol] for symbol in flat[start : start + CHUNK])
        total = 8 * len(stream) + len(bits)
        stream += np.packbits(np.frombuffer(bits.encode(), np.uint8) - ord("0")).tobytes()
    leaves = {f"{prefix}.stream": RawLeaf("U8", (len(stream),), bytes(stream))}
    leaves[f"{prefix}.lengths"] = leaf(np.array(lengths, np.uint8))
    node: dict[str, object] = {
        "kind": "huffman",
        "leaf": f"{prefix}.stream",
        "lengths": f"{prefix}.lengths",
        "length": total,
        "shape": list(codes.shape),
    }
    if len(offsets) > 1:
        leaves[f"{prefix}.offsets"] = leaf(np.array(offsets, np.uint32))
        node["offsets"] = f"{prefix}.offsets"
    return node, leaves
