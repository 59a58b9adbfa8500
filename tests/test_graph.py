"""Plans do not change meaning: fusions, folding, shared values, taps, layouts, every operator, random graphs."""

from collections.abc import Mapping, Sequence
from typing import Any

import bittern
import numpy as np
import pytest

from tests import tolerances
from tests.builders import NodeSpec, digits_like, floats, network, one_node, output, reference, small_integers
from tests.compare import assert_equal, assert_within
from tests.conftest import seed_of
from tests.reference import run
from tests.reference.arrays import Array

SAME: dict[str, Any] = {"pads": [1, 1, 1, 1]}


def check(net: bittern.Network, feeds: Mapping[str, Array], isa: str, exact: bool = True, threads: int = 1) -> None:
    """All outputs, and every value as a tap, equal the reference's."""
    model = bittern.load(net, isa=isa, threads=threads, winograd=False)
    taps = [node.outputs[0] for node in net.nodes]
    expected = run(reference(net), feeds, taps)
    results = {"run": model.run(dict(feeds)), "taps": model.run(dict(feeds), taps=taps)}
    assert set(results["taps"]) == set(expected)
    for how, result in results.items():
        for name, value in result.items():
            bound = 0.0 if exact else tolerances.network_bound(expected[name])
            assert_within(value, expected[name], bound, f"{how}: {name}")


def weights(rng: np.random.Generator) -> dict[str, Array]:
    """Constants that the fusion graphs draw from; 17 channels everywhere."""
    return {
        "w": small_integers(rng, 17, 17, 3, 3, limit=2),
        "v": small_integers(rng, 17, 17, 1, 1, limit=2),
        "b": small_integers(rng, 17),
        "channel": small_integers(rng, 17, 1, 1),
        "low": np.array(-2, np.float32),
        "high": np.array(9, np.float32),
    }


