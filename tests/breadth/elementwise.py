"""Element by element, along axes, reducing."""

from typing import Any

import numpy as np

from tests.breadth.cases import (
    INTEGERS,
    NUMBERS,
    SIGNED,
    UNSIGNED,
    Case,
    Family,
    Rng,
    broadcastable,
    floats,
    integers,
    number,
    one_of,
    sizes,
    values,
)

# The domain of functions that are not defined, or steep, elsewhere.
DOMAINS = {
    **dict.fromkeys(("Asin", "Acos", "Atanh"), (-0.95, 0.95)),
    "Acosh": (1.05, 5.0),
    "Log": (0.05, 5.0),
    "Sqrt": (0.0, 5.0),
    "Reciprocal": (0.2, 5.0),
    "Tan": (-1.3, 1.3),
}
NAMES = (
    "Abs Neg Sign Floor Ceil Round Exp Log Sqrt Reciprocal Erf Sin Cos Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh"
    " Relu Sigmoid Tanh Softplus Softsign HardSwish Mish Identity"
)
PLAIN = NAMES.split()
WITH_ALPHA = ("LeakyRelu", "Elu", "Celu", "ThresholdedRelu", "Swish")


def functions(choose: Rng, change: Rng) -> Case:
    op = one_of(choose, PLAIN)
    low, high = DOMAINS.get(op, (-3.0, 3.0))
    return Case(op, [values(change, "float32", sizes(change, number(choose, 0, 4), empty=True), low, high)])


def activations(choose: Rng, change: Rng) -> Case:
    op = one_of(choose, [*WITH_ALPHA, "Selu", "HardSigmoid", "Shrink", "Gelu"])
    names = {
        "Selu": ("alpha", "gamma"),
        "HardSigmoid": ("alpha", "beta"),
        "Shrink": ("bias", "lambd"),
        "Gelu": (),
    }.get(op, ("alpha",))
    given = [name for name in names if choose.random() < 0.7]
    attributes: dict[str, Any] = {name: float(np.float32(choose.uniform(0.1, 1.5))) for name in given}
    if op == "Gelu" and choose.random() < 0.5:
        attributes["approximate"] = "tanh"
    return Case(op, [floats(change, sizes(change, number(choose, 0, 4), empty=True))], attributes)


def integer_functions(choose: Rng, change: Rng) -> Case:
    op = one_of(choose, ("Abs", "Neg", "Sign", "BitwiseNot", "Not", "Relu"))
    dtype = "bool" if op == "Not" else one_of(choose, SIGNED if op in ("Neg", "Relu") else INTEGERS)
    return Case(op, [values(change, dtype, sizes(change, number(choose, 0, 3), empty=True), -100, 100)])


def clip(choose: Rng, change: Rng) -> Case:
    dtype = one_of(choose, ("float32", "int8", "uint8", "int32", "int64"))
    bounds = [values(change, dtype, (), -2, 0), values(change, dtype, (), 1, 2)]
    given = [bound if choose.random() < 0.7 else None for bound in bounds]
    return Case("Clip", [values(change, dtype, sizes(change, number(choose, 0, 3), empty=True)), *given])


def arithmetic(choose: Rng, change: Rng) -> Case:
    op = one_of(choose, ("Add", "Sub", "Mul", "Div", "Pow", "Mod"))
    dtype = one_of(choose, NUMBERS if op != "Pow" else ("float32", "int32", "int64"))
    attributes = {"fmod": 1} if op == "Mod" and (dtype == "float32" or choose.random() < 0.4) else {}
    one, two = broadcastable(choose, change, 2)
    low, high = (0.5, 4) if op in ("Pow", "Div", "Mod") else (-6, 6)
    right = values(change, dtype, two, max(low, 1) if dtype != "float32" else low, high)
    if op in ("Div", "Mod") and dtype not in UNSIGNED:
        right = np.where(values(change, "bool", two), right, -right).astype(dtype)
    left = values(change, dtype, one, 0.5 if op == "Pow" else -9, 4 if op == "Pow" else 9)
    return Case(op, [left, right], attributes)


def several(choose: Rng, change: Rng) -> Case:
    op = one_of(choose, ("Min", "Max", "Mean", "Sum"))
    dtype = one_of(choose, NUMBERS) if op in ("Min", "Max") else "float32"
    shapes = broadcastable(choose, change, number(choose, 1, 4))
    return Case(op, [values(change, dtype, shape) for shape in shapes])


def slopes(choose: Rng, change: Rng) -> Case:
    shape = sizes(change, number(choose, 1, 4))
    rank = number(choose, 0, len(shape))
    ones = [choose.random() < 0.4 for _ in range(rank)]
    slope = [1 if one else size for one, size in zip(ones, shape[len(shape) - rank :], strict=True)]
    return Case("PRelu", [floats(change, shape), floats(change, slope)])


