"""What a kernel case is, and the cases of every loop."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import bittern
import numpy as np
from bittern.encodings import Encoding

from tests.builders import NodeSpec, floats, network, small_integers
from tests.conftest import seed_of
from tests.quantized_graphs import Wiring, code_network
from tests.reference import codes, load_file, run
from tests.reference.arrays import Array

RANDOM_CASES = 40
"""Random cases per loop, beside the listed ones."""

Bound = Callable[[Mapping[str, Array], Array], Array | float]
"""Largest allowed error, from all values of the reference by name and the expected output."""


@dataclass(frozen=True)
class Case:
    """A tiny network around one kernel: what to feed and how exact the answer must be."""

    name: str
    inputs: Mapping[str, Array]
    constants: Mapping[str, Array]
    nodes: tuple[NodeSpec, ...]
    bound: Bound
    threads: int = 1

    def network(self) -> bittern.Network:
        """The network, whose only output is called y."""
        shapes = {name: value.shape for name, value in self.inputs.items()}
        return network(shapes, self.constants, self.nodes, ["y"])

    def expected(self, file: bytes) -> tuple[Array, Array | float]:
        """The output by the reference, and the largest allowed error."""
        found = run(load_file(file), self.inputs)["y"]
        return found, self.bound({**self.constants, **self.inputs}, found)


def exact(values: Mapping[str, Array], expected: Array) -> float:
    """No error allowed."""
    return 0.0


def data(rng: np.random.Generator, integers: bool, *shape: int) -> Array:
    """Small integers (exact sums) or normal numbers."""
    return small_integers(rng, *shape) if integers else floats(rng, *shape)


def random_cases(loop: str, make: Callable[[str, np.random.Generator], Case]) -> Iterator[Case]:
    """The seeded part: case i of a loop is the same everywhere, and its name replays it."""
    for index in range(RANDOM_CASES):
        name = f"{loop}/random{index}"
        yield make(name, np.random.default_rng(seed_of(name)))


def activation(kind: str, source: str, target: str) -> tuple[NodeSpec, dict[str, Array]]:
    """A clamping activation node and the constants it needs."""
    if kind == "clip":
        limits: dict[str, Any] = {"low": np.array(-3, np.float32), "high": np.array(5, np.float32)}
        return ("Clip", [source, "low", "high"], target, {}), limits
    return ("Relu", [source], target, {}), {}


@dataclass(frozen=True)
class CodeCase(Case):
    """A network of quantised layers: constants may be encoding trees, inputs have their arrays' types."""

    trees: Mapping[str, Encoding] = field(default_factory=dict)

    def network(self) -> bittern.Network:
        """The network, whose only output is called y."""
        return code_network(self.inputs, {**self.constants, **self.trees}, self.nodes, ["y"])

    def expected(self, file: bytes) -> tuple[Array, float]:
        """In whole numbers, and no error allowed."""
        return codes.run(file, self.inputs)["y"], 0.0


def code_case(wiring: Wiring, name: str, threads: int = 1) -> CodeCase:
    """A finished network of quantised layers; its last node must give y."""
    return CodeCase(name, wiring.inputs, wiring.constants, tuple(wiring.nodes), exact, threads, wiring.trees)
