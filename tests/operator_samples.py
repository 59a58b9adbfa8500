"""A small network of every operator: seeds of the mutator, and networks to test promises that hold for all."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import bittern
import numpy as np
from bittern.encodings import Affine, Dense, Packed
from bittern.values import NUMPY_TYPES

from tests.builders import digits_like, floats, network
from tests.reference.arrays import Array


@dataclass(frozen=True)
class Sample:
    """One node: operator, shapes of the inputs computed at run time, constants behind them, attributes."""

    op: str
    inputs: tuple[tuple[int | str, ...], ...]
    constants: tuple[Array, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "f32"  # of the inputs
    outputs: int = 1


_RNG = np.random.default_rng(20)


def _f(*shape: int) -> Array:
    return floats(_RNG, *shape)


def _i(*values: int) -> Array:
    return np.array(values, np.int64)


MAP = ("N", 3, 5, 7)
SAMPLES: tuple[Sample, ...] = (
    Sample("Conv", (MAP,), (_f(5, 3, 3, 3), _f(5)), {"pads": [1, 1, 1, 1]}),
    Sample("Conv", (("N", 17, 6, 6),), (_f(18, 17, 3, 3),), {"pads": [1, 1, 1, 1]}),
    Sample("Conv", (("N", 17, 6, 5),), (_f(17, 1, 3, 3), _f(17)), {"group": 17, "strides": [2, 1]}),
    Sample("Conv", (("N", 4, 6, 5),), (_f(6, 2, 3, 2),), {"group": 2, "dilations": [2, 1], "auto_pad": "SAME_UPPER"}),
    Sample("Conv", (("N", 16, 4, 4),), (_f(33, 16, 1, 1),)),
    Sample("Gemm", (("N", 9),), (_f(7, 9), _f(7)), {"transB": 1}),
    Sample("Gemm", ((9, 2),), (_f(9, 5), _f(2, 1)), {"transA": 1, "alpha": 0.5, "beta": 2.0}),
    Sample("MatMul", ((2, "N", 9),), (_f(9, 5),)),
    Sample("MaxPool", (MAP,), (), {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1], "ceil_mode": 1}),
    Sample("AveragePool", (MAP,), (), {"kernel_shape": [2, 3], "pads": [0, 1, 1, 1], "count_include_pad": 1}),
    Sample("GlobalAveragePool", (MAP,)),
    Sample("GlobalMaxPool", (MAP,)),
    Sample("LRN", (("N", 9, 3, 2),), (), {"size": 5, "alpha": 0.01, "beta": 0.5, "bias": 2.0}),
    Sample("BatchNormalization", (MAP,), (_f(3), _f(3), _f(3), np.abs(_f(3)) + 1), {"epsilon": 1e-3}),
    Sample("BatchNormalization", (("N", 3),), (_f(3), _f(3), _f(3), np.abs(_f(3)) + 1)),
    Sample("Relu", (MAP,)),
    Sample("Clip", (("N", 11),), (np.array(-0.5, np.float32), np.array(0.5, np.float32))),
    Sample("LeakyRelu", (MAP,), (), {"alpha": 0.1}),
    Sample("Sigmoid", (("N", 19),)),
    Sample("Tanh", (("N", 19),)),
    Sample("Softmax", (("N", 3, 5),), (), {"axis": 1}),
    Sample("Add", (MAP, MAP)),
    Sample("Sub", (MAP,), (_f(3, 1, 1),)),
    Sample("Mul", (MAP, ("N", 3, 1, 1))),
    Sample("Div", (("N", 5),), (_f(1),)),
    Sample("Concat", (MAP, ("N", 2, 5, 7)), (), {"axis": 1}),
    Sample("Concat", ((3, "N"), (4, "N")), (), {"axis": 0}),
    Sample("Flatten", (MAP,), (), {"axis": 2}),
    Sample("Reshape", (("N", 12),), (_i(0, 3, -1),)),
    Sample("Transpose", (("N", 3, 4),), (), {"perm": [2, 0, 1]}),
    Sample("Squeeze", (("N", 1, 4, 1),), (_i(1, 3),)),
    Sample("Unsqueeze", (("N", 4),), (_i(0, 3),)),
    Sample("Identity", (("N", 4),)),
    Sample("Dropout", (("N", 4),)),
    Sample("BitShift", (("N", 4), (4,)), (), {"direction": "LEFT"}, "u8"),
    Sample("Cast", (("N", 5),), (), {"to": "i32"}),
    Sample("Clip", (("N", 5),), (np.array(1, np.int64), np.array(2, np.int64)), {}, "i64"),
    Sample("ConvTranspose", (MAP,), (_f(3, 2, 3, 2), _f(2)), {"group": 1, "strides": [2, 2]}),
    Sample("ConvTranspose", (("N", 4, 5),), (_f(4, 3, 3), _f(6)), {"group": 2, "output_padding": [1], "strides": [2]}),
    Sample("ConstantOfShape", (), (_i(2, 3), _f(1))),
    Sample("CumSum", (("N", 5),), (np.array(1, np.int64),), {"reverse": 1}),
    Sample("Expand", (("N", 1, 3),), (_i(4, 1),)),
    Sample("DepthToSpace", (("N", 8, 2, 3),), (), {"blocksize": 2}),
    Sample("Gather", (("N", 5, 3),), (_i(4, 0, -1),), {"axis": 1}),
    Sample("GatherND", (("N", 5, 3),), (_i(0, 4, 1, -1).reshape(2, 2),)),
    Sample("GroupNormalization", (("N", 6, 3, 2),), (_f(6), _f(6)), {"num_groups": 3}),
    Sample("GRU", ((5, "N", 3),), (_f(1, 12, 3), _f(1, 12, 4), _f(1, 24)), {"hidden_size": 4}, outputs=2),
    Sample(
        "GRU",
        ((5, "N", 3),),
        (_f(1, 12, 3), _f(1, 12, 4)),
        {"hidden_size": 4, "dynamic_quantization": 1},
        outputs=2,
    ),
    Sample("InstanceNormalization", (MAP,), (_f(3), _f(3))),
    Sample("LpPool", (MAP,), (), {"kernel_shape": [2, 3], "p": 3}),
    Sample(
        "LSTM",
        ((5, "N", 3),),
        (_f(2, 16, 3), _f(2, 16, 4)),
        {"hidden_size": 4, "direction": "bidirectional"},
        outputs=3,
    ),
    Sample("MaxPool", (MAP,), (), {"kernel_shape": [3, 2], "storage_order": 1}, outputs=2),
    Sample("NonZero", (), (_i(0, 3, 0, 2),)),
    Sample("OneHot", (("N", 3),), (np.array(4, np.int64), _f(2)), {"axis": 1}),
    Sample("Pad", (("N", 3, 4),), (_i(0, 1, 2, 0, 2, 1),), {"mode": "reflect"}),
    Sample("Range", (), (np.array(0.5, np.float32), np.array(4, np.float32), np.array(0.75, np.float32))),
    Sample("ReduceMean", (MAP,), (_i(1, -1),), {"keepdims": 0}),
    Sample("Resize", (MAP,), (_f(0), np.array([1, 1, 1.6, 0.7], np.float32)), {"mode": "cubic"}),
    Sample("ReverseSequence", ((4, 3, "N"),), (_i(2, 4, 0),), {"batch_axis": 1, "time_axis": 0}),
    Sample("RNN", ((5, "N", 3),), (_f(1, 4, 3), _f(1, 4, 4)), {"hidden_size": 4, "direction": "reverse"}, outputs=2),
    Sample("ScatterND", (("N", 4),), (_i(0, 3, 0, 1).reshape(2, 2), _f(2))),
    Sample("Slice", (("N", 7, 5),), (_i(5, 0), _i(0, 9), _i(1, 2), _i(-2, 3))),
    Sample("SpaceToDepth", (("N", 3, 4, 6),), (), {"blocksize": 2}),
    Sample("Tile", (("N", 3),), (_i(2, 3),)),
    Sample(
        "QuantizeLinear", (MAP,), (np.full(3, 0.1, np.float32), np.array([0, 3, -2], np.int8)), {"bits": 4, "narrow": 1}
    ),
    Sample("DequantizeLinear", ((3, 6),), (np.abs(_f(3, 3)),), {"axis": 1, "block_size": 2}, "u8"),
    Sample("ConvInteger", (("N", 3, 5, 7), (4, 3, 3, 2), ()), (), {"pads": [1, 0, 1, 1]}, "u8"),
    Sample("MatMulInteger", (("N", 3, 5), (5, 4)), (), {}, "i8"),
    Sample("DynamicQuantizeLinear", (MAP,), outputs=3),
    Sample("Quant", (MAP,), (np.full((3, 1, 1), 0.1, np.float32), _f(1), np.array(3, np.float32)), {"narrow": 1}),
    Sample("BipolarQuant", (MAP,), (np.array(0.25, np.float32),)),
    Sample(
        "Trunc",
        (("N", 4),),
        tuple(np.array(number, np.float32) for number in (0.1, 0, 8, 4)),
        {"rounding_mode": "HALF_DOWN"},
    ),
    Sample("MultiThreshold", (MAP,), (np.sort(_f(3, 7), axis=1),), {"out_scale": 0.5, "out_bias": -1.0}),
    Sample("WinogradConv", (MAP,), (_f(5, 3, 4, 4), _f(5)), {"pads": [1, 1, 1, 1], "relu": 1}),
    Sample("WinogradConv", (MAP,), (np.where(_f(2, 3, 6, 6) > 0, _f(2, 3, 6, 6), np.float32(0)),), {"m": 4}),
    Sample("TopK", (("N", 9),), (_i(3),), {"axis": -1}, outputs=2),
)
"""The one list to extend by a new operator; tests/test_trust.py fails while one has no sample."""

_GUESSES: tuple[tuple[tuple[int | str, ...], ...], ...] = ((MAP,), (("N", 4),), (MAP, MAP), (MAP, MAP, MAP))


def build(sample: Sample) -> bittern.Network:
    """The network of a sample: inputs `x0`, `x1` ..., constants `c0` ..., output `y`."""
    constants = {f"c{i}": array for i, array in enumerate(sample.constants)}
    inputs = {f"x{i}": shape for i, shape in enumerate(sample.inputs)}
    if sample.dtype == "f32" and sample.outputs == 1:
        return network(inputs, constants, [(sample.op, [*inputs, *constants], "y", sample.attributes)], ["y"])
    net = bittern.Network("sample")
    for name, shape in inputs.items():
        net.add_input(name, shape, sample.dtype)
    for name, array in constants.items():
        net.add_constant(name, array)
    outputs = [f"y{i}" for i in range(sample.outputs)]
    net.add_node(sample.op, [*inputs, *constants], outputs, name="y_node", **sample.attributes)
    net.set_outputs(outputs)
    return net


def _ones(shape: tuple[int | str, ...], dtype: str) -> Array:
    return np.ones([2 if isinstance(size, str) else size for size in shape], NUMPY_TYPES[dtype])


def guessed(op: str) -> Sample | None:
    """A sample for an operator without attributes of its own to set, if one of a few shapes and types fits it."""
    for dtype, shapes in product(("f32", "bool", "i64"), _GUESSES):
        sample = Sample(op, shapes, dtype=dtype)
        try:
            model = bittern.load(build(sample))
            if model.shape_deciding_inputs:
                continue
            model.run({info.name: _ones(info.shape or (), dtype) for info in model.inputs})
        except (bittern.Error, TypeError, ValueError):
            continue
        return sample
    return None


def networks() -> Iterator[tuple[str, bittern.Network]]:
    """Every sample's network under a name; operators that are not in the list are guessed."""
    from bittern.operators import OPERATORS

    listed = {sample.op for sample in SAMPLES}
    more = [sample for op in sorted(set(OPERATORS) - listed) if (sample := guessed(op)) is not None]
    for number, sample in enumerate([*SAMPLES, *more]):
        yield f"{sample.op}.{number}", build(sample)
    yield from combinations()


