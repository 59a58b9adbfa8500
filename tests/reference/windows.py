"""Sizes, padding and window positions shared by convolution and pooling (ONNX rules)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from tests.reference.arrays import Attributes


@dataclass(frozen=True)
class Axis:
    """One spatial axis of a sliding window."""

    size: int
    kernel: int
    stride: int
    dilation: int
    begin: int
    end: int
    out: int

    def taps(self, out: int) -> Iterator[int]:
        """Positions in the unpadded input that an output reads; some lie outside."""
        for tap in range(self.kernel):
            yield out * self.stride + tap * self.dilation - self.begin


def axes(sizes: tuple[int, ...], kernel: tuple[int, ...], attributes: Attributes) -> list[Axis]:
    """The window geometry per spatial axis, from the operator's attributes."""
    rank = len(sizes)
    strides = attributes.get("strides", [1] * rank)
    dilations = attributes.get("dilations", [1] * rank)
    pads = attributes.get("pads", [0] * (2 * rank))
    mode = attributes.get("auto_pad", "NOTSET")
    ceil = bool(attributes.get("ceil_mode", 0))
    result = []
    for i, size in enumerate(sizes):
        extent = dilations[i] * (kernel[i] - 1) + 1
        if mode in ("SAME_UPPER", "SAME_LOWER"):
            out = math.ceil(size / strides[i])
            total = max(0, (out - 1) * strides[i] + extent - size)
            small, large = total // 2, total - total // 2
            begin, end = (small, large) if mode == "SAME_UPPER" else (large, small)
        else:
            begin, end = (0, 0) if mode == "VALID" else (pads[i], pads[rank + i])
            room = size + begin + end - extent
            out = (-(-room // strides[i]) if ceil else room // strides[i]) + 1
            # With ceil_mode, a last window that would start beyond the input and its leading padding does not exist.
            if ceil and (out - 1) * strides[i] >= size + begin:
                out -= 1
        result.append(Axis(size, kernel[i], strides[i], dilations[i], begin, end, max(out, 0)))
    return result
