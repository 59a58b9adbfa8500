"""Weights that stay codes in memory under real activations: the same bits as decoded ones, and what the plan says."""

import bittern
import numpy as np
import pytest
from bittern.encodings import Affine, Codebook, Dense, Encoding, Packed
from bittern.network import Network

from tests.builders import NodeSpec, floats, output
from tests.compare import assert_same_bits
from tests.conftest import seed_of
from tests.kernels.weight_codes import KINDS, real_weights
from tests.quantized_graphs import F32, code_network
from tests.rawfile import assemble, leaf
from tests.reference.arrays import Array

LEVELS = [level for level in bittern.cpu().isa_levels_usable if level in ("scalar", "avx2", "avx512")]


def conv_network(x: Array, tree: Encoding, norm: bool = False, **attributes: object) -> Network:
    """One convolution, with a normalisation that is folded into its weights if asked for."""
    constants: dict[str, Array | Encoding] = {"w": tree}
    nodes: list[NodeSpec] = [("Conv", ["x", "w"], "t" if norm else "y", attributes)]
    if norm:
        for index, name in enumerate(("gamma", "beta", "mean", "variance")):
            constants[name] = np.linspace(0.5 + index / 8, 2, tree.shape[0]).astype(F32)
        nodes.append(("BatchNormalization", ["t", "gamma", "beta", "mean", "variance"], "y", {}))
    return code_network({"x": x}, constants, nodes, ["y"])


def conv_layer(model: bittern.Model) -> bittern.Layer:
    """The convolution's row of the plan."""
    return next(layer for layer in model.plan.layers if layer.op in ("Conv", "Gemm"))


def codebook(rng: np.random.Generator, entries: int, *shape: int) -> Codebook:
    """Codes into a table of normal numbers."""
    bits = max(1, (entries - 1).bit_length())
    return Codebook(Packed.pack(rng.integers(0, entries, shape), bits), Dense(rng.standard_normal(entries).astype(F32)))


