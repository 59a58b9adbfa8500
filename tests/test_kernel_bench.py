"""`bittern.limits` and `bittern kernels` on shapes: plausible limits, every kernel measured, picks judged, refusals."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bittern
import numpy as np
import pytest
from bittern import kernel_bench, layer_shapes
from bittern.cli import main
from bittern.kernel_bench import Candidate, KernelBench, Result, SetResult, wrong_picks
from bittern.layer_shapes import LayerShape, ShapeSet, parse_shape, read_shapes
from bittern.machine_limits import Cache, Limits
from numpy.typing import NDArray

from tests.conftest import BIT_LEVELS, INTEGER_LEVELS

CONV = "conv:32x14x14,outputs=32,kernel=3,pad=1"
CODE_CONV = "conv_u8:32x14x14,outputs=32,kernel=3,pad=1"
SMALL = [
    CONV,
    "conv:3x20x20,outputs=24,kernel=3,stride=2,pad=0/0/1/1",
    "depthwise:32x9x9,kernel=3,pad=1",
    "fc:64,outputs=48",
    "maxpool:16x8x8,kernel=2,stride=2",
    "avgpool:16x7x7,kernel=7",
    "add:16x6x6",
    "relu:16x6x6",
    "gate:16x6x6",
    "batchnorm:16x6x6",
    "lrn:16x6x6",
    "sigmoid:16x6x6",
    "tanh:16x6x6",
    "softmax:100",
    "transpose:16x6x6",
    "reorder:16x6x6",
    "shuffle:24x6x6,groups=3",
    *(f"fc_{weights}:64,outputs=48" for weights in ("w8", "w4", "w2", "w2c")),
    "fc_w4:64,outputs=96",
    "fc_w2:64,outputs=96",
    "conv_w2:32x14x14,outputs=32,kernel=3,pad=1",
    "conv_w4:32x14x14,outputs=32",
    "conv_w8:32x14x14,outputs=32",
    "sparse:32x14x14,outputs=32,kernel=3,pad=1",
    "sparse_lut8:32x14x14,outputs=32,density=0.3",
    *(f"sparse_winograd{m}:16x14x14,outputs=32,kernel=3,pad=1" for m in (2, 4)),
    "sparse_tern:32x14x14,outputs=32,kernel=3,pad=1",
    "fc_sparse:64,outputs=48",
    "fc_sparse_lut4:64,outputs=48",
    CODE_CONV,
    "depthwise_u8:32x9x9,kernel=3,pad=1",
    "fc_u8:64,outputs=48",
    *(f"fc_u8_w{bits}:64,outputs=48" for bits in (2, 3, 4, 5, 6)),
    "maxpool_u8:16x8x8,kernel=2,stride=2",
    "avgpool_u8:16x7x7,kernel=7",
    "add_u8:16x6x6",
    "sparse_u8:16x6x6,outputs=8",
    "sparse4_u8:16x6x6,outputs=8",
    "fc_sparse_u8:64,outputs=48",
    "fc_sparse4_u8:64,outputs=48",
    "table_u8:16x6x6",
    "reorder_u8:16x6x6",
    "quantize:16x6x6",
    "dequantize:16x6x6",
    "thresholds:16x6x6",
    "conv_b1:32x14x14,outputs=32,kernel=3,pad=1",
    "conv_b2:32x14x14,outputs=32",
    "conv_b2_w2:32x14x14,outputs=64,kernel=3,pad=1",
    "fc_b1:64,outputs=48",
    "pack_b1:16x6x6",
    "maxpool_b1:16x8x8,kernel=2,stride=2",
    "pad_b1:16x6x6",
]
"""A small shape of every kind."""

KNOWN = Limits("scalar", 1, 100.0, 400.0, (Cache(1, 1 << 15, 200.0), Cache(2, 1 << 20, 100.0)), 20.0, 10.0, 1000.0)


@pytest.fixture
def known_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same limits everywhere, without measuring."""
    monkeypatch.setattr(kernel_bench, "limits", lambda isa, threads: KNOWN)
    monkeypatch.setattr(kernel_bench, "panel_limit", lambda vectors, entries, isa, threads: 50.0)


