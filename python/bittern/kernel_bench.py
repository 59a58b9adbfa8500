"""Kernels against the machine: every kernel that fits a layer, timed in turns, as a share of the measured limit."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bittern.errors import InputError
from bittern.layer_networks import LAYER, one_layer
from bittern.layer_shapes import LayerShape, ShapeSet
from bittern.machine_limits import Limits, limits, panel_limit
from bittern.model import Model, load
from bittern.system import Kernel, cpu, kernels
from bittern.values import ValueInfo

TOLERATED = 1.1
"""A pick may take so many times as long as the fastest kernel."""

_INPUTS = 3
_SAMPLE_MS = 3.0
_COLD = 4
"""Weights that are read once per image are measured over copies that exceed so many times the last cache."""

_MOST_COPIES = 64

_SLOW, _SLOW_RUNS = 3.0, 3
"""A kernel that takes so many times as long as the fastest gets fewer runs: nobody needs its third digit."""

Progress = Callable[[int, int, str], None]
Panel = tuple[int, int]
"""Vectors of a panel, and weights of a row for as long as it stays: what the limit of sparse kernels depends on."""

_PANEL_BYTES, _ROWS_IN_PLACE = 48 << 10, 128  # of engine/spmm/panels.h
_FEW, _NEAR = 24, 64  # of direct() in engine/spmm/panels.cpp
_ARITHMETIC = ("FMA", "dot", "panel", "bits")


@dataclass
class Candidate:
    """A kernel on a shape, and the times that were taken. ``panel``: see :func:`panel_shape`."""

    kernel: str
    loop: str
    isa: str
    pick: bool
    model: Model | None
    samples_ms: list[float] = field(default_factory=list)
    panel: Panel | None = None

    @property
    def ms(self) -> float:
        """The median over the rounds."""
        return median(self.samples_ms)

    @property
    def best_ms(self) -> float:
        """The least over the rounds."""
        return min(self.samples_ms)

    def slower_than(self, other: Candidate) -> float:
        """How many times as long this takes: by medians and by best times, whichever says less.

        On a busy machine either is disturbed at times; a kernel that is really slower is so by both.
        """
        return min(self.ms / other.ms, self.best_ms / other.best_ms)

    def sample(self, feeds: Sequence[NDArray[Any]], reorder: bool, repeats: int) -> tuple[float, float]:
        """Milliseconds of the layer, and of the whole network with the conversions around it."""
        assert self.model is not None
        profile = self.model.profile(*feeds, runs=repeats)
        if reorder:
            return next(row.ms for row in profile.layers if row.layer.op == "Reorder"), profile.total_ms
        times: dict[str, float] = {}
        for row in profile.layers:
            if row.layer.name.startswith(LAYER):
                times[row.layer.name] = times.get(row.layer.name, 0.0) + row.ms
        return median(times.values()), profile.total_ms


@dataclass(frozen=True)
class Result:
    """The candidates of a shape, fastest first, and what the machine could do."""

    shape: LayerShape
    count: int
    batch: int
    candidates: list[Candidate]
    limits: dict[str, Limits]
    working_set: int
    panels: dict[tuple[str, Panel], float] = field(default_factory=dict)

    @property
    def pick(self) -> Candidate:
        """What the planner takes by itself."""
        return next(candidate for candidate in self.candidates if candidate.pick)

    @property
    def fastest(self) -> Candidate:
        """The candidate with the least median."""
        return self.candidates[0]

    @property
    def better(self) -> Candidate:
        """The candidate that the pick is slowest against; the pick itself if it is the fastest."""
        return max(self.candidates, key=self.pick.slower_than)

    @property
    def macs(self) -> int:
        """Products with a weight."""
        return self.shape.macs * self.batch

    @property
    def bytes(self) -> int:
        """Bytes read and written, each once."""
        return sum(self.shape.traffic(self.batch))

    def gops(self, candidate: Candidate) -> float:
        """Operations of the definition in 10^9 per second; a kernel may reach it with fewer."""
        return 2e-6 * self.macs / candidate.ms

    def real_gops(self, candidate: Candidate) -> float:
        """Operations with the weights that are not zero in 10^9 per second: what a sparse kernel really does."""
        return self.gops(candidate) * self.shape.entries / self.shape.weights

    def gbs(self, candidate: Candidate) -> float:
        """Bytes read and written in 10^9 per second."""
        return 1e-6 * self.bytes / candidate.ms

    def bound(self, candidate: Candidate) -> tuple[str, float]:
        """What limits this layer and the least time in milliseconds.

        Either arithmetic, ``FMA`` on real numbers, ``dot`` on 8-bit codes, ``panel`` on the weights that are not
        zero alone and ``bits`` on planes of bits, or the level that holds its data. Limits are those of the candidate's
        own level: 256-bit kernels are not blamed for the width of others.
        """
        limit = self.limits[candidate.isa]
        where, rate = limit.holding(self.working_set)
        read, written = self.shape.traffic(self.batch)
        if where == "memory" and 4 * written > read:
            rate = limit.memory_copy_gbs
        arithmetic, most = ("dot", limit.int8_gops) if self.shape.about.codes else ("FMA", limit.fma_gflops)
        memory_ms, arithmetic_ms = 1e-6 * self.bytes / rate, 2e-6 * self.macs / most
        if candidate.loop == "bgemm":
            pairs = self.shape.about.planes * self.shape.about.weight_bits
            arithmetic, arithmetic_ms = "bits", 2e-6 * self.macs * pairs / limit.bit_gops
        if candidate.loop in ("spmv", "spmv_u8", "spmm_u8", "sparse_winograd"):
            arithmetic_ms *= self.shape.met
        if candidate.panel is not None:
            needed = 2e-6 * self.macs * self.shape.entries / self.shape.weights
            arithmetic, arithmetic_ms = "panel", needed / self.panels[candidate.isa, candidate.panel]
        return (arithmetic, arithmetic_ms) if arithmetic_ms >= memory_ms else (where, memory_ms)

    def share(self, candidate: Candidate) -> float:
        """Least time by the machine's limit over time taken."""
        return self.bound(candidate)[1] / candidate.ms

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, strings and lists."""
        rows = []
        for candidate in self.candidates:
            bound, least = self.bound(candidate)
            rows.append(
                {
                    "kernel": candidate.kernel,
                    "loop": candidate.loop,
                    "isa": candidate.isa,
                    "pick": candidate.pick,
                    "ms": candidate.ms,
                    "best_ms": candidate.best_ms,
                    "runs": len(candidate.samples_ms),
                    "gops": self.gops(candidate),
                    **({"real_gops": self.real_gops(candidate)} if self.shape.about.sparse else {}),
                    "gbs": self.gbs(candidate),
                    "bound": bound,
                    "share": least / candidate.ms,
                }
            )
        text = {"text": str(self.shape), "count": self.count, "batch": self.batch}
        return text | {"shape": self.shape.to_json(), "pick": self.pick.kernel, "candidates": rows}


@dataclass(frozen=True)
class Mean:
    """Shares of some kernels over the layers bound by arithmetic: their mean, weighted by products, and the least.

    ``bound``: by which, ``FMA``, ``dot``, ``panel`` or ``bits``.
    """

    name: str
    bound: str
    layers: int
    share: float
    least: float
    least_shape: str

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and strings."""
        return {
            "name": self.name,
            "bound": self.bound,
            "layers": self.layers,
            "mac_weighted_share": self.share,
            "least_share": self.least,
            "least_shape": self.least_shape,
        }


