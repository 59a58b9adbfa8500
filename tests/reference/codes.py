"""What a network of quantised layers means in whole numbers.

As src/plan/quantised.h and engine/gemm/int_store.h say it. A layer whose input comes from DequantizeLinear sums whole
numbers exactly, with an int32 bias if its scale is that of the sums, rounds the sum to float32, multiplies by ((x scale
* weight scale) * folded scale) / y scale and adds a real bias / y scale; each step is rounded to float32. Codes are
rounded half to even and saturate. Codes of other scales are (code - zero) * (their scale / the result's). All other
operators are computed on real numbers as tests/reference has them. Signed codes stay signed here.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tests.reference import conv, executor, pooling
from tests.reference.arrays import Array, Attributes, narrow, wide
from tests.reference.container import Leaf, parse
from tests.reference.decoders import integers, real, seeded, spelled
from tests.reference.executor import Node
from tests.reference.quantize import code_range
from tests.reference.windows import axes

F32 = np.float32
LAYERS = ("Conv", "Gemm", "MatMul")
FOLDED = ("BatchNormalization", "Add", "Sub", "Mul", "Div")
FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "HardSwish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "HardSigmoid": lambda x: np.clip(float(F32(0.2)) * x + 0.5, 0, 1),
    "Elu": lambda x: np.where(x < 0, np.expm1(x), x),
    "Softplus": lambda x: np.logaddexp(0, x),
    "Abs": np.abs,
    "Neg": np.negative,
    "Exp": np.exp,
    "Log": np.log,
    "Sqrt": np.sqrt,
}
"""Functions of one element that tests/reference has not, with the attributes that ONNX defaults to."""

LARGEST_WEIGHTS = (-256, 254)


@dataclass(frozen=True)
class Quantiser:
    """code = saturate(round(x / scale) + zero); real number = (code - zero) * scale."""

    dtype: str
    scale: np.float32
    zero: int
    low: int
    high: int

    def saturate(self, numbers: Array) -> Array:
        """Codes of numbers that are in units of the scale already; a NaN becomes the lowest code."""
        numbers = np.where(np.isnan(numbers), F32(self.low - self.zero), numbers)
        bounded = np.clip(numbers, F32(self.low - self.zero), F32(self.high - self.zero))
        result: Array = (np.rint(bounded).astype(np.int64) + self.zero).astype(self.dtype)
        return result

    def codes(self, x: Array) -> Array:
        """Codes of real numbers."""
        with np.errstate(all="ignore"):
            return self.saturate(np.divide(x, self.scale, dtype=F32))

    def real(self, codes: Array) -> Array:
        """Real numbers of codes."""
        return np.multiply(self.units(codes), self.scale, dtype=F32)

    def units(self, codes: Array) -> Array:
        """code - zero, in float32."""
        return (codes.astype(np.int64) - self.zero).astype(F32)


@dataclass(frozen=True)
class Weights:
    """Real numbers as whole numbers times one scale, or one for each index of an axis."""

    values: Array
    scale: Array
    axis: int | None


def whole_numbers(tree: Mapping[str, Any], leaves: Mapping[str, Leaf]) -> Weights | None:
    """The whole numbers of an encoding tree, if it says more than real numbers."""
    tree = spelled(tree)
    kind, values, axis = tree["kind"], None, tree.get("axis")
    if kind == "affine" and "group" not in tree:
        values = integers(tree["codes"], leaves)
        scale = real(tree["scale"], leaves)
        if "zero_point" in tree:
            zero = integers(tree["zero_point"], leaves)
            values = values - (zero.reshape(()) if zero.size == 1 else beside(zero, axis, values.ndim))
    elif kind == "signs":
        values = 2 * integers(tree["codes"], leaves) - 1
        scale = real(tree["scale"], leaves)
    elif kind == "seeded":
        values, scale = seeded(tree).astype(np.int64), np.array(1, np.float32)
    elif kind == "ternary":
        values = np.array([0, 1, -1])[integers(tree["codes"], leaves)]
        scale = real(tree["positive"], leaves)
        if not np.array_equal(scale, real(tree["negative"], leaves)):
            return None
    elif kind == "codebook" and axis is None and tree["table"]["kind"] == "affine" and "axis" not in tree["table"]:
        table = whole_numbers(tree["table"], leaves)
        assert table is not None
        values, scale = table.values[integers(tree["codes"], leaves)], table.scale
    if values is None:
        return None
    if tree.get("order", "OIHW") == "OHWI":
        values = values.transpose(0, 3, 1, 2)
        axis = None if axis is None else (0, 2, 3, 1)[axis]
    return Weights(values, scale, axis)


def beside(parameter: Array, axis: int | None, rank: int) -> Array:
    """A parameter of an axis, shaped to broadcast."""
    return parameter.reshape([-1 if i == axis else 1 for i in range(rank)])


def add_bias(numbers: Array, like: str) -> Array:
    """Per output channel, shaped to broadcast against a layer's result."""
    return numbers.reshape(1, -1, 1, 1) if like == "Conv" else numbers.reshape(1, -1)


