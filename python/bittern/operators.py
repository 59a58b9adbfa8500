"""The operators of a network: their inputs, outputs and attributes, with ONNX names and meaning (the newest opset).

Quant, BipolarQuant, Trunc and MultiThreshold are those of QONNX; WinogradConv is bittern's own (docs/format.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bittern.container import is_text

Attribute = int | float | str | list[int] | list[float]

# An attribute that is left out means this: a value, a list of ones or zeros of any length, or nothing in particular.
_ONES = ("ones",)
_ZEROS = ("zeros",)


@dataclass(frozen=True)
class Operator:
    """How many inputs an operator takes and outputs it has, and which attributes: name -> (type, default or None).

    ``types`` says the element type of each output: of an input (its number), a fixed one (``bool``, ``i64``), what the
    attribute behind ``=`` says, or, with ``/`` between them, the first of several that is given; the last goes for all
    further outputs.
    """

    least: int
    most: int | None  # None: any number
    types: tuple[str, ...] = ("0",)
    least_outputs: int = 1
    most_outputs: int | None = 1
    attributes: Mapping[str, tuple[str, Any]] = field(default_factory=dict)
    required: tuple[str, ...] = ()  # attributes that have no default
    weights: tuple[int, ...] = ()  # the inputs that compression is about
    only: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)  # the values that are supported


# A line: names; inputs, least-most (* for any number); element types of the outputs (? for those that may be missing,
# * for any number of them); attributes as name:type, then =default or ! if it must be there.
_WINDOW = "auto_pad:string=NOTSET dilations:ints=ones kernel_shape:ints{} pads:ints=zeros strides:ints=ones"
_POOL = _WINDOW.format("!") + " ceil_mode:int=0"
_CELLS = (
    "activation_alpha:floats activation_beta:floats activations:string clip:float direction:string=forward"
    " dynamic_quantization:int=0 hidden_size:int layout:int=0"
)
_CODES = "axis:int=1 bits:int=8 block_size:int=0 narrow:int=0"
_TABLE = f"""
Add Sub Mul Div Pow PRelu BitwiseAnd BitwiseOr BitwiseXor | 2 | 0
Min Max Mean Sum | 1-* | 0
Mod | 2 | 0 | fmod:int=0
BitShift | 2 | 0 | direction:string!
Equal Less LessOrEqual Greater GreaterOrEqual And Or Xor | 2 | bool
Not IsNaN | 1 | bool
IsInf | 1 | bool | detect_negative:int=1 detect_positive:int=1
Where | 3 | 1
Abs Neg Sign Floor Ceil Round Exp Log Sqrt Reciprocal Erf BitwiseNot Identity | 1 | 0
Sin Cos Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh | 1 | 0
Relu Sigmoid Tanh Softplus Softsign HardSwish Mish | 1 | 0
LeakyRelu | 1 | 0 | alpha:float=0.01
Elu Celu ThresholdedRelu Swish | 1 | 0 | alpha:float=1
Selu | 1 | 0 | alpha:float=1.6732631921768188 gamma:float=1.0507010221481323
HardSigmoid | 1 | 0 | alpha:float=0.2 beta:float=0.5
Shrink | 1 | 0 | bias:float=0 lambd:float=0.5
Gelu | 1 | 0 | approximate:string=none
Clip | 1-3 | 0
Dropout | 1-3 | 0
Softmax LogSoftmax Hardmax | 1 | 0 | axis:int=-1
CumSum | 2 | 0 | exclusive:int=0 reverse:int=0
ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare \
    | 1-2 | 0 | keepdims:int=1 noop_with_empty_axes:int=0
ArgMax ArgMin | 1 | i64 | axis:int=0 keepdims:int=1 select_last_index:int=0
TopK | 2 | 0 i64 | axis:int=-1 largest:int=1 sorted:int=1

Concat | 1-* | 0 | axis:int!
Split | 1-2 | 0 * | axis:int=0 num_outputs:int
Slice | 3-5 | 0
Pad | 2-4 | 0 | mode:string=constant
Reshape | 2 | 0 | allowzero:int=0
Flatten | 1 | 0 | axis:int=1
Squeeze | 1-2 | 0
Unsqueeze Expand Tile | 2 | 0
Transpose | 1 | 0 | perm:ints
DepthToSpace SpaceToDepth | 1 | 0 | blocksize:int! mode:string=DCR
Resize | 1-4 | 0 | antialias:int=0 axes:ints coordinate_transformation_mode:string=half_pixel \
    cubic_coeff_a:float=-0.75 exclude_outside:int=0 extrapolation_value:float=0 \
    keep_aspect_ratio_policy:string=stretch mode:string=nearest nearest_mode:string=round_prefer_floor
