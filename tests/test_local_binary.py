"""Local binary convolution: random filters from a seed, and the mixture fitted to the layer they replace."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import bittern
import bittern.encodings as enc
import numpy as np
import pytest
from bittern.compression import compress
from bittern.errors import InputError
from bittern.graph_json import write_graph
from bittern.network import Network

from tests.builders import reference
from tests.compare import assert_equal
from tests.reference import run
from tests.reference.arrays import Array


def stack(rng: np.random.Generator, groups: int = 1) -> Network:
    """Four convolutions: the first, one of several places with stride and padding, one of one place, one in groups."""
    net = Network("stack")
    net.add_input("x", ["N", 3, 10, 9])

    def conv(name: str, source: str, *shape: int, **attributes: Any) -> str:
        numbers = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        net.add_constant(f"{name}.weight", numbers.astype(np.float32))
        net.add_constant(f"{name}.bias", rng.standard_normal(shape[0]).astype(np.float32))
        net.add_node("Conv", [source, f"{name}.weight", f"{name}.bias"], [f"{name}_out"], name, **attributes)
        net.add_node("Relu", [f"{name}_out"], [f"{name}_relu"])
        return f"{name}_relu"

    source = conv("conv1", "x", 6, 3, 3, 3)
    source = conv("conv2", source, 20, 6, 3, 3, strides=[2, 1], pads=[1, 0, 1, 2], kernel_shape=[3, 3])
    source = conv("conv3", source, 8, 20, 1, 1)
    source = conv("conv4", source, 8, 4, 3, 3, group=2, pads=[1, 1, 1, 1])
    source = conv("conv5", source, 9, 8, 2, 3, dilations=[1, 2])
    net.set_outputs([source])
    return net


def data(rng: np.random.Generator) -> Array:
    """Images whose neighbouring pixels agree, as those of real ones do."""
    noise = rng.standard_normal((40, 3, 13, 12))
    smooth = sum(noise[:, :, i : i + 10, j : j + 9] for i in range(4) for j in range(4)) / 4
    return np.asarray(smooth, np.float32)


def test_what_a_layer_becomes(rng: np.random.Generator) -> None:
    """Random filters with the layer's strides and padding, a Relu, a 1x1 convolution of its name."""
    net, x = stack(rng), data(rng)
    made = compress(net, recipe="local-binary", calibration=x, filters=2, density=0.3, seed=7)
    nodes = {node.name: node for node in made.nodes}
    for number, (name, inputs, size) in enumerate((("conv2", 6, (3, 3)), ("conv5", 8, (2, 3)))):
        filters, relu, mixture = nodes[f"{name}_filters"], nodes[f"{name}_relu"], nodes[name]
        before = next(node for node in net.nodes if node.name == name)
        assert relu.inputs == filters.outputs and mixture.inputs[0] == relu.outputs[0]
        assert mixture.outputs == before.outputs and filters.inputs[0] == before.inputs[0]
        kept = {key: value for key, value in before.attributes.items() if key != "kernel_shape"}
        assert filters.attributes == kept and mixture.attributes == {}
        tree = made.constants[filters.inputs[1]]
        assert isinstance(tree, enc.Seeded) and tree.order == "OHWI"
        assert tree.shape == (2 * inputs, inputs, *size) and tree.seed == 7 + number
        assert tree.threshold == int(0.3 * 2**32)
        assert made.constants[mixture.inputs[1]].shape == (net.constants[f"{name}.weight"].shape[0], 2 * inputs, 1, 1)
    for name in ("conv1", "conv3", "conv4"):
        assert f"{name}.weight" in made.constants and f"{name}_filters" not in nodes
    summary = str(made.summary())
    assert "12 random filters, output" in summary and "kept: a convolution in groups" in summary
    assert "2 convolutions replaced, fitted on 20 samples" in summary, "every second"


def test_the_engine_agrees_with_the_reference(rng: np.random.Generator) -> None:
    """The network by its definition in NumPy; and exactly so where all numbers are small integers."""
    net, x = stack(rng), data(rng)
    made = compress(net, recipe="local-binary", calibration=x, filters=2)
    output = made.outputs[0].name
    values = run(reference(made), {"x": x})
    found = bittern.load(made).run({"x": x})[output]
    np.testing.assert_allclose(found, values[output], rtol=1e-4, atol=1e-4)
    whole = Network("filters")
    whole.add_input("x", ["N", 14, 7, 7])
    tree = enc.Seeded.of((30, 3, 3, 14), 0.5, 3, order="OHWI")
    whole.add_constant("b", tree)
    whole.add_node("Conv", ["x", "b"], ["y"], pads=[1, 1, 1, 1])
    whole.set_outputs(["y"])
    numbers = rng.integers(-128, 128, (3, 14, 7, 7)).astype(np.float32)
    values = run(reference(whole), {"x": numbers})
    assert_equal(bittern.load(whole.to_bytes()).run({"x": numbers})["y"], values["y"])


