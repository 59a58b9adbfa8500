"""A Network as an ONNX model, its weights decoded to dense tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bittern.errors import UnsupportedError

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

    from bittern.graph import ValueInfo
    from bittern.network import Network

OPSET = 17
IR_VERSION = 8  # what goes with the operator set: older runtimes read it too

_TYPES = {
    "f32": "FLOAT",
    "f16": "FLOAT16",
    "bf16": "BFLOAT16",
    "f64": "DOUBLE",
    "i8": "INT8",
    "u8": "UINT8",
    "i16": "INT16",
    "u16": "UINT16",
    "i32": "INT32",
    "u32": "UINT32",
    "i64": "INT64",
    "u64": "UINT64",
    "bool": "BOOL",
}


def export_onnx(network: Network) -> ModelProto:
    """The network as an ONNX model (operator set 17): the same nodes and names, every constant decoded.

    Metadata goes into the model's properties. The same network gives the same bytes. Raises UnsupportedError if the
    package onnx is missing or the model would exceed the 2 GiB of one ONNX file.
    """
    try:
        import onnx
        from onnx import helper, numpy_helper
    except ImportError:
        raise UnsupportedError(
            "onnx", "the package onnx is not installed", "run: pip install 'bittern[onnx]'"
        ) from None
    constants = {name: np.ascontiguousarray(encoding.decode()) for name, encoding in network.constants.items()}
    size = sum(array.nbytes for array in constants.values())
    if size >= 2**31 - 2**20:
        raise UnsupportedError(
            f"network {network.name}", f"its decoded weights take {size:,} bytes", "one ONNX file holds at most 2 GiB"
        )
    nodes = [
        helper.make_node(node.op, list(node.inputs), list(node.outputs), name=node.name, **_attributes(node.attributes))
        for node in network.nodes
    ]
    graph = helper.make_graph(
        nodes,
        network.name or "network",
        [_value(info) for info in network.inputs],
        [_value(info) for info in network.outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(
        graph, producer_name="bittern", opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    helper.set_model_props(model, dict(sorted(network.metadata.items())))
    onnx.checker.check_model(model)
    return model


def _attributes(attributes: dict[str, Any]) -> dict[str, Any]:
    return dict(sorted(attributes.items()))


def _value(info: ValueInfo) -> ValueInfoProto:
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(info.name, getattr(TensorProto, _TYPES[info.dtype]), list(info.shape))
