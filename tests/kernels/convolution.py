"""Cases of the convolution and fully connected loops."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from tests import tolerances
from tests.builders import NodeSpec
from tests.conftest import seed_of
from tests.kernels.cases import Bound, Case, activation, data, exact, random_cases
from tests.reference import apply
from tests.reference.arrays import Array

CHANNELS = (1, 3, 15, 16, 17, 31, 33, 63, 65)
EPILOGUES = ("", "relu", "clip", "residual", "residual relu", "residual clip")


@dataclass(frozen=True)
class Convolution:
    """A convolution's shape and its epilogue."""

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
    bias: bool = True
    epilogue: str = ""
    auto_pad: str = "NOTSET"
    integers: bool = True
    winograd: bool = False

    def attributes(self) -> dict[str, object]:
        """The Conv node's attributes."""
        found: dict[str, object] = {
            "strides": list(self.stride),
            "dilations": list(self.dilation),
            "group": self.groups,
        }
        if self.auto_pad == "NOTSET":
            return {**found, "pads": list(self.pads)}
        return {**found, "auto_pad": self.auto_pad}

    def label(self) -> str:
        """The shape in one line."""
        n, c, h, w, o = self.batch, self.channels, self.height, self.width, self.filters
        text = f"{n}x{c}x{h}x{w} o{o} k{self.kernel} s{self.stride} d{self.dilation} g{self.groups} "
        text += self.auto_pad if self.auto_pad != "NOTSET" else f"p{self.pads}"
        kind = "integers" if self.integers else "floats"
        return f"{text}{' bias' if self.bias else ''} {self.epilogue or 'plain'} {kind}"

    def case(self, name: str, rng: np.random.Generator, threads: int = 1) -> Case:
        """The network of this convolution with random data."""
        x = data(rng, self.integers, self.batch, self.channels, self.height, self.width)
        w = data(rng, self.integers, self.filters, self.channels // self.groups, *self.kernel)
        constants: dict[str, Array] = {"w": w}
        inputs: dict[str, Array] = {"x": x}
        steps: list[NodeSpec] = []
        sources = ["x", "w"]
        if self.bias:
            constants["b"] = data(rng, self.integers, self.filters)
            sources.append("b")
        chain = ["conv", *self.epilogue.split()]
        for i, step in enumerate(chain):
            target = "y" if i == len(chain) - 1 else f"t{i}"
            if step == "conv":
                steps.append(("Conv", sources, target, self.attributes()))
            elif step == "residual":
                shape = apply("Conv", [x, w], self.attributes()).shape
                inputs["residual"] = data(rng, self.integers, *shape)
                steps.append(("Add", [f"t{i - 1}", "residual"], target, {}))
            else:
                node, limits = activation(step, f"t{i - 1}", target)
                steps.append(node)
                constants |= limits
        bound: Bound = exact if self.integers else ConvolutionBound(self)
        if self.winograd:
            bound = WinogradBound(self)
        return Case(f"{name}: {self.label()}", inputs, constants, tuple(steps), bound, threads)


@dataclass(frozen=True)
class ConvolutionBound:
    """The rounding bound of a convolution on float data."""

    shape: Convolution

    def __call__(self, values: Mapping[str, Array], expected: Array) -> Array:
        sources = [np.abs(values[name]) for name in ("x", "w", "b") if name in values]
        magnitude = apply("Conv", sources, self.shape.attributes())
        if "residual" in values:
            magnitude = magnitude + np.abs(values["residual"])
        products = self.shape.channels // self.shape.groups * self.shape.kernel[0] * self.shape.kernel[1]
        return tolerances.dot_bound(products, magnitude)


@dataclass(frozen=True)
class WinogradBound:
    """The rounding bound of a Winograd convolution: an output's error depends on all pixels of its tile."""

    shape: Convolution

    def __call__(self, values: Mapping[str, Array], expected: Array) -> Array:
        pointwise = ConvolutionBound(self.shape)(values, expected)
        return np.full(pointwise.shape, float(pointwise.max(initial=0.0)))


def acceptance_shapes() -> Iterator[Convolution]:
    """The standard acceptance shapes of binary convolutions, which are awkward for every kernel."""
    yield Convolution(1, 1, 5, 5, 1, pads=(1, 1, 1, 1))
    yield Convolution(2, 3, 7, 9, 5, stride=(2, 2), pads=(1, 1, 1, 1))
    yield Convolution(1, 63, 8, 8, 7, pads=(1, 1, 1, 1))
    yield Convolution(1, 64, 8, 8, 64, pads=(1, 1, 1, 1))
    yield Convolution(1, 65, 6, 6, 33, kernel=(1, 1))
    yield Convolution(1, 130, 5, 4, 9, kernel=(5, 3), stride=(2, 2), pads=(2, 2, 2, 2))
    yield Convolution(2, 8, 9, 9, 8, pads=(1, 1, 1, 1), dilation=(2, 2))
    yield Convolution(1, 12, 8, 8, 18, stride=(2, 2), pads=(1, 1, 1, 1), groups=3)
    yield Convolution(1, 16, 8, 8, 16, pads=(1, 1, 1, 1), groups=16)
    yield Convolution(1, 256, 14, 14, 64, pads=(1, 1, 1, 1))


def listed() -> Iterator[Convolution]:
    """Convolutions around the edges of register tiles, channel blocks, windows and padding."""
    yield from acceptance_shapes()
    for width in range(1, 18):
        yield Convolution(1, 3, 2, width, 17, kernel=(1, 1), epilogue=EPILOGUES[width % len(EPILOGUES)])
    for width in (27, 28, 29, 31, 57):
        yield Convolution(1, 16, 1, width, 33, kernel=(1, 3), pads=(0, 1, 0, 1), epilogue="relu")
    for i, channels in enumerate(CHANNELS):
        other = CHANNELS[(i * 4 + 2) % len(CHANNELS)]
        yield Convolution(1 + i % 3, channels, 5, 7, other, pads=(1, 1, 1, 1), epilogue=EPILOGUES[i % len(EPILOGUES)])
        yield Convolution(1, channels, 6, 5, other, kernel=(1, 1), bias=False, integers=False)
    yield Convolution(1, 17, 9, 11, 33, pads=(0, 1, 2, 3), epilogue="residual relu")
    yield Convolution(2, 15, 9, 8, 31, kernel=(2, 3), stride=(3, 1), pads=(1, 0, 0, 2), dilation=(2, 1), bias=False)
    yield Convolution(
        1, 3, 23, 21, 63, kernel=(7, 7), stride=(2, 2), pads=(3, 3, 3, 3), epilogue="relu", integers=False
    )
    yield Convolution(1, 33, 7, 7, 65, kernel=(1, 1), stride=(2, 2), epilogue="residual clip", integers=False)
    yield Convolution(1, 17, 1, 1, 17, pads=(1, 1, 1, 1))
    yield Convolution(3, 16, 6, 6, 48, kernel=(1, 1), pads=(1, 1, 1, 1), epilogue="relu")
    yield Convolution(1, 5, 4, 4, 7, kernel=(4, 4), epilogue="clip")
    for mode in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        yield Convolution(1, 5, 8, 7, 17, kernel=(4, 2), stride=(2, 3), auto_pad=mode, epilogue="residual")
    for groups, per_group, share in (
        (2, 8, 8),
        (2, 16, 16),
        (3, 5, 7),
        (4, 16, 33),
        (5, 1, 3),
        (31, 2, 1),
        (2, 17, 1),
        (16, 1, 1),
        (5, 1, 1),
    ):
        yield Convolution(
            1, groups * per_group, 6, 5, groups * share, pads=(1, 1, 1, 1), groups=groups, epilogue="relu"
        )
        yield Convolution(2, groups * per_group, 4, 4, groups * share, groups=groups, integers=False)


def depthwise_listed() -> Iterator[Convolution]:
    """Depthwise convolutions: one input channel per group, one or more filters each."""
    for i, channels in enumerate(CHANNELS):
        epilogue = EPILOGUES[i % len(EPILOGUES)]
        yield Convolution(1 + i % 3, channels, 7, 9, channels, pads=(1, 1, 1, 1), groups=channels, epilogue=epilogue)
        yield Convolution(
            1, channels, 9, 8, channels, stride=(2, 2), pads=(0, 1, 1, 0), groups=channels, integers=False
        )
        yield Convolution(1, channels, 6, 7, 2 * channels, pads=(1, 1, 1, 1), groups=channels)
    for width in range(1, 18):
        yield Convolution(1, 17, 3, width, 17, pads=(1, 1, 1, 1), groups=17, bias=width % 2 == 0)
    yield Convolution(1, 16, 11, 13, 16, kernel=(5, 5), pads=(2, 2, 2, 2), groups=16, epilogue="relu")
    yield Convolution(1, 33, 13, 11, 33, kernel=(7, 3), stride=(3, 2), pads=(3, 0, 1, 2), groups=33)
    yield Convolution(2, 31, 9, 9, 31, pads=(2, 2, 2, 2), dilation=(2, 2), groups=31, epilogue="residual relu")
    yield Convolution(1, 5, 9, 9, 15, kernel=(2, 2), groups=5, auto_pad="SAME_UPPER", epilogue="clip")
    yield Convolution(1, 48, 5, 5, 48, kernel=(1, 1), groups=48, epilogue="relu", integers=False)


def pick(rng: np.random.Generator, *choices: int) -> int:
    """One of the choices."""
    return int(rng.choice(choices))


def random_convolution(rng: np.random.Generator, depthwise: bool) -> Convolution:
    """A convolution drawn from the awkward sizes; its window always fits."""
    kernel = (pick(rng, 1, 1, 2, 3, 3, 5), pick(rng, 1, 1, 2, 3, 3, 5))
    dilation = (pick(rng, 1, 1, 2), pick(rng, 1, 1, 2))
    pads = (pick(rng, 0, 1, 2), pick(rng, 0, 1, 2), pick(rng, 0, 1, 2), pick(rng, 0, 1, 2))
    size = [
        max(1, dilation[i] * (kernel[i] - 1) + 1 - pads[i] - pads[i + 2]) + int(rng.integers(0, 18)) for i in range(2)
    ]
    if depthwise:
        channels = groups = pick(rng, *CHANNELS)
        filters = channels * pick(rng, 1, 1, 1, 2, 3)
    else:
        groups = pick(rng, 1, 1, 1, 2, 3)
        channels, filters = pick(rng, *CHANNELS) * groups, pick(rng, *CHANNELS) * groups
    return Convolution(
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
        bias=bool(rng.integers(2)),
        epilogue=str(rng.choice(EPILOGUES)),
        integers=bool(rng.integers(2)),
    )


def convolution_cases(loop: str, depthwise: bool) -> Iterator[Case]:
    """Listed and random convolutions; every third runs on two threads."""
    for index, shape in enumerate(depthwise_listed() if depthwise else listed()):
        name = f"{loop}/conv{index}"
        yield shape.case(name, np.random.default_rng(seed_of(name)), threads=2 if index % 3 == 0 else 1)
    yield from random_cases(loop, lambda name, rng: random_convolution(rng, depthwise).case(name, rng, pick(rng, 1, 2)))


def winograd_cases(loop: str) -> Iterator[Case]:
    """3x3 convolutions of stride 1 on float data: channels, map sizes around the tiles, padding, epilogues."""
    shapes = []
    for i, channels in enumerate(CHANNELS):
        epilogue = EPILOGUES[i % len(EPILOGUES)]
        shapes.append(Convolution(1 + i % 3, channels, 5, 7, CHANNELS[(i * 4 + 2) % 9], (3, 3), epilogue=epilogue))
        shapes.append(Convolution(1, channels, 8, 9, 17, pads=(1, 1, 1, 1), bias=False, epilogue=epilogue))
    for size in range(3, 15):
        shapes.append(Convolution(1, 17, size, 17 - size, 5, pads=(1, 1, 1, 1), epilogue="residual relu"))
    shapes.append(Convolution(2, 33, 9, 6, 31, pads=(0, 2, 1, 0), epilogue="residual clip"))
    shapes.append(Convolution(1, 16, 1, 1, 16, pads=(1, 1, 1, 1)))
    shapes.append(Convolution(2, 32, 9, 10, 96, pads=(1, 1, 1, 1), groups=2, epilogue="residual relu"))
    shapes.append(Convolution(1, 48, 7, 6, 48, pads=(1, 0, 1, 2), groups=3))
    shapes.append(Convolution(1, 64, 6, 9, 64, pads=(1, 1, 1, 1), groups=16, epilogue="residual"))
    shapes.append(Convolution(1, 32, 9, 6, 64, pads=(1, 1, 1, 1), groups=4, epilogue="relu"))
    shapes.append(Convolution(1, 130, 30, 29, 65, pads=(1, 1, 1, 1), epilogue="relu"))
    shapes.append(Convolution(1, 16, 66, 70, 33, pads=(1, 1, 1, 1)))
    for index, shape in enumerate(shapes):
        name = f"{loop}/conv{index}"
        exactly = replace(shape, integers=False, winograd=True)
        yield exactly.case(name, np.random.default_rng(seed_of(name)), threads=1 + index % 2)

    def drawn(name: str, rng: np.random.Generator) -> Case:
        shape = random_convolution(rng, depthwise=False)
        shape = replace(
            shape,
            channels=shape.channels // shape.groups,
            filters=shape.filters // shape.groups,
            height=shape.height + 3,
            width=shape.width + 3,
            kernel=(3, 3),
            stride=(1, 1),
            dilation=(1, 1),
            groups=1,
            integers=False,
            winograd=True,
        )
        return shape.case(name, rng, pick(rng, 1, 2))

    yield from random_cases(loop, drawn)


@dataclass(frozen=True)
class Connected:
    """A Gemm or MatMul with a constant second matrix."""

    batch: tuple[int, ...]
    inputs: int
    outputs: int
    op: str = "Gemm"
    attributes: Mapping[str, float] = field(default_factory=dict)
    bias: tuple[int, ...] | None = None
    epilogue: str = ""
    integers: bool = True

    def case(self, name: str, rng: np.random.Generator, threads: int = 1) -> Case:
        """The network of this layer with random data."""
        shape = (*self.batch, self.inputs)
        x = data(rng, self.integers, *(reversed(shape) if self.attributes.get("transA") else shape))
        w_shape = (self.outputs, self.inputs) if self.attributes.get("transB") else (self.inputs, self.outputs)
        constants: dict[str, Array] = {"w": data(rng, self.integers, *w_shape)}
        sources = ["x", "w"]
        if self.bias is not None:
            constants["b"] = data(rng, self.integers, *self.bias)
            sources.append("b")
        steps: list[NodeSpec] = [(self.op, sources, "t" if self.epilogue else "y", dict(self.attributes))]
        if self.epilogue:
            node, limits = activation(self.epilogue, "t", "y")
            steps.append(node)
            constants |= limits
        bound: Bound = exact if self.integers else ConnectedBound(self)
        size = f"{self.batch}x{self.inputs}x{self.outputs}"
        label = f"{self.op} {size} {dict(self.attributes)} bias {self.bias} {self.epilogue}"
        return Case(f"{name}: {label}", {"x": x}, constants, tuple(steps), bound, threads)


@dataclass(frozen=True)
class ConnectedBound:
    """The rounding bound of a fully connected layer on float data."""

    shape: Connected

    def __call__(self, values: Mapping[str, Array], expected: Array) -> Array:
        attributes = {key: abs(value) for key, value in self.shape.attributes.items()}
        sources = [np.abs(values[name]) for name in ("x", "w", "b") if name in values]
        return tolerances.dot_bound(self.shape.inputs, apply(self.shape.op, sources, attributes))


def connected_cases(loop: str) -> Iterator[Case]:
    """Fully connected layers at batch 1, 2, 7 and 33, the acceptance sizes, every attribute."""
    shapes = [
        Connected((batch,), inputs, outputs, "Gemm", {"transB": index % 2}, (outputs,), ("", "relu", "clip")[index % 3])
        for index, (batch, inputs, outputs) in enumerate(
            (batch, inputs, outputs)
            for batch, pairs in {
                1: ((1, 1), (63, 10), (1000, 257), (64, 65)),
                2: ((65, 257), (1, 10), (17, 16)),
                3: ((64, 10), (63, 257), (65, 1)),
                7: ((33, 31), (129, 48), (16, 64)),
                33: ((15, 17), (65, 33), (100, 1)),
            }.items()
            for inputs, outputs in pairs
        )
    ]
    shapes += [
        Connected((4,), 9, 7, "Gemm", {"transA": 1, "transB": 1}, (7,)),
        Connected((4,), 9, 7, "Gemm", {"transA": 1}, (7,), "relu"),
        Connected((4,), 9, 7, "Gemm", {"transB": 1}, (4, 7), "relu"),
        Connected((4,), 9, 7, "Gemm", {"transB": 1, "alpha": 2.0, "beta": -3.0}, (4, 7)),
        Connected((4,), 9, 7, "Gemm", {"alpha": 0.5}, (4, 1)),
        Connected((5,), 33, 17, "Gemm", {"alpha": 0.3, "beta": -1.7, "transB": 1}, (17,), "relu", integers=False),
        Connected((3,), 65, 31, "Gemm", {"beta": 2.0}, (1,)),
        Connected((2,), 31, 65, "Gemm", {}, None),
        Connected((7,), 200, 63, "Gemm", {"transB": 1}, (63,), integers=False),
        Connected((7,), 33, 17, "MatMul"),
        Connected((2, 3), 17, 33, "MatMul"),
        Connected((2, 1, 5), 16, 16, "MatMul", integers=False),
        Connected((1,), 640, 128, "MatMul", epilogue="relu"),
    ]
    for index, shape in enumerate(shapes):
        name = f"{loop}/connected{index}"
        yield shape.case(name, np.random.default_rng(seed_of(name)), threads=1 + index % 2)