@pytest.fixture
def fixed_times(monkeypatch: pytest.MonkeyPatch, known_limits: None) -> dict[str, float]:
    """Every kernel takes 1 ms, except those that the test puts into the returned dict."""
    slow: dict[str, float] = {}

    def sample(
        self: Candidate, feeds: Sequence[NDArray[np.float32]], reorder: bool, repeats: int
    ) -> tuple[float, float]:
        ms = slow.get(self.kernel, 1.0)
        return ms, ms

    monkeypatch.setattr(Candidate, "sample", sample)
    return slow


def shapes(*texts: str) -> ShapeSet:
    """A set of the shapes that the command line would make of these."""
    return ShapeSet("some", tuple((parse_shape(text), 1) for text in texts))


def pick_of(text: str) -> str:
    """The planner's own kernel."""
    return KernelBench(runs=1).measure([shapes(text)])[0].results[0].pick.kernel


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of an error."""
    assert main(["kernels", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("bittern: ") and err.count("\n") == 1
    return err


# Limits


def test_limits_are_plausible(isa: str) -> None:
    """Rates fall from cache to cache. Wide margins: other programs run meanwhile."""
    limits = bittern.limits(isa)
    assert limits.isa == isa and limits.threads == 1
    assert 0.5 < limits.fma_gflops < 1000
    assert 0.5 < limits.int8_gops < 10_000
    if isa in INTEGER_LEVELS:  # one instruction instead of at least four
        assert limits.int8_gops > 1.3 * bittern.limits(INTEGER_LEVELS[isa]).int8_gops
    rates = [*(cache.load_gbs for cache in limits.caches), limits.memory_load_gbs]
    assert all(0.1 < rate < 10_000 for rate in [*rates, limits.memory_copy_gbs])
    assert rates[0] > 0.7 * max(rates) and rates[-1] < 1.5 * min(rates[:-1])
    sizes = [cache.bytes for cache in limits.caches]
    assert [cache.level for cache in limits.caches] == sorted({cache.level for cache in limits.caches})
    assert sizes == sorted(sizes) and sizes[0] >= 4096
    assert json.loads(json.dumps(limits.to_json()))["caches"][0]["level"] == 1


def test_limits_of_several_threads() -> None:
    limits = bittern.limits(threads=0)
    assert 1 <= limits.threads <= bittern.cpu().cpus_granted and limits.isa == bittern.cpu().isa


def test_limits_refuse() -> None:
    with pytest.raises(bittern.InputError, match="threads"):
        bittern.limits(threads=-1)
    with pytest.raises(bittern.InputError, match="mmx"):
        bittern.limits("mmx")


def test_the_level_that_holds_data() -> None:
    assert KNOWN.holding(1000) == ("L1", 200.0)
    assert KNOWN.holding(1 << 16) == ("L2", 100.0)
    assert KNOWN.holding(1 << 21) == ("memory", 20.0)
    two = Limits("scalar", 2, 100.0, 400.0, KNOWN.caches, 20.0, 10.0)
    assert two.holding(1 << 16) == ("L1", 200.0) and two.holding(1 << 21) == ("memory", 20.0)


def test_the_better_of_two_measurements() -> None:
    other = Limits("scalar", 1, 90.0, 450.0, (Cache(1, 1 << 15, 210.0), Cache(2, 1 << 20, 90.0)), 25.0, 9.0, 1100.0)
    both = Limits("scalar", 1, 100.0, 450.0, (Cache(1, 1 << 15, 210.0), Cache(2, 1 << 20, 100.0)), 25.0, 10.0, 1100.0)
    assert KNOWN.better_of(other) == other.better_of(KNOWN) == both


# Measuring


def test_every_kernel_is_measured(known_limits: None) -> None:
    """No usable kernel without a kind of shape to measure it on; the planner's pick is a candidate."""
    results = KernelBench(runs=1).measure([shapes(*SMALL)])[0].results
    measured = {candidate.kernel for result in results for candidate in result.candidates}
    usable = {kernel.name for kernel in bittern.kernels() if kernel.usable}
    assert measured == usable, "add a kind to layer_shapes.py and a shape to SMALL"
    for result in results:
        assert sum(candidate.pick for candidate in result.candidates) == 1, str(result.shape)
        assert all(candidate.ms > 0 and result.share(candidate) > 0 for candidate in result.candidates)
        times = [candidate.ms for candidate in result.candidates]
        assert times == sorted(times) and result.fastest.ms == times[0]


