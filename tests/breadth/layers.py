"""Convolution, pooling, normalization, matrix products, recurrence."""

from typing import Any

import numpy as np

from tests.breadth.cases import Case, Family, Rng, floats, number, one_of, sizes, values


def _windows(choose: Rng, rank: int, dilated: bool = True) -> tuple[list[int], dict[str, Any]]:
    """Kernel sizes and attributes of a window; padding stays below the kernel."""
    kernel = [number(choose, 1, 3) for _ in range(rank)]
    attributes: dict[str, Any] = {"strides": [number(choose, 1, 3) for _ in range(rank)]}
    if dilated and choose.random() < 0.4:
        attributes["dilations"] = [number(choose, 1, 2) for _ in range(rank)]
    kind = one_of(choose, ("pads", "pads", "SAME_UPPER", "SAME_LOWER", "VALID"))
    if kind.startswith("SAME"):  # with a stride beyond the kernel runtimes disagree
        attributes["strides"] = [min(pair) for pair in zip(kernel, attributes["strides"], strict=True)]
    if kind == "pads":
        attributes["pads"] = [number(choose, 0, size - 1) for size in kernel * 2]
    else:
        attributes["auto_pad"] = kind
        if kind.startswith("SAME"):
            attributes.pop("dilations", None)
    return kernel, attributes


def convolution(choose: Rng, change: Rng) -> Case:
    rank, group = number(choose, 1, 2), number(choose, 1, 3)
    kernel, attributes = _windows(choose, rank)
    inner, outer = number(choose, 1, 3), number(choose, 1, 3)
    if choose.random() < 0.3:
        inner = 1
    x = floats(change, [number(change, 1, 3), group * inner, *sizes(change, rank, low=6, high=9)])
    bias = floats(change, [group * outer]) if choose.random() < 0.5 else None
    weight = floats(change, [group * outer, inner, *kernel])
    return Case("Conv", [x, weight, bias], {**attributes, "group": group, "kernel_shape": kernel}, tolerance=1e-4)


def transposed(choose: Rng, change: Rng) -> Case:
    rank = number(choose, 1, 2)
    kernel = [number(choose, 2, 3) for _ in range(rank)]
    attributes: dict[str, Any] = {"strides": [number(choose, 1, 2) for _ in range(rank)], "kernel_shape": kernel}
    if choose.random() < 0.5:
        attributes["pads"] = [number(choose, 0, 1) for _ in range(2 * rank)]
    if choose.random() < 0.4:
        attributes["output_padding"] = [number(choose, 0, stride - 1) for stride in attributes["strides"]]
    inner, outer = number(choose, 1, 4), number(choose, 1, 4)
    x = floats(change, [number(change, 1, 3), inner, *sizes(change, rank, low=3, high=6)])
    bias = floats(change, [outer]) if choose.random() < 0.5 else None
    weight = floats(change, [inner, outer, *kernel])
    return Case("ConvTranspose", [x, weight, bias], attributes, tolerance=1e-4)


def winograd(choose: Rng, change: Rng) -> Case:
    m, inner, outer = one_of(choose, (2, 4)), number(choose, 1, 4), number(choose, 1, 4)
    attributes = {"m": m, "relu": number(choose, 0, 1), "pads": [number(choose, 0, 3) for _ in range(4)]}
    x = floats(change, [number(change, 1, 3), inner, *sizes(change, 2, low=3, high=9)])
    bias = floats(change, [outer]) if choose.random() < 0.5 else None
    weight = floats(change, [outer, inner, m + 2, m + 2])
    weight *= change.random(weight.shape) < one_of(choose, (0.2, 1.0))
    return Case("WinogradConv", [x, weight, bias], attributes, tolerance=1e-4)


def pooling(choose: Rng, change: Rng) -> Case:
    op, rank = one_of(choose, ("MaxPool", "AveragePool", "LpPool")), number(choose, 1, 2)
    kernel, attributes = _windows(choose, rank, dilated=op == "MaxPool")
    attributes["kernel_shape"] = kernel
    if "auto_pad" not in attributes and op != "LpPool":
        attributes["ceil_mode"] = number(choose, 0, 1)
    if op == "AveragePool":
        attributes["count_include_pad"] = number(choose, 0, 1)
    if op == "LpPool":
        attributes["p"] = number(choose, 1, 3)
    x = floats(change, [number(change, 1, 3), number(change, 1, 5), *sizes(change, rank, low=6, high=9)])
    return Case(op, [x], attributes, tolerance=1e-4)


def global_pooling(choose: Rng, change: Rng) -> Case:
    op = one_of(choose, ("GlobalAveragePool", "GlobalMaxPool"))
    return Case(op, [floats(change, sizes(change, number(choose, 3, 5)))])


