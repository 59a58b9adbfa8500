"""What this machine can do at best, measured: what kernels are compared with."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from bittern import _native
from bittern.errors import InputError


@dataclass(frozen=True)
class Cache:
    """A data cache of a core: its size, and the rate at which vectors are read from it."""

    level: int
    bytes: int
    load_gbs: float


@dataclass(frozen=True)
class Limits:
    """Rates of ``threads`` threads together with vectors of the level ``isa``.

    ``fma_gflops``: f32 multiply-adds in registers, counted as two operations each, in 10^9 per second. ``int8_gops``:
    products of unsigned and signed bytes, summed exactly in 32 bits, in registers, likewise. ``caches``, first level
    first, and ``memory_load_gbs``: reading, in 10^9 bytes per second. ``memory_copy_gbs``: bytes read and written.
    ``bit_gops``: products of two numbers of one bit, by exclusive or, count and addition in registers, likewise.
    """

    isa: str
    threads: int
    fma_gflops: float
    int8_gops: float
    caches: tuple[Cache, ...]
    memory_load_gbs: float
    memory_copy_gbs: float
    bit_gops: float = 0.0

    def holding(self, size: float) -> tuple[str, float]:
        """The nearest level that holds so many bytes, ``L1``, ``L2``, ... or ``memory``, and its rate of reading."""
        for cache in self.caches:
            # The last cache is shared by all threads, the others belong to one each.
            if size <= cache.bytes * (1 if cache is self.caches[-1] else self.threads):
                return f"L{cache.level}", cache.load_gbs
        return "memory", self.memory_load_gbs

    def better_of(self, other: Limits) -> Limits:
        """Rate by rate the higher one, of two measurements of the same level: what disturbs only lowers them."""
        return replace(
            self,
            fma_gflops=max(self.fma_gflops, other.fma_gflops),
            int8_gops=max(self.int8_gops, other.int8_gops),
            caches=tuple(
                replace(mine, load_gbs=max(mine.load_gbs, its.load_gbs))
                for mine, its in zip(self.caches, other.caches, strict=True)
            ),
            memory_load_gbs=max(self.memory_load_gbs, other.memory_load_gbs),
            memory_copy_gbs=max(self.memory_copy_gbs, other.memory_copy_gbs),
            bit_gops=max(self.bit_gops, other.bit_gops),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, strings and lists."""
        return asdict(self) | {"caches": [asdict(cache) for cache in self.caches]}


def limits(isa: str | None = None, threads: int = 1) -> Limits:
    """Measure the machine: the best of some short runs each, about half a second in all.

    ``isa``: the instruction-set level of the probes, None for BITTERN_ISA or else the best. ``threads``: 0 for all
    CPUs granted to the process. Other work on the machine lowers what is found.
    Raises InputError for a level or a number of threads that cannot be used, ResourceError without memory for it.
    """
    found = _native.limits(isa or "", threads)
    return Limits(**(found | {"caches": tuple(Cache(*cache) for cache in found["caches"])}))


def panel_limit(vectors: int, entries: int, isa: str | None = None, threads: int = 1) -> float:
    """What a kernel on non-zero weights can do at best: 10^9 operations per second, a multiply-add counted as two.

    A broadcast weight times ``vectors`` vectors at aligned, random places of a panel in the first-level cache, again
    and again; the sums of a row, as many vectors, are loaded, and stored after ``entries`` weights. Such kernels load
    a vector for each multiply-add, which is why the rate in registers (:func:`limits`) is out of their reach.
    Best of some short runs. Raises InputError for what cannot be used (the message has the widest panel).
    """
    for name, value in (("vectors", vectors), ("entries", entries), ("threads", threads)):
        if not 0 <= value < 2**31:
            raise InputError(name, str(value), "too large" if value > 0 else "it cannot be negative")
    return _native.panel_limit(vectors, entries, isa or "", threads)
