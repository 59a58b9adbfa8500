"""Well-known convolutional networks as ONNX files with random weights, their sizes, and the shapes of their layers."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from network_builder import Builder, LayerShape, Tensor

CLASSES = 1000


def alexnet(net: Builder) -> Tensor:
    """Krizhevsky et al. 2012, both halves in one tower: groups of two stand where the halves do not meet."""
    x = net.input(3, 227, 227)
    x = net.max_pool(net.lrn(net.relu(net.conv(x, 96, 11, stride=4))), 3, 2)
    x = net.max_pool(net.lrn(net.relu(net.conv(x, 256, 5, pad=2, groups=2))), 3, 2)
    x = net.relu(net.conv(x, 384, 3, pad=1))
    x = net.relu(net.conv(x, 384, 3, pad=1, groups=2))
    x = net.max_pool(net.relu(net.conv(x, 256, 3, pad=1, groups=2)), 3, 2)
    x = net.relu(net.fc(x, 4096))
    x = net.relu(net.fc(x, 4096))
    return net.fc(x, CLASSES)


def vgg16(net: Builder) -> Tensor:
    """Simonyan and Zisserman 2014, configuration D."""
    x = net.input(3, 224, 224)
    for channels, repeats in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(repeats):
            x = net.relu(net.conv(x, channels, 3, pad=1))
        x = net.max_pool(x, 2, 2)
    x = net.relu(net.fc(x, 4096))
    x = net.relu(net.fc(x, 4096))
    return net.fc(x, CLASSES)


def _conv_bn(
    net: Builder, x: Tensor, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, gain: float = 1.0
) -> Tensor:
    """Convolution without bias, padded to keep the size, then batch normalisation."""
    return net.batch_norm(net.conv(x, outputs, kernel, stride, kernel // 2, groups, bias=False), gain)


_LINEAR_GAIN = 0.7  # weights are drawn for a following ReLU, which halves the mean square; without one this does
_BRANCH_GAIN = 0.4  # the last normalisation of a residual branch is small in trained networks, and keeps sums level


def _resnet(net: Builder, repeats: Sequence[int], block: Callable[[Builder, Tensor, int, int], Tensor]) -> Tensor:
    x = net.input(3, 224, 224)
    x = net.max_pool(net.relu(_conv_bn(net, x, 64, 7, 2)), 3, 2, pad=1)
    for stage, count in enumerate(repeats):
        for index in range(count):
            x = block(net, x, 64 << stage, 2 if stage > 0 and index == 0 else 1)
    return net.fc(net.global_average_pool(x), CLASSES)


def _shortcut(net: Builder, x: Tensor, outputs: int, stride: int) -> Tensor:
    return x if x.channels == outputs and stride == 1 else _conv_bn(net, x, outputs, 1, stride)


def _basic_block(net: Builder, x: Tensor, width: int, stride: int) -> Tensor:
    y = net.relu(_conv_bn(net, x, width, 3, stride))
    y = _conv_bn(net, y, width, 3, gain=_BRANCH_GAIN)
    return net.relu(net.add(y, _shortcut(net, x, width, stride)))


def _bottleneck(net: Builder, x: Tensor, width: int, stride: int, inner: int = 0, groups: int = 1) -> Tensor:
    inner = inner or width
    y = net.relu(_conv_bn(net, x, inner))
    y = net.relu(_conv_bn(net, y, inner, 3, stride, groups))
    y = _conv_bn(net, y, 4 * width, gain=_BRANCH_GAIN)
    return net.relu(net.add(y, _shortcut(net, x, 4 * width, stride)))


def resnet18(net: Builder) -> Tensor:
    """He et al. 2015, basic blocks."""
    return _resnet(net, (2, 2, 2, 2), _basic_block)


def resnet50(net: Builder) -> Tensor:
    """He et al. 2015, bottleneck blocks; the 3x3 convolution has the stride, as in most trained versions."""
    return _resnet(net, (3, 4, 6, 3), _bottleneck)


def resnext50(net: Builder) -> Tensor:
    """Xie et al. 2016, 32 groups of 4 channels at first."""
    return _resnet(
        net, (3, 4, 6, 3), lambda net, x, width, stride: _bottleneck(net, x, width, stride, 2 * width, groups=32)
    )


def mobilenet_v1(net: Builder) -> Tensor:
    """Howard et al. 2017, width 1."""
    x = net.relu(_conv_bn(net, net.input(3, 224, 224), 32, 3, 2))
    layers = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for outputs, stride in layers:
        x = net.relu(_conv_bn(net, x, x.channels, 3, stride, groups=x.channels))
        x = net.relu(_conv_bn(net, x, outputs))
    return net.fc(net.global_average_pool(x), CLASSES)


def mobilenet_v2(net: Builder) -> Tensor:
    """Sandler et al. 2018, width 1."""
    x = net.relu6(_conv_bn(net, net.input(3, 224, 224), 32, 3, 2))
    stages = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for expansion, outputs, repeats, first_stride in stages:
        for index in range(repeats):
            stride = first_stride if index == 0 else 1
            y = net.relu6(_conv_bn(net, x, expansion * x.channels)) if expansion > 1 else x
            y = net.relu6(_conv_bn(net, y, y.channels, 3, stride, groups=y.channels))
            y = _conv_bn(net, y, outputs)
            x = net.add(x, y) if stride == 1 and x.channels == outputs else y
    x = net.relu6(_conv_bn(net, x, 1280))
    return net.fc(net.global_average_pool(x), CLASSES)


def _fire(net: Builder, x: Tensor, squeeze: int, expand: int) -> Tensor:
    s = net.relu(net.conv(x, squeeze))
    return net.concat(net.relu(net.conv(s, expand)), net.relu(net.conv(s, expand, 3, pad=1)))


def squeezenet(net: Builder) -> Tensor:
    """Iandola et al. 2016, version 1.0."""
    x = net.input(3, 224, 224)
    x = net.max_pool(net.relu(net.conv(x, 96, 7, 2)), 3, 2, ceil=True)
    x = _fire(net, _fire(net, x, 16, 64), 16, 64)
    x = net.max_pool(_fire(net, x, 32, 128), 3, 2, ceil=True)
    x = _fire(net, _fire(net, x, 32, 128), 48, 192)
    x = _fire(net, _fire(net, x, 48, 192), 64, 256)
    x = _fire(net, net.max_pool(x, 3, 2, ceil=True), 64, 256)
    return net.flatten(net.global_average_pool(net.relu(net.conv(x, CLASSES))))


def shufflenet(net: Builder) -> Tensor:
    """Zhang et al. 2017 (version 1), 3 groups, width 1."""
    groups = 3
    x = net.relu(_conv_bn(net, net.input(3, 224, 224), 24, 3, 2))
    x = net.max_pool(x, 3, 2, pad=1)
    for stage, repeats in enumerate((4, 8, 4)):
        outputs = 240 << stage
        for index in range(repeats):
            stride = 2 if index == 0 else 1
            first_groups = 1 if x.channels == 24 else groups  # 24 channels are too few to group
            y = net.relu(_conv_bn(net, x, outputs // 4, groups=first_groups))
            y = net.channel_shuffle(y, groups)
            y = _conv_bn(net, y, y.channels, 3, stride, groups=y.channels, gain=_LINEAR_GAIN)
            added = outputs - x.channels if stride == 2 else outputs
            y = _conv_bn(net, y, added, groups=groups, gain=_LINEAR_GAIN if stride == 2 else _BRANCH_GAIN)
            x = net.relu(net.concat(net.average_pool(x, 3, 2, pad=1), y) if stride == 2 else net.add(x, y))
    return net.fc(net.global_average_pool(x), CLASSES)


def _separable(net: Builder, x: Tensor, outputs: int, gain: float = 1.0) -> Tensor:
    y = net.conv(x, x.channels, 3, pad=1, groups=x.channels, bias=False)
    return net.batch_norm(net.conv(y, outputs, bias=False), _LINEAR_GAIN * gain)


def xception(net: Builder) -> Tensor:
    """Chollet 2016."""
    x = net.input(3, 299, 299)
    x = net.relu(net.batch_norm(net.conv(x, 32, 3, 2, bias=False)))
    x = net.relu(net.batch_norm(net.conv(x, 64, 3, bias=False)))
    for inner, outputs in ((128, 128), (256, 256), (728, 728), *[(728, 0)] * 8, (728, 1024)):
        y = x if x.channels == 64 else net.relu(x)
        y = net.relu(_separable(net, y, inner))
        if outputs:
            y = net.max_pool(_separable(net, y, outputs, _BRANCH_GAIN), 3, 2, pad="same")
            x = net.add(y, _conv_bn(net, x, outputs, 1, 2))
        else:
            y = net.relu(_separable(net, y, inner))
            x = net.add(_separable(net, y, inner, _BRANCH_GAIN), x)
    x = net.relu(_separable(net, x, 1536))
    x = net.relu(_separable(net, x, 2048))
    return net.fc(net.global_average_pool(x), CLASSES)


def squeezedet(net: Builder) -> Tensor:
    """Wu et al. 2016, the convolutional part: 9 anchors, each with 3 classes, a confidence and a box."""
    x = net.input(3, 384, 1248)
    x = net.max_pool(net.relu(net.conv(x, 64, 3, 2, pad="same")), 3, 2, pad="same")
    for squeeze, expand in ((16, 64), (32, 128)):
        x = net.max_pool(_fire(net, _fire(net, x, squeeze, expand), squeeze, expand), 3, 2, pad="same")
    for squeeze, expand in ((48, 192), (48, 192), (64, 256), (64, 256), (96, 384), (96, 384)):
        x = _fire(net, x, squeeze, expand)
    return net.conv(x, 9 * (3 + 1 + 4), 3, pad=1)


NETWORKS: dict[str, Callable[[Builder], Tensor]] = {
    "alexnet": alexnet,
    "vgg16": vgg16,
    "resnet18": resnet18,
    "resnet50": resnet50,
    "resnext50": resnext50,
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
    "squeezenet": squeezenet,
    "shufflenet": shufflenet,
    "xception": xception,
    "squeezedet": squeezedet,
}


@dataclass(frozen=True)
class Size:
    """A network's numbers for one image: weights that training learns, products with them, its layers."""

    parameters: int
    macs: int
    layers: list[LayerShape]
    input_shape: tuple[int, int, int]


