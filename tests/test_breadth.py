"""Every operator in random networks: any shape, attribute and type, sizes and elements that change from run to run."""

from typing import Any

import bittern
import numpy as np
import pytest

from tests.breadth import codes, elementwise, layers, moves
from tests.breadth.cases import Case, Family
from tests.conftest import seed_of
from tests.reference import apply
from tests.reference.arrays import Array

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
from onnx.reference import ReferenceEvaluator  # noqa: E402

FAMILIES: dict[str, Family] = {**elementwise.FAMILIES, **moves.FAMILIES, **layers.FAMILIES, **codes.FAMILIES}
ROUNDS = 12
"""Networks of each family; each runs three times."""

FIXED = {"ConstantOfShape": (1,)}
"""Inputs here that are attributes in ONNX."""


def network_of(case: Case, fixed: set[int], free: bool) -> bittern.Network:
    """The network of one node: inputs in ``fixed`` are constants; sizes of the others are free, or those given."""
    net = bittern.Network("breadth")
    names = []
    for index, array in enumerate(case.inputs):
        names.append("" if array is None else f"x{index}")
        if array is None:
            continue
        if index in fixed:
            net.add_constant(names[-1], array)
        else:
            shape = [f"{names[-1]}_{axis}" if free else size for axis, size in enumerate(array.shape)]
            net.add_input(names[-1], shape, dtype_name(array))
    while names and not names[-1]:
        names.pop()
    outputs = [f"y{index}" for index in range(case.outputs)]
    net.add_node(case.op, names, outputs, **case.attributes)
    net.set_outputs(outputs)
    return net


def dtype_name(array: Array) -> str:
    """The package's name of an element type."""
    return moves.NAMES[str(array.dtype)]


def feeds_of(case: Case, fixed: set[int]) -> dict[str, Array]:
    """The arrays of the inputs that are no constants."""
    return {f"x{i}": array for i, array in enumerate(case.inputs) if array is not None and i not in fixed}


# The reference evaluator has less than the operator (directions, sequence lengths, negative pads, 1-D global pooling),
# or clamps and rounds otherwise than the specification says.
ORACLE_IS_ONNX_RUNTIME = {
    *("LSTM", "GRU", "RNN", "Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool"),
    *("GlobalMaxPool", "LRN", "LpNormalization", "Flatten", "Slice", "Pad", "GatherElements"),
}


ORACLE_IS_OURS = {"Quant", "BipolarQuant", "Trunc", "MultiThreshold", "ConvInteger", "WinogradConv"}
"""No other runtime here has the operators of QONNX or our own, nor a ConvInteger with a zero point per channel."""


def expected_of(net: bittern.Network, feeds: dict[str, Array], op: str) -> list[Array]:
    """What the reference evaluator gives, for some operators ONNX Runtime."""
    if op in ORACLE_IS_OURS:
        values = {**{name: tree.decode() for name, tree in net.constants.items()}, **feeds}
        return [apply(op, [values[name] if name else None for name in net.nodes[0].inputs], net.nodes[0].attributes)]
    model = net.to_onnx()
    if op in ORACLE_IS_ONNX_RUNTIME:
        onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return list(session.run(None, feeds))
    if op == "DequantizeLinear":
        model.opset_import[0].version = max(19, model.opset_import[0].version)  # the evaluator has none before
    with np.errstate(all="ignore"):
        return [np.asarray(array) for array in ReferenceEvaluator(model).run(None, feeds)]


_answers: dict[tuple[str, int], list[Array]] = {}


def answer(place: str, run: int, net: bittern.Network, feeds: dict[str, Array], op: str) -> list[Array]:
    """What is expected of a case, computed once for all instruction sets: that takes longer than the engine does."""
    if (place, run) not in _answers:
        _answers[place, run] = expected_of(net, feeds, op)
    return _answers[place, run]


def difference(result: Array, expected: Array, tolerance: float) -> str:
    """What is wrong; empty if nothing is. Integers and booleans are equal."""
    if result.shape != expected.shape or result.dtype != expected.dtype:
        return f"{result.dtype} {result.shape}, expected {expected.dtype} {expected.shape}"
    if expected.dtype.kind != "f":
        return "" if np.array_equal(result, expected) else f"{result}, expected {expected}"
    finite = expected[np.isfinite(expected)]
    scale = max(1.0, float(np.abs(finite).max())) if finite.size else 1.0
    close = np.isclose(result, expected, rtol=tolerance, atol=tolerance * scale, equal_nan=True)
    return "" if close.all() else f"{result[~close][:5]}, expected {expected[~close][:5]}"