def test_all_kinds_have_a_small_shape() -> None:
    assert {parse_shape(text).kind for text in SMALL} == set(layer_shapes.KINDS)


def test_a_level_restricts_kernels_and_planner(known_limits: None, isa: str) -> None:
    (found,) = KernelBench(isa=isa, runs=1).measure([shapes(CONV, "softmax:100")])
    conv, softmax = found.results
    assert {candidate.isa for candidate in conv.candidates} == {INTEGER_LEVELS.get(isa, isa)}
    assert [candidate.pick for candidate in softmax.candidates] == [True]  # written once, for all levels


@pytest.mark.parametrize("text", [CODE_CONV, "depthwise_u8:32x9x9,kernel=3", "fc_u8:64,outputs=48", "add_u8:16x6x6"])
def test_a_level_restricts_kernels_on_codes(known_limits: None, isa: str, text: str) -> None:
    """Integer levels have kernels of their own, and the planner takes one of them."""
    (found,) = KernelBench(isa=isa, runs=1).measure([shapes(text)])
    (result,) = found.results
    assert {candidate.isa for candidate in result.candidates} == {result.pick.isa} == {isa}


@pytest.mark.parametrize("text", [CONV, "fc:64,outputs=48"])
def test_only_kernels_that_may_fit_are_loaded(known_limits: None, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Nothing is built to find out that a layer on real numbers does not run kernels on codes."""
    asked: list[str] = []
    read = KernelBench._load

    def counted(self: KernelBench, file: bytes, kernel: str | None, shape: LayerShape) -> bittern.Model:
        asked.append(kernel or "")
        return read(self, file, kernel, shape)

    monkeypatch.setattr(KernelBench, "_load", counted)
    KernelBench(runs=1).measure([shapes(text)])
    loops = {kernel.name: kernel.loop for kernel in bittern.kernels()}
    assert {loops[name] for name in asked if name} <= set(parse_shape(text).about.loops)
    assert len(asked) > 1


def test_a_filter_keeps_the_pick(known_limits: None) -> None:
    pick = pick_of(CONV)
    (found,) = KernelBench("^gemm.*scalar$", runs=1).measure([shapes(CONV)])
    assert {candidate.kernel for candidate in found.results[0].candidates} >= {pick}
    assert all(c.pick or c.isa == "scalar" for c in found.results[0].candidates)


def test_large_shapes_are_timed_one_by_one(known_limits: None, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    time = KernelBench._time

    def counted(candidates: Sequence[Candidate], *rest: Any) -> None:
        held.append(len(candidates))
        time(candidates, *rest)

    few = bittern.Cpu("small", [], ["scalar"], bittern.cpu().isa_levels_usable, bittern.cpu().isa, 1, 1, 1000)
    monkeypatch.setattr(KernelBench, "_time", staticmethod(counted))
    monkeypatch.setattr(kernel_bench, "cpu", lambda: few)
    KernelBench("^gemm", runs=1).measure([shapes("fc:64,outputs=48")])
    assert len(held) > 1 and set(held) == {1}


def test_bounds_and_shares(known_limits: None) -> None:
    candidate = Candidate("k", "gemm", "scalar", True, None, [0.5, 1.0, 2.0])
    limits = {"scalar": KNOWN}
    conv = LayerShape("conv", 10, 100, 100, 10, 1)
    result = Result(conv, 1, 1, [candidate], limits, 1000)
    assert result.macs == 10**6 and result.bytes == 4 * (10**5 + 100 + 10**5)
    assert result.gops(candidate) == pytest.approx(2.0)
    bound, least = result.bound(candidate)
    assert bound == "FMA" and least == pytest.approx(0.02) and result.share(candidate) == pytest.approx(0.02)
    connected = LayerShape("fc", 1000, outputs=1000)
    assert Result(connected, 1, 1, [candidate], limits, 1 << 30).bound(candidate)[0] == "memory"
    # Writing as much as reading is copying.
    add = Result(LayerShape("add", 1000, outputs=1000), 1, 1, [candidate], limits, 1 << 30)
    bound, least = add.bound(candidate)
    assert bound == "memory" and least == pytest.approx(12_000 / 10.0 * 1e-6)
    assert add.gbs(candidate) == pytest.approx(0.012)


def test_bounds_on_codes(known_limits: None) -> None:
    """Bytes count as such, and products against the rate of products of bytes."""
    candidate = Candidate("k", "gemm_u8", "scalar", True, None, [1.0])
    limits = {"scalar": KNOWN}
    conv = LayerShape("conv_u8", 10, 100, 100, 10, 1)
    result = Result(conv, 1, 1, [candidate], limits, 1000)
    assert result.macs == 10**6 and result.bytes == 10**5 + 100 + 10**5
    bound, least = result.bound(candidate)
    assert bound == "dot" and least == pytest.approx(2 * 10**6 / 400e6)

    def traffic(text: str) -> tuple[int, int]:
        return parse_shape(text).traffic(2)

    assert traffic("fc:100,outputs=10") == (2 * 400 + 4000, 2 * 40)
    assert traffic("fc_w4:100,outputs=10") == (2 * 400 + 500, 2 * 40)
    assert traffic("fc_w8:100,outputs=10") == (2 * 400 + 1000, 2 * 40)
    assert traffic("fc_u8:100,outputs=10") == (2 * 100 + 1000, 2 * 10)
    assert traffic("fc_u8_w2:100,outputs=10") == (2 * 100 + 250, 2 * 10)
    assert traffic("quantize:16x6x6") == (2 * 4 * 576, 2 * 576)
    assert traffic("dequantize:16x6x6") == (2 * 576, 2 * 4 * 576)
    assert traffic("add_u8:16x6x6") == (2 * 2 * 576, 2 * 576)
    few = LayerShape("fc_w4", 1000, outputs=1000)
    assert Result(few, 1, 1, [candidate], limits, 1000).bound(candidate)[0] == "FMA"


def test_slower_by_median_and_by_best() -> None:
    disturbed = Candidate("a", "gemm", "scalar", True, None, [1.0, 3.0, 3.0])
    quiet = Candidate("b", "gemm", "scalar", False, None, [1.0, 1.0, 1.0])
    slow = Candidate("c", "gemm", "scalar", True, None, [1.5, 2.0, 2.0])
    assert disturbed.slower_than(quiet) == 1.0 and slow.slower_than(quiet) == 1.5
    conv = LayerShape("conv", 10, 100, 100, 10, 1)
    result = Result(conv, 1, 1, [quiet, slow], {"scalar": KNOWN}, 1000)
    assert result.better is quiet and wrong_picks([SetResult("some", [result])]) == [("some", result)]
    fine = Result(conv, 1, 1, [quiet, disturbed], {"scalar": KNOWN}, 1000)
    assert not wrong_picks([SetResult("some", [fine])])


def test_means_are_weighted_by_products(fixed_times: dict[str, float]) -> None:
    """At equal times, shares are proportional to products."""
    (found,) = KernelBench("^gemm", runs=1).measure([shapes(CONV, "conv:16x14x14,outputs=16,kernel=3,pad=1")])
    big, small = (result.share(result.pick) for result in found.results)
    mean = found.means()[0]
    assert mean.share == pytest.approx((big * 4 + small) / 5) and mean.layers == 2
    assert mean.least == pytest.approx(small) and "16x14x14" in mean.least_shape
    levels = set(bittern.cpu().isa_levels_usable) - set(INTEGER_LEVELS) - set(BIT_LEVELS)
    assert {f"gemm {level}" for level in levels} <= {mean.name for mean in found.means()}


def test_means_of_windows_and_of_both_arithmetics(fixed_times: dict[str, float]) -> None:
    """Shares of different limits are not mixed; layers of 1x1 and 3x3 have means of their own."""
    small = "conv_u8:64x28x28,outputs=64"
    (found,) = KernelBench("^gemm", runs=1).measure([shapes(CONV, CODE_CONV, small)])
    shares = [result.share(result.pick) for result in found.results]
    means = {(mean.name, mean.bound): mean for mean in found.means()}
    assert means["the planner's picks", "FMA"].share == pytest.approx(shares[0])
    macs = [result.macs for result in found.results]
    assert means["the planner's picks", "dot"].share == pytest.approx(
        (shares[1] * macs[1] + shares[2] * macs[2]) / (macs[1] + macs[2])
    )
    assert means["the planner's picks, 1x1", "dot"].share == pytest.approx(shares[2])
    assert means["the planner's picks, 3x3", "dot"].share == pytest.approx(shares[1])
    levels = set(bittern.cpu().isa_levels_usable) - set(BIT_LEVELS)
    assert {f"gemm_u8 {level}" for level in levels} <= {name for name, _ in means}


# The check of picks


def test_a_slow_pick_is_noticed(fixed_times: dict[str, float], capsys: pytest.CaptureFixture[str]) -> None:
    pick = pick_of(CONV)
    assert main(["kernels", "--shape", CONV, "--assert-pick", "--runs", "1"]) == 0
    assert "every pick is within 10 %" in capsys.readouterr().out
    fixed_times[pick] = 1.09
    assert main(["kernels", "--shape", CONV, "--assert-pick", "--runs", "1"]) == 0
    fixed_times[pick] = 1.5
    capsys.readouterr()
    assert main(["kernels", "--shape", CONV, "--assert-pick", "--runs", "1"]) == 1
    line = next(line for line in capsys.readouterr().out.splitlines() if "WRONG PICK" in line)
    assert pick in line and "conv 32x14x14" in line and "1.50 ms" in line and "1.00 ms" in line and "50 %" in line
    assert main(["kernels", "--shape", CONV, "--runs", "1"]) == 0  # told, but not asserted
    assert main(["kernels", "--shape", CONV, "--assert-pick", "--runs", "1", "--json", "-q"]) == 1


def test_a_suspected_pick_is_measured_again(fixed_times: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    """A disturbance in the first measurement alone is no wrong pick."""
    pick = pick_of(CONV)
    runs: list[int] = []
    time = KernelBench._time

    def disturbed(candidates: Sequence[Candidate], inputs: Any, shape: LayerShape, rounds: int) -> None:
        runs.append(rounds)
        fixed_times[pick] = 2.0 if len(runs) == 1 else 1.0
        time(candidates, inputs, shape, rounds)

    monkeypatch.setattr(KernelBench, "_time", staticmethod(disturbed))
    found = KernelBench(runs=2).measure([shapes(CONV)], check=True)
    assert runs == [2, 6] and not wrong_picks(found)


# The command


def test_document(known_limits: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kernels", "--shape", CONV, "--shape", "softmax:100", "--runs", "2", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (one,) = document["sets"]
    assert [len([c for c in shape["candidates"] if c["pick"]]) for shape in one["shapes"]] == [1, 1]
    conv = one["shapes"][0]
    assert conv["shape"]["channels"] == 32 and conv["text"] == "conv 32x14x14 -> 32 3x3 pad 1"
    best = conv["candidates"][0]
    assert best["ms"] > 0 and best["bound"] == "FMA"
    assert best["gops"] == pytest.approx(2 * 32 * 32 * 9 * 196 / best["ms"] / 1e6)
    assert best["share"] == pytest.approx(best["gops"] / 100.0)
    assert document["limits"] and document["wrong_picks"] is not None and document["threads"] == 1


def test_table(known_limits: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kernels", "--shape", CONV, "--shape", "add:16x6x6", "--runs", "1"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and out.count("*") == 2 and "conv 32x14x14 -> 32 3x3 pad 1" in out
    assert "the planner's picks" in out and "FMA GFLOP/s" in out and "dot GOP/s" in out


def test_layers_on_codes(known_limits: None, capsys: pytest.CaptureFixture[str], isa: str) -> None:
    """--int8 measures the same layers on 8-bit codes, and leaves out those that have no such form."""
    arguments = ["--int8", "--shape", CONV, "--shape", "lrn:16x6x6", "--shape", "quantize:16x6x6", "--runs", "1"]
    assert main(["kernels", *arguments, "--isa", isa, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (conv,) = document["sets"][0]["shapes"]
    assert conv["text"] == "conv_u8 32x14x14 -> 32 3x3 pad 1" and conv["pick"].startswith("gemm_u8_s8_s32_")
    assert {(each["isa"], each["bound"]) for each in conv["candidates"]} == {(isa, "dot")}
    assert [mean["bound"] for mean in document["sets"][0]["means"]] == ["dot"] * 2


def test_networks_and_files(fixed_times: dict[str, float], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text(
        "# kind ...\n\nconv 2 16 8 8 16 3 1 1,1,1,1 1 99.9 # remark\nfc 1 32 1 1 8 1 1 0,0,0,0 1\n", "utf-8"
    )
    assert main(["kernels", "--shapes", str(path), "--filter", "^gemm", "--runs", "1", "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["sets"]
    assert one["name"] == "mine" and [shape["count"] for shape in one["shapes"]] == [2, 1]
    assert main(["kernels", "--list", "--network", "resnet50", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert len(listed["kernels"]) == len(bittern.kernels()) and "resnet50" in listed["networks"]


def test_packaged_shapes(repository: Path) -> None:
    """They are readable, and those of networks are the benchmarks' own."""
    folder = Path(bittern.__file__).parent / "data" / "shapes"
    names = {path.stem for path in folder.glob("*.txt")}
    assert {"resnet50", "mobilenet_v1", "operators", "codes", "bits"} <= names <= set(layer_shapes.shape_names())
    for path in sorted(folder.glob("*.txt")):
        assert read_shapes(path).shapes
        original = repository / "benchmarks" / "shapes" / path.name
        if original.is_file():
            assert path.read_text("utf-8") == original.read_text("utf-8"), "copy it anew"
    macs = sum(shape.macs * count for shape, count in read_shapes(folder / "resnet50.txt").shapes)
    assert 4.0e9 < macs < 4.2e9
    assert {shape.kind for shape, _ in read_shapes(folder / "operators.txt").shapes} >= {
        kind for kind, about in layer_shapes.KINDS.items() if about.bits == (32, 32) and not about.weighted
    }
    codes = {shape.kind for shape, _ in read_shapes(folder / "codes.txt").shapes}
    assert codes >= {kind for kind, about in layer_shapes.KINDS.items() if 1 in (about.read, about.written)}
    bits = {shape.kind for shape, _ in read_shapes(folder / "bits.txt").shapes}
    assert bits == {kind for kind, about in layer_shapes.KINDS.items() if about.planes}


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        (CONV, LayerShape("conv", 32, 14, 14, 32, 3, 1, (1, 1, 1, 1), 1)),
        ("depthwise:8x5x6,kernel=3,stride=2,pad=0/0/1/1", LayerShape("depthwise", 8, 5, 6, 8, 3, 2, (0, 0, 1, 1), 8)),
        ("fc:10,outputs=4", LayerShape("fc", 10, outputs=4)),
        ("softmax:10", LayerShape("softmax", 10, outputs=10)),
        ("depthwise_u8:8x5x6,kernel=3", LayerShape("depthwise_u8", 8, 5, 6, 8, 3, groups=8)),
        ("fc_u8_w4:10,outputs=4", LayerShape("fc_u8_w4", 10, outputs=4)),
        ("conv:8x5x5,outputs=4,groups=2", LayerShape("conv", 8, 5, 5, 4, groups=2)),
        ("sparse:8x5x5,outputs=4", LayerShape("sparse", 8, 5, 5, 4, density=0.1)),
        ("sparse:8x5x5,outputs=4,density=0.25", LayerShape("sparse", 8, 5, 5, 4, density=0.25)),
    ],
)
def test_shapes_on_the_command_line(text: str, shape: LayerShape) -> None:
    assert parse_shape(text) == shape


