"""The graph's JSON form (docs/format.md): written from a network, read into one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from bittern.container import Leaf, is_size
from bittern.encodings import from_json
from bittern.errors import Error, FormatError, UnsupportedError
from bittern.graph import Node, joined, unsupported
from bittern.operators import significant
from bittern.values import ValueInfo

if TYPE_CHECKING:
    from bittern.network import Network


def write_graph(network: Network, constants: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON object of a valid network whose encoding trees are given as ``constants``; defaults are left out."""
    nodes = []
    for node in network.nodes:
        entry: dict[str, Any] = {"name": node.name, "op": node.op, "inputs": node.inputs, "outputs": node.outputs}
        attributes = significant(node.op, node.attributes)
        weight = network.constants.get(node.inputs[1]) if node.op == "Conv" and len(node.inputs) > 1 else None
        if weight is not None and attributes.get("kernel_shape") == list(weight.shape[2:]):
            del attributes["kernel_shape"]  # the weight says it
        if attributes:
            entry["attributes"] = attributes
        nodes.append(entry)
    return {
        "name": network.name,
        "inputs": [_info_to_json(info) for info in network.inputs],
        "outputs": [_info_to_json(info) for info in network.outputs],
        "constants": dict(constants),
        "nodes": nodes,
        "metadata": network.metadata,
    }


def _info_to_json(info: ValueInfo) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": info.name, "dtype": info.dtype}
    return entry if info.shape is None else entry | {"shape": list(info.shape)}


def read_graph(network: Network, graph: Any, leaves: Mapping[str, Leaf], place: str) -> None:
    """Fill an empty network. Raises FormatError or UnsupportedError with all problems."""
    keys = {"name", "inputs", "outputs", "constants", "nodes", "metadata"}
    _expect_keys(graph, keys, {"name", "constants", "metadata"}, f"{place}: graph")
    network.name = _text(graph.get("name", ""), f"{place}: graph: name")
    network.inputs = [_info_from_json(info, f"{place}: inputs[{i}]") for i, info in _items(graph, "inputs", place)]
    network.outputs = [
        _info_from_json(info, f"{place}: outputs[{i}]", {"shape"}) for i, info in _items(graph, "outputs", place)
    ]
    network.nodes = [_node_from_json(node, f"{place}: nodes[{i}]") for i, node in _items(graph, "nodes", place)]
    metadata = graph.get("metadata", {})
    if not isinstance(metadata, dict):
        raise FormatError(f"{place}: metadata", "is not an object")
    network.metadata = {key: _text(value, f"{place}: metadata {key!r}") for key, value in metadata.items()}
    constants = graph.get("constants", {})
    if not isinstance(constants, dict):
        raise FormatError(f"{place}: constants", "is not an object")
    used: set[str] = set()
    damages: list[str] = []
    for name, tree in constants.items():
        try:
            network.constants[name] = from_json(tree, leaves, f"constant {name!r}", used)
        except Error as error:
            damages.append(str(error))
    damages += [f"leaf {name!r} is not used" for name in sorted(set(leaves) - used) if not damages]
    if damages:
        raise FormatError(place, joined(damages))
    refusals = [f"node {node.name!r}: {reason}" for node in network.nodes for reason in unsupported(node)]
    if refusals:
        raise UnsupportedError(place, joined(refusals), "convert the network again, or use a newer release")
    if problems := network.problems():
        raise FormatError(place, joined(problems))


def _expect_keys(value: Any, keys: set[str], optional: set[str], place: str) -> None:
    if not isinstance(value, dict):
        raise FormatError(place, "is not an object")
    if unknown := sorted(set(value) - keys):
        raise FormatError(place, f"has the unknown key {unknown[0]!r}")
    if missing := sorted(keys - optional - set(value)):
        raise FormatError(place, f"has no {missing[0]!r}")


def _items(graph: dict[str, Any], key: str, place: str) -> enumerate[Any]:
    if not isinstance(graph[key], list):
        raise FormatError(f"{place}: {key}", "is not a list")
    return enumerate(graph[key])


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str):
        raise FormatError(place, f"is {value!r}, expected a text")
    return value


def _info_from_json(value: Any, place: str, optional: Collection[str] = ()) -> ValueInfo:
    _expect_keys(value, {"name", "dtype", "shape"}, set(optional), place)
    name, dtype = _text(value["name"], place), _text(value["dtype"], place)
    if "shape" not in value:
        return ValueInfo(name, None, dtype)
    shape = value["shape"]
    if not isinstance(shape, list) or not all(isinstance(size, str) or is_size(size) for size in shape):
        raise FormatError(place, "shape is not a list of sizes and symbols")
    return ValueInfo(name, tuple(shape), dtype)


def _node_from_json(value: Any, place: str) -> Node:
    _expect_keys(value, {"name", "op", "inputs", "outputs", "attributes"}, {"attributes"}, place)
    for key in ("inputs", "outputs"):
        if not isinstance(value[key], list):
            raise FormatError(f"{place}: {key}", "is not a list")
    attributes = value.get("attributes", {})
    if not isinstance(attributes, dict):
        raise FormatError(f"{place}: attributes", "is not an object")
    inputs = [_text(name, f"{place}: inputs") for name in value["inputs"]]
    outputs = [_text(name, f"{place}: outputs") for name in value["outputs"]]
    return Node(_text(value["name"], place), _text(value["op"], place), inputs, outputs, attributes)
