"""The recipe that prunes 3x3 convolutions in Winograd's domain."""

from typing import Any

import bittern
import numpy as np
import pytest
from bittern.compression import compress
from bittern.compression.winograd import prune_positions, winograd_weights
from bittern.encodings import Dense, Sparse
from bittern.errors import InputError
from bittern.network import Network

from tests.builders import floats
from tests.compare import assert_equal, assert_within
from tests.reference import winograd

KINDS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "first": ((16, 3, 3, 3), {"pads": [1, 1, 1, 1]}),
    "plain": ((16, 16, 3, 3), {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1, 0, 2, 1]}),
    "same": ((16, 16, 3, 3), {"auto_pad": "SAME_LOWER"}),
    "valid": ((16, 16, 3, 3), {"auto_pad": "VALID"}),
    "grouped": ((16, 8, 3, 3), {"group": 2}),
    "strided": ((16, 16, 3, 3), {"strides": [2, 1], "pads": [1, 1, 1, 1]}),
    "dilated": ((16, 16, 3, 3), {"dilations": [1, 2], "pads": [2, 2, 2, 2]}),
    "wide": ((16, 16, 3, 2), {}),
    "last": ((9, 16, 3, 3), {}),
}


def stack(rng: np.random.Generator) -> Network:
    """A chain of convolutions of all kinds; batch normalisation and a Relu behind each, a bias of some."""
    net = Network("stack")
    net.add_input("x", ["N", 3, 26, 19])
    value = "x"
    for index, (name, (shape, attributes)) in enumerate(KINDS.items()):
        net.add_constant(f"{name}.w", floats(rng, *shape) / np.float32(np.sqrt(np.prod(shape[1:]) / 2)))
        inputs = [value, f"{name}.w"]
        if index % 2:
            net.add_constant(f"{name}.b", floats(rng, shape[0]))
            inputs.append(f"{name}.b")
        net.add_node("Conv", inputs, [f"{name}.c"], name, **attributes)
        parameters = [f"{name}.{which}" for which in ("scale", "shift", "mean", "variance")]
        for parameter in parameters:
            net.add_constant(parameter, np.abs(floats(rng, shape[0])) + np.float32(0.5))
        net.add_node("BatchNormalization", [f"{name}.c", *parameters], [f"{name}.n"])
        value = f"{name}.r"
        net.add_node("Relu", [f"{name}.n"], [value])
    net.set_outputs([value])
    return net


def replaced(net: Network) -> set[str]:
    """The nodes whose weights are in Winograd's domain."""
    return {node.name for node in net.nodes if node.op == "WinogradConv"}


@pytest.mark.parametrize("m", [2, 4])
def test_all_weights_kept_is_the_same_network(m: int, rng: np.random.Generator) -> None:
    """And which convolutions are taken."""
    net, x = stack(rng), floats(rng, 2, 3, 26, 19)
    made = compress(net, recipe="winograd", density=1, m=m, first_layer=True)
    assert replaced(made) == {"first", "plain", "same", "valid", "last"}
    expected, found = (bittern.load(each).run({"x": x})["last.r"] for each in (net, made))
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
    notes = str(made.summary())
    assert "kept: a convolution in groups" in notes and "kept: its stride or dilation is not 1" in notes


@pytest.mark.parametrize("m", [2, 4])
def test_the_largest_of_each_position_stay(m: int, rng: np.random.Generator) -> None:
    w = floats(rng, 8, 6, 3, 3)
    exact = winograd_weights(w, m)
    expected = winograd.transformed_weights(w, m)
    assert_within(exact, expected, 2.0**-23 * np.abs(expected))
    exact[:, :, 1, 2] *= 100  # of another scale: no larger share of it stays
    exact[:, :, 2, 2] = 0
    pruned = prune_positions(exact, 0.25)
    assert np.count_nonzero(pruned) == exact.size // 4
    kept = pruned != 0
    assert_equal(pruned[kept], exact[kept])
    spread = np.sqrt(np.square(exact.astype(np.float64)).mean(axis=(0, 1), keepdims=True))
    score = np.abs(exact) / np.where(spread > 0, spread, 1)
    assert score[kept].min() >= score[~kept].max()
    assert abs(kept[:, :, 1, 2].mean() - 0.25) < 0.15 and not kept[:, :, 2, 2].any()


