"""How sparse a network is at each step of a gradual pruning."""

from __future__ import annotations

from bittern.compression.layerwise.options import number_in, whole_in


def gradual_sparsity(step: int, initial: float, final: float, begin: int = 0, steps: int = 10, every: int = 1) -> float:
    """The sparsity at ``step``: ``final + (initial - final) * (1 - (step - begin) / (steps * every))^3``, which rises
    fast while there is much to remove (Zhu and Gupta, arXiv 1710.01878).

    Constant before ``begin`` and after ``begin + steps * every``, and between multiples of ``every``. For rounds of
    pruning by hand: ``[gradual_sparsity(t, 0, 0.9, steps=5) for t in range(1, 6)]``. Raises InputError for a sparsity
    outside 0 .. 1, or fewer than one step.
    """
    initial, final = number_in("initial", initial, 0, 1), number_in("final", final, 0, 1)
    steps, every = whole_in("steps", steps, 1, 2**31), whole_in("every", every, 1, 2**31)
    done = min(max((step - begin) // every, 0), steps)
    return final + (initial - final) * (1 - done / steps) ** 3
