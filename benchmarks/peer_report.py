"""What peers.py found: a table per network and thread count, the ratios, and what they do not say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from bittern.report import bytes_short, milliseconds, shape_text, significant, table

OWN, OWN_DENSE = "bittern", "bittern_dense"

LIMITS = """\
ratio: bittern's median over that of the fastest other engine whose answers are right; below 1 bittern is faster.
Its p10 .. p90: of the ratios of single rounds. Peak memory: of the engine's whole process, the Python interpreter, the
engine's libraries and its reading of the file included. Load: from the file to a network ready to run, the file in
the system's cache, after importing the package. torch has no reader of these files: its load time and its memory
contain ours, and both forms of the module that are tried.

Not shown: batches above 1, other image sizes, engines at lower precision, torch.compile, throughput with several
inferences at once, behaviour beside other programs, other processors. Weights are random: time does not depend on
them, as long as no value becomes denormal."""
UNCOMPRESSED = " The comparison is of float32 alone; nothing here is compressed."
PRUNED = """ Zeros are drawn uniformly, in all convolutions but the first and depthwise
ones; every engine reads them in the same file, and most compute with them. own dense: bittern's median over that of
bittern on the unpruned network. Zeros of trained networks may come in patterns that others use."""


@dataclass
class Result:
    """One engine on one network."""

    engine: str
    samples_ms: list[float] = field(default_factory=list)
    loaded: dict[str, Any] = field(default_factory=dict)
    peak_bytes: int = 0
    error: float | None = None
    wrong: bool = False
    failure: str = ""

    @property
    def usable(self) -> bool:
        """Whether its times count."""
        return not self.failure and not self.wrong and bool(self.samples_ms)

    @property
    def median_ms(self) -> float:
        """The median over the rounds."""
        return float(np.median(self.samples_ms))

    def to_json(self) -> dict[str, Any]:
        """Everything known, samples included."""
        known: dict[str, Any] = {"engine": self.engine, **self.loaded, "relative_error": self.error}
        if self.failure:
            return known | {"failure": self.failure}
        low, high = spread(self.samples_ms)
        times = {"median_ms": self.median_ms, "p10_ms": low, "p90_ms": high, "samples_ms": self.samples_ms}
        return known | {"wrong": self.wrong, "peak_bytes": self.peak_bytes, **times}


@dataclass
class Ratio:
    """bittern against the fastest other engine: ratio of medians, and the spread of the rounds' ratios."""

    other: str
    value: float
    low: float
    high: float


@dataclass
class Table:
    """All engines on one network with one number of threads."""

    network: str
    threads: int
    shape: list[int]
    rounds: int
    file_bytes: dict[str, int]
    results: list[Result]

    @property
    def own(self) -> Result | None:
        """bittern's result if its times count."""
        return next((result for result in self.results if result.engine == OWN and result.usable), None)

    @property
    def fastest_other(self) -> Result | None:
        """The fastest of the others whose times count."""
        others = [result for result in self.results if not result.engine.startswith(OWN) and result.usable]
        return min(others, key=lambda result: result.median_ms, default=None)

    @property
    def ratio(self) -> Ratio | None:
        """None where bittern or all others have no times that count."""
        return self._against(self.fastest_other)

    @property
    def ratio_to_dense(self) -> Ratio | None:
        """The same against bittern on the unpruned network."""
        return self._against(next((each for each in self.results if each.engine == OWN_DENSE and each.usable), None))

    def _against(self, other: Result | None) -> Ratio | None:
        own = self.own
        if own is None or other is None:
            return None
        rounds = [mine / its for mine, its in zip(own.samples_ms, other.samples_ms, strict=True)]
        return Ratio(other.engine, own.median_ms / other.median_ms, *spread(rounds))

    def to_json(self) -> dict[str, Any]:
        """Everything known."""
        ratio, dense = self.ratio, self.ratio_to_dense
        return {
            "network": self.network,
            "threads": self.threads,
            "shape": self.shape,
            "rounds": self.rounds,
            "file_bytes": self.file_bytes,
            "engines": [result.to_json() for result in self.results],
            "fastest_other": None if ratio is None else ratio.other,
            "ratio": None if ratio is None else ratio.value,
            "ratio_p10": None if ratio is None else ratio.low,
            "ratio_p90": None if ratio is None else ratio.high,
            **({} if dense is None else {"ratio_to_dense": dense.value}),
        }

    def text(self) -> str:
        """The table for a reader."""
        files = ", ".join(f".{kind} {bytes_short(count)}" for kind, count in self.file_bytes.items())
        rows = [_row(result) for result in self.results if not result.failure]
        headers = ["engine", "version", "median", "p10 .. p90", "load", "first run", "peak memory", "error"]
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        lines = [f"{self.network}, {shape_text(self.shape)}, {threads}, {self.rounds} rounds; {files}"]
        lines += [table(headers, rows, "llrrrrrr")] if rows else []
        lines += [f"{result.engine}: {result.failure}" for result in self.results if result.failure]
        lines += [f"{result.engine}: its answer is wrong, no ratio" for result in self.results if result.wrong]
        return "\n".join(lines)


def spread(values: Sequence[float]) -> tuple[float, float]:
    """The tenth and the ninetieth percentile."""
    return float(np.percentile(values, 10)), float(np.percentile(values, 90))


def _row(result: Result) -> list[str]:
    low, high = spread(result.samples_ms)
    return [
        result.engine,
        result.loaded["version"],
        milliseconds(result.median_ms),
        f"{significant(low)} .. {significant(high)}",
        milliseconds(result.loaded["load_ms"]),
        milliseconds(result.loaded["first_ms"]),
        bytes_short(result.peak_bytes),
        "unchecked" if result.error is None else significant(result.error, 2),
    ]


def text_of(system: dict[str, Any], tables: Sequence[Table], sparse: bool = False) -> str:
    """The machine, the engines' settings, the ratio table and its limits."""
    notes: dict[str, list[str]] = {}
    for result in (result for each in tables for result in each.results if result.loaded):
        known = notes.setdefault(result.engine, [])
        if result.loaded["note"] not in known:
            known.append(result.loaded["note"])
    rows = []
    for each in tables:
        own, ratio = each.own, each.ratio
        cells = ["-", "-", "-"]
        if ratio is not None:
            cells = [ratio.other, f"{ratio.value:.3f}", f"{ratio.low:.3f} .. {ratio.high:.3f}"]
        if sparse:
            dense = each.ratio_to_dense
            cells.append("-" if dense is None else f"{dense.value:.3f} ({dense.low:.3f} .. {dense.high:.3f})")
        rows.append([each.network, str(each.threads), "-" if own is None else milliseconds(own.median_ms), *cells])
    headers = ["network", "threads", "bittern", "fastest other", "ratio", "p10 .. p90", *["own dense"] * sparse]
    return "\n".join(
        [
            ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in system.items()),
            *(f"{engine}: {'; '.join(texts)}" for engine, texts in notes.items()),
            "",
            table(headers, rows, "lrrlrr" + "r" * sparse),
            "",
            LIMITS + (PRUNED if sparse else UNCOMPRESSED),
        ]
    )
