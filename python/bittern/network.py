"""A network as the file states it: built, checked, saved, loaded."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bittern import graph_json
from bittern.atomic_file import write_atomic
from bittern.container import Leaf, is_text, read_container, write_container
from bittern.encodings import Dense, Encoding, as_encoding, leaf_key
from bittern.errors import InputError, UnsupportedError
from bittern.graph import (
    Node,
    info_problems,
    joined,
    node_problems,
    plain_value,
    root_problem,
    unsupported,
    value_info,
)
from bittern.operators import Attribute
from bittern.values import ValueInfo

if TYPE_CHECKING:
    from onnx import ModelProto

    from bittern.summary import Summary


class Network:
    """A graph in topological order whose constants are encoding trees.

    Build one with ``add_input``, ``add_constant``, ``add_node`` and ``set_outputs``; every value is named once and
    defined before it is used. ``save`` and ``to_bytes`` check everything again and report all problems together.
    """

    def __init__(self, name: str = "network") -> None:
        self.name = name
        self.inputs: list[ValueInfo] = []
        self.outputs: list[ValueInfo] = []
        self.nodes: list[Node] = []
        self.constants: dict[str, Encoding] = {}
        self.metadata: dict[str, str] = {}
        self._known: set[str] = set()
        self._node_names: set[str] = set()
        # What compression knows and the file does not hold: relative errors and a remark, by constant; remarks on all.
        self._errors: dict[str, float] = {}
        self._output_errors: dict[str, float] = {}
        self._notes: dict[str, str] = {}
        self._remarks: list[str] = []

    def __repr__(self) -> str:
        return f"<Network {self.name!r}: {len(self.nodes)} nodes, {len(self.constants)} constants>"

    # Building

    def add_input(self, name: str, shape: Sequence[int | str], dtype: str = "f32") -> None:
        """Add a graph input; a dimension is a size or a symbol such as ``"N"``. Raises InputError."""
        info = value_info(name, shape, dtype)
        self._define(name)
        self.inputs.append(info)

    def add_constant(self, name: str, value: ArrayLike | Encoding) -> None:
        """Add a constant: an array (copied, stored as it is), or an encoding tree (decoded once to check it).

        Raises InputError for a wrong name, element type or tree, FormatError for leaves that cannot be decoded.
        """
        if not isinstance(value, Encoding) and not isinstance(value, np.ndarray):
            value = np.asarray(value)
            value = value.astype(np.float32) if value.dtype == np.float64 else value
        try:
            encoding = as_encoding(value)
        except InputError as error:
            raise InputError(
                f"constant {name!r}", error.problem, "convert it first, e.g. with .astype(numpy.float32)"
            ) from None
        if problem := root_problem(encoding):
            raise InputError(f"constant {name!r}", problem)
        if not isinstance(encoding, Dense):
            encoding.decode()
        self._define(name)
        self.constants[name] = encoding

    def add_node(
        self,
        op: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        name: str | None = None,
        **attributes: Attribute | NDArray[Any] | tuple[int, ...],
    ) -> Node:
        """Append a node. Raises UnsupportedError for an unknown operator or attribute, InputError for wrong names."""
        if isinstance(inputs, str) or isinstance(outputs, str):
            raise InputError(f"node {name or op!r}", "inputs and outputs are lists of names, found a single name")
        if name is None:
            name = unique(f"{op}_{len(self.nodes)}", self._node_names)
        node = Node(
            name, op, list(inputs), list(outputs), {key: plain_value(value) for key, value in attributes.items()}
        )
        place = f"node {name!r}"
        if not isinstance(name, str) or not name or not is_text(name) or name in self._node_names:
            raise InputError(place, "a node's name must be a non-empty text that no other node has")
        if refusals := unsupported(node):
            raise UnsupportedError(place, "; ".join(refusals))
        if problems := node_problems(node, self._known):
            raise InputError(place, "; ".join(problems))
        for output in node.outputs:
            self._define(output)
        self._node_names.add(name)
        self.nodes.append(node)
        return node

    def set_outputs(self, outputs: Sequence[str | ValueInfo]) -> None:
        """Say which values are the results; shape and type of a bare name are inferred. Raises InputError."""
        if isinstance(outputs, str):
            raise InputError("outputs", "expected a list of names, found a single name")
        found: list[ValueInfo] = []
        for output in outputs:
            info = output if isinstance(output, ValueInfo) else self._infer(output)
            if info.name not in self._known:
                raise InputError(f"output {info.name!r}", "no such value", "add the node that computes it first")
            found.append(value_info(info.name, info.shape, info.dtype))
        self.outputs = found

    def _infer(self, name: str) -> ValueInfo:
        from bittern.shapes import infer_shapes

        if name not in self._known:
            raise InputError(f"output {name!r}", "no such value", "add the node that computes it first")
        return infer_shapes(self)[name]

    def _define(self, name: str) -> None:
        if not isinstance(name, str) or not name or not is_text(name):
            raise InputError(f"value {name!r}", "a name must be a non-empty text")
        if name in self._known:
            raise InputError(f"value {name!r}", "exists already", "every value needs a name of its own")
        self._known.add(name)

    def copy(self) -> Network:
        """An independent network; the encoding trees, which never change, are shared."""
        other = Network(self.name)
        other.inputs, other.outputs = list(self.inputs), list(self.outputs)
        other.nodes = [
            Node(node.name, node.op, list(node.inputs), list(node.outputs), dict(node.attributes))
            for node in self.nodes
        ]
        other.constants, other.metadata = dict(self.constants), dict(self.metadata)
        other._known, other._node_names = set(self._known), set(self._node_names)
        other._errors, other._notes = dict(self._errors), dict(self._notes)
        other._output_errors = dict(self._output_errors)
        other._remarks = list(self._remarks)
        return other

    # Checking

    def problems(self) -> list[str]:
        """Everything that keeps this network from being a valid file, one sentence each."""
        found = [] if isinstance(self.name, str) and is_text(self.name) else ["the network's name is no text"]
        known: set[str] = set()
        names: set[str] = set()

        def define(place: str, name: str) -> None:
            if not isinstance(name, str) or not name or not is_text(name):
                found.append(f"{place}: a value's name must be a non-empty text, found {name!r}")
            elif name in known:
                found.append(f"{place}: the value {name!r} is defined twice")
            known.add(name)

        for info in self.inputs:
            define(f"input {info.name!r}", info.name)
            found.extend(f"input {info.name!r}: {problem}" for problem in info_problems(info))
        for name, encoding in self.constants.items():
            define(f"constant {name!r}", name)
            if problem := root_problem(encoding):
                found.append(f"constant {name!r}: {problem}")
        for node in self.nodes:
            place = f"node {node.name!r}"
            if not isinstance(node.name, str) or not node.name or not is_text(node.name) or node.name in names:
                found.append(f"{place}: a node's name must be a non-empty text that no other node has")
            names.add(node.name)
            found.extend(f"{place}: {problem}" for problem in unsupported(node) or node_problems(node, known))
            for output in node.outputs:
                define(place, output)
        if not self.outputs:
            found.append("there are no outputs")
        for info in self.outputs:
            if info.name not in known:
                found.append(f"output {info.name!r}: no such value")
            found.extend(f"output {info.name!r}: {problem}" for problem in info_problems(info))
        if len({info.name for info in self.outputs}) != len(self.outputs):
            found.append("an output is named twice")
        found.extend(
            f"metadata {key!r}: key and value must be texts"
            for key, value in self.metadata.items()
            if not (isinstance(key, str) and isinstance(value, str) and is_text(key) and is_text(value))
        )
        return found

    # The file

    def to_bytes(self) -> bytes:
        """The bytes of the file; the same network gives the same bytes. Raises InputError with all problems."""
        if found := self.problems():
            raise InputError(f"network {self.name!r}", joined(found))
        leaves: dict[str, Leaf] = {}
        names: dict[tuple[Any, ...], str] = {}
        taken = {"__metadata__", ""}

        constants: dict[str, Any] = {}
        for name in sorted(self.constants):

            def register(role: str, array: NDArray[Any], dtype: str, name: str = name) -> str:
                key = (*leaf_key(array), dtype)
                if key not in names:
                    names[key] = unique(f"{name}.{role}" if role else name, taken)
                    taken.add(names[key])
                    leaves[names[key]] = Leaf(array, dtype)
                return names[key]

            constants[name] = self.constants[name].to_json(register)
        graph = graph_json.write_graph(self, constants)
        text = json.dumps(graph, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return write_container(text, leaves)

    def to_onnx(self) -> ModelProto:
        """The network as an ONNX model with dense weights: see :func:`bittern.exporters.export_onnx`."""
        from bittern.exporters import export_onnx

        self.to_bytes()  # reports whatever is wrong with the network, all together
        return export_onnx(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file: whole or not at all. Raises InputError if the network is wrong or the path unwritable."""
        write_atomic(path, self.to_bytes())

    @classmethod
    def load(cls, source: str | os.PathLike[str] | bytes) -> Network:
        """Read a file or its bytes.

        Raises InputError if the path cannot be read, FormatError if the content is damaged, UnsupportedError for
        another version or an unknown operator.
        """
        data, place = read_source(source)
        graph, leaves = read_container(data, place)
        network = cls()
        graph_json.read_graph(network, graph, leaves, place)
        network._known = {info.name for info in network.inputs} | set(network.constants)
        network._known.update(output for node in network.nodes for output in node.outputs)
        network._node_names = {node.name for node in network.nodes}
        return network

    def summary(self) -> Summary:
        """Size, density and encoding of every constant, and the error where compression has just made it."""
        from bittern.summary import summarize

        return summarize(self)


