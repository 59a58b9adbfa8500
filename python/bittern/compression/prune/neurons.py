"""Neurons that pruning has left without inputs or without readers (Han et al., arXiv 1506.02626, section 3.5)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bittern.compression.layerwise.executor import Values, run_node
from bittern.compression.layerwise.prepare import rebuilt
from bittern.compression.prune.channels import old_names, readers, without
from bittern.compression.prune.coupling import LAYERS, PER_CHANNEL, UNARY, Couplings
from bittern.encodings import Dense, Encoding
from bittern.graph import Node
from bittern.network import Network, unique

Known = dict[str, NDArray[np.float32]]  # by value: what each channel always is; NaN where it varies
ELEMENTWISE = ("Add", "Sub", "Mul", "Div", "PRelu")


def fold_dead_neurons(network: Network) -> Network:
    """A copy without the channels that are always the same number, or that nobody reads; the outputs stay the same but
    for rounding (about 1e-7, relative to the sums they come from).

    A channel whose incoming weights are all zero holds its bias; what becomes of that in the layers' activations and
    normalisations is added to the biases of the layers that read it, unless one of them pads its input (there the
    border would differ) and the number is not zero. Repeated until nothing changes. Layers in groups, and channels that
    cannot be followed, keep theirs; the remarks say how many went.
    """
    total = 0
    current = network.copy()
    while True:
        current = _folded(current)
        couplings = Couplings(current)
        dead = _unread(couplings)
        if not dead:
            break
        total += len(dead)
        current = without(couplings, dead)
    current._remarks.append(f"{total} dead neurons removed")
    return current


def _unread(couplings: Couplings) -> set[int]:
    """What represents the channels that all readers multiply by zero; of a value at least one stays."""
    held = set(couplings.pins())
    held |= {root for name in couplings.grouped for root in couplings.roots(name).tolist()}
    read: set[int] = set()
    met: set[int] = set()
    for node, value, axis in readers(couplings):
        weight = couplings.network.constants[node.inputs[1]].decode()
        used = np.asarray(np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1).any(axis=1))
        readable = couplings.roots(value)
        met.update(readable.tolist())
        read.update(readable[used].tolist())
    dead = met - read - held
    for name in couplings.of:
        roots = set(couplings.roots(name).tolist())
        if roots and roots <= dead:
            dead.discard(min(roots))
    return dead


def _folded(network: Network) -> Network:
    """Channels that are known numbers, moved into the biases of their readers, whose weights for them become zero."""
    couplings = Couplings(network)
    known = _known(couplings)
    constants: dict[str, Encoding] = dict(network.constants)
    taken = set(constants) | {name for node in network.nodes for name in (*node.outputs, *node.inputs)}
    nodes = [
        Node(node.name, node.op, list(node.inputs), list(node.outputs), dict(node.attributes)) for node in network.nodes
    ]
    renamed: dict[str, str] = {}
    by_name = {node.name: node for node in nodes}
    for original, value, axis in readers(couplings):
        node = by_name[original.name]
        weight = constants[node.inputs[1]].decode()
        numbers = known.get(value)
        if numbers is None or node.op == "ConvTranspose":
            continue
        pads = node.attributes.get("pads", [0]) if node.op == "Conv" else [0]
        padded = node.attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or any(pads)  # type: ignore[arg-type]
        columns = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
        usable = np.isfinite(numbers) & columns.any(axis=1) & ((numbers == 0) | (not padded))
        plain = node.attributes.get("alpha", 1.0) == 1.0 and node.attributes.get("beta", 1.0) == 1.0
        if not usable.any() or not plain:
            continue
        moved = np.moveaxis(weight.astype(np.float64), axis, -1)
        rows = moved[..., usable] @ numbers[usable].astype(np.float64)  # [outputs, kernel...] or [outputs]
        shift = rows.reshape(rows.shape[0], -1).sum(axis=1)
        if not _add_bias(node, shift, constants, taken, len(couplings.shapes[node.inputs[0]].shape or ())):
            continue
        changed = weight.copy()
        np.moveaxis(changed, axis, 0)[usable] = 0
        name, node.inputs[1] = node.inputs[1], _new(node.inputs[1], changed, constants, taken)
        renamed[node.inputs[1]] = name
    made = rebuilt(network, nodes, old_names(nodes, constants, renamed))
    made._remarks = list(network._remarks)
    return made


def _new(name: str, array: NDArray[Any], constants: dict[str, Encoding], taken: set[str]) -> str:
    made = unique(name, taken)
    taken.add(made)
    constants[made] = Dense(np.ascontiguousarray(array.astype(np.float32)))
    return made


def _add_bias(
    node: Node, shift: NDArray[np.float64], constants: dict[str, Encoding], taken: set[str], rank: int
) -> bool:
    """Whether the layer's bias now has ``shift`` in it."""
    if not shift.any():
        return True
    name = node.inputs[2] if len(node.inputs) > 2 else ""
    if name and (name not in constants or constants[name].shape[-1:] not in ((), (1,), shift.shape)):
        return False
    if name and constants[name].size not in (1, shift.size):
        return False
    if node.op == "MatMul":
        if rank != 2:
            return False
        node.op = "Gemm"
    old = constants[name].decode().reshape(-1).astype(np.float64) if name else 0.0
    node.inputs[2:3] = [_new(name or f"{node.name}.bias", old + shift, constants, taken)]
    return True


