"""Every encoding decoded three times, by the engine, by the package's Python and by the reference: all bits equal."""

from collections.abc import Sequence

import bittern
import numpy as np
import pytest

from tests.builders import output
from tests.compare import assert_same_bits
from tests.encoding_samples import Samples, all_samples
from tests.rawfile import assemble, by_size
from tests.reference import decode, parse
from tests.reference.arrays import Array


@pytest.fixture(scope="module")
def samples() -> Samples:
    """All constants, the same in every run."""
    return all_samples(np.random.default_rng(20240229))


def file_of(samples: Samples, order: Sequence[str] | None = None) -> bytes:
    """A file that holds the constants beside a graph that uses none of them."""
    value = {"dtype": "f32", "shape": [1]}
    graph = {
        "name": "constants",
        "inputs": [{"name": "x", **value}],
        "outputs": [{"name": "y", **value}],
        "constants": samples.constants,
        "nodes": [{"name": "same", "op": "Identity", "inputs": ["x"], "outputs": ["y"], "attributes": {}}],
        "metadata": {},
    }
    return assemble(graph, samples.leaves, order=order)


def by_reference(data: bytes) -> dict[str, Array]:
    """All constants by the reference decoder."""
    graph, leaves = parse(data)
    return {name: decode(tree, leaves) for name, tree in graph["constants"].items()}


def unaligned_order(samples: Samples) -> list[str]:
    """Bytes before wider elements: a leaf of odd size first, then the rest with the smallest elements first."""
    order = list(reversed(by_size(samples.leaves)))
    odd = next(name for name in order if samples.leaves[name].dtype == "U8" and len(samples.leaves[name].data) % 2)
    order.remove(odd)
    wide = [name for name in order if samples.leaves[name].dtype in ("F32", "I64", "U32", "F16", "BF16")]
    return [odd, *wide, *(name for name in order if name not in wide)]


def compare_all(actual: dict[str, Array], expected: dict[str, Array], who: str) -> None:
    """All constants agree; every failure is listed."""
    assert sorted(actual) == sorted(expected)
    problems = []
    for name, array in expected.items():
        try:
            assert_same_bits(actual[name], array, name)
        except AssertionError as error:
            problems.append(str(error))
    assert not problems, f"{who}: {len(problems)} constants wrong:\n" + "\n".join(problems[:20])


@pytest.mark.parametrize("layout", ["aligned", "unaligned"])
def test_engine_and_package_agree_with_the_reference(samples: Samples, layout: str) -> None:
    data = file_of(samples, unaligned_order(samples) if layout == "unaligned" else None)
    expected = by_reference(data)
    model = bittern.load(data)
    assert sorted(model.constants) == sorted(expected)
    compare_all({name: model.constant(name) for name in model.constants}, expected, "engine")
    net = bittern.Network.load(data)
    compare_all({name: encoding.decode() for name, encoding in net.constants.items()}, expected, "package")


def test_rewritten_file_means_the_same(samples: Samples) -> None:
    data = file_of(samples, unaligned_order(samples))
    expected = by_reference(data)
    written = bittern.Network.load(data).to_bytes()
    assert written == bittern.Network.load(written).to_bytes()
    compare_all(by_reference(written), expected, "rewritten, by the reference")
    model = bittern.load(written)
    compare_all({name: model.constant(name) for name in model.constants}, expected, "rewritten, by the engine")


def test_decoded_constants_drive_the_computation(samples: Samples, rng: np.random.Generator) -> None:
    """A weight that came through an encoding multiplies like the dense weight of the same values."""
    data = file_of(samples)
    expected = by_reference(data)
    encodings = bittern.Network.load(data).constants
    tile = next(kernel.name for kernel in bittern.kernels() if kernel.loop == "gemm")
    for name in (
        "affine.axis0",
        "codebook.axis1",
        "ternary.axis0",
        "signs.tensor",
        "sparse.5x3x3x2.0.3.huffman.codebook",
    ):
        x = rng.integers(-3, 4, (1, 3, 6, 7)).astype(np.float32)
        outputs = []
        for weight in (encodings[name], expected[name]):
            net = bittern.Network("one")
            net.add_input("x", x.shape)
            net.add_constant("w", weight)
            net.add_node("Conv", ["x", "w"], ["y"], name="conv")
            net.set_outputs(["y"])
            # Ternary weights add first and multiply by their two values behind the sums: other roundings.
            kernels = [tile] if name.startswith("ternary") else []
            outputs.append(output(bittern.load(net, kernels=kernels), x))
        assert_same_bits(outputs[0], outputs[1], name)


def test_unknown_constant_name_is_an_error(samples: Samples) -> None:
    model = bittern.load(file_of(samples))
    with pytest.raises(bittern.InputError, match="no_such_constant"):
        model.constant("no_such_constant")
