"""Cases of the loops of layers on 8-bit codes: convolutions, depthwise ones and products."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.conftest import seed_of
from tests.kernels.cases import Case, CodeCase, code_case, random_cases
from tests.kernels.convolution import pick
from tests.quantized_graphs import BIASES, F32, FORMS, WEIGHTS, Form, Wiring, bias, fitted, weights
from tests.reference.windows import axes

CHANNELS = (1, 3, 4, 5, 15, 16, 17, 31, 33, 63, 65)
EPILOGUES = ("", "relu", "clip", "residual", "residual relu", "residual clip", "norm relu", "real", "real relu")


def finish(
    wiring: Wiring, value: str, shape: tuple[int, ...], epilogue: str, to: Form, other: Form, source: Form
) -> None:
    """What follows a layer: activation, a quantised sum, quantiser; ``real``: no quantiser."""
    steps = epilogue.split()
    if "norm" in steps:
        column = shape[1]
        names = {name: wiring.rng.uniform(0.5, 2, column).astype(F32) for name in ("gamma", "beta", "mean", "variance")}
        names["gamma"][::3] *= -1
        for name, numbers in names.items():
            wiring.constant(name, numbers)
        value = wiring.add("BatchNormalization", [value, *names])
    if "residual" in steps:
        value = wiring.again(value, source)
        residual = wiring.decoded("residual", other, *shape)
        value = wiring.add("Add", [value, residual] if wiring.rng.integers(2) else [residual, value])
    if "relu" in steps:
        value = wiring.add("Relu", [value])
    if "clip" in steps:
        wiring.constant("low", np.array(-20.5 * to.scale, F32))
        wiring.constant("high", np.array(31.2 * to.scale, F32))
        value = wiring.add("Clip", [value, "low", "high"])
    if "real" in steps:
        op, sources, _, attributes = wiring.nodes[-1]
        wiring.nodes[-1] = (op, sources, "y", attributes)
    else:
        wiring.quantise(value, to, "y")


@dataclass(frozen=True)
class Layer:
    """A convolution of codes."""

    batch: int
    channels: int
    height: int
    width: int
    filters: int
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    weights: str = "i8"
    bias: str = ""
    epilogue: str = ""
    source: Form = FORMS[0]
    to: Form = FORMS[1]
    float_input: bool = False
    extreme: bool = False

    def attributes(self) -> dict[str, Any]:
        """Of the Conv node."""
        return {
            "strides": list(self.stride),
            "dilations": list(self.dilation),
            "group": self.groups,
            "pads": list(self.pads),
        }

    def label(self) -> str:
        """The case in one line."""
        n, c, h, w, o = self.batch, self.channels, self.height, self.width, self.filters
        text = f"{n}x{c}x{h}x{w} o{o} k{self.kernel} s{self.stride} d{self.dilation} g{self.groups} p{self.pads}"
        return f"{text} {self.weights} bias {self.bias or 'none'} {self.epilogue or 'plain'} {self.source} {self.to}"

    def case(self, name: str, rng: np.random.Generator, threads: int = 1) -> CodeCase:
        """The network with random codes; the result's scale is such that few of its codes saturate."""
        wiring = Wiring(rng)
        shape = (self.batch, self.channels, self.height, self.width)
        if self.float_input:
            low, high = self.source.limits
            numbers = rng.uniform(low - 9 - self.source.zero, high + 9 - self.source.zero, shape) * self.source.scale
            wiring.inputs["x"] = numbers.astype(F32)
            x = wiring.again("x", self.source)
        else:
            data = np.full(shape, self.source.limits[1], np.uint8 if self.source.dtype == "u8" else np.int8)
            x = wiring.decoded("x", self.source, *shape, data=data if self.extreme else None)
        window = (self.filters, self.channels // self.groups, *self.kernel)
        wiring.trees["w"] = weights(self.weights, rng, window, 0)
        sources = [x, "w"]
        if self.bias:
            wiring.trees["b"] = bias(self.bias, rng, self.source, wiring.trees["w"], self.filters)
            sources.append("b")
        value = wiring.add("Conv", sources, **self.attributes())
        rows, columns = axes(shape[2:], self.kernel, self.attributes())
        to = fitted(self.to, wiring.trees["w"], self.source)
        result = (self.batch, self.filters, rows.out, columns.out)
        finish(wiring, value, result, self.epilogue, to, to.scaled(0.7), to.scaled(1.3))
        return code_case(wiring, f"{name}: {self.label()}", threads)


def drawn_layer(rng: np.random.Generator, depthwise: bool) -> Layer:
    """A convolution drawn from the awkward sizes; its window always fits."""
    kernel = (pick(rng, 1, 1, 2, 3, 3, 5), pick(rng, 1, 1, 2, 3, 3, 5))
    dilation = (pick(rng, 1, 1, 2), pick(rng, 1, 1, 2))
    pads = (pick(rng, 0, 1, 2), pick(rng, 0, 1, 2), pick(rng, 0, 1, 2), pick(rng, 0, 1, 2))
    size = [max(1, dilation[i] * (kernel[i] - 1) + 1 - pads[i] - pads[i + 2]) + int(rng.integers(0, 9)) for i in (0, 1)]
    groups = 1
    if depthwise:
        channels = filters = groups = pick(rng, *CHANNELS[3:])
    else:
        groups = pick(rng, 1, 1, 1, 2, 3)
        channels, filters = pick(rng, *CHANNELS) * groups, pick(rng, *CHANNELS) * groups
    return Layer(
        batch=pick(rng, 1, 1, 2, 3),
        channels=channels,
        height=size[0],
        width=size[1],
        filters=filters,
        kernel=kernel,
        stride=(pick(rng, 1, 1, 2, 3), pick(rng, 1, 1, 2, 3)),
        pads=pads,
        dilation=dilation,
        groups=groups,
        weights=str(rng.choice(WEIGHTS)),
        bias=str(rng.choice(BIASES)),
        epilogue=str(rng.choice(EPILOGUES)),
        source=FORMS[int(rng.integers(len(FORMS)))],
        to=FORMS[int(rng.integers(len(FORMS)))],
        float_input=bool(rng.integers(4) == 0),
    )


def listed_layers() -> Iterator[Layer]:
    """Convolutions around the edges of tiles, blocks, quads, windows, padding and number ranges."""
    count = len(FORMS)
    for i, channels in enumerate(CHANNELS):
        other = CHANNELS[(i * 4 + 2) % len(CHANNELS)]
        forms: dict[str, Any] = {
            "source": FORMS[i % count],
            "to": FORMS[(i * 3 + 1) % count],
            "weights": WEIGHTS[i % len(WEIGHTS)],
        }
        around: dict[str, Any] = {"pads": (1, 1, 1, 1), "epilogue": EPILOGUES[i % len(EPILOGUES)]}
        yield Layer(1 + i % 3, channels, 5, 7, other, bias=BIASES[i % 4], **around, **forms)
        yield Layer(1, channels, 6, 5, other, (1, 1), bias=BIASES[(i + 1) % 4], float_input=i % 2 == 0, **forms)
    for i, kind in enumerate(WEIGHTS):
        yield Layer(
            1, 17, 4, 5, 19, pads=(1, 1, 1, 1), weights=kind, bias="whole", source=FORMS[i % 6], to=FORMS[(i + 1) % 6]
        )
    for width in range(1, 18):
        yield Layer(
            1, 3, 2, width, 17, (1, 1), epilogue=EPILOGUES[width % len(EPILOGUES)], bias="real", source=FORMS[2]
        )
    for width in (27, 28, 29, 31, 57):
        yield Layer(1, 16, 1, width, 33, (1, 3), pads=(0, 1, 0, 1), epilogue="relu", source=FORMS[4], bias="whole")
    # Products of the largest numbers, summed over as much as real networks have: no sum may saturate on the way.
    for kind in ("low", "high"):
        for source in (FORMS[2], FORMS[3], FORMS[4]):
            yield Layer(1, 512, 3, 3, 17, weights=kind, extreme=True, source=source, epilogue="real")
        yield Layer(1, 64, 4, 4, 65, pads=(1, 1, 1, 1), weights=kind, extreme=True, source=FORMS[2], bias="whole")
    yield Layer(1, 64, 3, 3, 16, weights="9 bits", extreme=True, source=FORMS[2], epilogue="real")
    # The first layer of a network.
    for form, stride in ((FORMS[0], 2), (FORMS[1], 1), (FORMS[4], 3)):
        first: dict[str, Any] = {"stride": (stride, stride), "source": form, "bias": "whole", "epilogue": "relu"}
        yield Layer(1, 3, 13, 11, 33, (7, 7), pads=(3, 3, 3, 3), float_input=True, **first)
        yield Layer(2, 3, 9, 10, 16, pads=(1, 1, 1, 1), **first)
    yield Layer(1, 1, 9, 9, 5, (5, 5), pads=(2, 2, 2, 2), float_input=True)
    yield Layer(2, 15, 9, 8, 31, (2, 3), (3, 1), (1, 0, 0, 2), (2, 1), source=FORMS[5], bias="real")
    yield Layer(1, 17, 1, 1, 17, pads=(1, 1, 1, 1), source=FORMS[4], bias="whole")
    yield Layer(1, 5, 4, 4, 7, (4, 4), epilogue="clip", source=FORMS[3])
    for i, (groups, per_group, share) in enumerate(
        (
            (2, 8, 8),
            (2, 16, 16),
            (3, 5, 7),
            (4, 16, 33),
            (5, 1, 3),
            (31, 2, 1),
            (2, 17, 1),
            (16, 1, 2),
            (3, 1, 1),
            (2, 2, 1),
        )
    ):
        grouped: dict[str, Any] = {
            "groups": groups,
            "weights": WEIGHTS[i % 4],
            "source": FORMS[i % count],
            "bias": BIASES[i % 4],
        }
        yield Layer(1, groups * per_group, 6, 5, groups * share, pads=(1, 1, 1, 1), epilogue="relu", **grouped)
        yield Layer(2, groups * per_group, 4, 4, groups * share, epilogue="residual", **grouped)


def listed_depthwise() -> Iterator[Layer]:
    """One channel a group."""
    count = len(FORMS)
    for i, channels in enumerate(CHANNELS[3:]):
        forms: dict[str, Any] = {"source": FORMS[i % count], "to": FORMS[(i * 3 + 1) % count]}
        each: dict[str, Any] = {"groups": channels, "pads": (1, 1, 1, 1), "bias": BIASES[i % 4]}
        yield Layer(1 + i % 3, channels, 7, 9, channels, epilogue=EPILOGUES[i % len(EPILOGUES)], **each, **forms)
        yield Layer(
            1, channels, 9, 8, channels, stride=(2, 2), epilogue="residual relu", weights=WEIGHTS[i], **each, **forms
        )
    for i, kind in enumerate(WEIGHTS):
        yield Layer(1, 17, 4, 5, 17, groups=17, weights=kind, source=FORMS[i % 6], to=FORMS[(i + 1) % 6], bias="whole")
    for width in range(1, 20):
        form = FORMS[width % count]
        yield Layer(1, 17, 3, width, 17, pads=(1, 1, 1, 1), groups=17, bias=BIASES[width % 4], source=form)
    for kind in ("low", "high"):
        yield Layer(1, 16, 9, 9, 16, (7, 7), groups=16, weights=kind, extreme=True, source=FORMS[2], epilogue="real")
    yield Layer(1, 33, 13, 11, 33, (7, 3), (3, 2), (3, 0, 1, 2), groups=33, source=FORMS[4], float_input=True)
    yield Layer(2, 31, 9, 9, 31, pads=(2, 2, 2, 2), dilation=(2, 2), groups=31, epilogue="norm relu", source=FORMS[3])
    yield Layer(1, 48, 5, 5, 48, (1, 1), groups=48, epilogue="real", source=FORMS[1])


def layer_cases(loop: str, depthwise: bool) -> Iterator[Case]:
    """Listed and random convolutions; every third runs on two threads."""
    for index, shape in enumerate(listed_depthwise() if depthwise else listed_layers()):
        name = f"{loop}/conv{index}"
        yield shape.case(name, np.random.default_rng(seed_of(name)), threads=2 if index % 3 == 0 else 1)
    yield from random_cases(loop, lambda name, rng: drawn_layer(rng, depthwise).case(name, rng, pick(rng, 1, 2)))


def connected_cases(loop: str) -> Iterator[Case]:
    """Products of a matrix of codes with constant weights."""
    index = 0
    for rows in (1, 2, 3, 4, 5, 33):
        for inputs, outputs in ((1, 1), (3, 17), (63, 10), (64, 65), (65, 5), (130, 33)):
            index += 1
            name = f"{loop}/connected{index}"
            rng = np.random.default_rng(seed_of(name))
            wiring = Wiring(rng)
            source, to = FORMS[index % len(FORMS)], FORMS[(index * 3) % len(FORMS)]
            op = "MatMul" if index % 3 == 0 else "Gemm"
            turned = op == "Gemm" and index % 2 == 0
            x = wiring.decoded("x", source, rows, inputs)
            shape = (outputs, inputs) if turned else (inputs, outputs)
            wiring.trees["w"] = weights(WEIGHTS[index % len(WEIGHTS)], rng, shape, 0 if turned else 1)
            sources, kind = [x, "w"], BIASES[index % 4]
            if op == "Gemm" and kind:
                wiring.trees["b"] = bias(kind, rng, source, wiring.trees["w"], outputs)
                sources.append("b")
            attributes: dict[str, Any] = {"transB": 1} if turned else {}
            value = wiring.add(op, sources, **attributes)
            epilogue = ("", "relu", "clip", "real", "real relu")[index % 5]
            fit = fitted(to, wiring.trees["w"], source)
            finish(wiring, value, (rows, outputs), epilogue, fit, fit, fit)
            yield code_case(wiring, f"{name}: {op} {rows}x{inputs}x{outputs} {epilogue} {source} {to}", 1 + index % 2)
    for kind, source in (("low", FORMS[2]), ("high", FORMS[3])):
        wiring = Wiring(np.random.default_rng(seed_of(f"{loop}/{kind}")))
        data = np.full((2, 4608), source.limits[1], np.uint8 if source.dtype == "u8" else np.int8)
        wiring.trees["w"] = weights(kind, wiring.rng, (4608, 17), 1)
        wiring.add("MatMul", [wiring.decoded("x", source, data=data), "w"], "y")
        yield code_case(wiring, f"{loop}/extreme {kind}")


def gemm_cases(loop: str) -> Iterator[Case]:
    """Convolutions and products of codes."""
    yield from layer_cases(loop, depthwise=False)
    yield from connected_cases(loop)


def depthwise_cases(loop: str) -> Iterator[Case]:
    """Depthwise convolutions of codes."""
    yield from layer_cases(loop, depthwise=True)
