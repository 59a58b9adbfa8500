"""Networks of one layer, built from its shape: what kernels are measured on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bittern.encodings import Affine, Bitmap, Codebook, Dense, Encoding, Packed, Signs, Sparse
from bittern.layer_shapes import LayerShape
from bittern.network import Network

LAYER = "layer"
"""Name of the measured node; copies have a number behind it."""


def one_layer(shape: LayerShape, batch: int = 1, copies: int = 1) -> Network:
    """A network of the layer alone, named ``layer``; with several copies, each has its own weights and the same input.

    Weights repeat some random numbers: their values do not matter for time.
    """
    net = Network(str(shape))
    size: tuple[int, ...] = (batch, shape.channels, shape.height, shape.width)
    if shape.about.operator in ("fc", "softmax"):
        size = (batch, shape.channels)
    elif shape.kind == "batchnorm":  # of rank 3 or 4 it would run as a depthwise layer
        size = (batch, shape.channels, 1, shape.height, shape.width)
    net.add_input("x", size, "u8" if shape.about.read == 1 else "f32")
    add = _add_code_layer if 1 in (shape.about.read, shape.about.written) else _add_layer
    if shape.about.planes:
        add = _add_bit_layer
    outputs = []
    for copy in range(copies):
        name = LAYER if copies == 1 else f"{LAYER}{copy}"
        outputs.append(f"y{copy}")
        add(net, shape, size, name, outputs[-1])
    net.set_outputs(outputs)
    return net


def _window(shape: LayerShape) -> dict[str, list[int]]:
    return {
        "kernel_shape": [shape.kernel, shape.kernel],
        "strides": [shape.stride, shape.stride],
        "pads": list(shape.pads),
    }


def _add_layer(net: Network, shape: LayerShape, size: Sequence[int], name: str, output: str) -> None:
    window, kind = _window(shape), shape.about.operator
    if kind in ("conv", "depthwise"):
        inner = shape.channels // shape.groups
        tile = shape.about.tile
        dims: tuple[int, ...] = (shape.outputs, inner, *[tile + 2 if tile else shape.kernel] * 2)
        net.add_constant(f"{name}.w", _weights(shape, dims))
        net.add_constant(f"{name}.b", _random((shape.outputs,)))
        inputs = ["x", f"{name}.w", f"{name}.b"]
        if tile:
            net.add_node("WinogradConv", inputs, [output], name=name, m=tile, pads=list(shape.pads))
        else:
            net.add_node("Conv", inputs, [output], name=name, **window, group=shape.groups)
    elif kind == "fc":
        net.add_constant(f"{name}.w", _weights(shape, (shape.outputs, shape.channels)))
        net.add_constant(f"{name}.b", _random((shape.outputs,)))
        net.add_node("Gemm", ["x", f"{name}.w", f"{name}.b"], [output], name=name, transB=1)
    elif kind in ("maxpool", "avgpool"):
        net.add_node("MaxPool" if kind == "maxpool" else "AveragePool", ["x"], [output], name=name, **window)
    elif kind == "reorder":  # pooling works on blocks of channels, so its input has to be reordered
        net.add_node("MaxPool", ["x"], [output], name=name, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    elif kind in ("add", "gate"):
        net.add_input("z", size if kind == "add" else (*size[:2], 1, 1))
        net.add_node("Add" if kind == "add" else "Mul", ["x", "z"], [output], name=name)
    elif kind == "batchnorm":
        parameters = [f"{name}.{which}" for which in ("scale", "shift", "mean", "variance")]
        for parameter in parameters:
            net.add_constant(parameter, np.abs(_random((shape.channels,))) + np.float32(0.5))
        net.add_node("BatchNormalization", ["x", *parameters], [output], name=name)
    elif kind == "lrn":
        net.add_node("LRN", ["x"], [output], name=name, size=5)
    elif kind == "shuffle":  # groups of channels interleaved, as the three nodes that exporters write
        split = [size[0], shape.groups, shape.channels // shape.groups, *size[2:]]
        net.add_constant(f"{name}.split", np.array(split))
        net.add_constant(f"{name}.whole", np.array(size))
        net.add_node("Reshape", ["x", f"{name}.split"], [f"{name}.s"])
        net.add_node("Transpose", [f"{name}.s"], [f"{name}.t"], perm=[0, 2, 1, 3, 4])
        net.add_node("Reshape", [f"{name}.t", f"{name}.whole"], [output], name=name)
    elif kind == "transpose":
        net.add_node("Transpose", ["x"], [output], name=name, perm=[0, 2, 3, 1])
    else:
        net.add_node(
            {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softmax": "Softmax"}[kind],
            ["x"],
            [output],
            name=name,
        )


def _add_bit_layer(net: Network, shape: LayerShape, size: Sequence[int], name: str, output: str) -> None:
    """The layer between two quantisers, and one of few outputs behind it, so that bits are written."""
    operator, planes = shape.about.operator, shape.about.planes
    levels = _levels(net, "x", f"{name}.x", planes, name=name if operator == "pack" else None)
    if operator in ("conv", "fc"):
        inner = (shape.channels // shape.groups,) + (() if operator == "fc" else (shape.kernel, shape.kernel))
        weights = (
            _signs((shape.outputs, *inner)) if shape.about.weight_bits == 1 else _two_bits((shape.outputs, *inner))
        )
        net.add_constant(f"{name}.w", weights)
        if operator == "fc":
            net.add_node("Gemm", [levels, f"{name}.w"], [f"{name}.sum"], name=name, transB=1)
        else:
            inputs = [levels, f"{name}.w"]
            net.add_node("Conv", inputs, [f"{name}.sum"], name=name, **_window(shape), group=shape.groups)
        levels = _levels(net, f"{name}.sum", f"{name}.y", planes)
    elif operator == "maxpool":
        net.add_node("MaxPool", [levels], [f"{name}.y"], name=name, **_window(shape))
        levels = f"{name}.y"
    elif operator == "pad":
        net.add_constant(f"{name}.pads", np.array([0, 0, 1, 1, 0, 0, 1, 1]))
        net.add_constant(f"{name}.border", np.array(1, np.float32))
        net.add_node("Pad", [levels, f"{name}.pads", f"{name}.border"], [f"{name}.y"], name=name)
        levels = f"{name}.y"
    few, channels = 32, shape.outputs if shape.about.weighted else shape.channels
    if operator == "fc":
        net.add_constant(f"{name}.few", _signs((few, channels)))
        net.add_node("Gemm", [levels, f"{name}.few"], [output], transB=1)
    else:
        net.add_constant(f"{name}.few", _signs((few, channels, 1, 1)))
        net.add_node("Conv", [levels, f"{name}.few"], [output])


def _levels(net: Network, value: str, output: str, planes: int, name: str | None = None) -> str:
    net.add_constant(f"{output}.scale", np.array(1, np.float32))
    if planes == 1:
        net.add_node("BipolarQuant", [value, f"{output}.scale"], [output], name=name)
        return output
    net.add_constant(f"{output}.zero", np.array(0, np.uint8))
    parameters = [f"{output}.scale", f"{output}.zero"]
    net.add_node("QuantizeLinear", [value, *parameters], [f"{output}.codes"], bits=planes)
    net.add_node("DequantizeLinear", [f"{output}.codes", *parameters], [output], bits=planes)
    return output


def _signs(dims: tuple[int, ...]) -> Encoding:
    some = np.random.default_rng(0).integers(0, 2, min(math.prod(dims), 1 << 16)).astype(np.uint8)
    return Signs(Packed.pack(np.resize(some, dims), 1), Dense(np.array(1, np.float32)), None)


def _two_bits(dims: tuple[int, ...]) -> Encoding:
    some = np.random.default_rng(0).integers(-2, 2, min(math.prod(dims), 1 << 16)).astype(np.int32)
    return Affine(Packed.pack(np.resize(some, dims), 2, signed=True), Dense(np.array(1, np.float32)))


_SCALE = 0.02


def _add_code_layer(net: Network, shape: LayerShape, size: Sequence[int], name: str, output: str) -> None:
    """The layer between DequantizeLinear and QuantizeLinear, which the plan makes part of it.

    Activations are as behind ReLU, with the zero point 0; weights have a scale for each output channel.
    """
    operator, real, result = shape.about.operator, f"{name}.x", f"{name}.y"
    if operator == "quantize":  # something has to read the codes, else they are written as a plain tensor
        _quantise(net, "x", f"{name}.codes", name=name)
        _dequantise(net, f"{name}.codes", real)
        net.add_node("LeakyRelu", [real], [result], alpha=1.0)
        _quantise(net, result, output, 2 * _SCALE)
        return
    if operator == "thresholds":  # 15 for each channel: codes of 4 bits
        net.add_constant(f"{name}.t", np.sort(_random((shape.channels, 15)), axis=1))
        net.add_node("MultiThreshold", ["x", f"{name}.t"], [result], name=name)
        _quantise(net, result, output, 1.0)
        return
    _dequantise(net, "x", real)
    if operator == "dequantize":  # and something has to write them in blocks
        net.add_node("LeakyRelu", [real], [result], alpha=1.0)
        _quantise(net, result, f"{name}.codes", 2 * _SCALE)
        _dequantise(net, f"{name}.codes", output, 2 * _SCALE, name=name)
        return
    scale = _SCALE
    if shape.about.weighted:
        values = shape.weights // shape.outputs
        weights, scale = _weight_codes(shape)
        net.add_constant(f"{name}.w", weights)
        units = np.full(shape.outputs, _SCALE * _WEIGHT_SCALE, np.float32)
        net.add_constant(
            f"{name}.b", Affine(Dense(np.arange(shape.outputs, dtype=np.int32) % values), Dense(units), axis=0)
        )
        inputs = [real, f"{name}.w", f"{name}.b"]
        if operator == "fc":
            net.add_node("Gemm", inputs, [result], name=name, transB=1)
        else:
            net.add_node("Conv", inputs, [f"{name}.sum"], name=name, **_window(shape), group=shape.groups)
            net.add_node("Relu", [f"{name}.sum"], [result])
    elif operator == "add":
        net.add_input("z", size, "u8")
        _dequantise(net, "z", f"{name}.z")
        net.add_node("Add", [real, f"{name}.z"], [result], name=name)
        scale = 2 * _SCALE
    elif operator == "table":
        net.add_node("Sigmoid", [real], [result], name=name)
        scale = 1 / 255
    elif operator == "reorder":  # codes are reordered from and to the plain tensors of callers
        net.add_node("MaxPool", [real], [result], name=name, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    else:
        net.add_node(
            "MaxPool" if operator == "maxpool" else "AveragePool", [real], [result], name=name, **_window(shape)
        )
    _quantise(net, result, output, scale)


def _quantise(net: Network, value: str, output: str, scale: float = _SCALE, name: str | None = None) -> None:
    net.add_node("QuantizeLinear", [value, *_quantiser(net, f"{output}.q", scale)], [output], name=name)


def _dequantise(net: Network, value: str, output: str, scale: float = _SCALE, name: str | None = None) -> None:
    net.add_node("DequantizeLinear", [value, *_quantiser(net, f"{output}.q", scale)], [output], name=name)


def _quantiser(net: Network, name: str, scale: float) -> list[str]:
    net.add_constant(f"{name}.scale", np.array(scale, np.float32))
    net.add_constant(f"{name}.zero", np.array(0, np.uint8))
    return [f"{name}.scale", f"{name}.zero"]


_WEIGHT_SCALE = 0.01


def _weight_codes(shape: LayerShape) -> tuple[Encoding, float]:
    """Signed codes with a scale for each output channel, and a scale of the result that few sums exceed."""
    bits, inner = 8 if shape.about.sparse else shape.about.weight_bits, shape.channels // shape.groups
    size = (shape.outputs, inner) + (() if shape.about.operator == "fc" else (shape.kernel, shape.kernel))
    most = 2 ** (bits - 1) - 1
    some = np.random.default_rng(0).integers(-most - 1, most + 1, min(math.prod(size), 1 << 16))
    codes = np.resize(some, size)
    if shape.about.sparse:
        mask = _places(shape, size)
        kept = np.where(codes[mask] == 0, 1, codes[mask]).astype(np.int8)
        stored: Encoding = Sparse(Bitmap.of(mask), Dense(kept), size)
    elif bits == 8:
        stored = Dense(codes.astype(np.int8))
    else:
        stored = Packed.pack(codes, bits, signed=True)
    scales = Dense(np.full(shape.outputs, _WEIGHT_SCALE, np.float32))
    spread = math.sqrt(inner * shape.kernel**2) * (most + 1) * _WEIGHT_SCALE * 128 * _SCALE
    return Affine(stored, scales, axis=0), spread / 128


def _weights(shape: LayerShape, dims: tuple[int, ...]) -> Encoding | NDArray[np.float32]:
    """Weights of a layer on real numbers."""
    if shape.about.sparse:
        return _pruned(shape, dims)
    return _random(dims) if shape.about.weight_bits == 32 else _few_bits(shape, dims)


def _few_bits(shape: LayerShape, dims: tuple[int, ...]) -> Encoding:
    """Weights that are codes into a table of real numbers, one for all channels or one for each; or 8-bit numbers."""
    bits = shape.about.weight_bits
    if bits == 8 and shape.kind.startswith("fc"):
        return _weight_codes(shape)[0]
    some = np.random.default_rng(0).integers(0, 2**bits, min(shape.weights, 1 << 16))
    codes = Packed.pack(np.resize(some, dims), bits)
    own = shape.kind.endswith("c")
    return Codebook(codes, Dense(_random((shape.outputs, 2**bits) if own else (2**bits,))), 0 if own else None)


def _pruned(shape: LayerShape, dims: tuple[int, ...]) -> Encoding:
    """Weights at places drawn uniformly, as many as the density says; real numbers, signs, or codes into a table."""
    pattern = Bitmap.of(_places(shape, dims))
    if shape.kind.endswith("_tern"):
        signs = np.random.default_rng(1).integers(0, 2, shape.entries) * 2 - 1
        return Sparse(pattern, Dense(signs.astype(np.float32)), dims)
    if not shape.kind.rpartition("_")[2].startswith("lut"):
        return Sparse(pattern, Dense(_random((shape.entries,))), dims)
    entries = 2 ** int(shape.kind[-1])
    codes = np.random.default_rng(1).integers(1, entries, shape.entries).astype(np.uint8)
    return Codebook(Sparse(pattern, Dense(codes), dims), Dense(np.append(np.float32(0), _random((entries - 1,)))))


def _places(shape: LayerShape, dims: tuple[int, ...]) -> NDArray[np.bool_]:
    """Where weights are not zero."""
    cells = (dims[0], -(-dims[1] // shape.together), *dims[2:])
    mask = np.zeros(math.prod(cells), np.bool_)
    mask[np.random.default_rng(0).permutation(mask.size)[: round(mask.size * shape.density)]] = True
    return np.repeat(mask.reshape(cells), shape.together, axis=1)[:, : dims[1]]


def _random(shape: tuple[int, ...]) -> NDArray[np.float32]:
    some = np.random.default_rng(0).standard_normal(min(math.prod(shape), 1 << 16)).astype(np.float32)
    return np.resize(some, shape)