@pytest.mark.parametrize("level", LEVELS)
def test_the_same_bits_as_dense_tiles(level: str) -> None:
    """For every kind of weights, tile and epilogue: expanded panels hold the decoded weights, rounded alike."""
    compared = 0
    tiles = [kernel.name for kernel in bittern.kernels() if kernel.loop == "gemm" and kernel.isa == level]
    for index, kind in enumerate(KINDS):
        rng = np.random.default_rng(seed_of(f"bits {kind}"))
        groups, channels, filters = ((1, 33, 65), (1, 3, 31), (2, 24, 10), (1, 16, 64))[index % 4]
        tree = real_weights(kind, rng, (filters, channels // groups, 3, 3))
        x = floats(rng, 2, channels, 6, 7)
        file = conv_network(x, tree, norm=index % 2 == 0, pads=[1, 1, 1, 1], group=groups).to_bytes()
        for tile in tiles:
            dense = bittern.load(file, isa=level, kernels=[tile])
            assert conv_layer(dense).kernel == tile
            for bits in (2, 4, 8):
                name = tile.replace("f32_f32_f32", f"f32_lut{bits}_f32")
                model = bittern.load(file, isa=level, kernels=[name], winograd=False, threads=1 + index % 2)
                if conv_layer(model).kernel == name:
                    assert_same_bits(output(model, x), output(dense, x), f"{kind}: {name}")
                    compared += 1
    assert compared >= len(KINDS) * len(tiles) * 0.8


def test_the_plan_says_what_is_held(rng: np.random.Generator) -> None:
    """A quarter and an eighth of dense weights in memory, and the answer of a smaller map: dense, with the reason."""
    x = floats(rng, 1, 64, 20, 20)
    for entries, bits in ((4, 2), (16, 4), (32, 8)):
        model = bittern.load(conv_network(x, codebook(rng, entries, 64, 64, 1, 1)).to_bytes(), threads=1)
        layer = conv_layer(model)
        assert f"_f32_lut{bits}_f32_" in layer.kernel
        assert f"stay {bits}-bit codes" in layer.reason and "against dense f32" in layer.reason
        assert 64 * 64 * bits // 8 <= layer.packed_bytes <= 64 * 64 * bits // 8 + 1024
    small = floats(rng, 1, 256, 2, 2)
    layer = conv_layer(bittern.load(conv_network(small, codebook(rng, 200, 256, 256, 1, 1)).to_bytes()))
    assert "_f32_f32_f32_" in layer.kernel and layer.packed_bytes == 256 * 256 * 4
    assert "decoded to dense f32 at load: as 8-bit codes estimated +" in layer.reason


def test_winograd_competes(rng: np.random.Generator) -> None:
    """Where Winograd is clearly faster it wins and names the other; without it the weights stay codes."""
    x = floats(rng, 1, 64, 28, 28)
    file = conv_network(x, codebook(rng, 16, 64, 64, 3, 3), pads=[1, 1, 1, 1]).to_bytes()
    layer = conv_layer(bittern.load(file))
    assert layer.kernel.startswith("winograd") and "gemm_f32_lut4_f32_" in layer.reason
    direct = conv_layer(bittern.load(file, winograd=False))
    assert direct.kernel.startswith("gemm_f32_lut4_f32_") and str(direct.packed_bytes) in layer.reason


def test_what_cannot_stay_codes(rng: np.random.Generator) -> None:
    """Groups that need a zero beside 256 numbers, scales along the inputs, tiny numbers: dense, and why."""
    x = floats(rng, 1, 32, 9, 9)
    whole = codebook(rng, 256, 32, 8, 1, 1)
    assert "need a zero" in conv_layer(bittern.load(conv_network(x, whole, group=4).to_bytes())).reason
    scales = Affine(Packed.pack(rng.integers(0, 16, (8, 32, 1, 1)), 4), Dense(np.ones(32, F32)), axis=1)
    assert "output channels" in conv_layer(bittern.load(conv_network(x, scales).to_bytes())).reason
    tiny = Affine(Packed.pack(rng.integers(0, 16, (8, 32, 1, 1)), 4), Dense(np.full(8, 1e-39, F32)), axis=0)
    assert "subnormal" in conv_layer(bittern.load(conv_network(x, tiny).to_bytes())).reason
    wide = Affine(Packed.pack(rng.integers(0, 512, (8, 32, 1, 1)), 9), Dense(np.array(0.5, F32)))
    assert "at most 256" in conv_layer(bittern.load(conv_network(x, wide).to_bytes())).reason


def raw_file(codes: Array, table: Array, x: Array, **more: object) -> bytes:
    """A convolution by a codebook, written byte by byte."""
    value = {"dtype": "f32", "shape": list(x.shape)}
    leaves = {"codes": {"kind": "dense", "leaf": "c"}, "table": {"kind": "dense", "leaf": "t"}}
    node = {"name": "n", "op": "Conv", "inputs": ["x", "w"], "outputs": ["y"], "attributes": {}}
    graph = {
        "name": "raw",
        "inputs": [{"name": "x", **value}],
        "outputs": [{"name": "y", "dtype": "f32"}],
        "constants": {"w": {"kind": "codebook", **leaves, **more}},
        "nodes": [node],
        "metadata": {},
    }
    return assemble(graph, {"c": leaf(codes), "t": leaf(table)})


def test_codes_in_the_order_ohwi(rng: np.random.Generator) -> None:
    """A codebook for each output channel whose elements stand in another order than its shape."""
    x = floats(rng, 1, 17, 12, 12)
    codes = rng.integers(0, 9, (5, 2, 3, 17)).astype(np.uint8)  # O, H, W, I
    file = raw_file(codes, rng.standard_normal((5, 9)).astype(F32), x, axis=0, order="OHWI")
    results = []
    for kind in ("lut4", "f32"):
        model = bittern.load(file, kernels=[f"gemm_f32_{kind}_f32_2x16__scalar"], isa="scalar", winograd=False)
        assert kind in conv_layer(model).kernel.split("_")[2]
        results.append(output(model, x))
    assert_same_bits(results[0], results[1], "OHWI")


def test_codes_outside_the_table_are_refused(rng: np.random.Generator) -> None:
    """As when they are decoded: an error of the file that names the code, when it is loaded."""
    x = floats(rng, 1, 16, 30, 30)
    codes = np.full((8, 16, 1, 1), 11, np.uint8)
    with pytest.raises(bittern.FormatError, match="11"):
        bittern.load(raw_file(codes, np.ones(11, F32), x)).plan  # noqa: B018
