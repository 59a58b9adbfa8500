"""Every registered kernel of this machine, forced, over the cases of its loop."""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache

import bittern
import numpy as np
import pytest

from tests.compare import differences
from tests.conftest import BIT_LEVELS, INTEGER_LEVELS
from tests.kernels import bits, codes, convolution, glue, one_row, sparse, weight_codes, winograd
from tests.kernels.cases import Case, CodeCase
from tests.reference import load_file, run
from tests.reference.arrays import Array
from tests.reference.codes import FUNCTIONS

Generator = Callable[[str], Iterator[Case]]


def gemm_cases(loop: str) -> Iterator[Case]:
    """Convolutions and fully connected layers."""
    yield from convolution.convolution_cases(loop, depthwise=False)
    yield from convolution.connected_cases(loop)


def winograd_cases(loop: str) -> Iterator[Case]:
    """Convolutions whose weights the engine transforms, and those whose weights the file has so."""
    yield from convolution.winograd_cases(loop)
    yield from winograd.winograd_cases(loop)


def only(generator: Generator, *ops: str) -> Generator:
    """The cases of a generator whose operator is one of these."""
    return lambda loop: (case for case in generator(loop) if case.nodes[-1][0] in ops)


def depthwise_cases(loop: str) -> Iterator[Case]:
    """Depthwise convolutions, and normalisations that no layer takes up: one multiplication per channel."""
    yield from convolution.convolution_cases(loop, depthwise=True)
    yield from glue.normalization_cases(loop)


GENERATORS: dict[str, Generator] = {
    "gemm": gemm_cases,
    "gemm_f32": weight_codes.real_cases,
    "winograd": winograd_cases,
    "sparse_winograd": winograd.winograd_cases,
    "depthwise": depthwise_cases,
    "maxpool": only(glue.pool_cases, "MaxPool", "GlobalMaxPool"),
    "avgpool": only(glue.pool_cases, "AveragePool", "GlobalAveragePool"),
    "eltwise": only(glue.elementwise_cases, "Add", "Sub", "Mul", "Div", "Relu", "LeakyRelu", "Clip", "Sigmoid", "Tanh"),
    "broadcast": only(glue.elementwise_cases, "Add", "Sub", "Mul", "Div"),
    "affine": glue.normalization_cases,
    "softmax": glue.softmax_cases,
    "lrn": glue.lrn_cases,
    "channel_shuffle": glue.shuffle_cases,
    "reorder": glue.move_cases,
    "strided_copy": glue.move_cases,
    **codes.GENERATORS,
    "spmm": sparse.sparse_cases,
    "spmm_u8": sparse.code_cases,
    "spmv": sparse.sparse_row_cases,
    "spmv_u8": sparse.code_row_cases,
    "bgemm": bits.bit_cases,
    "pack": bits.bit_cases,
    "maxpool_b1": bits.bit_cases,
    "pad_b1": bits.bit_cases,
    "gemv_u8": one_row.code_row_cases,
    "gemv_f32": one_row.real_row_cases,
}
"""Which cases exercise which loop (Kernel.loop)."""


@cache
def prepared(loop: str) -> list[tuple[Case, bytes, Array, Array | float]]:
    """A loop's cases with file, expected output and bound: computed once for all its kernels."""
    result = []
    for case in GENERATORS[loop](loop):
        file = case.network().to_bytes()
        result.append((case, file, *case.expected(file)))
    return result


def kernels() -> list[bittern.Kernel]:
    """All kernels of the build, in the registry's order."""
    return list(bittern.kernels())


@pytest.mark.parametrize("kernel", kernels(), ids=lambda kernel: kernel.name)
def test_kernel(kernel: bittern.Kernel, kernel_notes: Counter[str]) -> None:
    """The forced kernel runs where its guard allows it, and every case is right."""
    if not kernel.usable:
        pytest.skip(f"instruction set {kernel.isa} is not usable on this CPU")
    assert kernel.loop in GENERATORS, f"no cases for the loop {kernel.loop}: add a generator to tests/kernels"
    problems, used = [], 0
    for case, file, expected, bound in prepared(kernel.loop):
        try:
            model = bittern.load(file, threads=case.threads, isa=kernel.isa, kernels=[kernel.name], winograd=False)
            if kernel.name not in {layer.kernel for layer in model.plan.layers}:
                kernel_notes[f"{kernel.loop}: not taken by the kernel"] += 1
                continue
            used += 1
            kernel_notes[f"{kernel.loop}: run"] += 1
            problem = differences(model.run(dict(case.inputs))["y"], expected, bound)
        except bittern.Error as error:
            problem = f"{type(error).__name__}: {error}"
        if problem is not None:
            problems.append(f"{case.name}, {case.threads} threads: {problem}")
    assert not problems, f"{len(problems)} cases are wrong:\n" + "\n".join(problems[:20])
    assert used > 0, f"no case exercised {kernel.name}"


def test_names_are_unique_and_follow_the_scheme() -> None:
    """A kernel's name is <loop>_..., ends in its instruction set, and exists once."""
    names = [kernel.name for kernel in kernels()]
    assert names and len(names) == len(set(names))
    for kernel in kernels():
        assert kernel.name.startswith(f"{kernel.loop}_"), kernel.name
        assert kernel.name.endswith(f"__{kernel.isa}"), kernel.name
        assert kernel.isa in bittern.cpu().isa_levels_built
        assert kernel.usable == (kernel.isa in bittern.cpu().isa_levels_usable)
        assert kernel.description


def test_every_usable_level_has_a_gemm_kernel() -> None:
    """No level without the main loop on codes; those with more than integer instructions have one on real numbers."""
    levels = {
        loop: {kernel.isa for kernel in kernels() if kernel.loop == loop} for loop in ("gemm", "gemm_u8", "bgemm")
    }
    built = set(bittern.cpu().isa_levels_built)
    assert levels["gemm_u8"] == built - set(BIT_LEVELS)
    assert levels["gemm"] == built - set(INTEGER_LEVELS) - set(BIT_LEVELS)
    assert levels["bgemm"] == built - set(INTEGER_LEVELS)


def test_unknown_kernel_name_is_an_error() -> None:
    """A misspelt kernel is not silently ignored."""
    _, file, _, _ = prepared("softmax")[0]
    with pytest.raises(bittern.InputError, match="no_such_kernel"):
        bittern.load(file, kernels=["no_such_kernel"])


@pytest.mark.parametrize("loop", codes.GENERATORS)
def test_whole_numbers_mean_real_ones(loop: str) -> None:
    """What is expected of loops on codes is at most a code away from what the operators say of real numbers."""
    compared = 0
    for case, file, expected, _ in prepared(loop)[::4]:
        assert isinstance(case, CodeCase)
        network = load_file(file)
        if any(node.op in FUNCTIONS for node in network.nodes):
            continue  # tests/reference has no such operator
        real = run(network, case.inputs)["y"]
        compared += 1
        if real.dtype == np.float32:
            largest = float(np.abs(real[np.isfinite(real)]).max(initial=0.0))
            problem = differences(expected, real, 1e-5 * largest)
        else:
            # A sum's first part may be a code off before it is scaled and rounded again.
            steps = 1 if "residual" not in case.inputs else 3
            problem = differences(expected.astype(np.int64), real.astype(np.int64), steps)
        assert problem is None, f"{case.name}: {problem}"
    assert compared > 5
