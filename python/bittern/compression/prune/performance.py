"""Whether a sparse convolution pays: the roofline model of Park et al., Faster CNNs with Direct Sparse Convolutions and
Guided Pruning (arXiv 1608.01409, section 2.3)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from bittern.errors import InputError

MACHINE_KEYS = ("flops", "bandwidth", "alpha", "beta")


@dataclass(frozen=True)
class Machine:
    """``flops`` per second of the dense kernel, ``bandwidth`` in bytes per second; ``alpha``: how much longer a product
    takes with a weight that is not zero in the sparse kernel, measured, about 3 in the paper; ``beta``: bytes of a
    sparse weight over those of a dense one, 2 for a float32 value with a 32-bit index.
    """

    flops: float
    bandwidth: float
    alpha: float = 3.0
    beta: float = 2.0

    @classmethod
    def of(cls, numbers: Mapping[str, float]) -> Machine:
        """From measured numbers by name. Raises InputError for one that is missing, unknown or not positive."""
        if missing := [key for key in MACHINE_KEYS[:2] if key not in numbers]:
            raise InputError("machine", f"lacks {missing[0]!r}", f"give {', '.join(MACHINE_KEYS)}")
        if unknown := sorted(set(numbers) - set(MACHINE_KEYS)):
            raise InputError("machine", f"has {unknown[0]!r}", f"give {', '.join(MACHINE_KEYS)}")
        for key, value in numbers.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
                raise InputError("machine", f"has {key} = {value!r}", "give a positive number")
        return cls(**numbers)


@dataclass(frozen=True)
class Work:
    """What a layer costs when dense: floating-point operations (two for a product with its sum), and bytes of its
    input, output and weights.
    """

    flops: float
    input_bytes: float
    output_bytes: float
    weight_bytes: float

    @classmethod
    def convolution(
        cls, weight: tuple[int, ...], input_size: tuple[int, ...], output_size: tuple[int, ...], batch: int = 1
    ) -> Work:
        """Of a float32 convolution: ``weight`` ``[outputs, inputs of a group, kernel...]``, ``input_size`` ``[channels,
        sizes...]``, ``output_size`` likewise. A fully connected layer has no kernel and no sizes.
        """
        products = math.prod(weight) * math.prod(output_size[1:]) * batch
        into, out = (4.0 * batch * math.prod(size) for size in (input_size, output_size))
        return cls(2.0 * products, into, out, 4.0 * math.prod(weight))


@dataclass(frozen=True)
class Outlook:
    """Seconds dense and at a density, and the density below which sparse is faster (0: never, 1: always)."""

    dense: float
    sparse: float
    crossover: float

    @property
    def pays(self) -> bool:
        """Whether sparse is faster at this density."""
        return self.sparse < self.dense


def dense_time(work: Work, machine: Machine) -> float:
    """``max(C / F, (S_I + S_O + S_W) / B)``: seconds."""
    moved = work.input_bytes + work.output_bytes + work.weight_bytes
    return max(work.flops / machine.flops, moved / machine.bandwidth)


def sparse_time(work: Work, machine: Machine, density: float) -> float:
    """``max(alpha x C / F, (S_I + S_O + beta x S_W) / B)`` at density ``x``: seconds."""
    moved = work.input_bytes + work.output_bytes + machine.beta * density * work.weight_bytes
    return max(machine.alpha * density * work.flops / machine.flops, moved / machine.bandwidth)


def sparse_outlook(work: Work, machine: Machine | Mapping[str, float], density: float) -> Outlook:
    """Whether a layer of this work pays as a sparse one. Raises InputError for a density outside 0 .. 1 or a wrong
    ``machine``.

    Both bounds of the sparse time rise with the density, so the crossover is the smaller of where either reaches the
    dense time; where the input and output alone already take that long, there is none.
    """
    machine = machine if isinstance(machine, Machine) else Machine.of(machine)
    if not 0 <= density <= 1:
        raise InputError("density", f"is {density!r}", "give a share from 0 to 1")
    dense = dense_time(work, machine)
    fixed = (work.input_bytes + work.output_bytes) / machine.bandwidth
    if dense <= fixed:
        crossover = 0.0
    else:
        by_work = dense * machine.flops / (machine.alpha * work.flops) if work.flops else math.inf
        per_weight = machine.beta * work.weight_bytes / machine.bandwidth
        by_bytes = (dense - fixed) / per_weight if per_weight else math.inf
        crossover = min(by_work, by_bytes, 1.0)
    return Outlook(dense, sparse_time(work, machine, density), crossover)
