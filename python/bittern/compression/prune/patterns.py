"""Which weights may go together: single ones, n of m, blocks, the same number in every row."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bittern.compression.layerwise.grid import Floats, Layout
from bittern.errors import InputError

Mask = NDArray[np.bool_]
Ids = NDArray[np.int64]
ALLOWED = "use unstructured, N:M as in 2:4, ROWSxCOLUMNS as in 1x4, row-balanced, row-balanced:BANKS, or filters"


@dataclass(frozen=True)
class Cells:
    """A weight's rows cut up: elements with equal ``(row_tile, column_tile)`` are kept or dropped together, and tiles
    with equal ``(row_contest, column_contest)`` compete for the places. Ids count from 0.
    """

    row_tile: Ids  # [channels]
    column_tile: Ids  # [n]
    row_contest: Ids  # by row tile
    column_contest: Ids  # by column tile

    def columns(self, chosen: Ids) -> Cells:
        """The cells of some of the columns, which hold whole tiles."""
        tiles, local = np.unique(self.column_tile[chosen], return_inverse=True)
        contests, of_tile = np.unique(self.column_contest[tiles], return_inverse=True)
        del contests
        return Cells(self.row_tile, local.reshape(-1), self.row_contest, of_tile.reshape(-1))

    def scores(self, elements: Floats) -> Floats:
        """The mean over each tile, ``[row tiles, column tiles]``, of element scores ``[channels, n]``."""
        shape = self.row_contest.size, self.column_contest.size
        if shape == elements.shape:
            return elements[np.argsort(self.row_tile, kind="stable")][:, np.argsort(self.column_tile, kind="stable")]
        by_row = np.zeros((shape[0], elements.shape[1]))
        np.add.at(by_row, self.row_tile, elements)
        total = np.zeros(shape).T.copy()
        np.add.at(total, self.column_tile, by_row.T)
        heights = np.bincount(self.row_tile, minlength=shape[0])
        widths = np.bincount(self.column_tile, minlength=shape[1])
        return np.asarray(total.T / np.outer(heights, widths))

    @property
    def contests(self) -> Ids:
        """The contest of each tile, ``[row tiles, column tiles]``."""
        across = int(self.column_contest.max(initial=-1)) + 1
        return np.asarray(self.row_contest[:, np.newaxis] * across + self.column_contest)

    def spread(self, tiles: Mask) -> Mask:
        """What is true of tiles, for elements ``[channels, n]``."""
        return np.ascontiguousarray(tiles[self.row_tile][:, self.column_tile])

    def best(self, elements: Floats, places: Ids) -> Mask:
        """The ``places[contest]`` tiles of greatest score of each contest, as elements; of equal ones the first."""
        scores, contests = self.scores(elements), self.contests
        flat = contests.reshape(-1)
        order = np.lexsort((-scores.reshape(-1), flat))
        sizes = np.bincount(flat, minlength=places.size)
        rank = np.arange(flat.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        kept = np.zeros(flat.size, dtype=np.bool_)
        kept[order] = rank < places[flat[order]]
        return self.spread(kept.reshape(scores.shape))

    def counts(self, elements: Mask) -> Ids:
        """How many tiles of each contest hold an element that is true."""
        holds = self.scores(elements.astype(np.float64)) > 0
        contests = self.contests
        total = int(contests.max(initial=-1)) + 1
        found: Ids = np.bincount(contests.reshape(-1), holds.reshape(-1), total).round().astype(np.int64)
        return found


class Pattern(ABC):
    """A rule for the places of zeros."""

    @property
    def sparsity(self) -> float | None:
        """The share of zeros that the rule itself says; None: any."""
        return None

    @abstractmethod
    def cells(self, layout: Layout, groups: int = 1) -> Cells:
        """How the rows of such a weight are cut up; ``groups`` of a convolution do not share tiles."""

    def places(self, cells: Cells, density: float) -> Ids:
        """How many tiles each contest keeps."""
        contests = cells.contests.reshape(-1)
        sizes = np.bincount(contests, minlength=int(contests.max(initial=-1)) + 1)
        found: Ids = np.floor(density * sizes + 0.5).astype(np.int64)
        return found

    def unfit(self, layout: Layout) -> str:
        """Why the rule has no meaning for such a weight; empty if it has."""
        return ""

    def stretches(self, cells: Cells, order: Ids, length: int) -> list[tuple[int, int]]:
        """Runs of ``order`` that are decided on together: whole tiles, of about ``length`` columns."""
        ends = np.flatnonzero(np.diff(cells.column_tile[order], append=-1)) + 1
        found, begin = [], 0
        for end in ends.tolist():
            if end - begin >= length or end == order.size:
                found.append((begin, end))
                begin = end
        return found


def _runs(count: int, length: int, groups: int = 1) -> Ids:
    """Ids of runs of ``length`` that begin anew in each of ``groups`` equal parts."""
    size = count // groups
    within = np.arange(count) % size // length
    return np.asarray(np.arange(count) // size * -(-size // length) + within)


@dataclass(frozen=True)
class Unstructured(Pattern):
    """Any weight may be zero."""

    def cells(self, layout: Layout, groups: int = 1) -> Cells:
        rows, columns = layout.channels, _width(layout)
        nothing = np.zeros
        return Cells(np.arange(rows), np.arange(columns), nothing(rows, np.int64), nothing(columns, np.int64))

    def __str__(self) -> str:
        return "unstructured"


@dataclass(frozen=True)
class NofM(Pattern):
    """At most ``n`` of ``m`` weights that follow each other along the input channels; so in the last, shorter run."""

    n: int
    m: int

    @property
    def sparsity(self) -> float:
        return 1 - self.n / self.m

    def cells(self, layout: Layout, groups: int = 1) -> Cells:
        column_group, _ = layout.groups(self.m)
        rows, columns = layout.channels, _width(layout)
        return Cells(np.arange(rows), np.arange(columns), np.arange(rows), column_group)

    def places(self, cells: Cells, density: float) -> Ids:
        places = max(self.n, int(np.ceil(density * self.m - 1e-6)))
        return np.full(int(cells.contests.max(initial=-1)) + 1, places, dtype=np.int64)

    def unfit(self, layout: Layout) -> str:
        inputs = layout.shape[layout.inner]
        return f"{inputs} input channels are fewer than {self.m}" if inputs < self.m else ""

    def stretches(self, cells: Cells, order: Ids, length: int) -> list[tuple[int, int]]:
        ends = np.flatnonzero(np.diff(cells.column_contest[order], append=-1)) + 1
        begins = np.concatenate([[0], ends[:-1]])
        return list(zip(begins.tolist(), ends.tolist(), strict=True))

    def __str__(self) -> str:
        return f"{self.n}:{self.m}"


@dataclass(frozen=True)
class Block(Pattern):
    """Blocks of ``rows`` output channels by ``columns`` input channels, at one place of the kernel."""

    rows: int
    columns: int

    def cells(self, layout: Layout, groups: int = 1) -> Cells:
        column_tile, _ = layout.groups(self.columns)
        row_tile = _runs(layout.channels, self.rows, groups)
        tall, wide = int(row_tile[-1]) + 1, int(column_tile.max(initial=-1)) + 1
        return Cells(row_tile, column_tile, np.zeros(tall, np.int64), np.zeros(wide, np.int64))

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns}"


@dataclass(frozen=True)
class RowBalanced(Pattern):
    """As many weights in each bank, the rows of equal remainder by ``banks`` (None: each row is one): the
    load-balance-aware pruning of ESE (Han et al., arXiv 1612.00694).
    """

    banks: int | None = None

    def cells(self, layout: Layout, groups: int = 1) -> Cells:
        rows, columns = layout.channels, _width(layout)
        bank = np.arange(rows) % min(self.banks or rows, rows)
        return Cells(np.arange(rows), np.arange(columns), bank, np.zeros(columns, np.int64))

    def places(self, cells: Cells, density: float) -> Ids:
        contests = cells.contests.reshape(-1)
        sizes = np.bincount(contests, minlength=int(contests.max(initial=-1)) + 1)
        # As many everywhere, though a bank may have a row more than another.
        return np.full(sizes.size, int(np.floor(density * sizes.min() + 0.5)), dtype=np.int64)

    def __str__(self) -> str:
        return "row-balanced" if self.banks is None else f"row-balanced:{self.banks}"


@dataclass(frozen=True)
class Filters(Pattern):
    """Whole output channels, which are taken out of the graph."""

    def cells(self, layout: Layout, groups: int = 1) -> Cells:
        rows, columns = layout.channels, _width(layout)
        return Cells(np.arange(rows), np.zeros(columns, np.int64), np.zeros(rows, np.int64), np.zeros(1, np.int64))

    def __str__(self) -> str:
        return "filters"


def pattern_of(text: Any) -> Pattern:
    """The pattern that a text names. Raises InputError that lists them."""
    if isinstance(text, Pattern):
        return text
    if not isinstance(text, str):
        raise InputError("pattern", f"is {text!r}", ALLOWED)
    if text == "unstructured":
        return Unstructured()
    if text == "filters":
        return Filters()
    if match := re.fullmatch(r"(\d{1,4}):(\d{1,4})", text):
        n, m = int(match[1]), int(match[2])
        if not 0 < n < m:
            raise InputError("pattern", f"is {text!r}", "N of N:M, the weights kept of M, is at least 1 and below M")
        return NofM(n, m)
    if match := re.fullmatch(r"(\d{1,4})x(\d{1,4})", text):
        if not int(match[1]) or not int(match[2]):
            raise InputError("pattern", f"is {text!r}", "a block has at least one row and one column, as in 1x4")
        return Block(int(match[1]), int(match[2]))
    if match := re.fullmatch(r"row-balanced(?::(\d{1,4}))?", text):
        if match[1] is not None and not int(match[1]):
            raise InputError("pattern", f"is {text!r}", "there is at least one bank, as in row-balanced:8")
        return RowBalanced(None if match[1] is None else int(match[1]))
    raise InputError("pattern", f"is {text!r}", ALLOWED)


def select(pattern: Pattern, cells: Cells, scores: Floats, density: float, support: Mask) -> Mask:
    """The elements to keep: those of greatest score that the pattern allows, never one outside ``support``."""
    return cells.best(np.where(support, scores, 0.0), pattern.places(cells, density)) & support


def _width(layout: Layout) -> int:
    size = 1
    for axis, length in enumerate(layout.shape):
        size *= 1 if axis == layout.axis else length
    return size