@pytest.mark.parametrize(
    "text",
    [
        "",
        "conv",
        "conv:64x56x56",
        "conv:64x56x56,outputs=0",
        "conv:64x56x56,outputs=64,kernel=57",
        "conv:64x56x56,outputs=64,kernel=3,pad=3",
        "conv:64x56x56,outputs=64,kernel=3,pad=1/1",
        "conv:64x56x56,outputs=64,groups=3",
        "conv:64x56x56,outputs=64,size=3",
        "conv:axb,outputs=1",
        "conv:1x2x3x4,outputs=1",
        "conv:-1,outputs=1",
        "conv:1048576x1048576x4,outputs=64",
        "depthwise:8x5x5,outputs=16",
        "depthwise_u8:8x5x5,outputs=16",
        "conv_u8:8x5x5",
        "fc_u8:8x5x5,outputs=4",
        "conv_u4:8x5x5,outputs=4",
        "fc:10x2x2,outputs=4",
        "lstm:10",
        "conv:8x5x5,outputs=4,density=0.5",
        "sparse:8x5x5,outputs=4,density=0",
        "sparse:8x5x5,outputs=4,density=nan",
        "sparse:8x5x5,outputs=4,density=1.5",
        "sparse:8x5x5,outputs=4,density=some",
    ],
)
def test_wrong_shapes_are_one_line(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--shape" in refused(capsys, "--shape", text)


def test_refusals(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "expression" in refused(capsys, "--filter", "(", "--shape", CONV)
    assert "none matches" in refused(capsys, "--filter", "no such kernel", "--shape", CONV)
    assert "--isa" in refused(capsys, "--isa", "mmx", "--shape", CONV)
    assert "resnet50" in refused(capsys, "--network", "no-such-network")
    assert "gone.txt" in refused(capsys, "--shapes", str(tmp_path / "gone.txt"))
    assert "no layer has a form" in refused(capsys, "--int8", "--shape", "lrn:16x6x6")
    assert "--runs" in refused(capsys, "--shape", CONV, "--runs", "0")
    for text, problem in {
        "": "holds no shapes",
        "conv 1 2 3": "line 1",
        "\nconv 1 16 8 8 16 3 1 1,1,1,x 1": "line 2",
        "conv 0 16 8 8 16 3 1 1,1,1,1 1": "count 0",
        "conv 1 16 8 8 16 9 1 0,0,0,0 1": "larger",
    }.items():
        path = tmp_path / "shapes.txt"
        path.write_text(text, "utf-8")
        assert problem in refused(capsys, "--shapes", str(path))
    path.write_bytes(b"\xff\xfe")
    assert "text file" in refused(capsys, "--shapes", str(path))