def size(name: str) -> Size:
    """Count without making weights. KeyError for an unknown name."""
    net = Builder(name, weights=False)
    NETWORKS[name](net)
    first = net.layers[0]
    return Size(net.parameters, net.macs, net.layers, (first.channels, first.height, first.width))


def build(name: str, seed: int = 0) -> Any:
    """The network as an onnx.ModelProto. KeyError for an unknown name."""
    net = Builder(name, seed=seed)
    return net.model(NETWORKS[name](net))


def write(name: str, folder: Path) -> Path:
    """Write `folder/name.onnx`; returns its path."""
    path = folder / f"{name}.onnx"
    path.write_bytes(build(name).SerializeToString(deterministic=True))
    return path


SHAPES_HEADER = """\
# Layers of {name} for one image, equal ones counted; made by: python benchmarks/networks.py --shapes benchmarks/shapes
# kernel and stride are square; pads: top,left,bottom,right; million: products with a weight, in millions, of one layer
# kind     count  channels  height  width  outputs  kernel  stride  pads     groups  million
"""


def shapes_text(name: str) -> str:
    """The distinct layers of a network in the order they first occur, one per line."""
    lines = []
    for layer, count in Counter(size(name).layers).items():
        pads = ",".join(map(str, layer.pads))
        lines.append(
            f"{layer.kind:<9}  {count:5}  {layer.channels:8}  {layer.height:6}  {layer.width:5}  {layer.outputs:7}  "
            f"{layer.kernel:6}  {layer.stride:6}  {pads:<7}  {layer.groups:6}  {layer.macs / 1e6:7.2f}\n"
        )
    return SHAPES_HEADER.format(name=name) + "".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks (default: all)")
    parser.add_argument("--list", action="store_true", help="print parameters and products of each network")
    parser.add_argument("--write", type=Path, metavar="DIR", help="write each network to DIR/NAME.onnx")
    parser.add_argument("--shapes", type=Path, metavar="DIR", help="write the layer shapes to DIR/NAME.txt")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in NETWORKS]
    if unknown:
        parser.error(f"unknown network {unknown[0]}; there are {', '.join(NETWORKS)}")
    if not (options.list or options.write or options.shapes):
        parser.error("nothing to do; give --list, --write DIR or --shapes DIR")
    if options.list:
        print(f"{'network':<13}  {'input':>10}  {'million parameters':>18}  {'billion products':>16}  layers")
    for name in options.names or NETWORKS:
        if options.list:
            counted = size(name)
            shape = "x".join(map(str, counted.input_shape))
            parameters, macs = counted.parameters / 1e6, counted.macs / 1e9
            print(f"{name:<13}  {shape:>10}  {parameters:18.2f}  {macs:16.3f}  {len(counted.layers):6}")
        if options.write:
            options.write.mkdir(parents=True, exist_ok=True)
            print(write(name, options.write))
        if options.shapes:
            options.shapes.mkdir(parents=True, exist_ok=True)
            (options.shapes / f"{name}.txt").write_text(shapes_text(name), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