def combinations() -> Iterator[tuple[str, bittern.Network]]:
    """Small networks in which operators meet: fusions, concatenations in place, a channel shuffle, folded constants."""
    yield "digits", digits_like()
    rng = np.random.default_rng(21)
    yield (
        "fire",
        network(
            {"x": ("N", 3, 6, 6)},
            {"w0": floats(rng, 16, 3, 1, 1), "w1": floats(rng, 16, 16, 1, 1), "w2": floats(rng, 16, 16, 3, 3)},
            [
                ("Conv", ["x", "w0"], "s", {}),
                ("Relu", ["s"], "sr", {}),
                ("Conv", ["sr", "w1"], "a", {}),
                ("Conv", ["sr", "w2"], "b", {"pads": [1, 1, 1, 1]}),
                ("Concat", ["a", "b"], "y", {"axis": 1}),
            ],
            ["y"],
        ),
    )
    yield (
        "shuffle",
        network(
            {"x": ("N", 6, 3, 3)},
            {"split": np.array([0, 2, 3, 3, 3]), "join": np.array([0, 6, 3, 3])},
            [
                ("Reshape", ["x", "split"], "five", {}),
                ("Transpose", ["five"], "turned", {"perm": [0, 2, 1, 3, 4]}),
                ("Reshape", ["turned", "join"], "y", {}),
            ],
            ["y"],
        ),
    )
    yield (
        "folded",
        network(
            {"x": (3, 4)},
            {"p": floats(rng, 3, 1), "q": floats(rng, 1, 4)},
            [("Mul", ["p", "q"], "c", {}), ("Sigmoid", ["c"], "d", {}), ("Add", ["x", "d"], "y", {})],
            ["y"],
        ),
    )
    net = bittern.Network("dynamic")
    net.add_input("x", (3, "N", 5))
    net.add_constant(
        "w", Affine(Packed.pack(rng.integers(-8, 8, (1, 36, 5)), 4, signed=True), Dense(np.array(0.1, "f4")))
    )
    net.add_constant(
        "r", Affine(Packed.pack(rng.integers(-2, 2, (1, 36, 9)), 2, signed=True), Dense(np.array(0.2, "f4")))
    )
    net.add_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=9, dynamic_quantization=1)
    net.set_outputs(["y"])
    yield "dynamic", net
