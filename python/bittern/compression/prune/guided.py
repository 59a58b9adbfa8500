"""Which layers are worth pruning: guided sparsity of Park et al. (arXiv 1608.01409, section 2.3), without training."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from bittern.compression.prune.performance import MACHINE_KEYS, Machine, Work, sparse_outlook
from bittern.compression.prune.targets import LEAST_DENSITY
from bittern.errors import InputError
from bittern.graph import Node
from bittern.network import Network
from bittern.shapes import infer_shapes

SLOW_LAYERS = ("dense", "sparser")


def machine_of(given: Mapping[str, float] | str) -> Machine:
    """Measured numbers by name, or a text of them as in ``flops=1e11,bandwidth=1e10``. Raises InputError."""
    if isinstance(given, Mapping):
        return Machine.of(given)
    if not isinstance(given, str):
        raise InputError("machine", f"is {given!r}", f"give numbers by name: {', '.join(MACHINE_KEYS)}")
    numbers: dict[str, float] = {}
    for part in given.split(","):
        name, _, value = part.partition("=")
        try:
            numbers[name.strip()] = float(value)
        except ValueError:
            raise InputError("machine", f"has {part!r}", "write for example flops=1e11,bandwidth=1e10") from None
    return Machine.of(numbers)


def works(network: Network, weights: Collection[str]) -> dict[str, Work]:
    """What each weight's layers cost when dense, together if several use it, for a batch of one.

    Only of convolutions and fully connected layers, and only where all sizes but that of the batch are known.
    """
    shapes = infer_shapes(network)
    found: dict[str, list[Work | None]] = {}
    for node in network.nodes:
        for name in {*node.inputs} & {*weights}:
            found.setdefault(name, []).append(_work(node, network.constants[name].shape, shapes))
    made = {}
    for name, parts in found.items():
        known = [part for part in parts if part is not None]
        if len(known) == len(parts):
            made[name] = Work(
                sum(part.flops for part in known),
                sum(part.input_bytes for part in known),
                sum(part.output_bytes for part in known),
                sum(part.weight_bytes for part in known),
            )
    return made


def _work(node: Node, weight: tuple[int, ...], shapes: Mapping[str, Any]) -> Work | None:
    """Of one layer; None where the model or the network says nothing of it."""
    if node.op not in ("Conv", "Gemm", "MatMul") or (node.op != "Conv" and len(weight) != 2):
        return None
    sizes = []
    for name in (node.inputs[0], node.outputs[0]):
        shape = shapes[name].shape
        if not shape or any(not isinstance(size, int) for size in shape[1:]):
            return None
        first = shape[0] if isinstance(shape[0], int) else 1
        sizes.append(math.prod((first, *shape[1:])))
    # Each output takes one product of every weight of its channel.
    channels = weight[0] if node.op == "Conv" or node.attributes.get("transB", 0) else weight[-1]
    products = math.prod(weight) / channels * sizes[1]
    return Work(2.0 * products, 4.0 * sizes[0], 4.0 * sizes[1], 4.0 * math.prod(weight))


def guided(
    network: Network, densities: Mapping[str, float], machine: Machine, slow: str, fixed: bool
) -> tuple[dict[str, float], dict[str, str], str]:
    """Densities at which every layer is predicted to be faster than dense, or 1: the layer stays as it is.

    ``slow``: what becomes of a layer that would not be, "dense" or "sparser": as sparse as needed, if a density of
    ``LEAST_DENSITY`` or more will do and the pattern's is not ``fixed``. Layers the model says nothing of keep theirs.
    Returns the densities, why layers stay dense, and a remark.
    """
    known, made, dense, raised = works(network, densities), dict(densities), {}, 0
    for name, density in densities.items():
        if name not in known or density >= 1:
            continue
        outlook = sparse_outlook(known[name], machine, density)
        if outlook.pays:
            continue
        size = network.constants[name].size
        count = math.ceil(outlook.crossover * size)  # the most weights with which sparse is faster, or one or two more
        while count > 0 and not sparse_outlook(known[name], machine, count / size).pays:
            count -= 1
        enough = count / size
        if slow == "sparser" and not fixed and enough >= LEAST_DENSITY:
            made[name], raised = enough, raised + 1
            continue
        made[name] = 1.0
        told = f"below {100 * outlook.crossover:.3g} %" if outlook.crossover else "at no density"
        dense[name] = f"kept: at {100 * density:.3g} % predicted slower than dense; pays {told}"
    unknown = sum(density < 1 and name not in known for name, density in densities.items())
    remark = f"by the performance model {len(dense)} layers stay dense and {raised} become sparser than asked"
    return made, dense, remark + (f"; it says nothing of {unknown}" if unknown else "")
