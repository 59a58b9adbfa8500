"""Sparse layers measured: the limit of their own, how a layer is cut, real and effective rates."""

import json
import re
from pathlib import Path

import bittern
import numpy as np
import pytest
from bittern import kernel_bench, layer_networks
from bittern.cli import main
from bittern.kernel_bench import Candidate, KernelBench, Result, panel_shape
from bittern.layer_shapes import LayerShape, ShapeSet, parse_shape
from bittern.machine_limits import Cache, Limits
from bittern.system import Kernel

KNOWN = Limits("scalar", 1, 100.0, 400.0, (Cache(1, 1 << 15, 200.0), Cache(2, 1 << 30, 1e5)), 20.0, 10.0)
SPARSE = "sparse:64x28x28,outputs=48,kernel=3,pad=1"
WIDE = Kernel("spmm_f32_f32_f32_1x7v__avx512", "spmm", "avx512", True, 7 * 16, 1, "")


@pytest.fixture
def known_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same limits everywhere, without measuring."""
    monkeypatch.setattr(kernel_bench, "limits", lambda isa, threads: KNOWN)
    monkeypatch.setattr(kernel_bench, "panel_limit", lambda vectors, entries, isa, threads: 50.0)


def test_the_limit_of_panels(isa: str) -> None:
    """Below registers alone; more vectors to a weight and more weights to a row help. Wide margins: others run, too."""
    narrow, wide, short = (
        max(bittern.panel_limit(*panel, isa) for _ in range(3)) for panel in ((1, 64), (7, 64), (7, 1))
    )
    assert 0.05 < short < 0.9 * wide and narrow < 0.9 * wide
    assert wide < 1.2 * max(bittern.limits(isa).fma_gflops for _ in range(3))


def test_the_limit_of_panels_refuses(isa: str) -> None:
    for arguments, named in (
        ((0, 1), "vectors"),
        ((1000, 1), "vectors"),
        ((-1, 1), "vectors"),
        ((1, 0), "entries"),
        ((1, 1 << 40), "entries"),
        ((1, 1, None, -1), "threads"),
    ):
        with pytest.raises(bittern.InputError, match=named):
            bittern.panel_limit(*arguments)
    with pytest.raises(bittern.InputError, match="mmx"):
        bittern.panel_limit(1, 1, "mmx")
    with pytest.raises(bittern.InputError, match=isa):
        bittern.panel_limit(100, 1, isa)


@pytest.mark.parametrize(
    ("text", "panel"),
    [
        ("sparse:64x56x56,outputs=64,kernel=3,pad=1,density=0.1", (7, 25)),  # 28 channels of 27 vectors fit
        ("sparse:2048x7x7,outputs=512,density=0.1", (4, 19)),  # 49 pixels: one panel, 192 rows of it
        ("sparse:1024x16x16,outputs=128,density=0.1", (6, 13)),  # 16 vectors in 3 panels; read in place: 128 rows
        ("sparse:128x56x56,outputs=128,kernel=3,stride=2,pad=1,density=0.1", (7, 15)),  # 17 channels of 45 vectors
        ("sparse:256x32x32,outputs=256,density=0.2", (7, 22)),  # copied: each channel meets many weights
        ("sparse:1024x32x32,outputs=128,stride=2,density=0.1", (6, 13)),  # a phase of the planes, likewise
        ("sparse:64x56x56,outputs=64,density=0.01", (7, 1)),
        ("sparse:16x2x2,outputs=64,density=1", (1, 16)),
    ],
)
def test_how_a_layer_is_cut(text: str, panel: tuple[int, int]) -> None:
    assert panel_shape(WIDE, parse_shape(text)) == panel


def test_the_cut_is_the_kernel_s(repository: Path) -> None:
    """The limit asks for panels that the kernel would use: a change there has to be made here, too."""
    source = (repository / "engine" / "spmm" / "panels.h").read_text("utf-8")
    found = re.search(r"panel_bytes = (\d+) \* 1024;.*?most_direct_rows = (\d+);", source, re.DOTALL)
    assert found, "look for its new form, and at kernel_bench.panel_shape"
    assert (int(found[1]) << 10, int(found[2])) == (kernel_bench._PANEL_BYTES, kernel_bench._ROWS_IN_PLACE)


def test_only_sparse_kernels_have_panels() -> None:
    assert (
        panel_shape(Kernel("gemm_f32_f32_f32_7x64__avx512", "gemm", "avx512", True, 7, 64, ""), parse_shape(SPARSE))
        is None
    )


def test_rates_and_shares() -> None:
    """The limit counts the weights that are not zero; beside them, what a dense kernel would have had to do."""
    shape = LayerShape("sparse", 10, 100, 100, 10, density=0.1)
    assert shape.entries == 10 and shape.weight_bytes == 80
    sparse = Candidate("k", "spmm", "scalar", True, None, [1.0], (4, 2))
    dense = Candidate("d", "gemm", "scalar", False, None, [1.0])
    result = Result(shape, 1, 1, [sparse, dense], {"scalar": KNOWN}, 1 << 20, {("scalar", (4, 2)): 20.0})
    assert result.gops(sparse) == pytest.approx(2.0) and result.real_gops(sparse) == pytest.approx(0.2)
    bound, least = result.bound(sparse)
    assert bound == "panel" and least == pytest.approx(0.01)
    bound, least = result.bound(dense)
    assert bound == "FMA" and least == pytest.approx(0.02)


@pytest.mark.parametrize("kind", ["sparse", "sparse_lut8"])
def test_layers_are_as_sparse_as_said(kind: str) -> None:
    shape = parse_shape(f"{kind}:16x9x9,outputs=24,kernel=3,pad=1,density=0.125")
    network = layer_networks.one_layer(shape)
    weights = network.constants["layer.w"].decode()
    assert weights.shape == (24, 16, 3, 3) and np.count_nonzero(weights) == shape.entries == 24 * 16 * 9 // 8
    (layer,) = (layer for layer in bittern.load(network).plan.layers if layer.op == "Conv")
    assert layer.density == pytest.approx(0.125)


@pytest.mark.parametrize(("kind", "share", "met"), [("sparse_u8", 1.0, 0.41), ("sparse4_u8", 0.25, 0.125)])
def test_layers_on_codes(kind: str, share: float, met: float) -> None:
    """As many zeros as said, alone or four input channels together; quads with a weight are what a kernel computes."""
    shape = parse_shape(f"{kind}:16x9x9,outputs=24,kernel=3,pad=1,density=0.125")
    network = layer_networks.one_layer(shape)
    codes = network.constants["layer.w"].decode() != 0
    assert np.count_nonzero(codes) == shape.entries == 24 * 16 * 9 // 8
    quads = codes.reshape(24, 4, 4, 3, 3).any(axis=2)
    assert np.count_nonzero(quads) == pytest.approx(shape.met * quads.size, rel=0.1)
    assert shape.met == pytest.approx(met, abs=0.01)
    assert np.count_nonzero(quads) / np.count_nonzero(codes) == pytest.approx(share, rel=0.25)
    (layer,) = (layer for layer in bittern.load(network).plan.layers if layer.op == "Conv")
    assert layer.density == pytest.approx(0.125) and layer.sparse_kernel.startswith("spmm_u8_")


def test_dense_kernels_run_the_same_layer(known_limits: None) -> None:
    """Direct and Winograd kernels compete, so that a wrong choice of the sparse one would be seen."""
    (found,) = KernelBench(runs=1).measure([ShapeSet("some", ((parse_shape(SPARSE), 1),))])
    loops = {candidate.loop for candidate in found.results[0].candidates}
    assert loops == {"spmm", "gemm", "winograd"}
    bounds = {mean.bound for mean in found.means()}
    assert "panel" in bounds


def test_the_command(known_limits: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["kernels", "--shape", "conv:64x14x14,outputs=48,kernel=3,pad=1", "--sparse", "0.9", "--runs", "1"]) == 0
    )
    text = capsys.readouterr().out
    assert "density 10 %" in text and "real" in text and "panel" in text and "spmm_f32" in text and "WRONG" not in text
    assert main(["kernels", "--shape", SPARSE, "--runs", "1", "--filter", "^spmm", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (shape,) = document["sets"][0]["shapes"]
    sparse = next(each for each in shape["candidates"] if each["loop"] == "spmm")
    assert sparse["gops"] == pytest.approx(10 * sparse["real_gops"], rel=0.01) and sparse["bound"] == "panel"
    assert sparse["share"] == pytest.approx(sparse["real_gops"] / 50.0)
    assert {limit["gflops"] for limit in document["panel_limits"]} == {50.0}


def test_the_command_on_codes(known_limits: None, capsys: pytest.CaptureFixture[str]) -> None:
    layer = [
        "kernels",
        "--shape",
        "conv:64x14x14,outputs=48,kernel=3,pad=1",
        "--runs",
        "1",
        "--int8",
        "--sparse",
        "0.9",
    ]
    found = {}
    for block in ("1", "4"):
        assert main([*layer, "--block", block, "--json"]) == 0
        (shape,) = json.loads(capsys.readouterr().out)["sets"][0]["shapes"]
        sparse = next(each for each in shape["candidates"] if each["loop"] == "spmm_u8")
        assert {each["loop"] for each in shape["candidates"]} == {"spmm_u8", "gemm_u8"}
        assert sparse["bound"] == "dot" and sparse["gops"] == pytest.approx(10 * sparse["real_gops"], rel=0.02)
        found[block] = sparse["share"] * sparse["ms"]
    assert found["1"] == pytest.approx(3.44 * found["4"], rel=0.01)  # quads with a weight: 1 - 0.9^4
    for words, named in ((["--sparse", "0.9", "--block", "4"], "--int8"), (["--int8", "--block", "4"], "--sparse")):
        assert main(["kernels", "--shape", "conv:8x8x8,outputs=8", *words]) == 2
        assert named in capsys.readouterr().err


@pytest.mark.parametrize("options", [("1",), ("-0.1",), ("nan",), ("1.5", "--int8")])
def test_the_command_refuses(options: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kernels", "--shape", "conv:8x8x8,outputs=8", "--sparse", *options]) == 2
    assert "--sparse" in capsys.readouterr().err
    assert main(["kernels", "--shape", "fc:8,outputs=8", "--sparse", "0.9"]) == 2
    assert "no layer is a convolution" in capsys.readouterr().err
    assert main(["kernels", "--sparse", "0.9"]) == 2
    assert "--network" in capsys.readouterr().err
