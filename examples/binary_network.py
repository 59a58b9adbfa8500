"""Build a binary network from NumPy arrays, save it, and run it.

python examples/binary_network.py LAYERS.npz NET.bittern --input 3 32 32 --pool 1 3

LAYERS.npz holds, layer by layer from i = 0: `L<i>.weight`, integers -1 and +1, `[outputs, inputs]` (fully connected) or
`[outputs, inputs, height, width]` (convolution without padding); and `L<i>.threshold`, `[outputs, n]`, but for a last
layer whose sums are the scores. An activation is +1 if the sum of products is greater than the threshold, else -1; with
n thresholds it is -n + 2 * (how many it is greater than). `--pool` names the layers with a 2x2 maximum behind them.
A last layer with a threshold gives the sums less the threshold. This is how the networks of FINN are published
(Umuroglu et al., arXiv 1612.07119), batch normalisation and sign folded into thresholds.
"""

import argparse
from collections.abc import Collection, Mapping
from typing import Any

import bittern
import numpy as np
from bittern.encodings import Signs
from numpy.typing import NDArray


def binary_network(
    layers: Mapping[str, NDArray[Any]], shape: tuple[int, ...], pooled: Collection[int] = (), name: str = "binary"
) -> bittern.Network:
    """The network of these layers for inputs of this shape, without the first dimension; its result is ``scores``."""
    count = sum(key.endswith(".weight") for key in layers)
    net = bittern.Network(name)
    net.add_input("x", ("N", *shape))
    value, flat = "x", len(shape) == 1
    for i in range(count):
        weight, threshold = layers[f"L{i}.weight"], layers.get(f"L{i}.threshold")
        if weight.ndim == 2 and not flat:
            net.add_node("Flatten", [value], [f"flat{i}"])
            value, flat = f"flat{i}", True
        net.add_constant(f"weight{i}", Signs.of(weight))  # one bit for each
        if weight.ndim == 4:
            net.add_node("Conv", [value, f"weight{i}"], [f"sum{i}"], f"layer{i}")
        else:
            net.add_node("Gemm", [value, f"weight{i}"], [f"sum{i}"], f"layer{i}", transB=1)
        value = f"sum{i}"
        if i + 1 == count:
            break
        if threshold is None:
            raise SystemExit(f"L{i}.threshold is missing: only the last layer may be without")
        value = add_thresholds(net, i, value, threshold)
        if i in pooled:
            net.add_node("MaxPool", [value], [f"pool{i}"], kernel_shape=[2, 2], strides=[2, 2])
            value = f"pool{i}"
    if threshold is not None:  # of the last layer: the greatest distance wins
        net.add_constant("offset", threshold.reshape(-1).astype(np.float32))
        net.add_node("Sub", [value, "offset"], ["scores"])
    else:
        net.add_node("Identity", [value], ["scores"])
    net.set_outputs(["scores"])
    return net


def add_thresholds(net: bittern.Network, i: int, value: str, threshold: NDArray[Any]) -> str:
    """-1 or +1 (or more levels, two apart) for each sum."""
    # Sums are integers, so "greater than t" is "at least floor(t) + 1", which is what MultiThreshold counts.
    steps = np.sort(np.floor(threshold).astype(np.float32) + 1, axis=1)
    net.add_constant(f"threshold{i}", steps)
    net.add_node(
        "MultiThreshold", [value, f"threshold{i}"], [f"sign{i}"], out_scale=2.0, out_bias=-float(steps.shape[1])
    )
    return f"sign{i}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Build a binary network from NumPy arrays.")
    parser.add_argument("layers", help="an .npz file")
    parser.add_argument("output", help="the .bittern file to write")
    parser.add_argument("--input", type=int, nargs="+", required=True, help="the shape of one input")
    parser.add_argument("--pool", type=int, nargs="*", default=[], help="layers with a 2x2 maximum behind them")
    arguments = parser.parse_args()
    with np.load(arguments.layers, allow_pickle=False) as stored:
        layers = {key: stored[key] for key in stored.files}
    net = binary_network(layers, tuple(arguments.input), arguments.pool)
    net.save(arguments.output)
    print(net.summary())
    model = bittern.load(arguments.output)
    print(model.plan)
    x = np.where(np.random.default_rng(0).integers(0, 2, (1, *arguments.input)), 1, -1).astype(np.float32)
    print("scores of a random input:", model(x))


if __name__ == "__main__":
    main()