def comparisons(choose: Rng, change: Rng) -> Case:
    op = one_of(choose, ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Xor"))
    dtype = "bool" if op in ("And", "Or", "Xor") else one_of(choose, (*NUMBERS, *["bool"] * (op == "Equal")))
    return Case(op, [np.rint(values(change, dtype, shape)).astype(dtype) for shape in broadcastable(choose, change, 2)])


def classes(choose: Rng, change: Rng) -> Case:
    op = one_of(choose, ("IsNaN", "IsInf"))
    x = np.asarray(floats(change, sizes(change, number(choose, 1, 3), empty=True)))
    for odd in (np.nan, np.inf, -np.inf):
        x[change.random(x.shape) < 0.2] = odd
    names = ("detect_negative", "detect_positive") if op == "IsInf" else ()
    return Case(op, [x], {name: number(choose, 0, 1) for name in names})


def bits(choose: Rng, change: Rng) -> Case:
    op = one_of(choose, ("BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitShift"))
    dtype = one_of(choose, UNSIGNED if op == "BitShift" else INTEGERS)
    one, two = broadcastable(choose, change, 2)
    attributes = {"direction": one_of(choose, ("LEFT", "RIGHT"))} if op == "BitShift" else {}
    most = 7 if op == "BitShift" else 100
    return Case(op, [values(change, dtype, one, -100, 100), values(change, dtype, two, -100, most)], attributes)


def where(choose: Rng, change: Rng) -> Case:
    dtype = one_of(choose, (*NUMBERS, "bool"))
    shapes = broadcastable(choose, change, 3)
    return Case("Where", [values(change, t, s) for t, s in zip(("bool", dtype, dtype), shapes, strict=True)])


def along_axis(choose: Rng, change: Rng) -> Case:
    op = one_of(choose, ("Softmax", "LogSoftmax", "Hardmax"))
    rank = number(choose, 1, 4)
    return Case(op, [floats(change, sizes(change, rank, high=9))], {"axis": number(choose, -rank, rank - 1)})


def cumulated(choose: Rng, change: Rng) -> Case:
    rank = number(choose, 1, 4)
    x = values(change, one_of(choose, ("float32", "int32", "int64")), sizes(change, rank))
    attributes = {"exclusive": number(choose, 0, 1), "reverse": number(choose, 0, 1)}
    axis = np.array(number(change, -rank, rank - 1), one_of(choose, ("int32", "int64")))
    return Case("CumSum", [x, axis], attributes)


def reductions(choose: Rng, change: Rng) -> Case:
    name = one_of(choose, ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"))
    rank = number(choose, 0, 4)
    dtype = (
        one_of(choose, ("int32", "int64"))
        if name in ("Max", "Min", "Sum", "Prod") and choose.random() < 0.4
        else "float32"
    )
    low, high = (0.2, 3) if name == "LogSum" else (-3, 3)
    x = values(change, dtype, sizes(change, rank, high=6), low, high)
    axes = None
    if choose.random() < 0.8:
        count = number(choose, 0, rank)
        axes = np.sort(change.permutation(rank)[:count]).astype(np.int64)
        axes = np.where(values(change, "bool", axes.shape), axes, axes - rank)
    attributes = {"keepdims": number(choose, 0, 1), "noop_with_empty_axes": number(choose, 0, 1)}
    return Case(f"Reduce{name}", [x, axes], attributes, tolerance=1e-4)


def arguments(choose: Rng, change: Rng) -> Case:
    rank = number(choose, 1, 4)
    dtype = one_of(choose, ("float32", "int32", "uint8"))
    x = np.rint(values(change, dtype, sizes(change, rank, high=6))).astype(dtype)  # with ties
    names = ("keepdims", "select_last_index")
    attributes = {"axis": number(choose, -rank, rank - 1), **{name: number(choose, 0, 1) for name in names}}
    return Case(one_of(choose, ("ArgMax", "ArgMin")), [x], attributes)


def largest(choose: Rng, change: Rng) -> Case:
    rank = number(choose, 1, 4)
    axis = number(choose, -rank, rank - 1)
    shape = sizes(change, rank, high=8)
    total = int(np.prod(shape))
    x = change.permutation(total).reshape(shape).astype(one_of(choose, ("float32", "int64", "int32")))
    k = integers(number(change, 0, shape[axis]))
    return Case("TopK", [x, k], {"axis": axis, "largest": number(choose, 0, 1), "sorted": 1}, outputs=2)


FAMILIES: dict[str, Family] = {
    "functions": functions,
    "activations": activations,
    "integer functions": integer_functions,
    "clip": clip,
    "arithmetic": arithmetic,
    "several": several,
    "slopes": slopes,
    "comparisons": comparisons,
    "classes": classes,
    "bits": bits,
    "where": where,
    "along axis": along_axis,
    "cumulated": cumulated,
    "reductions": reductions,
    "arguments": arguments,
    "largest": largest,
}
