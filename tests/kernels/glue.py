"""Cases of the glue loops: pooling, element-wise, softmax, and everything that only moves elements."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tests import tolerances
from tests.builders import NodeSpec, floats
from tests.conftest import seed_of
from tests.kernels.cases import Bound, Case, data, exact, random_cases
from tests.kernels.convolution import CHANNELS, pick
from tests.reference import apply
from tests.reference.arrays import Array


def mean_bound(attributes: Mapping[str, Any] | None) -> Bound:
    """The rounding bound of a mean over windows (None: over the whole plane)."""

    def bound(values: Mapping[str, Array], expected: Array) -> Array:
        x = np.abs(values["x"])
        if attributes is None:
            return tolerances.dot_bound(x.shape[2] * x.shape[3], apply("GlobalAveragePool", [x]))
        kernel = attributes["kernel_shape"]
        return tolerances.dot_bound(kernel[0] * kernel[1], apply("AveragePool", [x], attributes))

    return bound


def pool_case(name: str, x: Array, op: str, threads: int = 1, **attributes: Any) -> Case:
    """One pooling node."""
    bound: Bound = exact
    if op == "AveragePool":
        bound = mean_bound(attributes)
    elif op == "GlobalAveragePool":
        bound = mean_bound(None)
    label = f"{name}: {op} {x.shape} {attributes}"
    return Case(label, {"x": x}, {}, ((op, ["x"], "y", attributes),), bound, threads)


def random_pool(name: str, rng: np.random.Generator) -> Case:
    """Pooling with windows that always meet the input."""
    op = str(rng.choice(["MaxPool", "AveragePool"]))
    kernel = [pick(rng, 1, 2, 3, 5) for _ in range(2)]
    attributes: dict[str, Any] = {
        "kernel_shape": kernel,
        "strides": [pick(rng, 1, 2, 3) for _ in range(2)],
        "ceil_mode": pick(rng, 0, 1),
        "pads": [int(rng.integers(0, k)) for k in (*kernel, *kernel)],
    }
    if op == "AveragePool":
        attributes["count_include_pad"] = pick(rng, 0, 1)
    x = floats(rng, pick(rng, 1, 2, 3), pick(rng, *CHANNELS), *(k + int(rng.integers(0, 18)) for k in kernel))
    return pool_case(name, x, op, pick(rng, 1, 2), **attributes)


def pool_cases(loop: str) -> Iterator[Case]:
    """Max, average and global pooling."""
    rng = np.random.default_rng(seed_of(loop))
    for i, channels in enumerate(CHANNELS):
        x = floats(rng, 1 + i % 3, channels, 7, 9 - i % 4)
        for op in ("GlobalAveragePool", "GlobalMaxPool"):
            yield pool_case(f"{loop}/{channels}", x, op, 1 + i % 2)
        # All negative: padding must not win, and must not count as zero.
        low = -np.abs(x) - np.float32(1)
        geometry: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
        yield pool_case(f"{loop}/negative{channels}", low, "MaxPool", **geometry)
        yield pool_case(f"{loop}/ceil{channels}", low, "MaxPool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
        for include in (0, 1):
            yield pool_case(f"{loop}/mean{channels}", x, "AveragePool", count_include_pad=include, **geometry)
    x = floats(rng, 1, 17, 13, 12)
    yield pool_case(f"{loop}/dilated", x, "MaxPool", kernel_shape=[3, 2], dilations=[2, 3], strides=[1, 2])
    for mode in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        for op in ("MaxPool", "AveragePool"):
            yield pool_case(f"{loop}/{mode}", x, op, kernel_shape=[4, 3], strides=[3, 2], auto_pad=mode)
    for op in ("GlobalAveragePool", "GlobalMaxPool"):
        yield pool_case(f"{loop}/point", floats(rng, 2, 33, 1, 1), op)
        yield pool_case(f"{loop}/long", floats(rng, 1, 3, 1, 1031), op)
    yield pool_case(
        f"{loop}/overhang", x, "AveragePool", kernel_shape=[3, 3], strides=[3, 3], ceil_mode=1, count_include_pad=1
    )
    yield from random_cases(loop, random_pool)


BINARY = ("Add", "Sub", "Mul", "Div")
SHAPE_PAIRS: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((1, 17, 5, 7), (1, 17, 5, 7)),
    ((2, 33, 3, 3), (33, 1, 1)),
    ((2, 33, 3, 3), (1, 1, 1, 1)),
    ((2, 3, 5), (5,)),
    ((2, 3, 5), (2, 1, 5)),
    ((4, 1, 6), (1, 5, 6)),
    ((1, 16, 4, 4), (2, 16, 4, 4)),
    ((7,), (3, 7)),
    ((1, 15, 4, 4), (4,)),
    ((1, 5, 4, 3), (1, 5, 1, 3)),
    ((), (2, 3)),
    ((1031,), (1031,)),
)


def activation_bound(values: Mapping[str, Array], expected: Array) -> Array:
    """Sigmoid and tanh: absolute, as their values stay within 1."""
    return np.full(expected.shape, tolerances.ACTIVATION_ABSOLUTE)


def elementwise_cases(loop: str) -> Iterator[Case]:
    """Two changing inputs, a constant second input, and the functions of one input."""
    for index, (a_shape, b_shape) in enumerate(SHAPE_PAIRS):
        for op in BINARY:
            name = f"{loop}/{op}{index}"
            rng = np.random.default_rng(seed_of(name))
            a, b = floats(rng, *a_shape), floats(rng, *b_shape)
            label = f"{name}: {op} {a_shape} {b_shape}"
            both: tuple[NodeSpec, ...] = ((op, ["x", "z"], "y", {}),)
            yield Case(label, {"x": a, "z": b}, {}, both, exact, 1 + index % 2)
            yield Case(f"{label} constant", {"x": a}, {"z": b}, both, exact)
            yield Case(f"{label} constant first", {"x": a}, {"z": b}, ((op, ["z", "x"], "y", {}),), exact)
    for op, attributes, bound in (
        ("Relu", {}, exact),
        ("LeakyRelu", {"alpha": 0.3}, exact),
        ("LeakyRelu", {}, exact),
        ("Sigmoid", {}, activation_bound),
        ("Tanh", {}, activation_bound),
    ):
        for shape in ((1, 17, 5, 7), (3, 65), (1, 3, 1, 33), (1031,), (2, 3, 5, 2, 2)):
            name = f"{loop}/{op}{shape}{attributes}"
            x = 3 * floats(np.random.default_rng(seed_of(name)), *shape)
            x.reshape(-1)[:8] = [0.0, -0.0, 20.0, -20.0, 88.0, -88.0, 1e4, -1e4]
            yield Case(name, {"x": x}, {}, ((op, ["x"], "y", attributes),), bound)
    limits = {"low": np.array(-0.5, np.float32), "high": np.array(1.25, np.float32)}
    for used in (["low", "high"], ["low"], ["", "high"], ["low", ""]):
        name = f"{loop}/Clip{used}"
        x = floats(np.random.default_rng(seed_of(name)), 2, 19, 3)
        needed = {key: value for key, value in limits.items() if key in used}
        yield Case(name, {"x": x}, needed, (("Clip", ["x", *used], "y", {}),), exact)
    yield from blocked_cases(loop)
    yield from normalization_cases(loop)


def blocked_cases(loop: str) -> Iterator[Case]:
    """Functions of what a pooling layer left behind: channels in blocks where a kernel works on blocks."""
    rng = np.random.default_rng(seed_of(f"{loop}/blocked"))
    for channels in CHANNELS:
        x, z = floats(rng, 2, channels, 5, 7), floats(rng, 2, channels, 4, 6)
        pool: NodeSpec = ("MaxPool", ["x"], "p", {"kernel_shape": [2, 2]})
        for op in BINARY:
            for inputs, second in (({"x": x}, "p"), ({"x": x, "z": z}, "z")):
                both: NodeSpec = (op, ["p", second], "y", {})
                yield Case(f"{loop}/blocked {op} {channels} {second}", inputs, {}, (pool, both), exact)
        for op, attributes in (("Relu", {}), ("LeakyRelu", {"alpha": 0.3})):
            one: NodeSpec = (op, ["p"], "y", attributes)
            yield Case(f"{loop}/blocked {op} {channels}", {"x": x}, {}, (pool, one), exact)


def normalization_cases(loop: str) -> Iterator[Case]:
    """Batch normalisation that has no convolution to fold into."""
    for shape in ((2, 17, 3, 5), (3, 33), (1, 16, 4, 4)):
        rng = np.random.default_rng(seed_of(f"{loop}/norm{shape}"))
        x, channels = floats(rng, *shape), shape[1]
        parameters = {name: floats(rng, channels) for name in ("scale", "shift", "mean")}
        parameters["variance"] = np.abs(floats(rng, channels)) + np.float32(0.3)
        column = (1, -1) + (1,) * (len(shape) - 2)

        def bound(values: Mapping[str, Array], expected: Array, column: tuple[int, ...] = column) -> Array:
            factor = np.abs(values["scale"]) / np.sqrt(values["variance"].astype(np.float64))
            terms = (np.abs(values["x"]) + np.abs(values["mean"]).reshape(column)) * factor.reshape(column)
            magnitude = terms + np.abs(values["shift"]).reshape(column)
            return tolerances.dot_bound(tolerances.FOLDED_BATCH_NORM_STEPS, magnitude)

        node: NodeSpec = ("BatchNormalization", ["x", *parameters], "y", {"epsilon": 0.001})
        yield Case(f"{loop}/norm{shape}", {"x": x}, parameters, (node,), bound)


def lrn_cases(loop: str) -> Iterator[Case]:
    """Local response normalisation: windows odd, even and wider than the channels, every way to take the power."""
    for index, (channels, size, beta, width) in enumerate(
        itertools.product((1, 3, 15, 16, 17, 33), (1, 2, 5, 40), (0.5, 0.75, 1.0, 0.6), (1, 5))
    ):
        name = f"{loop}/lrn{index}"
        rng = np.random.default_rng(seed_of(name))
        attributes = {"size": size, "beta": beta, "alpha": 0.3, "bias": 2.0}
        x = floats(rng, 1 + index % 2, channels, 3, width)

        def bound(values: Mapping[str, Array], expected: Array, size: int = size) -> Array:
            return tolerances.dot_bound(size, expected) + 2 * tolerances.EXP_RELATIVE * np.abs(expected)

        node: NodeSpec = ("LRN", ["x"], "y", attributes)
        yield Case(f"{name}: {attributes} {x.shape}", {"x": x}, {}, (node,), bound, 1 + index % 2)


def shuffle_cases(loop: str) -> Iterator[Case]:
    """Channel shuffles behind a pooling, which gives blocks: groups and members that fill blocks and that do not."""
    for groups, members, size in (
        (1, 5, 3),
        (2, 8, 4),
        (3, 5, 4),
        (3, 20, 5),
        (4, 16, 1),
        (5, 13, 7),
        (16, 2, 3),
        (33, 1, 2),
    ):
        channels = groups * members
        rng = np.random.default_rng(seed_of(f"{loop}/{groups}x{members}"))
        x = floats(rng, 2, channels, size, size + 1)
        nodes: tuple[NodeSpec, ...] = (
            ("MaxPool", ["x"], "p", {"kernel_shape": [1, 1]}),
            ("Reshape", ["p", "split"], "s", {}),
            ("Transpose", ["s"], "t", {"perm": [0, 2, 1, 3, 4]}),
            ("Reshape", ["t", "whole"], "u", {}),
            ("MaxPool", ["u"], "y", {"kernel_shape": [1, 1]}),
        )
        constants: dict[str, Any] = {
            "split": np.array([2, groups, members, size, size + 1]),
            "whole": np.array([2, channels, size, size + 1]),
        }
        yield Case(f"{loop}/{groups}x{members} {x.shape}", {"x": x}, constants, nodes, exact, 1 + groups % 2)


def softmax_cases(loop: str) -> Iterator[Case]:
    """Softmax along every axis, over one, few and many elements, with large and equal values."""

    def case(name: str, x: Array, axis: int, threads: int = 1) -> Case:
        def bound(values: Mapping[str, Array], expected: Array) -> Array:
            return tolerances.softmax_bound(values["x"], expected, axis)

        return Case(
            f"{name}: {x.shape} axis {axis}", {"x": x}, {}, (("Softmax", ["x"], "y", {"axis": axis}),), bound, threads
        )

    def random_case(name: str, rng: np.random.Generator) -> Case:
        rank = pick(rng, 1, 2, 3, 4)
        x = floats(rng, *(int(rng.integers(1, 19)) for _ in range(rank))) * np.float32(rng.choice([0.1, 1, 10, 30]))
        return case(name, x, int(rng.integers(-rank, rank)), pick(rng, 1, 2))

    rng = np.random.default_rng(seed_of(loop))
    for size in (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 1000):
        yield case(f"{loop}/last", 3 * floats(rng, 3, size), -1)
    for axis in (0, 1, 2, 3, -4):
        yield case(f"{loop}/axis", 3 * floats(rng, 2, 17, 3, 5), axis)
    yield case(f"{loop}/equal", np.full((2, 9), 1e4, np.float32), 1)
    far = np.array([[0, -200, 50, -1e6], [1e30, 0, -1e30, 3]], np.float32)
    yield case(f"{loop}/far", far, 1)
    yield from random_cases(loop, random_case)


def move_case(name: str, inputs: Mapping[str, Array], nodes: tuple[NodeSpec, ...], **constants: Array) -> Case:
    """Nodes that only move elements: exact."""
    return Case(name, inputs, constants, nodes, exact)


def move_cases(loop: str) -> Iterator[Case]:
    """Transposes, concatenations and reshapes, alone and next to layers that block channels."""
    rng = np.random.default_rng(seed_of(loop))
    permutations = ([0, 2, 3, 1], [0, 3, 1, 2], [3, 2, 1, 0], [0, 1, 3, 2], [1, 0, 2, 3])
    for channels in (1, 3, 16, 17, 33):
        x = floats(rng, 2, channels, 5, 7)
        w = data(rng, True, 19, channels, 1, 1)
        for permutation in permutations:
            node: NodeSpec = ("Transpose", ["x"], "y", {"perm": permutation})
            yield move_case(f"{loop}/transpose{channels}{permutation}", {"x": x}, (node,))
        for other in (1, 15, 16, 33):
            z = floats(rng, 2, other, 5, 7)
            joined: NodeSpec = ("Concat", ["x", "z", "x"], "y", {"axis": 1})
            yield move_case(f"{loop}/concat{channels}+{other}", {"x": x, "z": z}, (joined,))
        whole = data(rng, True, 2, channels, 5, 7)
        yield move_case(
            f"{loop}/conv flatten {channels}",
            {"x": whole},
            (("Conv", ["x", "w"], "c", {}), ("Flatten", ["c"], "y", {})),
            w=w,
        )
        yield move_case(
            f"{loop}/conv concat {channels}",
            {"x": whole},
            (("Conv", ["x", "w"], "c", {}), ("Concat", ["c", "x"], "y", {"axis": 1})),
            w=w,
        )
        yield move_case(
            f"{loop}/channels last {channels}",
            {"x": np.ascontiguousarray(whole.transpose(0, 2, 3, 1))},
            (
                ("Transpose", ["x"], "t", {"perm": [0, 3, 1, 2]}),
                ("Conv", ["t", "w"], "c", {}),
                ("Transpose", ["c"], "y", {"perm": [0, 2, 3, 1]}),
            ),
            w=w,
        )
        yield move_case(
            f"{loop}/pool then conv {channels}",
            {"x": whole},
            (
                ("MaxPool", ["x"], "p", {"kernel_shape": [2, 2], "pads": [1, 0, 0, 1]}),
                ("Conv", ["p", "w"], "y", {"strides": [2, 1]}),
            ),
            w=w,
        )
    for axis in (0, 2, 3, -1):
        x = floats(rng, 2, 17, 5, 7)
        node = ("Concat", ["x", "x"], "y", {"axis": axis})
        yield move_case(f"{loop}/concat axis {axis}", {"x": x}, (node,))
