"""Cases of the loops on 8-bit codes: each must give exactly what tests/reference/codes.py says."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tests.conftest import seed_of
from tests.kernels.cases import Case, CodeCase, code_case
from tests.kernels.code_layers import CHANNELS, depthwise_cases, gemm_cases
from tests.kernels.convolution import pick
from tests.quantized_graphs import F32, FORMS, Form, Wiring
from tests.reference import codes

Builder = Callable[[str, np.random.Generator, int], CodeCase]


def each_form(loop: str, build: Builder, counts: int = 44) -> Iterator[Case]:
    """Cases whose channels and quantisers follow from their number; every third runs on two threads."""
    for index in range(counts):
        name = f"{loop}/{index}"
        yield build(name, np.random.default_rng(seed_of(name)), index)


def pool_shape(rng: np.random.Generator, index: int) -> tuple[tuple[int, ...], dict[str, Any]]:
    """A shape of at least 5 channels and a window that always meets the input."""
    kernel = [pick(rng, 1, 2, 3, 5) for _ in range(2)]
    attributes: dict[str, Any] = {
        "kernel_shape": kernel,
        "strides": [pick(rng, 1, 2, 3) for _ in range(2)],
        "ceil_mode": pick(rng, 0, 1),
        "pads": [int(rng.integers(0, k)) for k in (*kernel, *kernel)],
    }
    shape = (1 + index % 3, CHANNELS[3 + index % 8], *(k + int(rng.integers(0, 9)) for k in kernel))
    return shape, attributes


def max_pool_cases(loop: str) -> Iterator[Case]:
    """Maxima of codes, dilated windows among them."""

    def build(name: str, rng: np.random.Generator, index: int) -> CodeCase:
        wiring, form = Wiring(rng), FORMS[index % len(FORMS)]
        shape, attributes = pool_shape(rng, index)
        if index % 5 == 0:
            attributes |= {"dilations": [2, 1]}
            shape = (*shape[:2], shape[2] + 5, shape[3])
        pooled = wiring.add("MaxPool", [wiring.decoded("x", form, *shape)], **attributes)
        wiring.quantise(pooled, form, "y")
        return code_case(wiring, f"{name}: {shape} {attributes} {form}", 1 + index % 2)

    yield from each_form(loop, build)


def average_pool_cases(loop: str) -> Iterator[Case]:
    """Means of codes over windows and whole maps, with and without padding."""

    def build(name: str, rng: np.random.Generator, index: int) -> CodeCase:
        wiring, form, to = Wiring(rng), FORMS[index % len(FORMS)], FORMS[index * 3 % len(FORMS)]
        shape, attributes = pool_shape(rng, index)
        to = Form(
            to.dtype,
            float(F32(form.scale * rng.uniform(0.4, 1.1) * 2 ** (form.bits - to.bits))),
            to.zero,
            to.bits,
            to.narrow,
        )
        attributes["count_include_pad"] = index % 2
        op = "GlobalAveragePool" if index % 4 == 0 else "AveragePool"
        pooled = wiring.add(op, [wiring.decoded("x", form, *shape)], **(attributes if op == "AveragePool" else {}))
        wiring.quantise(pooled, to, "y")
        return code_case(wiring, f"{name}: {op} {shape} {attributes} {form} {to}", 1 + index // 2 % 2)

    yield from each_form(loop, build)


def add_cases(loop: str) -> Iterator[Case]:
    """Sums of codes of different scales."""

    def build(name: str, rng: np.random.Generator, index: int) -> CodeCase:
        wiring, count = Wiring(rng), len(FORMS)
        a, b, to = FORMS[index % count], FORMS[(index * 3 + 1) % count], FORMS[(index * 7 + 2) % count]
        b = Form(b.dtype, float(F32(a.scale * rng.uniform(0.3, 3))), b.zero, b.bits, b.narrow)
        to = Form(
            to.dtype, float(F32(a.scale * rng.uniform(0.8, 2) * 2 ** (a.bits - to.bits))), to.zero, to.bits, to.narrow
        )
        shape = (1 + index % 3, CHANNELS[index % len(CHANNELS)], 1 + index % 7, 1 + int(rng.integers(0, 19)))
        first = wiring.decoded("x", a, *shape)
        second = first if index % 11 == 10 else wiring.decoded("z", b, *shape)
        value = wiring.add("Add", [first, second])
        if index % 3:
            wiring.constants |= {"low": np.array(-1.7 * a.scale, F32), "high": np.array(41 * a.scale, F32)}
            value = wiring.add(*(("Relu", [value]) if index % 3 == 1 else ("Clip", [value, "low", "high"])))
        wiring.quantise(value, to, "y")
        return code_case(wiring, f"{name}: {shape} {a} {b} {to}", 1 + index % 2)

    yield from each_form(loop, build)


HARD = (np.nan, np.inf, -np.inf, 3.4e38, -3.4e38, 1e-45, -1e-45, 0.0, -0.0, 2.5, 0.5, 1.5, -0.5, -1.5, 1e10, -1e10)


def quantise_cases(loop: str) -> Iterator[Case]:
    """Real numbers that layers read as codes: ties, numbers beyond the range, infinities, no numbers."""

    def build(name: str, rng: np.random.Generator, index: int) -> CodeCase:
        wiring, form = Wiring(rng), FORMS[index % len(FORMS)]
        if index % 2:
            form = Form(form.dtype, 0.25, form.zero, form.bits, form.narrow)  # so that ties are met
        shape = (1 + index % 2, CHANNELS[index % len(CHANNELS)], 1 + index % 3, (5, 17, 1, 3, 300)[index % 5])
        low, high = form.limits
        x = rng.integers(2 * (low - form.zero) - 9, 2 * (high - form.zero) + 9, shape).astype(F32) * F32(form.scale / 2)
        x.reshape(-1)[: len(HARD)] = np.array(HARD, F32)[: x.size]
        rng.shuffle(x.reshape(-1))
        wiring.inputs["x"] = x
        # Behind a real operator the numbers stand in blocks of channels.
        x_name = wiring.add("MaxPool", ["x"], kernel_shape=[1, 1]) if index % 4 == 3 else "x"
        # An operator that passes codes on: the layer that reads them.
        passed = wiring.add("LeakyRelu", [wiring.again(x_name, form)], alpha=1.0)
        wiring.quantise(passed, form, "y")
        return code_case(wiring, f"{name}: {shape} {form}", 1 + index // 2 % 2)

    yield from each_form(loop, build)


def dequantise_cases(loop: str) -> Iterator[Case]:
    """Codes that a real operator reads."""

    def build(name: str, rng: np.random.Generator, index: int) -> CodeCase:
        wiring, form = Wiring(rng), FORMS[index % len(FORMS)]
        shape = (1 + index % 3, CHANNELS[3 + index % 8], 1 + index % 4, 1 + int(rng.integers(0, 19)))
        passed = wiring.add("LeakyRelu", [wiring.decoded("x", form, *shape)], alpha=1.0)
        value = wiring.again(passed, form)
        if index % 2:
            wiring.constants["two"] = np.array(2, F32)
            value = wiring.add("Mul", [value, "two"])
        op, sources, _, attributes = wiring.nodes[-1]
        wiring.nodes[-1] = (op, sources, "y", attributes)
        return code_case(wiring, f"{name}: {shape} {form}", 1 + index // 2 % 2)

    yield from each_form(loop, build)


TABLES: tuple[tuple[str, dict[str, Any], tuple[float, ...]], ...] = (
    ("Relu", {}, ()),
    ("Clip", {}, (-0.4, 1.1)),
    ("LeakyRelu", {"alpha": 0.13}, ()),
    ("Sigmoid", {}, ()),
    ("Tanh", {}, ()),
    *((op, {}, ()) for op in codes.FUNCTIONS),
)


def table_cases(loop: str) -> Iterator[Case]:
    """Functions of one code, codes of one quantiser as codes of another, and parts of a concatenation."""

    def build(name: str, rng: np.random.Generator, index: int) -> CodeCase:
        wiring, count = Wiring(rng), len(FORMS)
        form, to = FORMS[index % count], FORMS[(index * 3 + 1) % count]
        shape = (1 + index % 3, CHANNELS[index % len(CHANNELS)], 1 + index % 5, 1 + int(rng.integers(0, 19)))
        some = shape[:2] if index % 4 == 0 else shape
        op = "Requantize" if index % 3 == 0 else ""
        value = wiring.decoded("x", form, *some)
        if not op:
            op, attributes, limits = TABLES[index % len(TABLES)]
            names = [wiring.constant(f"limit{i}", np.array(limit, F32)) for i, limit in enumerate(limits)]
            value = wiring.add(op, [value, *names], **attributes)
        wiring.quantise(value, to, "y")
        return code_case(wiring, f"{name}: {op} {some} {form} {to}", 1 + index % 2)

    yield from each_form(loop, build, 84)
    for index, sizes in enumerate(((16, 16), (32, 16, 5), (16, 17), (48,), (16, 16, 33), (16, 4), (32, 1), (64, 3))):
        rng = np.random.default_rng(seed_of(f"{loop}/concat{index}"))
        wiring, to = Wiring(rng), FORMS[index % len(FORMS)]
        parts = []
        for i, size in enumerate(sizes):
            form = to if i % 2 else FORMS[(index + i + 1) % len(FORMS)]
            parts.append(wiring.decoded(f"x{i}", form, 1 + index % 2, size, 3, 4))
        wiring.quantise(wiring.add("Concat", parts, axis=1), to, "y")
        yield code_case(wiring, f"{loop}/concat{index}: {sizes} {to}", 1 + index % 2)


def threshold_cases(loop: str) -> Iterator[Case]:
    """Numbers of maps and of rows, ties and no numbers among them, against thresholds of all channels or of each."""

    def build(name: str, rng: np.random.Generator, index: int) -> CodeCase:
        wiring, channels = Wiring(rng), CHANNELS[index % len(CHANNELS)]
        steps = (1, 3, 7, 15, 63, 255)[index % 6]
        map_shape = (1 + index % 3, channels, 1 + index % 5, 1 + int(rng.integers(0, 70)))
        shape = ((4 + 67 * (index % 2), channels), map_shape, map_shape[:2] + map_shape[3:])[index % 3]
        table = np.sort(rng.integers(-20, 21, (1 if index % 4 == 0 else channels, steps)), axis=1).astype(F32) / F32(4)
        x = rng.integers(-24, 25, shape).astype(F32) / F32(4)
        # Denormal numbers are zero to the engine.
        hard = np.array([number for number in HARD if abs(number) != 1e-45], F32)
        x.reshape(-1)[: hard.size] = hard[: x.size]
        rng.shuffle(x.reshape(-1))
        wiring.inputs["x"], wiring.constants["table"] = x, table
        counts = wiring.add("MultiThreshold", ["x", "table"], data_layout={2: "NC", 3: "NCW", 4: "NCHW"}[len(shape)])
        wiring.quantise(counts, Form("u8", 1.0, 0), "y")
        return code_case(wiring, f"{name}: {shape}, {steps} thresholds", 1 + index // 3 % 2)

    yield from each_form(loop, build)


def reorder_cases(loop: str) -> Iterator[Case]:
    """Plain tensors of codes into blocks and back."""
    yield from max_pool_cases(loop)
    yield from table_cases(loop)


GENERATORS: dict[str, Callable[[str], Iterator[Case]]] = {
    "gemm_u8": gemm_cases,
    "depthwise_u8": depthwise_cases,
    "maxpool_u8": max_pool_cases,
    "avgpool_u8": average_pool_cases,
    "add_u8": add_cases,
    "quantize_f32": quantise_cases,
    "dequantize_u8": dequantise_cases,
    "table_u8": table_cases,
    "threshold_u8": threshold_cases,
    "reorder_codes": reorder_cases,
}
"""The loops on 8-bit codes."""