def _known(couplings: Couplings) -> Known:
    """What the channels of each value always are."""
    known: Known = {}
    for node in couplings.network.nodes:
        out = node.outputs[0]
        if out not in couplings.of:
            continue
        found = _layer(couplings, node) if node.op in LAYERS else _passed(couplings, node, known)
        if found is not None and np.isfinite(found).any():
            known[out] = found
    return known


def _layer(couplings: Couplings, node: Node) -> NDArray[np.float32] | None:
    """The biases of the outputs that have no weights."""
    constants = couplings.network.constants
    shape = couplings.weight(node)
    groups = node.attributes.get("group", 1)
    factors = any(node.attributes.get(key, 1.0) != 1.0 for key in ("alpha", "beta"))
    if shape is None or factors or (node.op == "ConvTranspose" and groups != 1):
        return None
    rows_out = node.op == "Conv" or (node.op == "Gemm" and bool(node.attributes.get("transB", 0)))
    weight = constants[node.inputs[1]].decode()
    rows = weight if rows_out else np.moveaxis(weight, 1, 0)
    empty = ~rows.reshape(rows.shape[0], -1).any(axis=1)
    bias = np.zeros(rows.shape[0], np.float32)
    if len(node.inputs) > 2 and node.inputs[2]:
        tree = constants.get(node.inputs[2])
        if tree is None or tree.size not in (1, bias.size) or tree.shape[-1:] not in ((), (tree.size,)):
            return None
        bias = np.broadcast_to(tree.decode().reshape(-1), bias.shape).astype(np.float32)
    return np.where(empty, bias, np.float32(np.nan)).astype(np.float32)


def _passed(couplings: Couplings, node: Node, known: Known) -> NDArray[np.float32] | None:
    """What an operator makes of channels that are known."""
    source = node.inputs[0]
    flow = couplings.flow.get(node.outputs[0])
    constants = couplings.network.constants
    data = [name for name in dict.fromkeys(node.inputs) if name and name not in constants]
    if node.op == "Concat" and flow is not None and flow.kind == "concat":
        nothing = np.float32(np.nan)
        parts = [known.get(name, np.full(couplings.of[name].ids.size, nothing)) for name in flow.sources]
        return np.concatenate(parts).astype(np.float32)
    if source not in known or len(data) != 1:
        return None
    if node.op in (*UNARY, *PER_CHANNEL, *ELEMENTWISE) and node.op != "InstanceNormalization":
        return _computed(couplings, node, source, known[source])
    pads = node.attributes.get("pads", [0])
    averaged = node.op == "AveragePool" and node.attributes.get("count_include_pad", 0) and any(pads)  # type: ignore[arg-type]
    if node.op in ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool") and not averaged:
        return known[source]
    if (
        flow is not None
        and flow.kind == "same"
        and node.op in ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose")
    ):
        return known[source]
    if flow is not None and flow.kind == "flatten":
        outer, inner = flow.numbers
        return np.tile(np.repeat(known[source], inner), outer)
    return None


def _computed(
    couplings: Couplings, node: Node, source: str, numbers: NDArray[np.float32]
) -> NDArray[np.float32] | None:
    """An operator on one element of each channel; None if its constants differ inside a channel."""
    axis, rank = couplings.of[source].axis, len(couplings.shapes[source].shape or ())
    constants = couplings.network.constants
    for name in node.inputs[1:] if node.op in ELEMENTWISE else ():
        shape = (1,) * (rank - len(constants[name].shape)) + constants[name].shape if name in constants else ()
        if len(shape) > rank or any(size != 1 for place, size in enumerate(shape) if place != axis):
            return None
    if node.op in ELEMENTWISE and source != node.inputs[0]:
        return None
    finite = np.where(np.isfinite(numbers), numbers, np.float32(0))
    values = Values(couplings.network, [{source: finite.reshape([-1 if i == axis else 1 for i in range(rank)])}])
    run_node(Node(node.name, node.op, node.inputs, node.outputs[:1], node.attributes), constants, values)
    result = values[node.outputs[0]][0].reshape(-1)
    if result.size != numbers.size:
        return None
    return np.where(np.isfinite(numbers), result, np.float32(np.nan)).astype(np.float32)
