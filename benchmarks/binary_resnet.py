"""ResNet-18 with weights and activations of one bit: the network that `binary.py` runs."""

from __future__ import annotations

import math
from typing import Any

import bittern
import numpy as np
from bittern.encodings import Affine, Dense, Encoding, Packed, Signs
from numpy.typing import NDArray

CLASSES = 1000
SCALE = 0.05
"""Of 8-bit codes of activations."""


class _Maker:
    def __init__(self) -> None:
        self.net = bittern.Network("binary_resnet18")
        self.rng = np.random.default_rng(0)
        self.count = 0

    def add(self, op: str, inputs: list[str], **attributes: Any) -> str:
        self.count += 1
        self.net.add_node(op, inputs, [f"v{self.count}"], **attributes)
        return f"v{self.count}"

    def constant(self, value: Encoding | NDArray[Any]) -> str:
        self.count += 1
        self.net.add_constant(f"c{self.count}", value)
        return f"c{self.count}"

    def normal(self, *shape: int) -> NDArray[np.float32]:
        return self.rng.standard_normal(shape).astype(np.float32)

    def in_codes(self, x: str, zero: int) -> str:
        """Quantised to 8 bits and back."""
        parameters = [self.constant(np.array(SCALE, np.float32)), self.constant(np.array(zero, np.uint8))]
        return self.add("DequantizeLinear", [self.add("QuantizeLinear", [x, *parameters]), *parameters])

    def int8_weights(self, *shape: int) -> str:
        codes = np.clip(np.rint(40 * self.normal(*shape)), -127, 127).astype(np.int8)
        scale = np.full(shape[0], 1 / (40 * math.sqrt(math.prod(shape[1:]))), np.float32)
        return self.constant(Affine(Dense(codes), Dense(scale), axis=0))

    def batch_norm(self, x: str, channels: int) -> str:
        parts = (1 + 0.1 * self.normal(channels), self.normal(channels), self.normal(channels))
        names = [self.constant(part.astype(np.float32)) for part in parts]
        return self.add("BatchNormalization", [x, *names, self.constant(np.full(channels, 1, np.float32))])

    def binary_conv(self, x: str, inputs: int, outputs: int, stride: int) -> str:
        """Sign, 3x3 convolution with weights of -1 and +1 times a scale of each channel, batch normalisation."""
        bits = self.add("BipolarQuant", [x, self.constant(np.array(1, np.float32))])
        shape = (outputs, inputs, 3, 3)
        scale = ((1 + 0.1 * np.abs(self.normal(outputs))) / math.sqrt(9 * inputs)).astype(np.float32)
        weights = Signs(Packed.pack(self.rng.integers(0, 2, shape).astype(np.uint8), 1), Dense(scale), axis=0)
        y = self.add("Conv", [bits, self.constant(weights)], pads=[1, 1, 1, 1], strides=[stride, stride])
        return self.batch_norm(y, outputs)


def binary_resnet18(size: int = 224) -> bittern.Network:
    """ResNet-18 in the form of Bi-Real net (Liu et al. 2018): a shortcut of real numbers around every convolution.

    The first layer, the 1x1 convolutions of shortcuts behind average pooling and the classifier have 8-bit weights and
    activations; 16 3x3 convolutions have one bit for each. Weights are random.
    """
    make = _Maker()
    make.net.add_input("image", (1, 3, size, size))
    x = make.in_codes("image", 128)
    x = make.add("Conv", [x, make.int8_weights(64, 3, 7, 7)], pads=[3, 3, 3, 3], strides=[2, 2])
    x = make.in_codes(make.add("Relu", [make.batch_norm(x, 64)]), 0)
    x = make.in_codes(make.add("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]), 0)
    channels = 64
    for width in (64, 128, 256, 512):
        for number in range(4):
            stride = 2 if number == 0 and width > channels else 1
            shortcut = x
            if stride == 2:
                pooled = make.add("AveragePool", [x], kernel_shape=[2, 2], strides=[2, 2])
                shortcut = make.add("Conv", [make.in_codes(pooled, 128), make.int8_weights(width, channels, 1, 1)])
                shortcut = make.batch_norm(shortcut, width)
            x = make.add("Add", [make.binary_conv(x, channels, width, stride), shortcut])
            channels = width
    x = make.in_codes(make.add("GlobalAveragePool", [x]), 128)
    x = make.add("Gemm", [make.add("Flatten", [x]), make.int8_weights(CLASSES, channels)], transB=1)
    make.net.set_outputs([x])
    return make.net
