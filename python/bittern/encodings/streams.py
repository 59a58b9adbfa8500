"""Integer nodes that are streams: packed, trits, huffman, rans."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bittern.encode import bitpack, huffman, rans
from bittern.encodings.base import Encoding, as_leaf, as_shape
from bittern.errors import InputError


@dataclass(frozen=True, eq=False)
class Packed(Encoding):
    """Codes of ``bits`` bits in one stream, least significant bit first; two's complement if ``signed``."""

    kind: ClassVar[str] = "packed"
    leaf: NDArray[np.uint8]
    bits: int
    dims: tuple[int, ...] = field(metadata={"key": "shape"})
    signed: bool = False

    @classmethod
    def pack(cls, codes: NDArray[Any], bits: int, *, signed: bool = False) -> Packed:
        """Pack an integer array. Raises InputError if a code does not fit ``bits`` bits."""
        low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
        codes = np.asarray(codes)
        node = cls(bitpack.pack(_as_u32(codes), bits), bits, codes.shape, signed)
        if codes.size and (int(codes.min()) < low or int(codes.max()) > high):
            node.refuse(f"codes {int(codes.min())}..{int(codes.max())} do not fit {low}..{high}")
        return node

    def _check(self) -> None:
        as_leaf(self, "leaf", ("U8",))
        as_shape(self, "dims")
        if type(self.bits) is not int or not 1 <= self.bits <= 32:
            self.refuse(f"bits is {self.bits!r}, allowed are 1 to 32")
        if type(self.signed) is not bool:
            self.refuse(f"signed is {self.signed!r}, expected true or false")
        needed = (math.prod(self.dims) * self.bits + 7) // 8
        if self.leaf.size != needed:
            self.refuse(
                f"leaf has {self.leaf.size} bytes, {self.bits}-bit codes of shape {list(self.dims)} take {needed}"
            )

    @property
    def is_real(self) -> bool:
        return False

    @property
    def stored_shape(self) -> tuple[int, ...]:
        return self.dims

    def describe(self) -> str:
        return f"{self.kind}({self.bits})"

    def _decode(self) -> NDArray[Any]:
        n = math.prod(self.dims)
        spare = -n * self.bits % 8
        stream = self.leaf.reshape(-1)
        if spare and stream[-1] >> (8 - spare):
            self.damaged("spare bits after the last code are not zero")
        codes = bitpack.unpack(stream, n, self.bits)
        if self.signed:
            unused = np.int32(32 - self.bits)
            signed: NDArray[Any] = (codes << unused.astype(np.uint32)).view(np.int32) >> unused
            return signed.astype(f"i{_bytes_for(self.bits)}").reshape(self.dims)
        return codes.astype(f"u{_bytes_for(self.bits)}").reshape(self.dims)