FUSIONS: dict[str, list[NodeSpec]] = {
    "conv relu": [("Conv", ["x", "w", "b"], "c", SAME), ("Relu", ["c"], "y", {})],
    "conv clip": [("Conv", ["x", "w", "b"], "c", SAME), ("Clip", ["c", "low", "high"], "y", {})],
    "conv relu clip": [
        ("Conv", ["x", "w"], "c", SAME),
        ("Relu", ["c"], "r", {}),
        ("Clip", ["r", "low", "high"], "y", {}),
    ],
    "clip below zero then relu": [
        ("Conv", ["x", "w"], "c", SAME),
        ("Clip", ["c", "", "low"], "r", {}),
        ("Relu", ["r"], "y", {}),
    ],
    "relu twice": [("Relu", ["x"], "r", {}), ("Relu", ["r"], "y", {})],
    "residual": [("Conv", ["x", "w", "b"], "c", SAME), ("Add", ["c", "x"], "y", {})],
    "residual first": [("Conv", ["x", "w", "b"], "c", SAME), ("Add", ["x", "c"], "a", {}), ("Relu", ["a"], "y", {})],
    "relu before residual": [
        ("Conv", ["x", "w"], "c", SAME),
        ("Relu", ["c"], "r", {}),
        ("Add", ["r", "x"], "y", {}),
    ],
    "sum of two convolutions": [
        ("Conv", ["x", "w"], "c", SAME),
        ("Conv", ["x", "v", "b"], "d", {}),
        ("Add", ["c", "d"], "a", {}),
        ("Relu", ["a"], "y", {}),
    ],
    "doubled": [("Conv", ["x", "w"], "c", SAME), ("Add", ["c", "c"], "y", {})],
    "before and after relu": [
        ("Conv", ["x", "w"], "c", SAME),
        ("Relu", ["c"], "r", {}),
        ("Add", ["c", "r"], "y", {}),
    ],
    "two consumers": [
        ("Conv", ["x", "v"], "c", {}),
        ("Relu", ["c"], "r", {}),
        ("Conv", ["r", "v"], "d", {}),
        ("Conv", ["r", "w"], "e", SAME),
        ("Sub", ["d", "e"], "y", {}),
    ],
    "residual that is made later": [
        ("Conv", ["x", "v"], "c", {}),
        ("Relu", ["x"], "r", {}),
        ("MaxPool", ["r"], "p", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
        ("Add", ["c", "p"], "y", {}),
    ],
    "residual over broadcasting": [("Conv", ["x", "w"], "c", SAME), ("Add", ["c", "channel"], "y", {})],
    "residual of one pixel": [
        ("GlobalMaxPool", ["x"], "g", {}),
        ("Conv", ["x", "w"], "c", SAME),
        ("Add", ["c", "g"], "y", {}),
    ],
    "scaled": [("Conv", ["x", "w", "b"], "c", SAME), ("Mul", ["c", "channel"], "y", {})],
    "subtracted": [("Conv", ["x", "w", "b"], "c", SAME), ("Sub", ["x", "c"], "y", {})],
    "two residuals": [
        ("Conv", ["x", "w"], "c", SAME),
        ("Add", ["c", "x"], "a", {}),
        ("Add", ["a", "x"], "d", {}),
        ("Relu", ["d"], "y", {}),
    ],
    "identities between": [
        ("Conv", ["x", "w"], "c", SAME),
        ("Identity", ["c"], "i", {}),
        ("Dropout", ["i"], "d", {}),
        ("Relu", ["d"], "y", {}),
    ],
    "joined with itself": [
        ("Conv", ["x", "v", "b"], "c", {}),
        ("Concat", ["c", "x", "c"], "j", {"axis": 1}),
        ("Relu", ["j"], "y", {}),
    ],
    "pool between": [
        ("Conv", ["x", "w"], "c", SAME),
        ("MaxPool", ["c"], "p", {"kernel_shape": [2, 2]}),
        ("Relu", ["p"], "y", {}),
    ],
}


@pytest.mark.parametrize("name", FUSIONS)
def test_fusion(name: str, isa: str, rng: np.random.Generator) -> None:
    nodes = FUSIONS[name]
    used = {source for _, sources, _, _ in nodes for source in sources}
    constants = {key: value for key, value in weights(rng).items() if key in used}
    feeds = {"x": small_integers(rng, 2, 17, 5, 7)}
    targets = [target for _, _, target, _ in nodes]
    # Once with the last value alone as the output, once with every intermediate value as an output too.
    for outputs in (targets[-1:], targets[::-1]):
        check(network({"x": (2, 17, 5, 7)}, constants, nodes, outputs), feeds, isa)


def batch_norm_constants(rng: np.random.Generator, channels: int) -> dict[str, Array]:
    """Scale (negative and zero ones among them), shift, mean, variance."""
    scale = floats(rng, channels)
    scale[0], scale[-1] = 0, -1.5
    variance = np.abs(floats(rng, channels)) + np.float32(0.3)
    return {"scale": scale, "shift": floats(rng, channels), "mean": floats(rng, channels), "variance": variance}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("tail", ["", "relu", "residual", "residual relu"])
def test_batch_norm_is_folded(bias: bool, tail: str, isa: str, rng: np.random.Generator) -> None:
    """The folded layer stays within the rounding bound of one convolution."""
    constants = {**batch_norm_constants(rng, 17), "w": floats(rng, 17, 3, 3, 3), "b": floats(rng, 17)}
    if not bias:
        del constants["b"]
    x, residual = floats(rng, 2, 3, 6, 5), floats(rng, 2, 17, 6, 5)
    nodes: list[NodeSpec] = [
        ("Conv", ["x", "w", "b"] if bias else ["x", "w"], "c", SAME),
        ("BatchNormalization", ["c", "scale", "shift", "mean", "variance"], "n", {"epsilon": 1e-3}),
    ]
    inputs: dict[str, Sequence[int]] = {"x": x.shape}
    feeds = {"x": x}
    last = "n"
    if "residual" in tail:
        inputs["residual"], feeds["residual"] = residual.shape, residual
        nodes.append(("Add", [last, "residual"], "a", {}))
        last = "a"
    if "relu" in tail:
        nodes.append(("Relu", [last], "r", {}))
        last = "r"
    net = network(inputs, constants, nodes, [last])
    model = bittern.load(net, isa=isa, winograd=False)
    ops = [layer.op for layer in model.plan.layers]
    assert "BatchNormalization" not in ops, f"not folded: {ops}"
    column = (1, 17, 1, 1)
    factor = np.abs(constants["scale"]) / np.sqrt(constants["variance"].astype(np.float64) + 1e-3)
    absolute = [np.abs(x), np.abs(constants["w"]), *([np.abs(constants["b"])] if bias else [])]
    magnitude = run(
        reference(
            network({"x": x.shape}, {"w": absolute[1], **({"b": absolute[2]} if bias else {})}, nodes[:1], ["c"])
        ),
        {"x": absolute[0]},
    )["c"]
    terms = (magnitude + np.abs(constants["mean"]).reshape(column)) * factor.reshape(column)
    terms = terms + np.abs(constants["shift"]).reshape(column) + np.abs(residual)
    bound = tolerances.dot_bound(27 + tolerances.FOLDED_BATCH_NORM_STEPS, terms)
    assert_within(model.run(feeds)[last], run(reference(net), feeds)[last], bound)


@pytest.mark.parametrize(
    "nodes",
    [
        # Padding adds zeros after the normalisation: its shift must not leak into the border.
        [("BatchNormalization", ["x", *"stuv"], "n", {}), ("Conv", ["n", "w"], "y", SAME)],
        [("Conv", ["x", "w"], "c", SAME), ("Relu", ["c"], "r", {}), ("BatchNormalization", ["r", *"stuv"], "y", {})],
        [
            ("Conv", ["x", "w"], "c", SAME),
            ("BatchNormalization", ["c", *"stuv"], "n", {}),
            ("BatchNormalization", ["n", *"stuv"], "m", {}),
            ("Add", ["c", "m"], "y", {}),
        ],
        [
            ("BatchNormalization", ["x", *"stuv"], "n", {}),
            ("Relu", ["n"], "r", {}),
            ("MaxPool", ["r"], "y", {"kernel_shape": [2, 2]}),
        ],
    ],
    ids=["before padding", "after relu", "twice and shared", "alone"],
)
def test_batch_norm_elsewhere(nodes: list[NodeSpec], isa: str, rng: np.random.Generator) -> None:
    parameters = dict(zip("stuv", batch_norm_constants(rng, 17).values(), strict=True))
    used = {source for _, sources, _, _ in nodes for source in sources}
    constants = parameters | ({"w": floats(rng, 17, 17, 3, 3)} if "w" in used else {})
    x = floats(rng, 1, 17, 6, 7)
    check(network({"x": x.shape}, constants, nodes, ["y"]), {"x": x}, isa, exact=False)


def test_odd_concatenations_feed_convolutions(isa: str, rng: np.random.Generator) -> None:
    constants = {
        "w1": small_integers(rng, 15, 3, 1, 1),
        "w2": small_integers(rng, 1, 3, 3, 3),
        "w3": small_integers(rng, 33, 3, 3, 3),
        "w4": small_integers(rng, 7, 49, 1, 1),
        "w5": small_integers(rng, 5, 56, 3, 3, limit=1),
    }
    nodes: list[NodeSpec] = [
        ("Conv", ["x", "w1"], "a", {}),
        ("Conv", ["x", "w2"], "b", SAME),
        ("Conv", ["x", "w3"], "c", SAME),
        ("Relu", ["c"], "r", {}),
        ("Concat", ["a", "b", "r"], "j", {"axis": 1}),
        ("Conv", ["j", "w4"], "d", {}),
        ("Concat", ["d", "j"], "k", {"axis": -3}),
        ("Conv", ["k", "w5"], "y", SAME),
    ]
    x = small_integers(rng, 2, 3, 5, 6, limit=2)
    for outputs in (["y"], ["y", "j"], ["k", "a", "y"]):
        check(network({"x": x.shape}, constants, nodes, outputs), {"x": x}, isa)


TRANSPOSES = [[1, 0], [2, 0, 1], [0, 2, 1], [2, 1, 0], [0, 2, 3, 1], [0, 3, 1, 2], [3, 1, 0, 2], [0, 4, 2, 1, 3]]


@pytest.mark.parametrize("permutation", TRANSPOSES, ids=str)
def test_transpose(permutation: list[int], isa: str, rng: np.random.Generator) -> None:
    x = floats(rng, *(2, 17, 3, 5, 4)[: len(permutation)])
    check(one_node("Transpose", x, perm=permutation), {"x": x}, isa)
    check(one_node("Transpose", x), {"x": x}, isa)


@pytest.mark.parametrize(
    ("op", "shape", "argument", "attributes"),
    [
        *[("Flatten", (2, 3, 4, 5), None, {"axis": axis}) for axis in (0, 1, 2, 3, 4, -1, -4)],
        ("Flatten", (7,), None, {"axis": 0}),
        ("Flatten", (3, 5), None, {}),
        ("Reshape", (2, 3, 4), [6, -1], {}),
        ("Reshape", (2, 3, 4), [0, 0, 2, 2], {}),
        ("Reshape", (2, 3, 4), [-1], {}),
        ("Reshape", (2, 17, 4, 3), [2, 3, 17, 4], {}),
        ("Reshape", (2, 17, 4, 3), [0, 17, -1], {}),
        ("Reshape", (4, 1), [1, 4, 1, 1], {}),
        ("Squeeze", (1, 3, 1, 5), [0, 2], {}),
        ("Squeeze", (1, 3, 1, 5), [-2], {}),
        ("Unsqueeze", (3, 5), [0], {}),
        ("Unsqueeze", (3, 5), [-1, 1], {}),
        ("Unsqueeze", (17, 4, 4), [0], {}),
        *[("Softmax", (3, 4, 5), None, {"axis": axis}) for axis in (0, 1, 2, -1, -3)],
        ("Softmax", (1, 1), None, {}),
    ],
    ids=str,
)
def test_shape_operators(
    op: str,
    shape: tuple[int, ...],
    argument: list[int] | None,
    attributes: dict[str, Any],
    isa: str,
    rng: np.random.Generator,
) -> None:
    x = floats(rng, *shape)
    constants = {} if argument is None else {"argument": np.array(argument, np.int64)}
    check(one_node(op, x, constants, **attributes), {"x": x}, isa, exact=op != "Softmax")


def test_shape_operators_after_a_convolution(isa: str, rng: np.random.Generator) -> None:
    """Blocked channels are undone before elements are counted."""
    constants = {
        "w": small_integers(rng, 17, 3, 3, 3),
        "shape": np.array([2, 5, -1], np.int64),
        "front": np.array([0], np.int64),
        "m": small_integers(rng, 7, 19),
    }
    nodes: list[NodeSpec] = [
        ("Conv", ["x", "w"], "c", SAME),
        ("Reshape", ["c", "shape"], "a", {}),
        ("Transpose", ["c"], "t", {"perm": [0, 2, 3, 1]}),
        ("Flatten", ["t"], "f", {}),
        ("Unsqueeze", ["c", "front"], "u", {}),
        ("MatMul", ["c", "m"], "p", {}),
        ("Concat", ["t", "t"], "s", {"axis": 3}),
    ]
    x = small_integers(rng, 2, 3, 5, 7)
    check(network({"x": x.shape}, constants, nodes, ["a", "f", "u", "p", "s"]), {"x": x}, isa)


def test_channels_last_network(isa: str, rng: np.random.Generator) -> None:
    constants = {"w": small_integers(rng, 19, 5, 3, 3), "v": small_integers(rng, 3, 19, 1, 1)}
    nodes: list[NodeSpec] = [
        ("Transpose", ["x"], "t", {"perm": [0, 3, 1, 2]}),
        ("Conv", ["t", "w"], "c", {**SAME, "strides": [2, 2]}),
        ("Relu", ["c"], "r", {}),
        ("Conv", ["r", "v"], "d", {}),
        ("Transpose", ["d"], "y", {"perm": [0, 2, 3, 1]}),
    ]
    x = small_integers(rng, 2, 7, 9, 5)
    check(network({"x": x.shape}, constants, nodes, ["y"]), {"x": x}, isa)


def test_constants_are_folded(isa: str, rng: np.random.Generator) -> None:
    """Nodes over constants alone, constants as outputs of nothing, a broadcast constant first."""
    constants = {"p": floats(rng, 3, 1), "q": floats(rng, 1, 4)}
    nodes: list[NodeSpec] = [
        ("Mul", ["p", "q"], "c", {}),
        ("Relu", ["c"], "d", {}),
        ("Sub", ["d", "x"], "y", {}),
    ]
    x = floats(rng, 3, 4)
    check(network({"x": x.shape}, constants, nodes, ["y"]), {"x": x}, isa)


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("Relu", {}),
        ("LeakyRelu", {"alpha": 0.25}),
        ("LeakyRelu", {"alpha": -0.5}),
        ("Identity", {}),
        ("Dropout", {}),
        ("GlobalAveragePool", {}),
        ("GlobalMaxPool", {}),
        ("Sigmoid", {}),
        ("Tanh", {}),
    ],
    ids=str,
)
@pytest.mark.parametrize("after_convolution", [False, True], ids=["alone", "after a convolution"])
def test_unary_operators(
    op: str, attributes: dict[str, Any], after_convolution: bool, isa: str, rng: np.random.Generator
) -> None:
    x = small_integers(rng, 2, 17, 3, 5)
    nodes: list[NodeSpec] = [(op, ["c" if after_convolution else "x"], "y", attributes)]
    constants = {}
    if after_convolution:
        constants["w"] = small_integers(rng, 18, 17, 1, 1, limit=1)
        nodes.insert(0, ("Conv", ["x", "w"], "c", {}))
    exact = op not in ("GlobalAveragePool", "Sigmoid", "Tanh")
    check(network({"x": x.shape}, constants, nodes, ["y"]), {"x": x}, isa, exact)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("threads", [1, 2])
