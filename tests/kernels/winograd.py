"""Cases of convolution by weights in Winograd's domain."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from tests import tolerances
from tests.builders import NodeSpec, floats
from tests.conftest import seed_of
from tests.kernels.cases import Case, activation, data, exact, random_cases
from tests.kernels.convolution import CHANNELS, EPILOGUES, pick
from tests.reference import apply, winograd
from tests.reference.arrays import Array

Pads = tuple[int, int, int, int]
DENSITIES = (0.2, 1.0, 0.0, 0.5, 0.05)


@dataclass(frozen=True)
class Layer:
    """A layer's shape, its weights and its epilogue."""

    m: int
    batch: int
    channels: int
    height: int
    width: int
    filters: int
    pads: Pads = (1, 1, 1, 1)
    relu: int = 0
    bias: bool = True
    epilogue: str = ""
    integers: bool = True
    density: float = 0.2

    def attributes(self) -> dict[str, object]:
        """The node's attributes."""
        return {"m": self.m, "relu": self.relu, "pads": list(self.pads)}

    def case(self, name: str, rng: np.random.Generator, threads: int = 1) -> Case:
        """The network of this layer with random data."""
        x = data(rng, self.integers, self.batch, self.channels, self.height, self.width)
        q = data(rng, self.integers, self.filters, self.channels, self.m + 2, self.m + 2)
        inputs, constants = {"x": x}, {"q": np.where(rng.random(q.shape) < self.density, q, np.float32(0))}
        sources = ["x", "q"]
        if self.bias:
            constants["b"] = data(rng, self.integers, self.filters)
            sources.append("b")
        steps: list[NodeSpec] = []
        chain = ["conv", *self.epilogue.split()]
        for i, step in enumerate(chain):
            before, target = f"t{i - 1}", "y" if i == len(chain) - 1 else f"t{i}"
            if step == "conv":
                steps.append(("WinogradConv", sources, target, self.attributes()))
            elif step == "residual":
                shape = apply("WinogradConv", [x, q], self.attributes()).shape
                inputs["residual"] = data(rng, self.integers, *shape)
                steps.append(("Add", [before, "residual"], target, {}))
            elif step == "norm":
                constants |= {each: floats(rng, self.filters) for each in ("scale", "shift", "mean")}
                constants["variance"] = np.abs(floats(rng, self.filters)) + np.float32(0.5)
                parameters = ("scale", "shift", "mean", "variance")
                steps.append(("BatchNormalization", [before, *parameters], target, {}))
            else:
                node, limits = activation(step, before, target)
                steps.append(node)
                constants |= limits
        kind = "integers" if self.integers else "floats"
        label = (
            f"F{self.m} {x.shape} o{self.filters} p{self.pads} relu{self.relu} {self.density} {self.epilogue} {kind}"
        )
        return Case(
            f"{name}: {label}", inputs, constants, tuple(steps), exact if self.integers else self.bound, threads
        )

    def bound(self, values: Mapping[str, Array], expected: Array) -> Array:
        """Of the products and the sums of both transforms; a folded normalisation comes on top."""
        _, magnitude = winograd.sums(values["x"], values["q"], values.get("b"), self.attributes())
        if "residual" in values:
            magnitude = magnitude + np.abs(values["residual"])
        steps = self.channels + 16
        if "variance" in values:
            factor = np.abs(values["scale"]) / np.sqrt(values["variance"])
            around = np.abs(values["shift"]) + np.abs(values["mean"]) * factor
            magnitude = magnitude * factor[:, None, None] + around[:, None, None]
            steps += 2 * tolerances.FOLDED_BATCH_NORM_STEPS
        return tolerances.dot_bound(steps, magnitude)


def listed() -> Iterator[Layer]:
    """Channels around vectors; maps around panels, tiles and lines; every epilogue; several blocks and parts."""
    for index, channels in enumerate(CHANNELS):
        filters, height = CHANNELS[-1 - index], 3 + index * 2 % 9
        pad = index % 2
        yield Layer(
            2 + 2 * (index // 2 % 2), 1 + index // 3 % 2, channels, height, 5 + index * 5 % 17, filters, (pad,) * 4,
            index // 2 % 2, index % 3 != 0, EPILOGUES[index % len(EPILOGUES)], index % 4 != 3,
            DENSITIES[index % len(DENSITIES)],
        )  # fmt: skip
    for m in (2, 4):
        yield Layer(m, 2, 5, 9, 80, 6, (0, 2, 1, 0), epilogue="residual relu", density=1.0)
        yield Layer(m, 1, 300, 7, 7, 270, epilogue="relu", integers=False)
        yield Layer(m, 1, 3, 30, 31, 4, relu=1, epilogue="norm residual relu", integers=False)
        yield Layer(m, 1, 2, 1, 1, 3, (4, 1, 3, 5), relu=1)
        yield Layer(m, 3, 7, 5, 3, 9, (0, 0, 0, 0), 1, False, "norm clip", False)
        yield Layer(m, 1, 120, 20, 23, 40, density=0.3, relu=1)
        yield Layer(m, 1, 450, 7 * m, 7 * m, 6, density=0.1)  # whose inputs fill more than a block


def winograd_cases(loop: str) -> Iterator[Case]:
    """Both tile sizes; a kernel takes those of its own."""
    for index, layer in enumerate(listed()):
        name = f"{loop}/transformed{index}"
        yield layer.case(name, np.random.default_rng(seed_of(name)), 1 + index % 2)

    def drawn(name: str, rng: np.random.Generator) -> Case:
        low, high = rng.integers(0, 3, 2)
        layer = Layer(
            pick(rng, 2, 4), pick(rng, 1, 1, 3), int(rng.integers(1, 40)), int(rng.integers(3, 20)),
            int(rng.integers(3, 40)), int(rng.integers(1, 40)), (int(low), int(high), int(high), int(low)),
            pick(rng, 0, 1), bool(rng.random() < 0.5), str(rng.choice(EPILOGUES)),
            bool(rng.random() < 0.7), float(rng.random()),
        )  # fmt: skip
        return layer.case(name, rng, pick(rng, 1, 2))

    yield from random_cases(loop, drawn)
