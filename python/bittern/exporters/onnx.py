"""A Network as an ONNX model, its weights decoded to dense tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bittern.errors import UnsupportedError
from bittern.exporters.onnx_codes import CODE_OPERATORS, Codes
from bittern.exporters.steps import with_comparisons

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, OperatorSetIdProto, ValueInfoProto

    from bittern.graph import Node
    from bittern.network import Network
    from bittern.values import ValueInfo

OPSET = 17
IR_VERSION = 8  # what goes with the operator set: older runtimes read it too

# The operator set in which an operator first means what it means here, if that is later than OPSET.
_SINCE = {
    **{f"Reduce{name}": 18 for name in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")},
    **dict.fromkeys(("BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot", "Mish"), 18),
    **dict.fromkeys(("ScatterElements", "ScatterND"), 18),
    "Gelu": 20,
    "GroupNormalization": 21,
    "RMSNormalization": 23,
    "Swish": 24,
}
# Attributes, and values of them, that came later than the operator.
_SINCE_ATTRIBUTE: dict[str, dict[str, int]] = {
    "AveragePool": {"dilations": 19},
    "LpPool": {"dilations": 18, "ceil_mode": 18},
    "Pad": {"wrap": 19},
    "Resize": {"antialias": 18, "axes": 18, "keep_aspect_ratio_policy": 18, "half_pixel_symmetric": 19},
    "SpaceToDepth": {"mode": 28},
    "Split": {"num_outputs": 18},
}

_QONNX = ("Quant", "BipolarQuant", "Trunc", "MultiThreshold")
_QONNX_DOMAIN = "qonnx.custom_op.general"
_OWN = ("WinogradConv",)
_OWN_DOMAIN = "bittern"

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
    """The network as an ONNX model: the same nodes and names, every constant decoded; in a network with quantisers,
    constants of integer codes stay such, behind DequantizeLinear.

    The operator set is 17, or the first later one that has all operators; operators of QONNX are of its domain,
    bittern's own of the domain ``bittern``.
    Metadata goes into the model's properties. The same network gives the same bytes. Raises UnsupportedError if the
    package onnx is missing, the model would exceed the 2 GiB of one ONNX file, or ONNX has nothing like a node.
    """
    try:
        import onnx
        from onnx import helper, numpy_helper
    except ImportError:
        raise UnsupportedError(
            "onnx", "the package onnx is not installed", "run: pip install 'bittern[onnx]'"
        ) from None
    network = with_comparisons(network)
    constants = {name: np.ascontiguousarray(encoding.decode()) for name, encoding in network.constants.items()}
    size = sum(array.nbytes for array in constants.values())
    if size >= 2**31 - 2**20:
        raise UnsupportedError(
            f"network {network.name}", f"its decoded weights take {size:,} bytes", "one ONNX file holds at most 2 GiB"
        )
    codes = Codes(network, constants)
    nodes = codes.constants_in_codes(network.constants)
    nodes += [made for node in network.nodes for made in codes.around(node, _node(node, constants))]
    used = {name for node in nodes for name in node.input} | {info.name for info in network.outputs}
    filled = {node.inputs[1] for node in network.nodes if node.op == "ConstantOfShape"}
    graph = helper.make_graph(
        nodes,
        network.name or "network",
        [_value(info) for info in network.inputs],
        [_value(info) for info in network.outputs],
        [
            *(
                numpy_helper.from_array(array.reshape(network.constants[name].shape), name)
                for name, array in constants.items()
                if name not in codes.coded and (name in used or name not in filled)
            ),
            *codes.tensors,
        ],
    )
    opsets = _other_opsets(network)
    opset = max([OPSET, codes.opset, *(_opset(node) for node in network.nodes)])
    version = helper.find_min_ir_version_for([helper.make_opsetid("", opset)], ignore_unknown=True)
    model = helper.make_model(
        graph,
        producer_name="bittern",
        opset_imports=[helper.make_opsetid("", opset), *opsets],
        ir_version=max(IR_VERSION, version),
    )
    helper.set_model_props(model, dict(sorted(network.metadata.items())))
    onnx.checker.check_model(model)
    for value, info in zip(model.graph.output, network.outputs, strict=True):
        if info.shape is None:  # the checker wants one, runtimes do not
            value.type.tensor_type.ClearField("shape")
    return model


def _other_opsets(network: Network) -> list[OperatorSetIdProto]:
    """Of the domains beside ONNX's own."""
    from onnx import helper

    # The second version of Trunc has a further input.
    versions = [2 if len(node.inputs) > 5 else 1 for node in network.nodes if node.op in _QONNX]
    opsets = [helper.make_opsetid(_QONNX_DOMAIN, max(versions))] if versions else []
    if any(node.op in _OWN for node in network.nodes):
        opsets.append(helper.make_opsetid(_OWN_DOMAIN, 1))
    return opsets


def _opset(node: Node) -> int:
    """The first operator set that has this node."""
    since = [_SINCE.get(node.op, OPSET)]
    for word, later in _SINCE_ATTRIBUTE.get(node.op, {}).items():
        if word in node.attributes or word in node.attributes.values():
            since.append(later)
    if node.op == "Pad" and len(node.inputs) > 3:
        since.append(18)
    return max(since)


def _node(node: Node, constants: Mapping[str, NDArray[Any]]) -> NodeProto:
    from onnx import TensorProto, helper, numpy_helper

    inputs = list(node.inputs)
    attributes: dict[str, Any] = dict(sorted(node.attributes.items()))
    if node.op in CODE_OPERATORS:
        attributes = {name: value for name, value in attributes.items() if name in ("axis", "block_size")}
    for name in ("to", "dtype"):
        if name in attributes:
            attributes[name] = getattr(TensorProto, _TYPES[str(attributes[name])])
    if attributes.get("cell_clip"):
        raise UnsupportedError(f"node {node.name}", "ONNX cannot bound an LSTM's cell state", "keep it as .bittern")
    attributes.pop("cell_clip", None)
    if attributes.pop("dynamic_quantization", 0):
        remedy = "keep it as .bittern, or compress without activations='dynamic'"
        raise UnsupportedError(f"node {node.name}", "ONNX cannot quantise a recurrent layer's states", remedy)
    if node.op in ("LSTM", "GRU", "RNN") and "activations" in attributes:
        attributes["activations"] = str(attributes["activations"]).split(",")
    if node.op == "ConstantOfShape":
        value = constants.get(inputs.pop())
        if value is None:
            raise UnsupportedError(f"node {node.name}", "its value is computed", "ONNX needs a constant there")
        attributes["value"] = numpy_helper.from_array(value.reshape(1), "value")
    if node.op in _QONNX:
        if node.op == "MultiThreshold":
            attributes["out_dtype"] = "FLOAT32"
        return helper.make_node(node.op, inputs, list(node.outputs), name=node.name, domain=_QONNX_DOMAIN, **attributes)
    if node.op in _OWN:
        return helper.make_node(node.op, inputs, list(node.outputs), name=node.name, domain=_OWN_DOMAIN, **attributes)
    return helper.make_node(node.op, inputs, list(node.outputs), name=node.name, **attributes)


def _value(info: ValueInfo) -> ValueInfoProto:
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(info.name, getattr(TensorProto, _TYPES[info.dtype]), list(info.shape or ()))