@dataclass(frozen=True, eq=False)
class Trits(Encoding):
    """Codes 0, 1 and 2, five to a byte: the digits of a number to base 3, the first the lowest."""

    kind: ClassVar[str] = "trits"
    leaf: NDArray[np.uint8]
    dims: tuple[int, ...] = field(metadata={"key": "shape"})

    @classmethod
    def pack(cls, codes: NDArray[Any]) -> Trits:
        """Pack an integer array. Raises InputError if a code is not 0, 1 or 2."""
        codes = np.asarray(codes)
        if codes.size and (int(codes.min()) < 0 or int(codes.max()) > 2):
            raise InputError("trits encoding", f"codes {int(codes.min())}..{int(codes.max())} do not fit 0..2")
        digits = np.zeros((-(-codes.size // 5), 5), dtype=np.uint8)
        digits.reshape(-1)[: codes.size] = codes.reshape(-1)
        return cls((digits * _POWERS).sum(axis=1, dtype=np.uint8), codes.shape)

    def _check(self) -> None:
        as_leaf(self, "leaf", ("U8",))
        as_shape(self, "dims")
        needed = -(-math.prod(self.dims) // 5)
        if self.leaf.size != needed:
            self.refuse(f"leaf has {self.leaf.size} bytes, trits of shape {list(self.dims)} take {needed}")

    @property
    def is_real(self) -> bool:
        return False

    @property
    def stored_shape(self) -> tuple[int, ...]:
        return self.dims

    def _decode(self) -> NDArray[Any]:
        stream = self.leaf.reshape(-1, 1)
        if stream.size and int(stream.max()) >= 3**5:
            self.damaged(f"byte {int(stream.max())} is above 242")
        digits: NDArray[np.uint8] = (stream // _POWERS % np.uint8(3)).reshape(-1)
        n = math.prod(self.dims)
        if digits[n:].any():
            self.damaged("spare trits after the last code are not zero")
        return digits[:n].reshape(self.dims)


_POWERS = np.array([1, 3, 9, 27, 81], dtype=np.uint8)


@dataclass(frozen=True, eq=False)
class Huffman(Encoding):
    """Canonical Huffman codes in chunks of 65,536 symbols, most significant bit first (docs/format.md)."""

    kind: ClassVar[str] = "huffman"
    leaf: NDArray[np.uint8]
    lengths: NDArray[np.uint8]
    length: int
    dims: tuple[int, ...] = field(metadata={"key": "shape"})
    offsets: NDArray[np.uint32] | None = None

    @classmethod
    def code(cls, symbols: NDArray[Any]) -> Huffman:
        """Code a non-empty array of non-negative integers with the best lengths for it. Raises InputError."""
        symbols = np.asarray(symbols)
        if not symbols.size or int(symbols.min()) < 0:
            raise InputError("huffman encoding", "needs at least one symbol, and none below zero")
        flat = _as_u32(symbols)
        lengths = huffman.code_lengths(np.bincount(flat))
        stream, length, offsets = huffman.encode(flat, lengths)
        return cls(stream, lengths, length, symbols.shape, offsets if offsets.size > 1 else None)

    def _check(self) -> None:
        as_leaf(self, "leaf", ("U8",))
        as_leaf(self, "lengths", ("U8",))
        if self.offsets is not None:
            as_leaf(self, "offsets", ("U32",))
        as_shape(self, "dims")
        if type(self.length) is not int or not 0 <= self.length < 2**63:
            self.refuse(f"length is {self.length!r}, expected a number of bits")
        if self.leaf.size != (self.length + 7) // 8:
            self.refuse(f"leaf has {self.leaf.size} bytes, {self.length} bits take {(self.length + 7) // 8}")
        n = math.prod(self.dims)
        if n > self.length:
            self.refuse(f"{n} symbols cannot stand in {self.length} bits")
        chunks = -(-n // huffman.CHUNK)
        if (self.offsets is not None) != (chunks > 1):
            self.refuse(f"{n} symbols {'need' if chunks > 1 else 'have no'} offsets")
        if self.offsets is not None and self.offsets.size != chunks:
            self.refuse(f"{self.offsets.size} offsets for {chunks} chunks")

    @property
    def is_real(self) -> bool:
        return False

    @property
    def stored_shape(self) -> tuple[int, ...]:
        return self.dims

    def _decode(self) -> NDArray[Any]:
        offsets = None if self.offsets is None else self.offsets.reshape(-1)
        try:
            symbols = huffman.decode(
                self.leaf.reshape(-1), self.length, self.lengths.reshape(-1), math.prod(self.dims), offsets
            )
        except ValueError as error:
            self.damaged(str(error))
        symbols_below = max(self.lengths.size - 1, 1).bit_length()
        return symbols.astype(f"u{_bytes_for(min(symbols_below, 32))}").reshape(self.dims)


@dataclass(frozen=True, eq=False)
class Rans(Encoding):
    """Symbols coded by their frequencies out of ``2**bits`` (rANS), in chunks of 65,536 symbols (docs/format.md)."""

    kind: ClassVar[str] = "rans"
    leaf: NDArray[np.uint16]
    frequencies: NDArray[np.uint16]
    bits: int
    dims: tuple[int, ...] = field(metadata={"key": "shape"})
    offsets: NDArray[np.uint32] | None = None

    @classmethod
    def code(cls, symbols: NDArray[Any], bits: int | None = None) -> Rans:
        """Code a non-empty array of integers from 0 to 32,767 by their own frequencies. Raises InputError.

        ``bits`` of the frequencies, 1 to 15: by default 14, or 15 for more than 1024 different symbols.
        """
        symbols = np.asarray(symbols)
        if not symbols.size or int(symbols.min()) < 0 or int(symbols.max()) >= 1 << rans.MAX_BITS:
            raise InputError("rans encoding", "needs at least one symbol, and none outside 0..32767")
        flat = _as_u32(symbols)
        counts = np.bincount(flat)
        width = rans_bits(counts) if bits is None else bits
        try:
            frequencies = rans.frequencies(counts, width)
            stream, offsets = rans.encode(flat, frequencies, width)
        except ValueError as error:
            raise InputError("rans encoding", str(error)) from None
        return cls(stream, frequencies, width, symbols.shape, offsets if offsets.size > 1 else None)

    def _check(self) -> None:
        as_leaf(self, "leaf", ("U16",))
        as_leaf(self, "frequencies", ("U16",))
        if self.offsets is not None:
            as_leaf(self, "offsets", ("U32",))
        as_shape(self, "dims")
        if type(self.bits) is not int or not 1 <= self.bits <= rans.MAX_BITS:
            self.refuse(f"bits is {self.bits!r}, allowed are 1 to {rans.MAX_BITS}")
        if self.frequencies.size > 1 << rans.MAX_BITS:
            self.refuse(f"{self.frequencies.size} frequencies, at most {1 << rans.MAX_BITS} are allowed")
        n = math.prod(self.dims)
        chunks = -(-n // rans.CHUNK)
        if self.leaf.size < rans.STATE_WORDS * chunks:
            self.refuse(f"{n} symbols cannot stand in {self.leaf.size} words")
        if (self.offsets is not None) != (chunks > 1):
            self.refuse(f"{n} symbols {'need' if chunks > 1 else 'have no'} offsets")
        if self.offsets is not None and self.offsets.size != chunks:
            self.refuse(f"{self.offsets.size} offsets for {chunks} chunks")

    @property
    def is_real(self) -> bool:
        return False

    @property
    def stored_shape(self) -> tuple[int, ...]:
        return self.dims

    def _decode(self) -> NDArray[Any]:
        offsets = None if self.offsets is None else self.offsets.reshape(-1)
        try:
            symbols = rans.decode(
                self.leaf.reshape(-1), self.frequencies.reshape(-1), self.bits, math.prod(self.dims), offsets
            )
        except ValueError as error:
            self.damaged(str(error))
        return symbols.astype(f"u{_bytes_for(max(self.frequencies.size - 1, 1).bit_length())}").reshape(self.dims)


def rans_bits(counts: NDArray[Any]) -> int:
    """The bits of frequencies for symbols that occur so often: enough that rounding them costs little."""
    return 14 if np.count_nonzero(counts) <= 1024 else 15


def _as_u32(codes: NDArray[Any]) -> NDArray[np.uint32]:
    """The low 32 bits of integers, flat."""
    return np.ascontiguousarray(codes.reshape(-1).astype(np.int64).astype(np.uint32))


def _bytes_for(bits: int) -> int:
    """Bytes of the smallest integer type that holds ``bits`` bits."""
    return 1 if bits <= 8 else 2 if bits <= 16 else 4
