"""Small random networks with all that channels can meet, for the tests of pruning."""

from __future__ import annotations

import numpy as np
from bittern.network import Network

from tests.reference.arrays import Array


class Maker:
    """A network of convolutions that grows node by node; weights come from ``rng``."""

    def __init__(self, rng: np.random.Generator, channels: int = 3, size: int = 6) -> None:
        self.rng, self.net = rng, Network("pruned")
        self.net.add_input("x", ["N", channels, size, size])

    def numbers(self, *shape: int) -> Array:
        """Weights that keep the size of activations."""
        made: Array = (self.rng.standard_normal(shape) / np.sqrt(float(np.prod(shape[1:])))).astype(np.float32)
        return made

    def conv(self, source: str, name: str, outputs: int, inputs: int, kernel: int = 3, group: int = 1) -> str:
        """A convolution that keeps the size of maps; the value it makes is called as the node."""
        self.net.add_constant(f"{name}.w", self.numbers(outputs, inputs // group, kernel, kernel))
        self.net.add_constant(f"{name}.b", self.numbers(outputs))
        pads = [kernel // 2] * 4
        self.net.add_node("Conv", [source, f"{name}.w", f"{name}.b"], [name], name, pads=pads, group=group)
        return name

    def norm(self, source: str, name: str, channels: int) -> str:
        """Batch normalisation, then Relu."""
        names = [f"{name}.{part}" for part in ("gamma", "beta", "mean", "variance")]
        for constant in names:
            self.net.add_constant(constant, (self.rng.random(channels) + 0.5).astype(np.float32))
        self.net.add_node("BatchNormalization", [source, *names], [f"{name}.n"], f"{name}.n")
        return self.node("Relu", [f"{name}.n"], name)

    def node(self, op: str, sources: list[str], name: str, **attributes: int | str | list[int]) -> str:
        """Any other node, with one output of its name."""
        self.net.add_node(op, sources, [name], name, **attributes)
        return name

    def fc(self, source: str, name: str, outputs: int, inputs: int, transposed: bool = False) -> str:
        """A Gemm with bias."""
        shape = (outputs, inputs) if transposed else (inputs, outputs)
        self.net.add_constant(f"{name}.w", self.numbers(*shape))
        self.net.add_constant(f"{name}.b", self.numbers(outputs))
        self.net.add_node("Gemm", [source, f"{name}.w", f"{name}.b"], [name], name, transB=int(transposed))
        return name


def residual(rng: np.random.Generator) -> Network:
    """Two residual blocks, the first with a projection as shortcut; then a Gemm over whole maps."""
    m = Maker(rng)
    stem = m.norm(m.conv("x", "stem", 8, 3), "stem.r", 8)
    inner = m.norm(m.conv(stem, "a1", 6, 8), "a1.r", 6)
    m.conv(inner, "a2", 12, 6)
    m.conv(stem, "shortcut", 12, 8, kernel=1)
    one = m.norm(m.node("Add", ["a2", "shortcut"], "sum1"), "r1", 12)
    inner = m.norm(m.conv(one, "b1", 10, 12), "b1.r", 10)
    m.conv(inner, "b2", 12, 10)
    two = m.node("Relu", [m.node("Add", [one, "b2"], "sum2")], "r2")
    pool = m.node("MaxPool", [two], "pool", kernel_shape=[2, 2], strides=[2, 2])
    flat = m.node("Flatten", [pool], "flat")
    hidden = m.node("Relu", [m.fc(flat, "fc1", 9, 12 * 9, transposed=True)], "h")
    m.fc(hidden, "fc2", 5, 9)
    m.net.set_outputs(["fc2"])
    return m.net


def branches(rng: np.random.Generator) -> Network:
    """Concatenation, a depthwise convolution, PRelu, a shuffle of channels, a convolution in groups, factors."""
    m = Maker(rng)
    left = m.node("Relu", [m.conv("x", "left", 4, 3)], "left.r")
    right = m.node("Relu", [m.conv("x", "right", 8, 3)], "right.r")
    both = m.node("Concat", [left, right], "both", axis=1)
    m.conv(both, "dw", 24, 12, group=12)
    m.net.add_constant("slope", m.rng.random((24, 1, 1)).astype(np.float32))
    act = m.node("PRelu", ["dw", "slope"], "act")
    m.net.add_constant("factor", (m.rng.random((1, 24, 1, 1)) + 0.5).astype(np.float32))
    scaled = m.node("Mul", [act, "factor"], "scaled")
    mixed = m.node("Relu", [m.conv(scaled, "mix", 12, 24, kernel=1)], "mix.r")
    m.net.add_constant("split", np.array([0, 3, 4, 6, 6], np.int64))
    m.net.add_constant("join", np.array([0, 12, 6, 6], np.int64))
    split = m.node("Reshape", [mixed, "split"], "s1")
    turned = m.node("Transpose", [split], "s2", perm=[0, 2, 1, 3, 4])
    shuffled = m.node("Reshape", [turned, "join"], "shuffled")
    m.conv(shuffled, "after", 6, 12)
    m.conv(mixed, "grouped", 6, 12, group=3)
    total = m.node("Add", ["after", "grouped"], "total")
    mean = m.node("GlobalAveragePool", [total], "mean")
    flat = m.node("Flatten", [mean], "flat")
    m.fc(flat, "fc", 5, 6)
    m.net.set_outputs(["fc"])
    return m.net