def read_source(source: str | os.PathLike[str] | bytes) -> tuple[bytes, str]:
    """The bytes of a path (or bytes as they are), and a name for messages. Raises InputError."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source), "bytes"
    try:
        return Path(source).read_bytes(), os.fspath(source)
    except TypeError:
        raise InputError("source", f"expected a path or bytes, found {type(source).__name__}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(os.fspath(source), f"cannot be read: {reason}") from None


def drop_unread(network: Network) -> None:
    """Remove, in place, the nodes and constants that no output needs; their names are free again."""
    wanted = {info.name for info in network.outputs}
    kept: list[Node] = []
    for node in reversed(network.nodes):
        if wanted & set(node.outputs):
            kept.append(node)
            wanted |= set(node.inputs)
    network.nodes = kept[::-1]
    network.constants = {name: tree for name, tree in network.constants.items() if name in wanted}
    network._node_names = {node.name for node in network.nodes}
    network._known = {name for node in network.nodes for name in node.outputs} | set(network.constants)
    network._known |= {info.name for info in network.inputs}


def unique(name: str, taken: set[str]) -> str:
    """``name``, or ``name_2``, ``name_3`` ... if it is taken."""
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name}_{number}", number + 1
    return candidate


__all__ = ["Network", "Node", "ValueInfo", "drop_unread", "read_source", "unique"]
