"""A plain rANS encoder for tests of the decoders."""

import numpy as np

from tests.rawfile import RawLeaf, leaf
from tests.reference.arrays import Array
from tests.reference.decoders import CHUNK


def frequencies_of(counts: list[int], bits: int) -> list[int]:
    """Frequencies that sum to 2**bits: shares rounded down, at least 1; the most frequent symbol takes the rest."""
    total = sum(counts)
    shares = [max(1, count * 2**bits // total) if count else 0 for count in counts]
    shares[shares.index(max(shares))] += 2**bits - sum(shares)
    assert min(share for share in shares if share) > 0 and sum(shares) == 2**bits
    return shares


def encode_chunk(symbols: list[int], frequencies: list[int], bits: int) -> list[int]:
    """The words of one chunk."""
    starts = np.cumsum([0, *frequencies]).tolist()
    states, words = [2**16, 2**16], []
    for i in reversed(range(len(symbols))):
        symbol, state = symbols[i], states[i % 2]
        if state >= frequencies[symbol] * 2 ** (32 - bits):
            words.append(state % 2**16)
            state //= 2**16
        high, low = divmod(state, frequencies[symbol])
        states[i % 2] = high * 2**bits + starts[symbol] + low
    head = [half for state in states for half in (state % 2**16, state // 2**16)]
    return [*head, *reversed(words)]


def encode(
    codes: Array, alphabet: int, prefix: str, bits: int = 12, frequencies: list[int] | None = None
) -> tuple[dict[str, object], dict[str, RawLeaf]]:
    """The JSON node and the leaves (named with a prefix) of a rANS stream."""
    flat = codes.reshape(-1).tolist()
    if frequencies is None:
        frequencies = frequencies_of(np.bincount(codes.reshape(-1), minlength=alphabet).tolist(), bits)
    offsets: list[int] = []
    words: list[int] = []
    for start in range(0, len(flat), CHUNK):
        offsets.append(len(words))
        words += encode_chunk(flat[start : start + CHUNK], frequencies, bits)
    leaves = {
        f"{prefix}.stream": leaf(np.array(words, np.uint16)),
        f"{prefix}.frequencies": leaf(np.array(frequencies, np.uint16)),
    }
    node: dict[str, object] = {
        "kind": "rans",
        "leaf": f"{prefix}.stream",
        "frequencies": f"{prefix}.frequencies",
        "bits": bits,
        "shape": list(codes.shape),
    }
    if len(offsets) > 1:
        leaves[f"{prefix}.offsets"] = leaf(np.array(offsets, np.uint32))
        node["offsets"] = f"{prefix}.offsets"
    return node, leaves
