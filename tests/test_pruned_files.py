"""Pruned networks as files and in the engine: the published size, damage anywhere, sparse convolutions of any shape."""

from __future__ import annotations

import bittern
import numpy as np
import pytest
from bittern.compression import compress
from bittern.encodings import Codebook, Dense, Huffman, Rans, RelativeIndex, Sparse
from bittern.network import Network

from tests.builders import floats
from tests.compare import assert_same_bits, differences
from tests.conftest import seed_of
from tests.kernels.convolution import Convolution, ConvolutionBound
from tests.reference import load_file, run

ALEXNET = (  # outputs, inputs and kernel with a quarter of the channels; the published density; bits of the values
    ((24, 3, 11, 11), 0.84, 8), ((64, 12, 5, 5), 0.38, 8), ((96, 64, 3, 3), 0.35, 8), ((96, 48, 3, 3), 0.37, 8),
    ((64, 48, 3, 3), 0.37, 8), ((1024, 2304, 1, 1), 0.09, 4), ((1024, 1024, 1, 1), 0.09, 4),
    ((250, 1024, 1, 1), 0.25, 4),
)  # fmt: skip


def test_a_pruned_alexnet_is_thirty_times_smaller(rng: np.random.Generator) -> None:
    """With Laplace weights and the densities of Deep Compression (1510.00149), by the bytes of the weights alone."""
    small = floats_bytes = 0
    for index, (shape, density, bits) in enumerate(ALEXNET):
        weight = rng.laplace(scale=0.02, size=shape).astype(np.float32)
        net = Network("layer")
        net.add_input("x", ("N", shape[1], 11, 11))
        net.add_constant("w", weight)
        net.add_node("Conv", ["x", "w"], ["y"], "conv")
        net.set_outputs(["y"])
        tree = compress(net, recipe="deep-compression", density=density, bits=bits).constants["w"]
        kept = tree.decode() != 0
        assert abs(kept.mean() - density) < 1e-3, index
        limit = np.sort(np.abs(weight), axis=None)[-int(kept.sum())]
        assert np.abs(weight[~kept]).max() <= limit <= np.abs(weight[kept]).min(), index
        small += tree.nbytes
        floats_bytes += weight.nbytes
    assert floats_bytes > 30 * small


def sparse_file(rng: np.random.Generator) -> bytes:
    """A small layer in relative indices, codes and a codebook; both streams coded."""
    mask = rng.random((24, 40)) < 0.2
    codes = np.where(mask, rng.integers(1, 8, mask.shape), 0).reshape(-1)
    at = np.flatnonzero(codes)
    gaps = np.diff(at, prepend=-1) - 1
    assert gaps.max() < 64
    pattern = RelativeIndex(Huffman.code(gaps.astype(np.uint32)))
    values = Rans.code(codes[at].astype(np.uint32))
    table = np.concatenate([np.zeros(1), rng.standard_normal(7)]).astype(np.float32)
    net = Network("damaged")
    net.add_input("x", (1, 40))
    net.add_constant("w", Codebook(Sparse(pattern, values, mask.shape), Dense(table)))
    net.add_node("Gemm", ["x", "w"], ["y"], "fc", transB=1)
    net.set_outputs(["y"])
    assert np.array_equal(net.constants["w"].decode(), table[codes].reshape(mask.shape))
    return net.to_bytes()


def test_no_changed_byte_goes_unnoticed(rng: np.random.Generator) -> None:
    """A bit of any byte flipped: refused, or (where the byte means nothing) the same answer."""
    data = sparse_file(rng)
    x = floats(rng, 1, 40)
    expected = bittern.load(data).run({"x": x})["y"]
    refused = 0
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1 << int(rng.integers(8))
        try:
            model = bittern.load(bytes(changed))
        except bittern.Error:
            refused += 1
            continue
        found = model.run({"x": x})
        assert len(found) == 1 and np.array_equal(next(iter(found.values())), expected), f"byte {at} of {len(data)}"
    assert refused > 0.9 * len(data)


def random_shape(rng: np.random.Generator) -> Convolution:
    """Strides and dilations of 1 and 2, pads to 3, up to 4 groups, kernels to 7 x 7."""
    kernel = (int(rng.integers(1, 8)), int(rng.integers(1, 8)))
    dilation = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
    groups = int(rng.integers(1, 5))
    pads = [int(pad) for pad in rng.integers(0, 4, 4)]
    least = [dilation[i] * (kernel[i] - 1) + 1 for i in (0, 1)]
    return Convolution(
        batch=int(rng.integers(1, 3)),
        channels=groups * int(rng.integers(1, 7)),
        height=least[0] + int(rng.integers(0, 12)),
        width=least[1] + int(rng.integers(0, 20)),
        filters=groups * int(rng.integers(1, 9)),
        kernel=kernel,
        stride=(int(rng.integers(1, 3)), int(rng.integers(1, 3))),
        pads=(pads[0], pads[1], pads[2], pads[3]),
        dilation=dilation,
        groups=groups,
        bias=bool(rng.integers(2)),
        integers=bool(rng.integers(2)),
    )


@pytest.mark.parametrize("part", range(3))
def test_sparse_convolutions_of_any_shape(part: int) -> None:
    """100 each, forced; then the same model on maps of another size, where all offsets are others, and back."""
    usable = [kernel.name for kernel in bittern.kernels() if kernel.loop == "spmm" and kernel.usable]
    taken = empty = 0
    for index in range(100 * part, 100 * part + 100):
        seed = seed_of(f"sparse convolution {index}") % 2**32
        rng = np.random.default_rng(seed)
        shape = random_shape(rng)
        case = shape.case("sparse", rng)
        w = case.constants["w"]
        keep = rng.random(w.shape) < (0, 1, *rng.random(4))[index % 6]
        keep[rng.random(len(w)) < 0.2] = False  # rows without a weight
        empty += int((~keep.reshape(len(w), -1).any(axis=1)).sum())
        constants = {**case.constants, "w": np.where(keep, w, np.float32(0))}
        net = Network("sparse")
        net.add_input("x", ("N", shape.channels, "H", "W"))
        for name, value in constants.items():
            net.add_constant(name, value)
        for op, sources, target, attributes in case.nodes:
            net.add_node(op, sources, [target] if isinstance(target, str) else list(target), **attributes)
        net.set_outputs(["y"])
        file = net.to_bytes()
        kernel = usable[index % len(usable)]
        isa = kernel.rsplit("__", 1)[1]
        model = bittern.load(file, isa=isa, kernels=[kernel], threads=1 + index % 2)
        network = load_file(file)
        first = case.inputs["x"]
        other = np.concatenate([first, first[:, :, ::-1, ::-1]], axis=3)[:, :, :, 1:]
        answers = []
        for x in (first, other, first):
            expected = run(network, {"x": x})["y"]
            answers.append(model.run({"x": x})["y"])
            bound = ConvolutionBound(shape)({**constants, "x": x}, expected)
            problem = differences(answers[-1], expected, bound)
            assert problem is None, f"seed {seed}, {shape.label()}, {kernel}, {x.shape}: {problem}"
            taken += kernel in {layer.kernel for layer in model.plan_for({"x": x.shape}).layers}
        assert_same_bits(answers[2], answers[0], f"seed {seed}")
    assert taken > 100 and empty > 50