def test_what_is_reported_and_written(rng: np.random.Generator) -> None:
    """Shares, errors of weights and outputs; the file runs as it says; other recipes go on from it."""
    net, x = stack(rng), floats(rng, 6, 3, 26, 19)
    made = compress(net, recipe="winograd", density=0.25, calibration=x, exclude=["last"])
    whole = compress(net, recipe="winograd", density=1)
    assert replaced(made) == {"plain", "same", "valid"}
    rows = {row.name: row for row in made.summary().rows}
    for name in ("plain", "same", "valid"):
        tree, row = made.constants[f"{name}.w.winograd"], rows[f"{name}.w.winograd"]
        assert isinstance(tree, Sparse) and np.count_nonzero(tree.decode()) == 16 * 16 * 16 // 4
        exact = whole.constants[f"{name}.w.winograd"].decode()
        error = np.linalg.norm(tree.decode() - exact) / np.linalg.norm(exact)
        assert row.error == pytest.approx(error, rel=1e-4) and 0.1 < error < 0.7
        assert row.note.startswith("F(2x2, 3x3), pruned to 25 %, output ") and row.output_error is not None
    again = bittern.convert(bittern.convert(made.to_bytes()).to_onnx())
    y = [bittern.load(each).run({"x": x})["last.r"] for each in (made, again)]
    assert np.abs(y[0] - y[1]).max() <= 1e-5 * np.abs(y[0]).max()
    kernels = [layer.kernel for layer in bittern.load(made).plan.layers if layer.op == "WinogradConv"]
    assert len(kernels) == 3 and all("winograd_" in kernel for kernel in kernels)
    codes = compress(made, recipe="deep-compression", bits=4)
    assert codes.constants["same.w.winograd"].nbytes < made.constants["same.w.winograd"].nbytes / 3
    further: dict[str, dict[str, Any]] = {"winograd": {}, "prune": {"sparsity": 0.5}, "int8": {}}
    for recipe, options in further.items():
        other = compress(made, recipe=recipe, **options)
        assert replaced(other) >= replaced(made)
        assert_equal(other.constants["same.w.winograd"].decode(), made.constants["same.w.winograd"].decode())
        assert np.isfinite(bittern.load(other).run({"x": x})["last.r"]).all()


def test_densities_by_name(rng: np.random.Generator) -> None:
    """Only these layers; a weight that two nodes use stays one."""
    net = stack(rng)
    made = compress(net, recipe="winograd", density={"same": 0.5, "first.w": 0.125})
    assert replaced(made) == {"first", "same"}
    assert np.count_nonzero(made.constants["first.w.winograd"].decode()) == 16 * 3 * 16 // 8
    twice = Network("twice")
    twice.add_input("x", (1, 8, 9, 9))
    twice.add_constant("w", floats(rng, 8, 8, 3, 3))
    for source, target in (("x", "a"), ("a", "b"), ("b", "y")):
        twice.add_node("Conv", [source, "w"], [target], f"to_{target}", pads=[1, 1, 1, 1])
    twice.set_outputs(["y"])
    made = compress(twice, recipe="winograd")
    assert replaced(made) == {"to_b", "to_y"} and set(made.constants) == {"w", "w.winograd"}
    whole = compress(twice, recipe="winograd", density=1, first_layer=True)
    assert set(whole.constants) == {"w.winograd"} and isinstance(whole.constants["w.winograd"], Dense)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"density": 0}, "density: is 0"),
        ({"density": {"same": 2}}, "density of same: is 2"),
        ({"density": {"none": 0.5}}, "no weight or node is named 'none'"),
        ({"m": 3}, "m: is 3; use one of 2, 4"),
        ({"exclude": "same"}, "exclude: is 'same'"),
        ({"exclude": ["none"]}, "no weight or node is named 'none'"),
        ({"first_layer": 1}, "first_layer: is 1"),
        ({"levels": 2}, "unknown option 'levels'; use density, m, exclude, first_layer"),
    ],
    ids=str,
)
def test_wrong_options(options: dict[str, Any], problem: str, rng: np.random.Generator) -> None:
    with pytest.raises(InputError, match=problem):
        compress(stack(rng), recipe="winograd", **options)