@pytest.mark.parametrize("name", FAMILIES)
def test_family(name: str, isa: str) -> None:
    """One model for several shapes, its plans cached, then the first arrays again."""
    problems = []
    for round_ in range(ROUNDS):
        seed = seed_of(f"{name} {round_}")
        cases = [FAMILIES[name](np.random.default_rng(seed), np.random.default_rng([seed, run])) for run in range(3)]
        fixed = {i for i in FIXED.get(cases[0].op, ()) if i < len(cases[0].inputs)}
        place = f"{name}, seed {seed}: {cases[0].op} {cases[0].attributes}"
        try:
            net = network_of(cases[0], fixed, free=True)
            model = bittern.load(net, isa=isa, threads=1 + round_ % 2)
            for run in (0, 1, 2, 0):
                case = cases[run]
                feeds = feeds_of(case, fixed)
                expected = answer(place, run, net, feeds, case.op)
                results = list(model.run(feeds).values())
                shapes = [None if x is None else x.shape for x in case.inputs]
                for result, wanted in zip(results, expected, strict=True):
                    if problem := difference(result, wanted, case.tolerance):
                        problems.append(f"{place} on {shapes}: {problem}")
        except bittern.Error as error:
            problems.append(f"{place}: {error}")
    assert not problems, f"{len(problems)} problems:\n" + "\n".join(problems)


@pytest.mark.parametrize("name", FAMILIES)
def test_family_with_constants(name: str, isa: str) -> None:
    """Fixed sizes, some inputs constant: all of them, the last ones, or the second."""
    problems = []
    for round_ in range(ROUNDS):
        seed = seed_of(f"constants {name} {round_}")
        case = FAMILIES[name](np.random.default_rng(seed), np.random.default_rng([seed, 0]))
        count = len(case.inputs)
        fixed = set([range(1, count), range(count - 1, count), range(min(1, count), min(2, count))][round_ % 3])
        fixed |= set(FIXED.get(case.op, ()))
        # Files hold no 64-bit unsigned constants.
        fixed = {i for i in fixed if (array := case.inputs[i]) is not None and array.dtype != np.uint64}
        place = f"{name}, seed {seed}: {case.op} {case.attributes}, constants {sorted(fixed)}"
        try:
            net = network_of(case, fixed, free=False)
            feeds = feeds_of(case, fixed)
            if not feeds:
                continue
            results = list(bittern.load(net, isa=isa).run(feeds).values())
            for result, wanted in zip(results, answer(place, 0, net, feeds, case.op), strict=True):
                if problem := difference(result, wanted, case.tolerance):
                    problems.append(f"{place}: {problem}")
        except bittern.Error as error:
            problems.append(f"{place}: {error}")
    assert not problems, f"{len(problems)} problems:\n" + "\n".join(problems)


def test_every_operator_has_a_family() -> None:
    """No operator is left out by the random choices."""
    from bittern.operators import OPERATORS

    drawn: set[str] = set()
    for name, family in FAMILIES.items():
        for round_ in range(300):
            seed = seed_of(f"{name} {round_}")
            drawn.add(family(np.random.default_rng(seed), np.random.default_rng(seed + 1)).op)
    assert set(OPERATORS) - drawn == {"GlobalLpPool"}, "the reference evaluator has no GlobalLpPool"


def test_elements_that_decide_shapes() -> None:
    """One model, plans for each value; what needs values says so."""
    net = bittern.Network("shapes")
    net.add_input("x", ("N", 6))
    net.add_input("shape", (2,), "i64")
    net.add_node("Reshape", ["x", "shape"], ["flat"])
    net.add_node("Relu", ["flat"], ["y"])
    net.set_outputs(["y"])
    model = bittern.load(net)
    assert model.shape_deciding_inputs == ["shape"]
    x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(2, 6)
    for _ in range(2):
        for shape in ((3, 4), (4, 3), (2, -1), (12, 1)):
            result: Any = model(x, np.array(shape, np.int64))
            assert np.array_equal(result, np.maximum(x, 0).reshape(shape))
            assert np.array_equal(model.run({"x": x, "shape": list(shape)})["y"], result)
    with pytest.raises(bittern.InputError, match=r"input shape: its elements decide shapes.*plan_for"):
        _ = model.plan
    plan = model.plan_for({"x": (4, 6), "shape": np.array([-1, 8])})
    assert plan.output_shapes["y"] == (3, 8)
    with pytest.raises(bittern.InputError, match="shape"):
        model(x, np.array([5, 5]))
    with pytest.raises(bittern.InputError, match=r"3\.5"):
        model(x, [3.5, 1])
    assert bittern.load(net).profile(x, np.array([3, 4]), runs=1).layers


