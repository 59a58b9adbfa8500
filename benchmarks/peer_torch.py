"""Networks of networks.py as PyTorch modules: channels last, batch normalisation folded, traced, frozen, optimised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from folded import Folded, Step, read_folded
from torch import Tensor, nn


class Graph(nn.Module):  # type: ignore[misc]  # torch is not type-checked here
    """Runs the steps in order. Four-dimensional values are channels last, PyTorch's fast layout on CPUs."""

    def __init__(self, network: Folded) -> None:
        super().__init__()
        self._network = network
        self._weights: dict[str, list[Tensor]] = {}
        for number, step in enumerate(network.steps):
            if step.op not in _OPERATIONS:
                raise ValueError(f"{step.output}: no PyTorch form of {step.op}")
            if step.op in ("Conv", "Gemm"):
                tensors = [torch.from_numpy(step.constants[place].copy()) for place in sorted(step.constants)]
                if step.op == "Conv":
                    tensors[0] = tensors[0].to(memory_format=torch.channels_last)
                for place, tensor in enumerate(tensors):
                    self.register_buffer(f"step{number}_{place}", tensor)
                self._weights[step.output] = tensors
        last_use = {name: step.output for step in network.steps for name in step.inputs}
        self._finished: dict[str, list[str]] = {}
        for name, user in last_use.items():
            if name != network.output:
                self._finished.setdefault(user, []).append(name)

    def forward(self, x: Tensor) -> Tensor:
        values = {self._network.input: x.contiguous(memory_format=torch.channels_last)}
        for step in self._network.steps:
            inputs = [values[name] for name in step.inputs]
            values[step.output] = _OPERATIONS[step.op](step, inputs, self._weights.get(step.output, []))
            for name in self._finished.get(step.output, []):
                del values[name]
        return values[self._network.output].contiguous()


def _window(step: Step, x: Tensor, fill: float) -> tuple[Tensor, list[int]]:
    """The input and its padding; explicitly padded where the two ends differ."""
    top, left, bottom, right = step.attributes.get("pads", [0, 0, 0, 0])
    if (top, left) == (bottom, right):
        return x, [top, left]
    return F.pad(x, [left, right, top, bottom], value=fill), [0, 0]


def _conv(step: Step, inputs: list[Tensor], weights: list[Tensor]) -> Tensor:
    x, padding = _window(step, inputs[0], 0.0)
    weight, bias = weights[0], weights[1] if len(weights) > 1 else None
    return F.conv2d(x, weight, bias, step.attributes["strides"], padding, groups=step.attributes["group"])


def _max_pool(step: Step, inputs: list[Tensor], weights: list[Tensor]) -> Tensor:
    x, padding = _window(step, inputs[0], float("-inf"))
    kernel, strides = step.attributes["kernel_shape"], step.attributes["strides"]
    return F.max_pool2d(x, kernel, strides, padding, ceil_mode=bool(step.attributes.get("ceil_mode", 0)))


def _average_pool(step: Step, inputs: list[Tensor], weights: list[Tensor]) -> Tensor:
    top, left, bottom, right = step.attributes.get("pads", [0, 0, 0, 0])
    if (top, left) != (bottom, right):
        raise ValueError(f"{step.output}: average over unequal padding")
    kernel, strides = step.attributes["kernel_shape"], step.attributes["strides"]
    return F.avg_pool2d(inputs[0], kernel, strides, [top, left], count_include_pad=False)


def _lrn(step: Step, inputs: list[Tensor], weights: list[Tensor]) -> Tensor:
    a = step.attributes
    return F.local_response_norm(inputs[0], a["size"], a["alpha"], a["beta"], a["bias"])


def _reshape(step: Step, inputs: list[Tensor], weights: list[Tensor]) -> Tensor:
    sizes = [inputs[0].shape[i] if size == 0 else size for i, size in enumerate(step.constants[1].tolist())]
    return inputs[0].reshape(sizes)


_OPERATIONS: dict[str, Any] = {
    "Add": lambda step, inputs, weights: inputs[0] + inputs[1],
    "AveragePool": _average_pool,
    "Clip": lambda step, inputs, weights: inputs[0].clamp(float(step.constants[1]), float(step.constants[2])),
    "Concat": lambda step, inputs, weights: torch.cat(inputs, step.attributes["axis"]),
    "Conv": _conv,
    "Flatten": lambda step, inputs, weights: inputs[0].flatten(1),
    "Gemm": lambda step, inputs, weights: F.linear(inputs[0], weights[0], weights[1]),
    "GlobalAveragePool": lambda step, inputs, weights: F.adaptive_avg_pool2d(inputs[0], 1),
    "LRN": _lrn,
    "MaxPool": _max_pool,
    "Relu": lambda step, inputs, weights: F.relu(inputs[0]),
    "Reshape": _reshape,
    "Transpose": lambda step, inputs, weights: inputs[0].permute(step.attributes["perm"]),
}


def load(path: Path, threads: int, example: Any, form: str = "frozen") -> Any:
    """A callable from array to array. `form`: "frozen" (traced, frozen, optimised for inference) or "eager"."""
    torch.set_num_threads(threads)
    with torch.inference_mode():
        module: Any = Graph(read_folded(path)).eval()
        if form == "frozen":
            x = torch.from_numpy(example)
            module = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(module, x)))
            for _ in range(2):  # the first runs specialise the code
                module(x)

    def call(array: Any) -> Any:
        with torch.inference_mode():
            return module(torch.from_numpy(array)).numpy()

    return call
