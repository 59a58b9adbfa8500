"""Quantisers as ONNX has them: it knows codes of 4 bits by types of their own, and no other narrow ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bittern.encodings import Affine, Packed
from bittern.errors import UnsupportedError
from bittern.network import unique
from bittern.shapes import infer_shapes

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto

    from bittern.encodings import Encoding
    from bittern.graph import Node
    from bittern.network import Network

CODE_OPERATORS = ("QuantizeLinear", "DequantizeLinear")
_LATER = 21  # the operator set of 4-bit and 16-bit codes, and of blocks
_NAMES = {"u8": "UINT8", "i8": "INT8", "u16": "UINT16", "i16": "INT16"}


class Codes:
    """What a network's quantisers need around them: constants of other types, limits of codes narrower than 8 bits."""

    def __init__(self, network: Network, constants: Mapping[str, NDArray[Any]]) -> None:
        self.tensors: list[TensorProto] = []
        self.coded: set[str] = set()  # constants that dequantisers give
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

    def constants_in_codes(self, encodings: Mapping[str, Encoding]) -> list[NodeProto]:
        """Dequantisers of the constants that a network with quantisers holds in integer codes.

        As dense numbers they would be quantised once more by ONNX Runtime, with scales of its own.
        """
        if not self._infos:
            return []
        return [node for name, tree in encodings.items() for node in self._in_codes(name, tree)]

    def _in_codes(self, name: str, tree: Encoding) -> list[NodeProto]:
        from onnx import helper

        if not isinstance(tree, Affine) or tree.order or tree.group is not None:
            return []
        codes, scale = tree.codes.decode(), tree.scale.decode()
        zero = None if tree.zero_point is None else tree.zero_point.decode()
        bits = tree.codes.bits if isinstance(tree.codes, Packed) else 8
        if codes.dtype not in ("i1", "u1", "i4") or bits == 1 or (codes.dtype == "i4" and zero is not None):
            return []
        if zero is not None and not np.array_equal(zero.astype(codes.dtype), zero):
            return []
        self.coded.add(name)
        inputs = [self._tensor(f"{name}.codes", codes), self._tensor(f"{name}.scale", scale)]
        if zero is not None:
            inputs.append(self._tensor(f"{name}.zero", zero.astype(codes.dtype)))
        nodes = []
        if codes.dtype != "i4" and bits < 8:
            low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if codes.dtype == "i1" else (0, (1 << bits) - 1)
            bounds = [self._tensor(f"{name}.low", np.array(low, codes.dtype))]
            bounds.append(self._tensor(f"{name}.high", np.array(high, codes.dtype)))
            wide, inputs[0] = inputs[0], self._new(f"{name}.limited")
            nodes.append(helper.make_node("Clip", [wide, *bounds], inputs[:1], name=f"{name}.limit"))
        attributes = {} if tree.axis is None else {"axis": tree.axis}
        nodes.append(helper.make_node("DequantizeLinear", inputs, [name], name=f"{name}.dequantize", **attributes))
        return nodes

    def _tensor(self, name: str, array: NDArray[Any]) -> str:
        from onnx import numpy_helper

        name = self._new(name)
        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))
        return name

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
        from onnx import TensorProto

        if not hasattr(TensorProto, "INT4") or node.attributes.get("bits") != 4 or node.attributes.get("narrow"):
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
        from onnx import helper

        proto.output[0] = self._new(f"{node.outputs[0]}.wide")
        bounds = [
            self._tensor(f"{node.outputs[0]}.{word}", np.array(bound, dtype))
            for word, bound in (("low", low), ("high", high))
        ]
        clip = [proto.output[0], *bounds]
        return [proto, helper.make_node("Clip", clip, list(node.outputs), name=f"{node.name}.limit")]

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