def normalization(choose: Rng, change: Rng) -> Case:
    ops = ("BatchNormalization", "InstanceNormalization", "GroupNormalization", "LRN", "LpNormalization")
    op, rank = one_of(choose, (*ops, "MeanVarianceNormalization")), number(choose, 3, 4)
    if op in ("MeanVarianceNormalization", "LRN"):
        rank = 4
    groups = number(choose, 1, 3)
    shape = sizes(change, rank, low=2)
    if op == "GroupNormalization":
        shape[1] = groups * number(change, 1, 3)
    x, scale, shift = floats(change, shape), floats(change, shape[1:2]), floats(change, shape[1:2])
    epsilon = {"epsilon": float(np.float32(choose.uniform(1e-5, 1e-2)))}
    if op == "BatchNormalization":
        return Case(op, [x, scale, shift, floats(change, shape[1:2]), np.abs(shift) + np.float32(0.5)], epsilon)
    if op == "InstanceNormalization":
        return Case(op, [x, scale, shift], epsilon, tolerance=1e-4)
    if op == "GroupNormalization":
        return Case(op, [x, scale, shift], {**epsilon, "num_groups": groups}, tolerance=1e-4)
    if op == "LRN":
        return Case(op, [x], {"size": one_of(choose, (1, 3, 5)), "alpha": 0.5, "bias": 1.5}, tolerance=1e-4)
    if op == "LpNormalization":
        return Case(op, [x], {"axis": number(choose, -rank, rank - 1), "p": number(choose, 1, 2)}, tolerance=1e-4)
    return Case(op, [x], {"axes": [0, 2, 3]} if choose.random() < 0.5 else {}, tolerance=1e-3)


def layer_normalization(choose: Rng, change: Rng) -> Case:
    rank = number(choose, 1, 4)
    axis, shape = number(choose, -rank, rank - 1), sizes(change, rank, low=2)
    scale = floats(change, shape[axis % rank :])
    epsilon = {"axis": axis, "epsilon": float(np.float32(choose.uniform(1e-5, 1e-2)))}
    if choose.random() < 0.4:
        return Case("RMSNormalization", [floats(change, shape), scale], epsilon, tolerance=1e-4)
    shift = floats(change, shape[axis % rank :]) if choose.random() < 0.6 else None
    outputs = number(choose, 1, 3)
    return Case("LayerNormalization", [floats(change, shape), scale, shift], epsilon, outputs, tolerance=1e-4)


def products(choose: Rng, change: Rng) -> Case:
    if choose.random() < 0.4:
        m, k, n = sizes(change, 3, high=9)
        flips = {name: number(choose, 0, 1) for name in ("transA", "transB")}
        a = floats(change, [k, m] if flips["transA"] else [m, k])
        b = floats(change, [n, k] if flips["transB"] else [k, n])
        bias = {"none": None, "full": [m, n], "row": [n], "column": [m, 1], "scalar": []}
        shape = bias[one_of(choose, tuple(bias))]
        factors = {name: float(np.float32(choose.uniform(0.2, 2))) for name in ("alpha", "beta")}
        inputs = [a, b, None if shape is None else floats(change, shape)]
        return Case("Gemm", inputs, {**flips, **factors}, tolerance=1e-4)
    ranks = [number(choose, 1, 4) for _ in range(2)]
    ones = [[choose.random() < 0.3 for _ in range(max(0, rank - 2))] for rank in ranks]
    batch, (m, k, n) = sizes(change, 2), sizes(change, 3, high=9)
    shapes = []
    for rank, flags, ends in zip(ranks, ones, ((m, k), (k, n)), strict=True):
        front = [1 if one else size for one, size in zip(flags, batch[2 - len(flags) :], strict=True)]
        shapes.append([*front, *ends] if rank > 1 else [k])
    dtype = one_of(choose, ("float32", "float32", "int32", "int64"))
    return Case("MatMul", [values(change, dtype, shape) for shape in shapes], tolerance=1e-4)


ACTIVATIONS = ("Sigmoid", "Tanh", "Relu", "HardSigmoid", "Softsign", "LeakyRelu")


def recurrent(choose: Rng, change: Rng) -> Case:
    """The oracle of these is ONNX Runtime: the reference evaluator has not all of it."""
    op = one_of(choose, ("LSTM", "GRU", "RNN"))
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    direction = one_of(choose, ("forward", "reverse", "bidirectional"))
    ways = 2 if direction == "bidirectional" else 1
    hidden, width = number(choose, 1, 6), number(choose, 1, 5)
    steps, batch = number(change, 1, 6), number(change, 1, 4)
    attributes: dict[str, Any] = {"direction": direction, "hidden_size": hidden}
    if op == "GRU":
        attributes["linear_before_reset"] = number(choose, 0, 1)
    if choose.random() < 0.3:
        attributes["clip"] = 0.5
    if choose.random() < 0.3:
        count = ways * {"LSTM": 3, "GRU": 2, "RNN": 1}[op]
        attributes["activations"] = ",".join(one_of(choose, ACTIVATIONS[:3]) for _ in range(count))
    inputs: list[Any] = [
        floats(change, [steps, batch, width]),
        floats(change, [ways, gates * hidden, width]),
        floats(change, [ways, gates * hidden, hidden]),
        floats(change, [ways, 2 * gates * hidden]),
        change.integers(1, steps + 1, batch).astype(np.int32),
        floats(change, [ways, batch, hidden]),
    ]
    if op == "LSTM":
        inputs += [floats(change, [ways, batch, hidden]), floats(change, [ways, 3 * hidden])]
    for index in range(3, len(inputs)):
        if choose.random() < 0.4:
            inputs[index] = None
    return Case(op, inputs, attributes, outputs=3 if op == "LSTM" else 2, tolerance=1e-4)


def dropout(choose: Rng, change: Rng) -> Case:
    return Case("Dropout", [floats(change, sizes(change, number(choose, 0, 4), empty=True))])


FAMILIES: dict[str, Family] = {
    "convolution": convolution,
    "transposed": transposed,
    "winograd": winograd,
    "pooling": pooling,
    "global pooling": global_pooling,
    "normalization": normalization,
    "layer normalization": layer_normalization,
    "products": products,
    "recurrent": recurrent,
    "dropout": dropout,
}