def test_the_mixture_is_that_of_least_error(rng: np.random.Generator) -> None:
    """Without a ridge: the least-squares solution that NumPy finds for inputs and outputs of the layer."""
    net, x = stack(rng), data(rng)
    made = compress(net, recipe="local-binary", calibration=x, filters=2, ridge=0, samples=64, exclude=["conv5"])
    nodes = {node.name: node for node in made.nodes}
    values = bittern.load(made).run({"x": x}, taps=[nodes["conv2"].inputs[0]])
    z = np.moveaxis(values[nodes["conv2"].inputs[0]], 1, -1).reshape(-1, 12).astype(np.float64)
    target = bittern.load(net).run({"x": x}, taps=["conv2_out"])["conv2_out"]
    wanted = np.moveaxis(target, 1, -1).reshape(-1, 20).astype(np.float64)
    rows = np.concatenate([z, np.ones((len(z), 1))], axis=1)
    solution = np.linalg.lstsq(rows, wanted, rcond=None)[0]
    least = np.square(rows @ solution - wanted).sum()
    weight, bias = (made.constants[name].decode() for name in nodes["conv2"].inputs[1:])
    ours = np.square(z @ weight.reshape(20, 12).T.astype(np.float64) + bias - wanted).sum()
    assert least * (1 - 1e-9) <= ours <= least * (1 + 1e-4)


def test_more_filters_less_error(rng: np.random.Generator) -> None:
    net, x = stack(rng), data(rng)
    last = np.inf
    for filters in (1, 2, 4, 8):
        made = compress(net, recipe="local-binary", calibration=x, filters=filters, exclude=["conv5"])
        weight = next(name for name in made._output_errors)
        if filters < 8:
            assert made._output_errors[weight] < last
            last = made._output_errors[weight]


def test_filters_take_no_bytes(rng: np.random.Generator) -> None:
    """A layer takes its 1x1 weights and biases; what says the filters is a line in the graph."""
    net, x = stack(rng), data(rng)
    for bits in (32, 16):
        made = compress(net, recipe="local-binary", calibration=x, filters=2, bits=bits)
        for name, inputs, outputs in (("conv2", 6, 20), ("conv5", 8, 9)):
            weight = f"{name}.weight"
            layer = [tree for key, tree in made.constants.items() if key.startswith(weight)]
            assert len(layer) == 3
            assert sum(tree.nbytes for tree in layer) == 2 * inputs * outputs * bits // 8 + 4 * outputs
            line = json.dumps(made.constants[f"{weight}.filters"].to_json(lambda *_: ""), separators=(",", ":"))
            assert len(line) < 100
    assert len(json.dumps(write_graph(made, {}))) < 4000


def test_it_composes(rng: np.random.Generator) -> None:
    """Other recipes take the mixture, leave the filters alone, and these run on codes."""
    net, x = stack(rng), data(rng)
    made = compress(net, recipe="local-binary", calibration=x, filters=2)
    small = compress(made, recipe="int8", calibration=x)
    for name in ("conv2.weight.filters", "conv5.weight.filters"):
        assert isinstance(small.constants[name], enc.Seeded)
    plan = {layer.name: layer for layer in bittern.load(small).plan_for({"x": (1, 3, 10, 9)}).layers}
    assert plan["conv2_filters"].kernel.startswith("gemm_u8_"), plan["conv2_filters"]
    output = made.outputs[0].name
    exact, found = (bittern.load(one).run({"x": x})[output] for one in (made, small))
    assert np.square(found - exact).mean() < 0.01 * np.square(exact).mean()
    ops = Counter(node.op for node in compress(made, recipe="local-binary", calibration=x, filters=2).nodes)
    assert ops["Conv"] == 7, "filters are not replaced by filters"


def test_options(rng: np.random.Generator) -> None:
    net, x = stack(rng), data(rng)
    first = compress(net, recipe="local-binary", calibration=x, filters=1, first_layer=True, exclude=["conv2"])
    names = {node.name for node in first.nodes}
    assert "conv1_filters" in names and "conv2_filters" not in names
    again = compress(net, recipe="local-binary", calibration=x, filters=1, first_layer=True, exclude=["conv2"])
    assert first.to_bytes() == again.to_bytes()
    kept = compress(net, recipe="local-binary", calibration=x, filters=9, exclude=["conv2"])
    assert "not smaller" in str(kept.summary()) and len(kept.nodes) == len(net.nodes)
    cases: dict[str, dict[str, Any]] = {
        "filters": {"filters": 0}, "density": {"density": 0}, "bits": {"bits": 8}, "seed": {"seed": -1},
        "ridge": {"ridge": -1}, "unknown option 'levels'": {"levels": 2}, "exclude": {"exclude": ["conv9"]},
        "samples": {"samples": 0}, "first_layer": {"first_layer": 1},
    }  # fmt: skip
    for problem, options in cases.items():
        with pytest.raises(InputError, match=problem):
            compress(net, recipe="local-binary", calibration=x, **options)
    assert "random samples" in str(compress(net, recipe="local-binary", filters=2).summary())