class Chain:
    """A random network of many nodes: each takes values that are there, of any shape and type."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.net = rng, bittern.Network("chain")
        self.net.add_input("x", ("N", 4, "M"))
        self.net.add_input("i", ("N", 4, "M"), "i64")
        for name, array in {"two": np.float32(2), "ten": np.int64(10), "zero": np.zeros(1, np.int64)}.items():
            self.net.add_constant(name, np.asarray(array))
        self.net.add_constant("one", np.ones(1, np.int64))
        self.values = {"f": ["x"], "i": ["i"], "b": list[str]()}

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"v{len(self.net.nodes)}"
        self.net.add_node(op, list(inputs), [name], **attributes)
        return name

    def pick(self, kind: str) -> str:
        values = self.values[kind]
        return values[int(self.rng.integers(len(values)))]

    def grow(self) -> None:
        """One more value of the shape [N, 4, M], by one or several nodes."""
        choice = int(self.rng.integers(10))
        kind = "f" if choice % 2 else "i"
        a, b = self.pick(kind), self.pick(kind)
        if choice < 2:
            made = self.node(("Add", "Sub", "Mul", "Max")[int(self.rng.integers(4))], a, b)
        elif choice < 4:  # there and back by a transposed, flattened form
            flat = self.node("Flatten", self.node("Transpose", a, perm=[2, 0, 1]), axis=1)
            shape = self.node("Shape", self.node("Transpose", a, perm=[2, 0, 1]))
            made = self.node("Transpose", self.node("Reshape", flat, shape), perm=[1, 2, 0])
        elif choice < 6:  # less of it, and as much as before again
            part = self.node("ReduceMax" if choice == 4 else "ReduceSum", a, "one", keepdims=1)
            made = self.node("Expand", part, self.node("Shape", b))
        elif choice < 8:  # two halves, the other way round
            size = self.node("Shape", a, start=2)
            front = self.node("Slice", a, "zero", "one", "zero") if choice == 6 else a
            half = self.node("Slice", front, "one", size, self.node("Add", "one", "one"))
            rest = self.node("Slice", front, "zero", "one", self.node("Add", "one", "one"))
            joined = self.node("Concat", half, rest, axis=-1)
            made = self.node("Add", joined, a) if choice == 6 else joined
        else:
            self.values["b"].append(self.node("Greater", a, b))
            made = self.node("Where", self.pick("b"), a, b)
        scale = self.node("Div", made, "two") if kind == "f" else self.node("Mod", made, "ten")
        self.values[kind].append(scale)
        if choice == 9:
            self.values["i"].append(self.node("Cast", self.node("Floor", made), to="i64"))
        if choice == 8:
            self.values["f"].append(self.node("Cast", scale, to="f32"))


def test_chains(isa: str) -> None:
    """Networks of some thirty nodes on several shapes; every value on the way is compared."""
    problems = []
    for round_ in range(ROUNDS):
        seed = seed_of(f"chain {round_}")
        rng = np.random.default_rng(seed)
        chain = Chain(rng)
        for _ in range(10):
            chain.grow()
        net = chain.net
        outputs = [
            name for name in [*chain.values["f"], *chain.values["i"], *chain.values["b"]] if name.startswith("v")
        ]
        net.set_outputs(outputs)
        model = bittern.load(net, isa=isa, threads=1 + round_ % 2)
        taps = [node.outputs[0] for node in net.nodes if node.outputs[0] not in outputs]
        oracle = ReferenceEvaluator(net.to_onnx())
        for n, m in ((2, 3), (1, 1), (3, 6), (2, 3)):
            feeds = {"x": rng.uniform(-3, 3, (n, 4, m)).astype(np.float32), "i": rng.integers(-9, 9, (n, 4, m))}
            expected = oracle.run(None, feeds, intermediate=True)
            assert {*outputs, *taps} <= set(expected)
            for results in (model.run(feeds), model.run(feeds, taps=taps)):
                for name, result in results.items():
                    if name in expected and (problem := difference(result, np.asarray(expected[name]), 1e-4)):
                        problems.append(f"seed {seed}, {name} on {(n, m)}: {problem}")
    assert not problems, f"{len(problems)} problems:\n" + "\n".join(problems)
