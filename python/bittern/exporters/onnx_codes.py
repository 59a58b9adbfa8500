"""Quantisers as ONNX has them: it knows codes of 4 bits by types of their own, and no other narrow ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bittern.errors import UnsupportedError
from bittern.network import unique
from bittern.shapes import infer_shapes

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto

    from bittern.graph import Node
    from bittern.network import Network

CODE_OPERATORS = ("QuantizeLinear", "DequantizeLinear")
_LATER = 21  # the operator set of 4-bit and 16-bit codes, and of blocks
_NAMES = {"u8": "UINT8", "i8": "INT8", "u16": "UINT16", "i16": "INT16"}


class Codes:
    """What a network's quantisers need around them: constants of other types, limits of codes narrower than 8 bits."""

    def __init__(self, network: Network, constants: Mapping[str, NDArray[Any]]) -> None:
        self.tensors: list[TensorProto] = []
        self.opset = 0
        self._constants = constants
        mine = [node for node in network.nodes if node.op in CODE_OPERATORS]
        self._infos = infer_shapes(network) if mine else {}
        self._taken = set(self._infos)
        self._readers: dict[str, list[Node | None]] = {}
        for node in network.nodes:
            for name in node.inputs:
                self._readers.setdefault(name, []).append(node)
        for info in network.outputs:
            self._readers.setdefault(info.name, []).append(None)
        self._four = {node.outputs[0] for node in mine if node.op == "QuantizeLinear" and self._has_own_type(node)}

    def around(self, node: Node, proto: NodeProto) -> list[NodeProto]:
        """The nodes that stand for one."""
        if node.op not in CODE_OPERATORS:
            return [proto]
        quantises = node.op == "QuantizeLinear"
        dtype = self._infos[node.outputs[0] if quantises else node.inputs[0]].dtype
        if dtype == "i32" and quantises:
            raise UnsupportedError(f"node {node.name}", "ONNX has no quantiser to int32", "keep it as .bittern")
        if node.attributes.get("block_size") or dtype in ("u16", "i16"):
            self.opset = _LATER
        if (node.outputs if quantises else node.inputs)[0] in self._four:
            return [self._in_own_type(node, proto, dtype)]
        if quantises and dtype != "u8" and len(node.inputs) < 3:
            self._say_type(proto, _NAMES[dtype])
        low, high = _limits(node, dtype)
        if not quantises or (low, high) == _limits(None, dtype):
            return [proto]
        return self._limited(node, proto, np.dtype({"u8": "u1", "i8": "i1"}[dtype]), low, high)

    def _has_own_type(self, node: Node) -> bool:
        """True for codes of 4 bits that only dequantisers read, all with constant zero points."""
        if node.attributes.get("bits") != 4 or node.attributes.get("narrow"):
            return False
        readers = self._readers.get(node.outputs[0], [])
        fits = all(reader is not None and reader.op == "DequantizeLinear" for reader in readers)
        return fits and all(
            self._fits_four(other.inputs[2])
            for other in [node, *readers]
            if other is not None and len(other.inputs) > 2
        )

    def _fits_four(self, name: str) -> bool:
        zero = self._constants.get(name)
        if zero is None:
            return False
        low, high = (0, 15) if zero.dtype.kind == "u" else (-8, 7)
        return bool(np.all((zero >= low) & (zero <= high)))

    def _in_own_type(self, node: Node, proto: NodeProto, dtype: str) -> NodeProto:
        from onnx import TensorProto, helper

        self.opset = _LATER
        name = "UINT4" if dtype == "u8" else "INT4"
        if len(node.inputs) < 3:
            if node.op == "QuantizeLinear":
                self._say_type(proto, name)
            return proto
        zero = self._constants[node.inputs[2]]
        proto.input[2] = self._new(f"{node.inputs[2]}.{name.lower()}")
        kind = getattr(TensorProto, name)
        self.tensors.append(helper.make_tensor(proto.input[2], kind, zero.shape, zero.reshape(-1).tolist()))
        return proto

    def _say_type(self, proto: NodeProto, name: str) -> None:
        from onnx import TensorProto, helper

        self.opset = _LATER
        proto.attribute.append(helper.make_attribute("output_dtype", getattr(TensorProto, name)))

    def _limited(self, node: Node, proto: NodeProto, dtype: np.dtype[Any], low: int, high: int) -> list[NodeProto]:
        """The codes of 8 bits, limited to those of fewer: what saturates further out saturates here as well."""
        from onnx import helper, numpy_helper

        names = [self._new(f"{node.outputs[0]}.{word}") for word in ("wide", "low", "high")]
        for name, bound in zip(names[1:], (low, high), strict=True):
            self.tensors.append(numpy_helper.from_array(np.array(bound, dtype), name))
        proto.output[0] = names[0]
        return [proto, helper.make_node("Clip", names, list(node.outputs), name=f"{node.name}.limit")]

    def _new(self, name: str) -> str:
        name = unique(name, self._taken)
        self._taken.add(name)
        return name


def _limits(node: Node | None, dtype: str) -> tuple[int, int]:
    """The codes that a quantiser gives; without one, those of the type."""
    attributes = {} if node is None else node.attributes
    bits = attributes.get("bits", 8) if dtype in ("u8", "i8") else 16
    assert isinstance(bits, int)
    if dtype.startswith("u"):
        return 0, (1 << bits) - 1
    return (1 if attributes.get("narrow") else 0) - (1 << (bits - 1)), (1 << (bits - 1)) - 1