@dataclass(frozen=True)
class SetResult:
    """The results of a set of shapes."""

    name: str
    results: list[Result]

    def means(self) -> list[Mean]:
        """The planner's picks, those of each window, then the best of every loop and instruction set where it fits."""
        picks = [(result, result.pick) for result in self.results]
        chosen = _means("the planner's picks", picks)
        windows = sorted({result.shape.kernel for result, _ in picks if result.shape.about.operator == "conv"})
        for size in windows if len(windows) > 1 else ():
            alike = [
                (result, pick)
                for result, pick in picks
                if result.shape.about.operator == "conv" and result.shape.kernel == size
            ]
            chosen += _means(f"the planner's picks, {size}x{size}", alike)
        kinds = dict.fromkeys((c.loop, c.isa) for result in self.results for c in result.candidates)
        for loop, isa in sorted(kinds):
            best = [
                (result, next(c for c in result.candidates if (c.loop, c.isa) == (loop, isa)))
                for result in self.results
                if any((c.loop, c.isa) == (loop, isa) for c in result.candidates)
            ]
            chosen += _means(f"{loop} {isa}", best)
        return chosen

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, strings and lists."""
        return {
            "name": self.name,
            "shapes": [result.to_json() for result in self.results],
            "means": [mean.to_json() for mean in self.means()],
        }


class KernelBench:
    """Measures kernels on shapes.

    ``pattern``: a regular expression of kernel names; the planner's pick is measured in any case. ``isa``: only kernels
    of this level, and the planner is held to it; None for all levels of this machine. ``threads``: 0 for all CPUs.
    ``runs``: rounds of all candidates. InputError for a level or an expression that cannot be used.
    """

    def __init__(
        self, pattern: str = "", isa: str | None = None, threads: int = 1, runs: int = 10, batch: int = 1
    ) -> None:
        levels = cpu().isa_levels_usable
        if isa is not None and isa not in levels:
            raise InputError("--isa", f"{isa} cannot be used here", f"usable: {', '.join(levels)}")
        self.isa, self.threads, self.runs, self.batch = isa, threads, runs, batch
        self.limits: dict[str, Limits] = {}
        self.panels: dict[tuple[str, Panel], float] = {}
        expression = compiled(pattern)
        self._every = {kernel.name: kernel for kernel in kernels()}
        self._kernels = [
            kernel
            for kernel in self._every.values()
            if kernel.usable and expression.search(kernel.name) and (isa is None or kernel.isa == isa)
        ]
        if pattern and not self._kernels:
            raise InputError("kernels", "none matches", "see bittern kernels")

    def measure(
        self, sets: Iterable[ShapeSet], *, check: bool = False, progress: Progress | None = None
    ) -> list[SetResult]:
        """Measure all sets. ``check``: what looks like a wrong pick is measured again, longer, before it counts."""
        listed = list(sets)
        total = sum(len(each.shapes) for each in listed)
        done, found = 0, []
        for each in listed:
            results = []
            for shape, count in each.shapes:
                if progress is not None:
                    progress(done, total, f"{each.name}: {shape}")
                results.append(self._measure(shape, count, check))
                done += 1
            found.append(SetResult(each.name, results))
        # Results look the limits up when they are asked for their shares.
        for level, limit in self.limits.items():
            self.limits[level] = limit.better_of(limits(level, self.threads))
        for (level, panel), rate in self.panels.items():
            self.panels[level, panel] = max(rate, panel_limit(*panel, level, self.threads))
        return found

    def limits_of(self, isa: str) -> Limits:
        """The machine's limits, measured when first asked for, and once more at the end of a measurement."""
        if isa not in self.limits:
            self.limits[isa] = limits(isa, self.threads)
        return self.limits[isa]

    def _measure(self, shape: LayerShape, count: int, check: bool) -> Result:
        last = self.limits_of(self.isa or cpu().isa).caches[-1].bytes
        size = sum(shape.traffic(self.batch))
        # Weights of a fully connected layer are used once per image, and the other layers of a network wipe them from
        # the caches between two images.
        copies = 1
        if shape.about.operator == "fc":
            copies = min(_MOST_COPIES, _COLD * last // max(1, shape.weight_bytes) + 1)
        network = one_layer(shape, self.batch, copies)
        file = network.to_bytes()
        inputs = _inputs(network.inputs)
        # Every model holds its file and the packed weights. Where they would fill the memory, they come one by one.
        one_by_one = 2 * len(file) * len(self._kernels) > cpu().memory_granted / 3
        candidates = []
        for candidate in self._candidates(shape, file):
            self.limits_of(candidate.isa)
            if candidate.panel is not None and (candidate.isa, candidate.panel) not in self.panels:
                self.panels[candidate.isa, candidate.panel] = panel_limit(*candidate.panel, candidate.isa, self.threads)
            candidates.append(candidate)
            if one_by_one:
                self._time([candidate], inputs, shape, self.runs)
                candidate.model = None
        if not one_by_one:
            self._time(candidates, inputs, shape, self.runs)
        pick = next(candidate for candidate in candidates if candidate.pick)
        again: set[str] = set()
        while check:
            other = max(candidates, key=pick.slower_than)
            if pick.slower_than(other) <= TOLERATED or other.kernel in again:
                break
            again.add(other.kernel)
            suspects = [other, pick]
            for suspect in suspects:
                suspect.model = suspect.model or self._load(file, suspect.kernel, shape)
                suspect.samples_ms.clear()
            self._time(suspects, inputs, shape, 3 * self.runs)
        candidates.sort(key=lambda each: each.ms)
        for candidate in candidates:
            candidate.model = None
        return Result(shape, count, self.batch, candidates, self.limits, size * copies, self.panels)

    def _load(self, file: bytes, kernel: str | None, shape: LayerShape) -> Model:
        level = self.isa or (None if kernel is None else self._level_of(self._every[kernel]))
        forced = [] if kernel is None else [kernel]
        if kernel is not None and shape.about.sparse and self._every[kernel].loop == "winograd":
            # Who asks for a dense product asks for no sparse one; one of integers leaves the choice of the tile free.
            forced += [each.name for each in self._every.values() if each.loop == "gemm_u8" and each.usable][:1]
        return load(file, threads=self.threads, isa=level, checksum="skip", kernels=forced)

    @staticmethod
    def _level_of(kernel: Kernel) -> str:
        """The level at which a plan takes the kernel that it is asked for."""
        # Loops with one kernel for each level are run at it; other kernels are found from every higher level.
        return kernel.isa if kernel.loop.endswith(("_u8", "_f32")) else cpu().isa

    def _candidates(self, shape: LayerShape, file: bytes) -> Iterator[Candidate]:
        """The kernels that fit: those that the plan shows when they are asked for; and the planner's own choice."""
        model = self._load(file, None, shape)
        picked = self._every[_kernel_of(model, shape)]
        yield Candidate(picked.name, picked.loop, picked.isa, True, model, panel=panel_shape(picked, shape))
        for kernel in self._kernels:
            if kernel.name == picked.name or kernel.loop not in shape.about.loops:
                continue
            forced = self._load(file, kernel.name, shape)
            if _kernel_of(forced, shape) == kernel.name:
                yield Candidate(kernel.name, kernel.loop, kernel.isa, False, forced, panel=panel_shape(kernel, shape))

    @staticmethod
    def _time(
        candidates: Sequence[Candidate], inputs: Sequence[list[NDArray[Any]]], shape: LayerShape, runs: int
    ) -> None:
        """In turns, so that drift of the machine meets all alike; inputs change from round to round."""
        reorder = shape.about.operator == "reorder"
        rough = [candidate.sample(inputs[0], reorder, 1) for candidate in candidates]
        least = min(layer for layer, _ in rough)
        repeats = [1 if whole > 20 else max(3, min(51, int(_SAMPLE_MS / max(whole, 1e-3)))) for _, whole in rough]
        wanted = [min(runs, _SLOW_RUNS) if layer > _SLOW * least else runs for layer, _ in rough]
        for number in range(runs):
            for turn in range(len(candidates)):
                which = (number + turn) % len(candidates)
                if len(candidates[which].samples_ms) < wanted[which]:
                    feeds = inputs[number % len(inputs)]
                    candidates[which].samples_ms.append(candidates[which].sample(feeds, reorder, repeats[which])[0])


def panel_shape(kernel: Kernel, shape: LayerShape) -> Panel | None:
    """How a sparse kernel cuts a layer (engine/spmm/panels.h): panels of almost equal width, blocks of inputs.

    None for other kernels. Weights of a row: the mean in a whole block. Windows are taken to have upright panels, where
    blocks hold more weights; the kernel may have reasons for the others, whose limit is lower.
    """
    if kernel.loop != "spmm" or kernel.cols > 1:
        return None
    widest = int(kernel.name.rpartition("__")[0].rpartition("_1x")[2].removesuffix("v"))
    lanes = kernel.rows // widest
    pixels = math.prod(shape.output_size)
    vectors_needed = -(-pixels // lanes)
    vectors = -(-vectors_needed // -(-vectors_needed // widest))
    plane = (-(-shape.height // shape.stride), -(-shape.width // shape.stride))
    in_place = shape.kernel == 1 and shape.output_size == plane and not any(shape.pads[:2]) and pixels % lanes == 0
    in_place = in_place and (pixels <= _NEAR or shape.entries < _FEW * shape.channels)
    rows = _ROWS_IN_PLACE if in_place else max(1, _PANEL_BYTES // (vectors * lanes * 4))
    if shape.kernel > 1:
        vectors, rows = _upright(shape, lanes, widest) or (vectors, rows)
    rows = min(rows, shape.channels // shape.groups * shape.kernel**2)
    return vectors, max(1, round(rows * shape.density))


def _upright(shape: LayerShape, lanes: int, widest: int) -> tuple[int, int] | None:
    """Vectors of an upright panel, and rows of weights that meet a block; None where copies save nothing."""
    height, width = shape.output_size
    forms = []
    columns = lanes
    while columns >= min(4, lanes):
        forms.append((-(-height // (lanes // columns)), -(-width // columns)))
        columns //= 2
    lines = min(forms, key=math.prod)[0]
    vectors = -(-lines // -(-lines // widest))
    shifts: dict[int, list[int]] = {}
    for row in range(shape.kernel):
        shifts.setdefault((row - shape.pads[0]) % shape.stride, []).append((row - shape.pads[0]) // shape.stride)
    channel = shape.kernel * sum(vectors + found[-1] - found[0] for found in shifts.values())
    if channel > shape.kernel**2 * vectors:
        return None
    return vectors, max(1, _PANEL_BYTES // (lanes * 4) // channel) * shape.kernel**2


def wrong_picks(found: Iterable[SetResult]) -> list[tuple[str, Result]]:
    """The shapes whose pick takes more than 1.1 times as long as the fastest kernel, with the names of their sets."""
    return [
        (each.name, result)
        for each in found
        for result in each.results
        if result.pick.slower_than(result.better) > TOLERATED
    ]


def compiled(pattern: str) -> re.Pattern[str]:
    """The regular expression. InputError if it is none."""
    try:
        return re.compile(pattern)
    except (re.error, OverflowError) as error:
        raise InputError("--filter", f"is not a regular expression ({error})", "correct it") from None


def _kernel_of(model: Model, shape: LayerShape) -> str:
    """The kernel that runs the measured layer."""
    for layer in model.plan.layers:
        wanted = layer.op == "Reorder" if shape.about.operator == "reorder" else layer.name.startswith(LAYER)
        if wanted and layer.kernel:
            return layer.kernel
    raise InputError(str(shape), "the plan computes nothing for it", "give a larger shape")


def _inputs(infos: Iterable[ValueInfo]) -> list[list[NDArray[Any]]]:
    rng = np.random.default_rng(0)

    def some(info: ValueInfo) -> NDArray[Any]:
        size = tuple(int(each) for each in info.shape or ())
        if info.dtype == "u8":
            return rng.integers(0, 256, size, np.uint8)
        return rng.standard_normal(size, np.float32)

    listed = list(infos)
    return [[some(info) for info in listed] for _ in range(_INPUTS)]


def _means(name: str, rows: Sequence[tuple[Result, Candidate]]) -> list[Mean]:
    """The mean over what is bound by each arithmetic, where there is any."""
    found = []
    for bound in _ARITHMETIC:
        shares = [
            (result.macs * result.count, result.share(candidate), str(result.shape))
            for result, candidate in rows
            if result.bound(candidate)[0] == bound
        ]
        if shares:
            total = sum(macs for macs, _, _ in shares)
            least = min(shares, key=lambda each: each[1])
            mean = sum(macs * share for macs, share, _ in shares) / total
            found.append(Mean(name, bound, len(shares), mean, least[1], least[2]))
    return found
