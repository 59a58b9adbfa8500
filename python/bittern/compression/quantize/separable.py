"""Binary kernels of rank one: a column times a row of signs (Lin et al., arXiv 1707.04693)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bittern.compression.layerwise.grid import (
    EVERY,
    Codes,
    Columns,
    Floats,
    Layout,
    WeightMethod,
    spread_importance,
)
from bittern.compression.layerwise.options import one_of
from bittern.compression.quantize.binary import SCALES, SignGrid, mean_scale
from bittern.encodings import Encoding, Packed, SeparableSigns

EXHAUSTIVE = 8  # kernels of up to so many rows are searched through; 2**7 columns of signs then
ROUNDS = 50  # of alternation, for taller ones; it ends when nothing changes, mostly after three


@dataclass(frozen=True)
class SeparableGrid(SignGrid):
    """Signs that were chosen kernel by kernel: rounding finds those, whatever the numbers have become."""

    codes: Codes = field(default_factory=lambda: np.zeros((0, 0), np.int64))  # [channels, n]
    kernel: tuple[int, int] = (1, 1)
    of_signs: bool = False  # magnitudes do not count

    @property
    def block(self) -> int:
        return self.kernel[0] * self.kernel[1]

    def settle(self, values: Floats, columns: NDArray[np.int64], importance: Floats) -> None:
        order = np.argsort(columns)
        wanted = np.where(values >= 0, 1.0, -1.0) if self.of_signs else values
        weighed = (wanted * importance)[:, order].reshape(-1, *self.kernel)
        self.codes[:, columns[order]] = separable_signs(weighed).reshape(-1, self.block) > 0

    def nearest(self, rows: Floats, columns: Columns = EVERY) -> Codes:
        return self.codes[:, columns] if self.block > 1 else super().nearest(rows, columns)

    def _stream(self, codes: Codes) -> Encoding:
        return SeparableSigns.pack(codes) if self.block > 1 else Packed.pack(codes, 1)


@dataclass(frozen=True)
class SeparableMethod(WeightMethod):
    """Each two-dimensional kernel becomes the product of a column and a row of signs, times a scale.

    ``objective`` "weights": the product ``F`` of greatest ``sum(F * w)``, which is that of least square error; "signs":
    of greatest ``sum(F * sign(w))``, as the paper has it. Of equally good ones that of the lowest code. Weights without
    kernels, those of Gemm and MatMul, take plain signs. ``scale`` as in "binary": the mean of ``F * w``, or 1.
    """

    name: ClassVar[str] = "separable"
    has_zero: ClassVar[bool] = False
    per_channel: bool = True
    objective: str = "weights"
    scale: str = "mean"

    def __post_init__(self) -> None:
        one_of("per_channel", self.per_channel, (True, False))
        one_of("objective", self.objective, ("weights", "signs"))
        one_of("scale", self.scale, SCALES)

    def fit(self, rows: Floats, layout: Layout, importance: Floats | None = None) -> SeparableGrid:
        kernel = (layout.shape[-2], layout.shape[-1]) if len(layout.shape) >= 4 else (1, 1)
        wanted = np.where(rows >= 0, 1.0, -1.0) if self.objective == "signs" else rows
        weights = spread_importance(importance, rows.shape)
        signs = separable_signs((weights * wanted).reshape(-1, *kernel)).reshape(rows.shape)
        codes = (signs > 0).astype(np.int64)
        if self.scale == "unit":
            scale = np.ones((1, 1), np.float32)
        else:
            scale = mean_scale(signs * rows, importance, self.per_channel)
        return SeparableGrid(scale, None, codes, kernel, self.objective == "signs")


def separable_signs(kernels: Floats) -> NDArray[np.int8]:
    """For each of ``kernels`` ``[n, height, width]`` the product ``F`` of a column and a row of signs with the greatest
    ``sum(F * kernel)``; of several such the one of the lowest code, bits as in ``SeparableSigns``.

    For up to 8 rows it is found for certain: for every column of signs the best row is known. For more, by alternation
    from every row of the kernel.
    """
    count, height, width = kernels.shape
    best = np.full(count, -np.inf)
    best_column = np.ones((count, height), dtype=np.int8)
    best_row = np.ones((count, width), dtype=np.int8)

    def try_column(column: NDArray[np.int8]) -> None:  # [height], or one for each kernel [n, height]
        each = np.broadcast_to(column, (count, height))
        sums = np.einsum("nh,nhw->nw", each.astype(np.float64), kernels)
        row = np.where(sums > 0, 1, -1).astype(np.int8)
        score = np.abs(sums).sum(axis=1)
        better = (score > best) | ((score == best) & _lower(each, row, best_column, best_row))
        best[better], best_column[better], best_row[better] = score[better], each[better], row[better]

    if height <= EXHAUSTIVE:
        for code in range(2 ** (height - 1)):
            bits = code << 1 | 1
            try_column(np.array([1 if bits >> r & 1 else -1 for r in range(height)], dtype=np.int8))
    else:
        for start in range(height):
            row = np.where(kernels[:, start] > 0, 1.0, -1.0)
            column = np.ones((count, height), dtype=np.int8)
            for _ in range(ROUNDS):
                found = np.where(np.einsum("nw,nhw->nh", row, kernels) >= 0, 1, -1).astype(np.int8)
                found *= found[:, :1]  # the first is plus
                row = np.where(np.einsum("nh,nhw->nw", found.astype(np.float64), kernels) > 0, 1.0, -1.0)
                if np.array_equal(found, column):
                    break
                column = found
            try_column(column)
    signs: NDArray[np.int8] = best_column[:, :, np.newaxis] * best_row[:, np.newaxis, :]
    return signs


def _lower(
    column: NDArray[np.int8], row: NDArray[np.int8], other_column: NDArray[np.int8], other_row: NDArray[np.int8]
) -> NDArray[np.bool_]:
    """Whether the code of the first pair is lower: bits of the row count more than those of the column, later ones more
    than earlier ones.
    """
    differs = np.concatenate([column, row], axis=1).astype(int) - np.concatenate([other_column, other_row], axis=1)
    last = differs.shape[1] - 1 - (differs[:, ::-1] != 0).argmax(axis=1)
    lower: NDArray[np.bool_] = differs[np.arange(differs.shape[0]), last] < 0
    return lower
