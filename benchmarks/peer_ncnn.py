"""Networks of networks.py in ncnn's own form: normalisation and activations folded into the layers before them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from folded import Folded, Step, read_folded

_MAGIC = 7767517
_FLOAT32 = b"\0\0\0\0"  # stands before weights that are plain float32
_RELU, _CLIP = 1, 3


class Writer:
    """Collects ncnn's layer lines and its weights."""

    def __init__(self, network: Folded) -> None:
        self.network = network
        self.lines: list[str] = []
        self.weights: list[bytes] = []
        self.blobs = 0
        self._left = network.uses
        self._copies: dict[str, list[str]] = {}

    def layer(self, kind: str, inputs: Iterable[str], outputs: Iterable[str], parameters: dict[int, Any]) -> None:
        """Append a layer."""
        ins, outs = list(inputs), list(outputs)
        self.blobs += len(outs)
        values = " ".join(f"{key}={_text(value)}" for key, value in parameters.items())
        name = f"layer{len(self.lines)}"
        self.lines.append(f"{kind} {name} {len(ins)} {len(outs)} {' '.join([*ins, *outs])} {values}".rstrip())

    def read(self, name: str) -> str:
        """The blob that the next reader of a value takes: a value read several times is split first."""
        return self._copies[name].pop() if name in self._copies else name

    def made(self, name: str) -> None:
        """To be called after the layer that gives a value."""
        if self._left[name] > 1:
            copies = [f"{name}_{number}" for number in range(self._left[name])]
            self.layer("Split", [name], copies, {})
            self._copies[name] = copies[::-1]

    def add(self, step: Step, output: str, activation: dict[int, Any]) -> None:
        """Append a step, which gives the value `output`."""
        if step.op in ("Conv", "Gemm"):
            weights = step.constants[1]
            bias = step.constants.get(2, np.zeros(len(weights), np.float32))
            self.weights += [_FLOAT32, weights.astype("<f4").tobytes(), bias.astype("<f4").tobytes()]
        kind, parameters = _parameters(step)
        self.layer(kind, [self.read(name) for name in step.inputs], [output], parameters | activation)
        self.made(output)

    def text(self) -> str:
        """The content of the .param file."""
        return "\n".join([str(_MAGIC), f"{len(self.lines)} {self.blobs}", *self.lines, ""])


def _text(value: Any) -> str:
    return f"{value:e}" if isinstance(value, float) else str(value)


def _padding(step: Step, keys: tuple[int, int, int, int]) -> dict[int, Any]:
    top, left, bottom, right = step.attributes.get("pads", [0, 0, 0, 0])
    return dict(zip(keys, (left, top, right, bottom), strict=True))


def _parameters(step: Step) -> tuple[str, dict[int, Any]]:
    a = step.attributes
    if step.op == "Conv":
        weights = step.constants[1]
        values = {0: len(weights), 1: a["kernel_shape"][0], 3: a["strides"][0], 5: 1, 6: weights.size}
        values |= _padding(step, (4, 14, 15, 16))
        if a["group"] > 1:
            return "ConvolutionDepthWise", values | {7: a["group"]}
        return "Convolution", values
    if step.op == "Gemm":
        return "InnerProduct", {0: len(step.constants[1]), 1: 1, 2: step.constants[1].size}
    if step.op in ("MaxPool", "AveragePool"):
        values = {0: int(step.op == "AveragePool"), 1: a["kernel_shape"][0], 2: a["strides"][0]}
        return "Pooling", values | _padding(step, (3, 13, 14, 15)) | {5: 0 if a.get("ceil_mode", 0) else 1}
    if step.op == "GlobalAveragePool":
        return "Pooling", {0: 1, 4: 1}
    if step.op == "LRN":
        return "LRN", {0: 0, 1: a["size"], 2: float(a["alpha"]), 3: float(a["beta"]), 4: float(a["bias"])}
    if step.op == "ShuffleChannel":
        return "ShuffleChannel", {0: a["group"]}
    simple = {"Add": "BinaryOp", "Concat": "Concat", "Relu": "ReLU"}
    if step.op in simple:
        return simple[step.op], {0: 0}
    if step.op == "Clip":
        return "Clip", {0: float(step.constants[1]), 1: float(step.constants[2])}
    raise ValueError(f"{step.output}: no ncnn form of {step.op}")


def _simplify(network: Folded) -> list[Step]:
    """Reshape, Transpose, Reshape becomes one ShuffleChannel; Flatten goes, ncnn's fully connected layer needs none."""
    renamed: dict[str, str] = {}
    groups: dict[str, int] = {}
    steps: list[Step] = []
    for step in network.steps:
        step.inputs = [renamed.get(name, name) for name in step.inputs]
        if step.op == "Flatten" or (step.op == "Reshape" and len(step.constants[1]) == 5):
            renamed[step.output] = step.inputs[0]
            if step.op == "Reshape":
                groups[step.inputs[0]] = int(step.constants[1][1])
        elif step.op == "Transpose":
            renamed[step.output] = step.inputs[0]
        elif step.op == "Reshape":
            steps.append(Step("ShuffleChannel", step.inputs, step.output, {"group": groups.pop(step.inputs[0])}))
        else:
            steps.append(step)
    network.output = renamed.get(network.output, network.output)
    network.steps = steps
    return steps


def convert(path: Path, target: Path) -> None:
    """Write `target`, a .param file, and the .bin file beside it."""
    network = read_folded(path)
    steps = _simplify(network)
    readers: dict[str, list[Step]] = {}
    for step in steps:
        for name in step.inputs:
            readers.setdefault(name, []).append(step)
    writer = Writer(network)
    writer.layer("Input", [], [network.input], {})
    writer.made(network.input)
    merged: set[str] = set()
    for step in steps:
        if step.output in merged:
            continue
        output, activation = step.output, dict[int, Any]()
        following = readers.get(output, [])
        if step.op in ("Conv", "Gemm") and len(following) == 1 and following[0].op in ("Relu", "Clip"):
            after = following[0]
            output = after.output
            merged.add(output)
            if after.op == "Relu":
                activation = {9: _RELU}
            else:
                low, high = float(after.constants[1]), float(after.constants[2])
                activation = {9: _CLIP, -23310: f"2,{low:e},{high:e}"}
        writer.add(step, output, activation)
    target.write_text(writer.text(), "utf-8")
    target.with_suffix(".bin").write_bytes(b"".join(writer.weights))


def load(path: Path, threads: int) -> Any:
    """A callable from a NumPy array [1, channels, height, width] to a NumPy array, for a .param file."""
    import ncnn

    net = ncnn.Net()
    options = net.opt
    options.num_threads = threads
    options.use_vulkan_compute = False
    for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        setattr(options, name, False)
    if net.load_param(str(path)) != 0 or net.load_model(str(path.with_suffix(".bin"))) != 0:
        raise ValueError(f"{path}: ncnn cannot load the converted network")
    (first,), (output,) = net.input_names(), net.output_names()

    def call(array: Any) -> Any:
        extractor = net.create_extractor()
        extractor.input(first, ncnn.Mat(array[0]))
        status, result = extractor.extract(output)
        if status != 0:
            raise ValueError(f"ncnn ended with {status}")
        return np.array(result)

    return call
