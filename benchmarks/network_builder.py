"""Builds ONNX networks layer by layer with seeded random weights; keeps count of parameters, products and shapes."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

OPSET = 17
IR_VERSION = 8  # the one that came with opset 17, so that engines of that time read the files

Pads = tuple[int, int, int, int]
Pad = int | Literal["same"]


@dataclass(frozen=True)
class Tensor:
    """A value of the network, [N, channels, height, width], or [N, channels] where `flat`."""

    name: str
    channels: int
    height: int = 1
    width: int = 1
    flat: bool = False


@dataclass(frozen=True, order=True)
class LayerShape:
    """What a convolution or fully connected layer is to a kernel. `pads`: top, left, bottom, right."""

    kind: Literal["conv", "depthwise", "fc"]
    channels: int
    height: int
    width: int
    outputs: int
    kernel: int = 1
    stride: int = 1
    pads: Pads = (0, 0, 0, 0)
    groups: int = 1

    @property
    def output_size(self) -> tuple[int, int]:
        """Height and width of the output."""
        top, left, bottom, right = self.pads
        return (
            (self.height + top + bottom - self.kernel) // self.stride + 1,
            (self.width + left + right - self.kernel) // self.stride + 1,
        )

    @property
    def weights(self) -> int:
        """Number of weights, biases not counted."""
        return self.outputs * (self.channels // self.groups) * self.kernel**2

    @property
    def macs(self) -> int:
        """Products with a weight for one image."""
        height, width = self.output_size
        return height * width * self.weights


@dataclass
class Builder:
    """A network under construction; every method appends nodes and returns the value they give.

    Weights are drawn as He et al. 2015 do, so that the size of activations stays level through the layers. With
    `weights=False` only shapes are kept, for counting.
    """

    name: str
    weights: bool = True
    seed: int = 0
    parameters: int = 0
    layers: list[LayerShape] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)
        self._nodes: list[dict[str, Any]] = []
        self._constants: dict[str, NDArray[Any]] = {}
        self._names: Counter[str] = Counter()
        self._input: Tensor | None = None

    @property
    def macs(self) -> int:
        """Products with a weight for one image, over all layers."""
        return sum(layer.macs for layer in self.layers)

    def input(self, channels: int, height: int, width: int) -> Tensor:
        """The network's only input."""
        self._input = Tensor("data", channels, height, width)
        return self._input

    def conv(
        self,
        x: Tensor,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        pad: Pad = 0,
        groups: int = 1,
        bias: bool = True,
    ) -> Tensor:
        """A convolution with square windows."""
        pads = _pads(x, kernel, stride, pad)
        kind: Literal["conv", "depthwise"] = "depthwise" if groups == x.channels > 1 else "conv"
        shape = LayerShape(kind, x.channels, x.height, x.width, outputs, kernel, stride, pads, groups)
        height, width = shape.output_size
        name = self._new("conv")
        inputs = [x.name, self._weight(f"{name}.weight", (outputs, x.channels // groups, kernel, kernel))]
        if bias:
            inputs.append(self._normal(f"{name}.bias", (outputs,), 0.05))
        attributes = {"kernel_shape": [kernel, kernel], "strides": [stride, stride], "pads": list(pads)}
        self._node("Conv", name, inputs, **attributes, group=groups)
        self.layers.append(shape)
        return Tensor(name, outputs, height, width)

    def fc(self, x: Tensor, outputs: int) -> Tensor:
        """A fully connected layer over all of a value."""
        if not x.flat:
            x = self.flatten(x)
        name = self._new("fc")
        inputs = [
            x.name,
            self._weight(f"{name}.weight", (outputs, x.channels)),
            self._normal(f"{name}.bias", (outputs,), 0.05),
        ]
        self._node("Gemm", name, inputs, transB=1)
        self.layers.append(LayerShape("fc", x.channels, 1, 1, outputs))
        return Tensor(name, outputs, flat=True)

    def batch_norm(self, x: Tensor, gain: float = 1.0) -> Tensor:
        """Batch normalisation (Ioffe and Szegedy 2015) with random statistics and scales around `gain`."""
        name = self._new("bn")
        channels = (x.channels,)
        inputs = [
            x.name,
            self._uniform(f"{name}.scale", channels, 0.8 * gain, 1.2 * gain),
            self._normal(f"{name}.bias", channels, 0.1),
            self._normal(f"{name}.mean", channels, 0.1, learnt=False),
            self._uniform(f"{name}.variance", channels, 0.6, 1.4, learnt=False),
        ]
        self._node("BatchNormalization", name, inputs, epsilon=1e-5)
        return self._like(x, name)

    def relu(self, x: Tensor) -> Tensor:
        """max(x, 0)."""
        return self._like(x, self._node("Relu", self._new("relu"), [x.name]))

    def relu6(self, x: Tensor) -> Tensor:
        """min(max(x, 0), 6)."""
        name = self._new("relu6")
        low = self._constant("zero", np.array(0.0, np.float32))
        high = self._constant("six", np.array(6.0, np.float32))
        return self._like(x, self._node("Clip", name, [x.name, low, high]))

    def lrn(self, x: Tensor) -> Tensor:
        """Local response normalisation with the constants of Krizhevsky et al. 2012."""
        # ONNX divides alpha by the size, the paper does not.
        name = self._node("LRN", self._new("lrn"), [x.name], size=5, alpha=5e-4, beta=0.75, bias=2.0)
        return self._like(x, name)

    def max_pool(self, x: Tensor, kernel: int, stride: int, pad: Pad = 0, ceil: bool = False) -> Tensor:
        """Maximum over square windows; `ceil` keeps an incomplete last window."""
        return self._pool("MaxPool", x, kernel, stride, pad, ceil)

    def average_pool(self, x: Tensor, kernel: int, stride: int, pad: Pad = 0) -> Tensor:
        """Mean over square windows, padding not counted."""
        return self._pool("AveragePool", x, kernel, stride, pad, False)

    def global_average_pool(self, x: Tensor) -> Tensor:
        """Mean of every channel, [N, channels, 1, 1]."""
        return Tensor(self._node("GlobalAveragePool", self._new("pool"), [x.name]), x.channels)

    def add(self, a: Tensor, b: Tensor) -> Tensor:
        """The sum of two values of one shape."""
        assert (a.channels, a.height, a.width) == (b.channels, b.height, b.width)
        return self._like(a, self._node("Add", self._new("add"), [a.name, b.name]))

    def concat(self, *parts: Tensor) -> Tensor:
        """Values side by side along the channels."""
        name = self._node("Concat", self._new("concat"), [part.name for part in parts], axis=1)
        return Tensor(name, sum(part.channels for part in parts), parts[0].height, parts[0].width)

    def flatten(self, x: Tensor) -> Tensor:
        """[N, channels * height * width]."""
        name = self._node("Flatten", self._new("flatten"), [x.name], axis=1)
        return Tensor(name, x.channels * x.height * x.width, flat=True)

    def channel_shuffle(self, x: Tensor, groups: int) -> Tensor:
        """The channels of all groups interleaved (Zhang et al. 2017)."""
        name = self._new("shuffle")
        size = x.channels // groups
        split = self._constant(f"{name}.split", np.array([0, groups, size, x.height, x.width], np.int64))
        join = self._constant(f"{name}.join", np.array([0, x.channels, x.height, x.width], np.int64))
        grouped = self._node("Reshape", f"{name}.grouped", [x.name, split])
        turned = self._node("Transpose", f"{name}.turned", [grouped], perm=[0, 2, 1, 3, 4])
        return self._like(x, self._node("Reshape", name, [turned, join]))

    def model(self, output: Tensor) -> Any:
        """The network as an onnx.ModelProto, with a free batch size N. Needs the package onnx."""
        from onnx import TensorProto, helper, numpy_helper

        assert self.weights and self._input is not None
        x = self._input
        shape = ["N", output.channels] if output.flat else ["N", output.channels, output.height, output.width]
        graph = helper.make_graph(
            [
                helper.make_node(node["op"], node["inputs"], [node["name"]], name=node["name"], **node["attributes"])
                for node in self._nodes
            ],
            self.name,
            [helper.make_tensor_value_info(x.name, TensorProto.FLOAT, ["N", x.channels, x.height, x.width])],
            [helper.make_tensor_value_info(output.name, TensorProto.FLOAT, shape)],
            [numpy_helper.from_array(array, name) for name, array in self._constants.items()],
        )
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="bittern")

    def _pool(self, op: str, x: Tensor, kernel: int, stride: int, pad: Pad, ceil: bool) -> Tensor:
        pads = _pads(x, kernel, stride, pad)
        sizes = []
        for size, before, after in ((x.height, pads[0], pads[2]), (x.width, pads[1], pads[3])):
            steps = (size + before + after - kernel) / stride
            sizes.append((math.ceil(steps) if ceil else math.floor(steps)) + 1)
        attributes: dict[str, Any] = {"kernel_shape": [kernel, kernel], "strides": [stride, stride], "pads": list(pads)}
        if ceil:
            attributes["ceil_mode"] = 1
        name = self._node(op, self._new("pool"), [x.name], **attributes)
        return Tensor(name, x.channels, sizes[0], sizes[1])

    def _node(self, op: str, name: str, inputs: list[str], **attributes: Any) -> str:
        self._nodes.append({"op": op, "name": name, "inputs": inputs, "attributes": attributes})
        return name

    def _new(self, kind: str) -> str:
        self._names[kind] += 1
        return f"{kind}{self._names[kind]}"

    @staticmethod
    def _like(x: Tensor, name: str) -> Tensor:
        return Tensor(name, x.channels, x.height, x.width, x.flat)

    def _constant(self, name: str, array: NDArray[Any]) -> str:
        self._constants[name] = array
        return name

    def _weight(self, name: str, shape: tuple[int, ...]) -> str:
        return self._normal(name, shape, math.sqrt(2 / math.prod(shape[1:])))

    def _normal(self, name: str, shape: tuple[int, ...], deviation: float, learnt: bool = True) -> str:
        self.parameters += math.prod(shape) if learnt else 0
        if self.weights:
            values = self._rng.standard_normal(shape, np.float32)
            values *= np.float32(deviation)
            self._constants[name] = values
        return name

    def _uniform(self, name: str, shape: tuple[int, ...], low: float, high: float, learnt: bool = True) -> str:
        self.parameters += math.prod(shape) if learnt else 0
        if self.weights:
            self._constants[name] = self._rng.uniform(low, high, shape).astype(np.float32)
        return name


def _pads(x: Tensor, kernel: int, stride: int, pad: Pad) -> Pads:
    """Top, left, bottom, right. `same`: as many outputs as size / stride rounded up, the odd zero at the end."""
    if pad != "same":
        return (pad, pad, pad, pad)
    rows, columns = (max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in (x.height, x.width))
    return (rows // 2, columns // 2, rows - rows // 2, columns - columns // 2)