def test_small_network(batch: int, threads: int, isa: str, rng: np.random.Generator) -> None:
    check(digits_like(), {"image": floats(rng, batch, 1, 8, 8)}, isa, exact=False, threads=threads)


def test_taps_do_not_change_the_outputs(isa: str, rng: np.random.Generator) -> None:
    net = digits_like()
    model = bittern.load(net, isa=isa, winograd=False)
    feeds = {"image": floats(rng, 2, 1, 8, 8)}
    plain = model.run(feeds)["scores"]
    tapped = model.run(feeds, taps=["c2", "logits"])
    assert set(tapped) == {"scores", "c2", "logits"}
    assert_within(tapped["scores"], plain, tolerances.network_bound(plain))
    assert_equal(model.run(feeds)["scores"], plain, "after a run with taps")
    with pytest.raises(bittern.InputError, match="no_such_value"):
        model.run(feeds, taps=["no_such_value"])


@pytest.mark.parametrize(("channels", "groups"), [(15, 1), (32, 2)])
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_not_a_number_stays_in_its_window(
    channels: int, groups: int, poison: float, isa: str, rng: np.random.Generator
) -> None:
    """Spare lanes and other images must not see a NaN, nor must other groups of whole blocks; windows over it must."""
    x = floats(rng, 2, channels, 7, 9)
    x[0, 4, 3, 2] = poison
    w = floats(rng, 16 * groups + 2 * (groups == 1), channels // groups, 3, 3)
    net = one_node("Conv", x, {"w": w}, **SAME, group=groups)
    expected = run(reference(net), {"x": x})["y"]
    actual = output(bittern.load(net, isa=isa, winograd=False), x)
    touched = ~np.isfinite(expected)
    assert 0 < touched.sum() < expected.size / 4
    leaks = ~np.isfinite(actual) & ~touched
    assert not leaks.any(), f"{poison} in channel 4 reached {int(leaks.sum())} values that do not depend on it"
    assert not np.isfinite(actual[touched]).any()
    assert_within(actual[~touched], expected[~touched], tolerances.network_bound(expected[~touched]))


def test_division_leaves_nothing_in_spare_lanes(isa: str, rng: np.random.Generator) -> None:
    """0 / 0 in the lanes between the last channel and the end of its block must not reach the next layer."""
    constants = {"low": np.array(1, np.float32), "w": floats(rng, 5, 17, 3, 3), "m": floats(rng, 19, 17, 1, 1)}
    nodes: list[NodeSpec] = [
        ("MaxPool", ["x"], "p", {"kernel_shape": [2, 2]}),
        ("Clip", ["p", "low"], "q", {}),
        ("Div", ["p", "q"], "d", {}),
        ("Conv", ["d", "w"], "c", SAME),
        ("Conv", ["d", "m"], "e", {}),
        ("Concat", ["d", "c"], "j", {"axis": 1}),
        ("GlobalAveragePool", ["j"], "g", {}),
    ]
    x = floats(rng, 2, 17, 6, 5)
    check(network({"x": x.shape}, constants, nodes, ["e", "g"]), {"x": x}, isa, exact=False)


def random_network(rng: np.random.Generator) -> tuple[bittern.Network, Array]:
    """A graph of random wiring whose values stay small integers, so that every result is exact."""
    height, width = (int(rng.integers(3, 9)) for _ in range(2))
    first = int(rng.choice([1, 3, 8, 16, 17]))
    x = small_integers(rng, int(rng.integers(1, 3)), first, height, width)
    channels = {"x": first}
    constants: dict[str, Array] = {"low": np.array(-8, np.float32), "high": np.array(8, np.float32)}
    nodes: list[NodeSpec] = []

    def add(op: str, sources: Sequence[str], count: int, **attributes: Any) -> str:
        name = f"v{len(nodes)}"
        nodes.append((op, sources, name, attributes))
        channels[name] = count
        return name

    for index in range(int(rng.integers(6, 16))):
        source = str(rng.choice(sorted(channels)[-4:]))
        count = channels[source]
        kind = str(rng.choice(["conv", "conv", "conv", "relu", "pair", "pair", "pool", "concat"]))
        partners = [name for name in channels if channels[name] == count]
        if kind == "conv":
            size = int(rng.choice([1, 3]))
            filters = int(rng.choice([1, 5, 15, 16, 17, 33]))
            constants[f"w{index}"] = rng.integers(-1, 2, (filters, count, size, size)).astype(np.float32)
            target = add("Conv", [source, f"w{index}"], filters, pads=[size // 2] * 4)
            if rng.integers(2):
                target = add("Relu", [target], filters)
            add("Clip", [target, "low", "high"], filters)
        elif kind == "relu":
            add("Relu", [source], count)
        elif kind == "pair":
            op = str(rng.choice(["Add", "Add", "Sub", "Mul"]))
            target = add(op, [source, str(rng.choice(partners))], count)
            add("Clip", [target, "low", "high"], count)
        elif kind == "pool":
            add("MaxPool", [source], count, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        elif count < 60:
            other = str(rng.choice(sorted(channels)))
            add("Concat", [source, other], count + channels[other], axis=1)
    used = {name for _, sources, _, _ in nodes for name in sources}
    outputs = [target for _, _, target, _ in nodes if target not in used]
    outputs += [str(rng.choice([target for _, _, target, _ in nodes]))]
    return network({"x": x.shape}, {k: v for k, v in constants.items() if k in used}, nodes, sorted(set(outputs))), x


@pytest.mark.parametrize("index", range(30))
def test_random_graph(index: int, isa: str) -> None:
    """Values that live at the same time never share memory: exact over random wirings."""
    net, x = random_network(np.random.default_rng(seed_of(f"graph{index}")))
    check(net, {"x": x}, isa, threads=1 + index % 2)


def test_random_graphs_are_not_trivial() -> None:
    """The generator makes values that differ from zero and from each other."""
    for index in range(10):
        net, x = random_network(np.random.default_rng(seed_of(f"graph{index}")))
        results = run(reference(net), {"x": x})
        assert len(net.nodes) >= 5
        assert any(np.unique(value).size > 3 for value in results.values())
