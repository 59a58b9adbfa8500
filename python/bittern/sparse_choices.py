"""Layers whose share of zeros is known: what the planner compared, and what both kernels really take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any

from bittern.encodings import Dense
from bittern.model import load
from bittern.report import milliseconds, significant, table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bittern.model import Model
    from bittern.network import Network
    from bittern.plan import Layer, Plan, Profile

_ON_CODES = ("spmm_u8", "spmv_u8")
_LAYERS = ("Conv", "ConvInteger", "Gemm", "MatMul", "MatMulInteger")
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class SparseChoice:
    """A layer, the dense and the sparse kernel for it, and the times of both.

    ``dense_estimate``, ``sparse_estimate``: in cycles of the vector unit. ``dense_ms``, ``sparse_ms``: medians, of the
    layer alone, without moves between layouts; None if they were not measured. ``measured_kernel``: the dense kernel
    that was measured, which also depends on the layers around it.
    """

    name: str
    density: float
    kernel: str
    reason: str
    dense_kernel: str
    sparse_kernel: str
    dense_estimate: float
    sparse_estimate: float
    dense_ms: float | None = None
    sparse_ms: float | None = None
    measured_kernel: str = ""

    @property
    def sparse(self) -> bool:
        """Whether the sparse kernel was chosen."""
        return self.kernel == self.sparse_kernel

    @property
    def estimated_speed(self) -> float:
        """How many times as fast as the dense kernel the sparse one should be."""
        return self.dense_estimate / max(self.sparse_estimate, 1.0)

    @property
    def measured_speed(self) -> float | None:
        """How many times as fast it is; None if that was not measured."""
        return None if not self.dense_ms or not self.sparse_ms else self.dense_ms / self.sparse_ms

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and strings."""
        found: dict[str, Any] = {
            "name": self.name,
            "density": self.density,
            "kernel": self.kernel,
            "reason": self.reason,
            "dense_kernel": self.dense_kernel,
            "sparse_kernel": self.sparse_kernel,
            "dense_estimate": self.dense_estimate,
            "sparse_estimate": self.sparse_estimate,
            "estimated_speed": self.estimated_speed,
        }
        if self.dense_ms is not None:
            found |= {
                "dense_ms": self.dense_ms,
                "sparse_ms": self.sparse_ms,
                "measured_speed": self.measured_speed,
                "measured_kernel": self.measured_kernel,
            }
        return found


def sparse_choices(plan: Plan) -> list[SparseChoice]:
    """The choices of a plan, without times."""
    return [
        SparseChoice(
            layer.name,
            layer.density,
            layer.kernel,
            layer.reason,
            layer.dense_kernel,
            layer.sparse_kernel,
            layer.dense_estimate,
            layer.sparse_estimate,
        )
        for layer in plan.layers
        if layer.sparse_kernel
    ]


def measure_choices(
    network: Network,
    plan: Plan,
    feeds: Sequence[Mapping[str, NDArray[Any]]],
    *,
    threads: int = 0,
    isa: str | None = None,
    rounds: int = 10,
    progress: Progress | None = None,
) -> list[SparseChoice]:
    """The choices of the network's plan with the times of both kernels.

    The network is loaded once with the weights of these layers dense, or the dense kernel forced where they are on
    8-bit codes, and once for each sparse kernel with that kernel forced; all take turns, ``rounds`` times, on
    ``feeds``, inputs by name that fit the plan.
    Raises what :func:`bittern.load` and :meth:`Model.profile` do.
    """
    choices = sparse_choices(plan)
    if not choices:
        return []
    on_codes = [each for each in choices if each.sparse_kernel.startswith(_ON_CODES)]
    real = _dense(network, {each.name for each in choices if each not in on_codes})
    # Weights of layers on codes stay what they are: there the dense kernel is asked for.
    tiles = list(dict.fromkeys(each.dense_kernel for each in on_codes))
    models: dict[str, Model] = {"": load(real, threads=threads, isa=isa, kernels=tiles)}
    for kernel in dict.fromkeys(each.sparse_kernel for each in choices):
        models[kernel] = load(network, threads=threads, isa=isa, kernels=[kernel])
    times: dict[tuple[str, str], list[float]] = {}
    ran: dict[str, str] = {}
    names = list(models)
    for turn in range(rounds):
        for step in range(len(names)):
            which = names[(turn + step) % len(names)]
            if progress is not None:
                progress(turn * len(names) + step, rounds * len(names), f"with {which or 'dense kernels'}")
            arrays = [feeds[turn % len(feeds)][info.name] for info in models[which].inputs]
            profile = models[which].profile(*arrays, runs=1)
            for layer, ms in _products(profile):
                if layer.kernel == which or not which:
                    times.setdefault((which, layer.name), []).append(ms)
                    ran.setdefault(layer.name, layer.kernel)
    return [_timed(each, times, ran) for each in choices]


def _timed(choice: SparseChoice, times: Mapping[tuple[str, str], list[float]], ran: Mapping[str, str]) -> SparseChoice:
    dense, sparse = times.get(("", choice.name)), times.get((choice.sparse_kernel, choice.name))
    return replace(
        choice,
        dense_ms=median(dense) if dense else None,
        sparse_ms=median(sparse) if sparse else None,
        measured_kernel=ran.get(choice.name, ""),
    )


def _products(profile: Profile) -> list[tuple[Layer, float]]:
    return [(row.layer, row.ms) for row in profile.layers if row.layer.op in _LAYERS]


def _dense(network: Network, names: set[str]) -> Network:
    """The network with the weights of these layers decoded, so that the planner finds no zeros in them."""
    other = network.copy()
    for node in other.nodes:
        if node.name in names and node.inputs[1] in other.constants:
            other.constants[node.inputs[1]] = Dense(other.constants[node.inputs[1]].decode())
    return other


def choices_text(choices: Sequence[SparseChoice]) -> str:
    """A row for each layer: both kernels, estimates, times if measured, the choice and its reason."""
    measured = any(each.dense_ms is not None for each in choices)
    rows = []
    for each in choices:
        row = [each.name, f"{each.density:.1%}", each.dense_kernel, each.sparse_kernel]
        row += [significant(each.dense_estimate / 1e6), significant(each.sparse_estimate / 1e6)]
        row.append(f"{each.estimated_speed:.2f}")
        if measured:
            row += ["-" if ms is None else milliseconds(ms) for ms in (each.dense_ms, each.sparse_ms)]
            row.append("-" if each.measured_speed is None else f"{each.measured_speed:.2f}")
        rows.append([*row, "sparse" if each.sparse else "dense", each.reason])
    headers = ["layer", "density", "dense kernel", "sparse kernel", "dense Mcycles", "sparse", "estimated"]
    headers += ["dense", "sparse", "measured"] if measured else []
    return table([*headers, "choice", "why"], rows, "lrll" + "rrr" * (1 + measured) + "ll")