Gather GatherElements | 2 | 0 | axis:int=0
GatherND | 2 | 0 | batch_dims:int=0
ScatterElements | 3 | 0 | axis:int=0 reduction:string=none
ScatterND | 3 | 0 | reduction:string=none
OneHot | 3 | 2 | axis:int=-1
Cast | 1 | =to | to:string!
CastLike | 2 | 1
ConstantOfShape | 2 | 1
Range | 3 | 0
Shape | 1 | i64 | end:int start:int=0
Size NonZero | 1 | i64
EyeLike | 1 | =dtype/0 | dtype:string k:int=0
Trilu | 1-2 | 0 | upper:int=1
ReverseSequence | 2 | 0 | batch_axis:int=1 time_axis:int=0

Conv | 2-3 | 0 | {_WINDOW.format("")} group:int=1
ConvTranspose | 2-3 | 0 | {_WINDOW.format("")} group:int=1 output_padding:ints=zeros output_shape:ints
Gemm | 2-3 | 0 | alpha:float=1 beta:float=1 transA:int=0 transB:int=0
MatMul | 2 | 0
WinogradConv | 2-3 | 0 | m:int=2 pads:ints=zeros relu:int=0
MaxPool | 1 | 0 i64? | {_POOL} storage_order:int=0
AveragePool | 1 | 0 | {_POOL} count_include_pad:int=0
LpPool | 1 | 0 | {_POOL} p:int=2
GlobalAveragePool GlobalMaxPool | 1 | 0
GlobalLpPool | 1 | 0 | p:int=2
BatchNormalization | 5 | 0 | epsilon:float=1e-5 momentum:float=0.9 training_mode:int=0
InstanceNormalization | 3 | 0 | epsilon:float=1e-5
LayerNormalization | 2-3 | 0 f32? f32? | axis:int=-1 epsilon:float=1e-5
GroupNormalization | 3 | 0 | epsilon:float=1e-5 num_groups:int!
RMSNormalization | 2 | 0 | axis:int=-1 epsilon:float=1e-5
LRN | 1 | 0 | alpha:float=1e-4 beta:float=0.75 bias:float=1 size:int!
LpNormalization | 1 | 0 | axis:int=-1 p:int=2
MeanVarianceNormalization | 1 | 0 | axes:ints
LSTM | 3-8 | 0 0? 0? | {_CELLS} cell_clip:float=0 input_forget:int=0
GRU | 3-6 | 0 0? | {_CELLS} linear_before_reset:int=0
RNN | 3-6 | 0 0? | {_CELLS}

