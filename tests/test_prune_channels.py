"""Channels out of the graph: the same outputs where what went was zero; filters by norm; dead neurons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import bittern
import numpy as np
import pytest
from bittern.compression.prune.channels import without as prune_without
from bittern.compression.prune.coupling import Couplings
from bittern.encodings import Dense
from bittern.errors import InputError, UnsupportedError
from bittern.network import Network

from tests.pruned_networks import Maker, branches, residual
from tests.reference.arrays import Array


def zeroed(net: Network, rows: Mapping[str, Sequence[int]]) -> Network:
    """Without these outputs of layers: weight and bias zero, and what normalisation adds to them."""
    made = net.copy()
    for name, gone in rows.items():
        node = next(node for node in net.nodes if node.name == name)
        across = node.op == "Gemm" and not node.attributes.get("transB", 0)
        for constant in node.inputs[1:]:
            array = made.constants[constant].decode()
            if array.ndim > 1 and across:
                array[:, list(gone)] = 0
            else:
                array[list(gone)] = 0
            made.constants[constant] = Dense(array)
        for norm in (node for node in net.nodes if node.op == "BatchNormalization"):
            if norm.inputs[0] in (name, "sum1") and (name == "shortcut" or norm.inputs[0] == name):
                for constant in norm.inputs[2:4]:
                    array = made.constants[constant].decode()
                    array[list(gone)] = 0
                    made.constants[constant] = Dense(array)
    return made


def close(first: Network, second: Network, x: Array) -> None:
    """Equal outputs, to 1e-6 of the largest."""
    one, two = bittern.load(first).run({"x": x}), bittern.load(second).run({"x": x})
    for name, expected in one.items():
        assert two[name].shape == expected.shape
        assert np.abs(two[name] - expected).max() <= 1e-6 * np.abs(expected).max()


def without(size: int, gone: Sequence[int]) -> list[int]:
    """The numbers below ``size`` that are not gone."""
    return [index for index in range(size) if index not in gone]


def shapes(net: Network) -> dict[str, tuple[int, ...]]:
    return {name: tree.shape for name, tree in net.constants.items()}


def test_a_residual_network_loses_channels(rng: np.random.Generator) -> None:
    net, x = residual(rng), rng.standard_normal((2, 3, 6, 6)).astype(np.float32)
    rows = {"stem": [1, 5], "a1": [0], "a2": [2, 3, 11], "shortcut": [2, 3, 11], "b2": [2, 3, 11], "fc1": [4, 8]}
    masked = zeroed(net, rows)
    keep = {"stem": without(8, [1, 5]), "a1": without(6, [0]), "r1": without(12, [2, 3, 11]), "fc1": without(9, [4, 8])}
    small = bittern.remove_channels(masked, keep)
    close(masked, small, x)
    found = shapes(small)
    assert found["stem.w"] == (6, 3, 3, 3) and found["a1.w"] == (5, 6, 3, 3) and found["a2.w"] == (9, 5, 3, 3)
    assert found["shortcut.w"] == (9, 6, 1, 1) and found["b1.w"] == (10, 9, 3, 3) and found["b2.w"] == (9, 10, 3, 3)
    assert found["fc1.w"] == (7, 9 * 9) and found["fc2.w"] == (7, 5) and found["r1.gamma"] == (9,)
    assert found["fc1.b"] == (7,) and small.problems() == []
    close(small, Network.load(small.to_bytes()), x)


def test_branches_groups_and_shuffles_lose_channels(rng: np.random.Generator) -> None:
    net, x = branches(rng), rng.standard_normal((2, 3, 6, 6)).astype(np.float32)
    gone = [1, 5, 9]  # one of each group of four, and not the same in their order
    gone_dw = [2, 3, 16, 17]  # what the depthwise convolution makes of channels 1 of left and 4 of right
    masked = zeroed(
        net, {"left": [1], "right": [4], "dw": gone_dw, "mix": gone, "after": [0, 2, 5], "grouped": [0, 2, 5]}
    )
    keep = {"left": without(4, [1]), "right": without(8, [4]), "mix": without(12, gone), "total": without(6, [0, 2, 5])}
    small = bittern.remove_channels(masked, keep)
    close(masked, small, x)
    found = shapes(small)
    assert found["dw.w"] == (20, 1, 3, 3) and found["slope"] == (20, 1, 1) and found["factor"] == (1, 20, 1, 1)
    assert found["mix.w"] == (9, 20, 1, 1) and found["after.w"] == (3, 9, 3, 3) and found["grouped.w"] == (3, 3, 3, 3)
    groups = {node.name: node.attributes.get("group", 1) for node in small.nodes if node.op == "Conv"}
    assert groups["dw"] == 10 and groups["grouped"] == 3
    # Different members of the groups: the shuffle gives another order, which the next weights follow.
    gone = [0, 6, 11]
    masked = zeroed(net, {"mix": gone})
    close(masked, bittern.remove_channels(masked, {"mix": without(12, gone)}), x)


@pytest.mark.parametrize("sizes", [[3, 5], None])
def test_splits_moves_and_reductions(sizes: list[int] | None, rng: np.random.Generator) -> None:
    m = Maker(rng)
    first = m.node("Relu", [m.conv("x", "first", 8, 3)], "first.r")
    if sizes is not None:
        m.net.add_constant("sizes", np.array(sizes, np.int64))
        m.net.add_node("Split", [first, "sizes"], ["p", "q"], "cut", axis=1)
    else:
        m.net.add_node("Split", [first], ["p", "q"], "cut", axis=1, num_outputs=2)
    m.net.add_constant("pads", np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64))
    m.net.add_constant("scales", np.array([1, 1, 2, 2], np.float32))
    wide = m.conv(m.node("Pad", ["p", "pads"], "padded"), "second", 5, (sizes or [4, 4])[0])
    grown = m.node("Resize", ["q", "", "scales"], "grown", mode="nearest")
    last = m.node("Transpose", [grown], "last", perm=[0, 2, 3, 1])
    m.net.add_constant("matrix", m.numbers((sizes or [4, 4])[1], 6))
    product = m.node("MatMul", [last, "matrix"], "product")
    m.net.add_constant("axes", np.array([1, 2], np.int64))
    means = m.node("ReduceMean", [product, "axes"], "means", keepdims=0)
    m.net.add_constant("spatial", np.array([2, 3], np.int64))
    other = m.node("Squeeze", [m.node("ReduceMax", [wide, "spatial"], "most"), "spatial"], "other")
    m.net.add_constant("flat", np.array([0, 11], np.int64))
    joined = m.node(
        "Reshape", [m.node("Concat", [m.node("Relu", [means], "mr"), other], "joined", axis=1), "flat"], "end"
    )
    m.fc(joined, "fc", 4, 11)
    m.net.set_outputs(["fc"])
    rows = {"first": [0, 6], "second": [1]}
    masked = zeroed(m.net, rows)
    matrix = masked.constants["matrix"].decode()
    matrix[:, [2, 5]] = 0
    masked.constants["matrix"] = Dense(matrix)
    keep = {"first": without(8, [0, 6]), "second": without(5, [1]), "product": without(6, [2, 5])}
    small = bittern.remove_channels(masked, keep)
    close(masked, small, rng.standard_normal((2, 3, 6, 6)).astype(np.float32))
    found = shapes(small)
    assert found["matrix"] == (((sizes or [4, 4])[1]) - 1, 4) and found["fc.w"] == (8, 4)
    if sizes is None:
        with pytest.raises(UnsupportedError, match="splits evenly"):
            bittern.remove_channels(m.net, {"first": without(8, [0, 1])})


def test_a_weight_that_is_read_in_both_directions(rng: np.random.Generator) -> None:
    """One matrix of a product and, transposed, of another: each is cut along its own axes."""
    net = Network("tied")
    net.add_input("x", (2, 6))
    for name, size in (("v", 6), ("w", 6), ("o", 3)):
        net.add_constant(name, rng.standard_normal((6, size)).astype(np.float32))
    net.add_node("MatMul", ["x", "v"], ["a"])
    net.add_node("MatMul", ["a", "w"], ["b"])
    net.add_node("Gemm", ["a", "w"], ["c"], transB=1)
    net.add_node("Add", ["b", "c"], ["d"])
    net.add_node("MatMul", ["d", "o"], ["y"])
    net.set_outputs(["y"])
    first, second = [0, 2, 3, 5], [1, 2, 4, 5]
    small = bittern.remove_channels(net, {"a": first, "d": second})
    x = rng.standard_normal((2, 6)).astype(np.float32)
    v, w, o = (net.constants[name].decode() for name in "vwo")
    a = (x @ v)[:, first]
    expected = (a @ w[np.ix_(first, second)] + a @ w[np.ix_(second, first)].T) @ o[second]
    np.testing.assert_allclose(bittern.load(small).run({"x": x})["y"], expected, rtol=1e-5, atol=1e-5)


def test_what_cannot_be_removed_is_refused(rng: np.random.Generator) -> None:
    net = residual(rng)
    for keep, error, message in (
        ({"a2": [0, 1], "b2": [0, 2]}, InputError, "goes with channel 1 of"),
        ({"fc2": [0]}, InputError, "output of the network"),
        ({"x": [0]}, InputError, "input of the network"),
        ({"a1": []}, InputError, "at least one of 0 to 5"),
        ({"a1": [6]}, InputError, "0 to 5"),
        ({"nothing": [0]}, InputError, "not a value"),
        ({"a1.w": [0]}, InputError, "no channels"),
    ):
        with pytest.raises(error, match=message):
            bittern.remove_channels(net, keep)
    with pytest.raises(UnsupportedError, match=r"groups keep 3, 4, 4"):
        bittern.remove_channels(branches(rng), {"mix": without(12, [0])})
    m = Maker(rng)
    m.node("LRN", [m.conv("x", "c", 6, 3)], "lrn", size=3)
    m.conv("lrn", "d", 4, 6)
    m.net.set_outputs(["d"])
    with pytest.raises(UnsupportedError, match=r"lrn.*LRN"):
        bittern.remove_channels(m.net, {"c": [0, 1]})


def test_products_fall_as_counted(rng: np.random.Generator) -> None:
    """A filter less saves its own products, and one input of those that read it (Li et al., section 3.1)."""

    def products(net: Network) -> dict[str, float]:
        return {layer.name: layer.macs for layer in bittern.load(net).plan.layers if layer.macs}

    net = residual(rng)
    small = bittern.remove_channels(net, {"a1": without(6, [0, 3]), "b1": without(10, [9])})
    before, after = products(net), products(small)
    lost = {"a1": 2 * 8 * 9 * 36, "a2": 2 * 12 * 9 * 36, "b1": 12 * 9 * 36, "b2": 12 * 9 * 36}
    assert {name: before[name] - after[name] for name in before} == {**dict.fromkeys(before, 0), **lost}


@pytest.mark.parametrize("policy", ["independent", "greedy"])
def test_filters_by_norm(policy: str, rng: np.random.Generator) -> None:
    net, x = residual(rng), rng.standard_normal((2, 3, 6, 6)).astype(np.float32)
    small = bittern.prune_filters(net, 0.5, policy=policy)
    found = shapes(small)
    assert found["stem.w"][0] == 4 and found["a1.w"][0] == 3 and found["b1.w"][0] == 5 and found["fc1.w"][0] == 5
    assert found["a2.w"][0] == found["b2.w"][0] == found["shortcut.w"][0] == 6 and found["fc2.w"] == (5, 5)
    assert bittern.load(small).run({"x": x})["fc2"].shape == (2, 5) and any(
        "kept all filters of fc2" in r for r in small._remarks
    )
    weights = {name: net.constants[f"{name}.w"].decode().astype(np.float64) for name in ("stem", "a1", "shortcut")}
    stem = np.sort(np.argsort(np.abs(weights["stem"]).sum(axis=(1, 2, 3)))[4:])
    assert np.array_equal(small.constants["stem.w"].decode(), weights["stem"][stem].astype(np.float32))
    # The projection decides for the sum; greedily, by what it still meets.
    met = stem if policy == "greedy" else np.arange(8)
    wanted = np.sort(np.argsort(np.abs(weights["shortcut"][:, met]).sum(axis=(1, 2, 3)))[6:])
    assert np.array_equal(
        small.constants["shortcut.w"].decode()[:, :, 0, 0],
        weights["shortcut"][wanted][:, stem, 0, 0].astype(np.float32),
    )
    inner = np.sort(np.argsort(np.abs(weights["a1"][:, met]).sum(axis=(1, 2, 3)))[3:])
    assert np.array_equal(small.constants["a1.w"].decode(), weights["a1"][inner][:, stem].astype(np.float32))


def test_filters_of_named_layers(rng: np.random.Generator) -> None:
    net = residual(rng)
    small = bittern.prune_filters(net, {"b1": 0.3})
    assert shapes(small)["b1.w"] == (7, 12, 3, 3) and shapes(small)["a1.w"] == (6, 8, 3, 3)
    with pytest.raises(InputError, match="below 1"):
        bittern.prune_filters(net, 1.0)
    with pytest.raises(InputError, match="nobody"):
        bittern.prune_filters(net, {"nobody": 0.5})
    with pytest.raises(UnsupportedError, match="output of the network"):
        m = Maker(rng)
        m.net.set_outputs([m.conv("x", "c", 4, 3)])
        bittern.prune_filters(m.net, 0.5)


def test_dead_neurons_become_biases(rng: np.random.Generator) -> None:
    m = Maker(rng)
    c1 = m.norm(m.conv("x", "c1", 8, 3), "r1", 8)
    c2 = m.node("Relu", [m.conv(c1, "c2", 6, 8, kernel=1)], "r2")
    m.conv(c2, "c3", 6, 6)
    flat = m.node("Flatten", [m.node("GlobalAveragePool", ["c3"], "mean")], "flat")
    m.net.add_constant("fc1.w", m.numbers(6, 7))
    m.node("MatMul", [flat, "fc1.w"], "fc1")
    m.fc(m.node("Sigmoid", ["fc1"], "h"), "fc2", 4, 7)
    m.net.set_outputs(["fc2"])
    net, x = m.net, rng.standard_normal((2, 3, 6, 6)).astype(np.float32)
    for name, gone in (("c1.w", [2, 3]), ("c2.w", [4]), ("c3.w", [1])):
        array = net.constants[name].decode()
        array[gone] = 0
        net.constants[name] = Dense(array)
    array = net.constants["fc1.w"].decode()
    array[:, 5] = 0  # a neuron that says sigmoid(0)
    net.constants["fc1.w"] = Dense(array)
    array = net.constants["fc2.w"].decode()
    array[0] = 0  # and one that nobody reads
    net.constants["fc2.w"] = Dense(array)
    bias = net.constants["c2.b"].decode()
    bias[4] = 0.75  # c3 pads its input, so this channel has to stay
    net.constants["c2.b"] = Dense(bias)
    small = bittern.fold_dead_neurons(net)
    close(net, small, x)
    found = shapes(small)
    assert found["c1.w"] == (6, 3, 3, 3) and found["c2.w"] == (6, 6, 1, 1) and found["c3.w"][0] == 5
    assert found["fc1.w"] == (5, 5) and found["fc2.w"] == (5, 4)
    bias[4] = -0.75  # Relu makes zero of it, which padding is too
    net.constants["c2.b"] = Dense(bias)
    small = bittern.fold_dead_neurons(net)
    close(net, small, x)
    assert shapes(small)["c2.w"] == (5, 6, 1, 1) and small._remarks == ["6 dead neurons removed"]


@pytest.mark.parametrize(
    "name",
    [
        "mlperf_tiny/resnet8_cifar10_float",
        "mlperf_tiny/ad01_toycar_float",
        "squeezenet_dc/squeezenet_dc",
        "ultraface/version-slim-320_simplified",
    ],
)
def test_real_networks_lose_channels(name: str, shared_data: Path, rng: np.random.Generator) -> None:
    """With the weights and biases of what goes at zero, the network without it says the same."""
    pytest.importorskip("onnx")
    net = bittern.convert(shared_data / f"{name}.onnx")
    couplings = Couplings(net)
    fixed = set(couplings.pins())
    layers = [node for node in net.nodes if node.op in ("Conv", "Gemm", "MatMul") and node.outputs[0] in couplings.of]
    roots = {node.outputs[0]: couplings.roots(node.outputs[0]) for node in layers}
    first = {int(root) for found in roots.values() for root in rng.choice(found, found.size // 4, replace=False)}
    removed = first - fixed
    assert len(removed) > 20
    masked = net.copy()
    for node in layers:
        gone = np.isin(roots[node.outputs[0]], list(removed))
        rows_out = node.op == "Conv" or node.attributes.get("transB", 0)
        for constant in node.inputs[1:]:
            array = masked.constants[constant].decode()
            (array.T if array.ndim > 1 and not rows_out else array)[gone] = 0
            masked.constants[constant] = Dense(array)
    small = prune_without(Couplings(masked), removed)
    assert len(small.to_bytes()) < 0.8 * len(net.to_bytes())
    info = net.inputs[0]
    shape = [size if isinstance(size, int) else 1 for size in info.shape or ()]
    x = (50 * rng.standard_normal(shape)).astype(np.float32)
    one, two = (bittern.load(which).run({info.name: x}) for which in (masked, small))
    for output, expected in one.items():
        assert np.abs(two[output] - expected).max() <= 1e-6 * np.abs(expected).max()