def exact_mean(codes: Array, attributes: Attributes, everywhere: bool, source: Quantiser, to: Quantiser) -> Array:
    """Sums of (code - zero) over windows, times x scale / (taps * y scale)."""
    units = wide(source.units(codes))
    rows, columns = axes(
        codes.shape[2:], codes.shape[2:] if everywhere else tuple(attributes["kernel_shape"]), attributes
    )
    result = np.zeros((*codes.shape[:2], rows.out, columns.out), to.dtype)
    for i in range(rows.out):
        for j in range(columns.out):
            window = units[:, :, pooling.inside(rows, i)][:, :, :, pooling.inside(columns, j)]
            taps = window.shape[2] * window.shape[3]
            if attributes.get("count_include_pad", 0):
                taps = pooling.counted(rows, i) * pooling.counted(columns, j)
            scale = F32(source.scale / F32(F32(taps) * to.scale))
            result[:, :, i, j] = to.saturate(narrow(window.sum(axis=(2, 3))) * scale)
    return result


class CodesNetwork:
    """A network in a file's bytes, to be computed in whole numbers."""

    def __init__(self, data: bytes, taps: Sequence[str] = ()) -> None:
        graph, self.leaves = parse(data)
        self.network = executor.load_file(data)
        self.trees: dict[str, Any] = graph.get("constants", {})
        self.kept = {*self.network.outputs, *taps}
        nodes: list[Node] = []
        same: dict[str, str] = {}  # what passes a value on computes nothing
        for node in self.network.nodes:
            inputs = tuple(same.get(name, name) for name in node.inputs)
            if node.op == "Identity" and node.outputs[0] not in self.kept:
                same[node.outputs[0]] = inputs[0]
            else:
                nodes.append(replace(node, inputs=inputs))
        self.producer = {output: node for node in nodes for output in node.outputs}
        self.readers: dict[str, list[Node]] = {}
        for node in nodes:
            for name in node.inputs:
                self.readers.setdefault(name, []).append(node)
        self.values: dict[str, Array] = {}

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs and taps."""
        assert set(feeds) == set(self.network.inputs)
        self.values = {**self.network.constants, **feeds}
        with np.errstate(all="ignore"):
            return {name: self.value(name) for name in sorted(self.kept)}

    def value(self, name: str) -> Array:
        """A value of the graph, computed when it is first asked for."""
        if name not in self.values:
            node = self.producer[name]
            found = None
            if node.op == "QuantizeLinear":
                found = self.coded(node)
            elif node.op in (*LAYERS, *FOLDED, "Relu", "Clip"):
                found = self.layer(name, None)
            self.values[name] = self.plainly(node) if found is None else found
        return self.values[name]

    def plainly(self, node: Node) -> Array:
        """One operator as tests/reference has it; the quantisers without its loop over elements."""
        quantiser = self.quantiser(node)
        if node.op == "QuantizeLinear" and quantiser is not None:
            return quantiser.codes(self.value(node.inputs[0]))
        if node.op == "DequantizeLinear" and quantiser is not None:
            return quantiser.real(self.value(node.inputs[0]))
        inputs = [self.value(name) if name else None for name in node.inputs]
        if node.op in FUNCTIONS:
            assert inputs[0] is not None and not node.attributes
            with np.errstate(all="ignore"):
                return narrow(FUNCTIONS[node.op](wide(inputs[0])))
        return executor.apply(node.op, inputs, node.attributes)

    # What the graph says.

    def constant(self, name: str) -> Array | None:
        return self.network.constants.get(name)

    def quantiser(self, node: Node | None) -> Quantiser | None:
        """The quantiser of 8 bits for a whole tensor that a node is, if it is one."""
        if node is None or node.op not in ("QuantizeLinear", "DequantizeLinear"):
            return None
        scale = self.constant(node.inputs[1])
        given = len(node.inputs) > 2 and bool(node.inputs[2])
        zero = self.constant(node.inputs[2]) if given else None
        if scale is None or scale.size != 1 or node.attributes.get("block_size", 0):
            return None
        if given:
            if zero is None or zero.size != 1:
                return None
            dtype = str(zero.dtype)
        elif node.op == "QuantizeLinear":
            dtype = {"u8": "uint8", "i8": "int8"}.get(node.attributes.get("output_dtype", "u8"), "")
        else:
            dtype = str(self.value(node.inputs[0]).dtype)
        if dtype not in ("uint8", "int8"):
            return None
        low, high = code_range(dtype, node.attributes.get("bits", 8), node.attributes.get("narrow", 0))
        return Quantiser(dtype, F32(scale.reshape(())), 0 if zero is None else int(zero.reshape(())), low, high)

    def decoded(self, name: str) -> tuple[str, Quantiser] | None:
        """The codes behind a real value, unless they are read with several meanings."""
        node = self.producer.get(name)
        if node is None or node.op != "DequantizeLinear":
            return None
        quantiser = self.quantiser(node)
        codes = node.inputs[0]
        if quantiser is None or codes in self.network.constants:
            return None
        for reader in self.readers[codes]:
            other = self.quantiser(reader) if reader.op == "DequantizeLinear" else quantiser
            if other != quantiser and other is not None:
                return None
        made = self.quantiser(self.producer.get(codes))
        if made is not None and (made.scale, made.zero) != (quantiser.scale, quantiser.zero):
            return None
        return codes, quantiser

    def sole_reader(self, name: str, ops: Sequence[str]) -> bool:
        """Whether one node alone reads a value, and is one of these."""
        readers = self.readers.get(name, [])
        return name not in self.kept and len(readers) == 1 and readers[0].op in ops

    # What is computed in whole numbers.

    def coded(self, node: Node) -> Array | None:
        """The codes of a QuantizeLinear, in whole numbers if that is possible."""
        to, name = self.quantiser(node), node.inputs[0]
        source = self.producer.get(name)
        if to is None or source is None:
            return None
        if source.op == "DequantizeLinear":
            from_codes = self.decoded(name)
            return None if from_codes is None else self.requantised(*from_codes, to)
        if not self.sole_reader(name, ("QuantizeLinear",)):
            return None
        if source.op in ("AveragePool", "GlobalAveragePool"):
            mean_of = self.decoded(source.inputs[0])
            if mean_of is None or self.value(mean_of[0]).shape[1] <= 4:
                return None
            whole = source.op == "GlobalAveragePool"
            return exact_mean(self.value(mean_of[0]), source.attributes, whole, mean_of[1], to)
        if source.op == "Concat":
            return self.concatenation(source, to)
        if source.op == "Softmax":
            return self.softmax(source, to)
        total = self.addition(name, to)
        return self.layer(name, to) if total is None else total

    def requantised(self, codes: str, source: Quantiser, to: Quantiser) -> Array | None:
        """Codes of one quantiser as codes of another."""
        value = self.value(codes)
        if value.ndim not in (2, 3, 4):
            return None
        return to.saturate(source.units(value) * F32(source.scale / to.scale))

    def softmax(self, node: Node, to: Quantiser) -> Array | None:
        """Of rows: exponentials of differences of codes in float32, over their sum in double times the scale."""
        part = self.decoded(node.inputs[0])
        if part is None or self.value(part[0]).ndim != 2 or node.attributes.get("axis", -1) not in (1, -1):
            return None
        units = part[1].units(self.value(part[0])).astype(np.float64)
        powers = np.exp((units - units.max(axis=1, keepdims=True)) * np.float64(part[1].scale)).astype(F32)
        sums = np.cumsum(powers, axis=1, dtype=np.float64)[:, -1:].astype(F32)
        return to.saturate(powers / (sums * to.scale))

    def concatenation(self, node: Node, to: Quantiser) -> Array | None:
        """Parts of whole blocks of 16 channels, each requantised."""
        parts = [self.decoded(name) for name in node.inputs]
        values = [self.value(part[0]) for part in parts if part is not None]
        if len(values) < len(parts) or values[0].ndim != 4 or node.attributes["axis"] not in (1, -3):
            return None
        sizes = [value.shape[1] for value in values]
        if any(sum(sizes[:i]) % 16 for i in range(len(sizes))) or sum(sizes) < 16:
            return None
        made = [self.requantised(part[0], part[1], to) for part in parts if part is not None]
        return np.concatenate([part for part in made if part is not None], axis=1)

    def clamp(self, name: str) -> tuple[str, float, float]:
        """What Relu or Clip reads, and its bounds; the value itself if neither made it."""
        node = self.producer.get(name)
        if node is None or node.op not in ("Relu", "Clip") or not self.sole_reader(node.inputs[0], ("Relu", "Clip")):
            return name, -math.inf, math.inf
        bounds = [0.0 if node.op == "Relu" else -math.inf, math.inf]
        for i, bound in enumerate(node.inputs[1:3]):
            if bound:
                given = self.constant(bound)
                assert given is not None
                bounds[i] = float(given.reshape(()))
        return node.inputs[0], bounds[0], bounds[1]

    def addition(self, name: str, to: Quantiser) -> Array | None:
        """The sum of two maps of codes, each in units of the result's scale."""
        name, low, high = self.clamp(name)
        node = self.producer.get(name)
        if node is None or node.op != "Add":
            return None
        parts = [self.decoded(side) for side in node.inputs]
        total = None
        for part in parts:
            if part is None:
                return None
            value = self.value(part[0])
            scaled = part[1].units(value) * F32(part[1].scale / to.scale)
            total = scaled if total is None else total + scaled
        assert total is not None
        if total.ndim not in (2, 3, 4) or any(
            part is not None and self.value(part[0]).shape != total.shape for part in parts
        ):
            return None
        return to.saturate(np.clip(total, F32(low) / to.scale, F32(high) / to.scale))

    def layer(self, name: str, to: Quantiser | None) -> Array | None:
        """A convolution or product of codes, with what follows it: as codes, or as real numbers without ``to``."""
        name, low, high = self.clamp(name)
        steps: list[tuple[Node, str]] = []
        node = self.producer.get(name)
        while node is not None and node.op in FOLDED:
            sides = [side for side in node.inputs[:2] if self.constant(side) is None]
            if node.op == "BatchNormalization":
                sides = sides[:1]
            if len(sides) != 1 or not self.sole_reader(sides[0], FOLDED):
                return None
            steps.insert(0, (node, sides[0]))
            node = self.producer.get(sides[0])
        if node is None or node.op not in LAYERS:
            return None
        sums = self.sums(node)
        if sums is None:
            return None
        total, scale, bias = sums
        if steps:
            fold, shift = np.ones(scale.size, F32), np.zeros(scale.size, F32)
            for step, side in steps:
                by, plus = self.affine_of(step, side, scale.size)
                fold, shift = fold * by, shift * by + plus
            scale = scale * fold
            bias = (np.zeros(scale.size, F32) if bias is None else bias) * fold + shift
        if to is not None:
            scale = scale / to.scale
            bias = None if bias is None else bias / to.scale
        y = narrow(total) * add_bias(scale, node.op)
        if bias is not None:
            y = y + add_bias(bias, node.op)
        if to is None:
            return np.asarray(np.clip(y, F32(low), F32(high)))
        return to.saturate(np.clip(y, F32(low) / to.scale, F32(high) / to.scale))

    def affine_of(self, node: Node, side: str, channels: int) -> tuple[Array, Array]:
        """A folded operator as a scale and a shift per channel."""
        ones, zeros = np.ones(channels, F32), np.zeros(channels, F32)
        if node.op == "BatchNormalization":
            gamma, beta, mean, variance = (wide(self.network.constants[name]) for name in node.inputs[1:5])
            scale = gamma / np.sqrt(variance + float(F32(node.attributes.get("epsilon", 1e-5))))
            return narrow(scale), narrow(beta - mean * scale)
        (other,) = [name for name in node.inputs if name != side]
        numbers = np.broadcast_to(self.network.constants[other].reshape(-1), channels)
        if node.op in ("Add", "Sub"):
            return ones, numbers if node.op == "Add" else -numbers
        return (numbers if node.op == "Mul" else ones / numbers), zeros

    def sums(self, node: Node) -> tuple[Array, Array, Array | None] | None:
        """Exact sums with a bias of whole numbers, their scale per channel, and a real bias."""
        source = self.decoded(node.inputs[0])
        tree = self.trees.get(node.inputs[1])
        weights = None if tree is None else whole_numbers(tree, self.leaves)
        if source is None or weights is None:
            return None
        x, values = self.value(source[0]).astype(np.int64) - source[1].zero, weights.values
        if node.op != "Conv" and x.ndim < 2:
            return None
        if values.min() < LARGEST_WEIGHTS[0] or values.max() > LARGEST_WEIGHTS[1]:
            return None
        by_rows = node.op == "Conv" or bool(node.attributes.get("transB", 0))
        if weights.axis not in (None, 0 if by_rows else 1):
            return None
        if node.op == "Gemm" and {
            key: node.attributes.get(key, fine) for key, fine in (("alpha", 1), ("beta", 1), ("transA", 0))
        } != {
            "alpha": 1,
            "beta": 1,
            "transA": 0,
        }:
            return None
        channels = values.shape[0 if by_rows else 1]
        scale = np.broadcast_to(source[1].scale * weights.scale.reshape(-1), channels).astype(F32)
        bias, offset = None, np.zeros(channels, np.int64)
        if len(node.inputs) > 2 and node.inputs[2]:
            whole = whole_numbers(self.trees[node.inputs[2]], self.leaves)
            if whole is not None and np.array_equal(np.broadcast_to(whole.scale.reshape(-1), channels), scale):
                offset = np.broadcast_to(whole.values.reshape(-1), channels)
            else:
                bias = np.broadcast_to(self.network.constants[node.inputs[2]].reshape(-1), channels)
        if node.op == "Conv":
            return conv.sums(x, values, offset, node.attributes), scale, bias
        # Whole numbers below 2**53: exact.
        return wide(x) @ wide(values.T if by_rows else values) + offset, scale, bias


def run(data: bytes, feeds: Mapping[str, Array], taps: Sequence[str] = ()) -> dict[str, Array]:
    """All outputs of a file's network, and the values named in taps, in whole numbers where they are meant."""
    return CodesNetwork(data, taps).run(feeds)