QuantizeLinear | 2-3 | =output_dtype/2/u8 | {_CODES} output_dtype:string requantize:string
DequantizeLinear | 2-3 | f32 | {_CODES}
DynamicQuantizeLinear | 1 | u8 f32 u8
ConvInteger | 2-4 | i32 | {_WINDOW.format("")} group:int=1
MatMulInteger | 2-4 | i32
Quant | 4 | f32 | narrow:int=0 rounding_mode:string=ROUND signed:int=1
BipolarQuant | 2 | f32
Trunc | 5-6 | f32 | narrow:int=0 rounding_mode:string=FLOOR signed:int=1
MultiThreshold | 2 | f32 | data_layout:string=NCHW out_bias:float=0 out_scale:float=1
"""

_AUTO_PAD = {"auto_pad": ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")}
_DIRECTION = {"direction": ("forward", "reverse", "bidirectional")}
_REDUCTION = {"reduction": ("none", "add", "mul", "max", "min")}
_TYPES = ("f32", "i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64", "bool")
_CODE_BITS: dict[str, tuple[Any, ...]] = {
    "bits": tuple(range(2, 9)),
    "narrow": (0, 1),
    "output_dtype": ("u8", "i8", "u16", "i16", "i32"),
    "requantize": ("", "tflite"),
}
ROUNDING = ("ROUND", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN")
_QONNX_CODES: dict[str, tuple[Any, ...]] = {"narrow": (0, 1), "rounding_mode": ROUNDING, "signed": (0, 1)}
_ONLY: dict[str, dict[str, tuple[Any, ...]]] = {
    **dict.fromkeys(("Conv", "ConvInteger", "ConvTranspose", "MaxPool", "AveragePool", "LpPool"), _AUTO_PAD),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _DIRECTION),
    **dict.fromkeys(("ScatterElements", "ScatterND"), _REDUCTION),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), _CODE_BITS),
    **dict.fromkeys(("Quant", "Trunc"), _QONNX_CODES),
    "MultiThreshold": {"data_layout": ("NCHW", "NHWC", "NCW", "NWC", "NC")},
    "BatchNormalization": {"training_mode": (0,)},
    "BitShift": {"direction": ("LEFT", "RIGHT")},
    "Cast": {"to": _TYPES},
    "DepthToSpace": {"mode": ("DCR", "CRD")},
    "EyeLike": {"dtype": _TYPES},
    "Gelu": {"approximate": ("none", "tanh")},
    "Pad": {"mode": ("constant", "reflect", "edge", "wrap")},
    "Resize": {"mode": ("nearest", "linear", "cubic")},
    "SpaceToDepth": {"mode": ("DCR", "CRD")},
    "WinogradConv": {"m": (2, 4), "relu": (0, 1)},
}
_WEIGHTS = {
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "MatMul", "WinogradConv"), (1,)),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), (1, 2)),
}
_NUMBERS = {"int": int, "float": float}


def _read_attribute(text: str) -> tuple[str, tuple[str, Any], bool]:
    """Name, (type, default), and whether it must be there."""
    name, _, rest = text.partition(":")
    kind, _, default = rest.rstrip("!").partition("=")
    value: Any = {"ones": _ONES, "zeros": _ZEROS}.get(default, default or None)
    if kind in _NUMBERS and value is not None:
        value = _NUMBERS[kind](default)
    return name, (kind, value), text.endswith("!")


def _read_table() -> dict[str, Operator]:
    table: dict[str, Operator] = {}
    for line in _TABLE.strip().splitlines():
        if not line:
            continue
        names, inputs, outputs, attributes, *_ = [part.strip() for part in f"{line}|".split("|")]
        least, _, most = inputs.partition("-")
        types = [word for word in outputs.split() if word != "*"]
        read = [_read_attribute(text) for text in attributes.split()]
        for name in names.split():
            table[name] = Operator(
                least=int(least),
                most=None if most == "*" else int(most or least),
                types=tuple(word.rstrip("?") for word in types),
                least_outputs=sum(not word.endswith("?") for word in types),
                most_outputs=None if "*" in outputs.split() else len(types),
                attributes={key: kind for key, kind, _ in read},
                required=tuple(key for key, _, required in read if required),
                weights=_WEIGHTS.get(name, ()),
                only=_ONLY.get(name, {}),
            )
    return table


OPERATORS: dict[str, Operator] = _read_table()


def supported() -> str:
    """Where the names of all operators are, for messages."""
    return f"{len(OPERATORS)} operators are supported, the README lists them"


def check_attributes(op: str, attributes: Mapping[str, Attribute]) -> list[str]:
    """What is wrong with the attributes of a known operator, one sentence each."""
    known = OPERATORS[op].attributes
    only = OPERATORS[op].only
    problems = [f"attribute {name} of {op} is missing" for name in OPERATORS[op].required if name not in attributes]
    for name, value in attributes.items():
        if name not in known:
            allowed = ", ".join(sorted(known)) or "none"
            problems.append(f"attribute {name!r} of {op} is not supported (supported: {allowed})")
        elif not _is_of_type(known[name][0], value):
            problems.append(f"attribute {name} of {op} is {value!r}, expected {_EXPECTED[known[name][0]]}")
        elif name in only and value not in only[name]:
            allowed = ", ".join(repr(choice) for choice in only[name])
            problems.append(f"attribute {name} of {op} is {value!r}, supported: {allowed}")
    return problems


_EXPECTED = {
    "int": "an integer",
    "float": "a finite number",
    "string": "a text",
    "ints": "a list of integers",
    "floats": "a list of finite numbers",
}


def _is_of_type(kind: str, value: object) -> bool:
    if kind == "int":
        return _is_integer(value)
    if kind == "float":
        return _is_integer(value) or (isinstance(value, float) and math.isfinite(value))
    if kind == "string":
        return isinstance(value, str) and is_text(value)
    return isinstance(value, list) and all(_is_of_type(kind.removesuffix("s"), item) for item in value)


def _is_integer(value: object) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def significant(op: str, attributes: Mapping[str, Attribute]) -> dict[str, Attribute]:
    """The attributes without those that equal their default; numbers in the type that the operator gives them."""
    kept: dict[str, Attribute] = {}
    for name, value in attributes.items():
        kind, default = OPERATORS[op].attributes[name]
        if kind == "float" and isinstance(value, int):
            value = float(value)
        elif kind == "floats" and isinstance(value, list):
            value = [float(item) for item in value]
        if default in (_ONES, _ZEROS):
            if isinstance(value, list) and all(item == int(default is _ONES) for item in value):
                continue
        elif default is not None and value == default:
            continue
        kept[name] = value
    return kept
