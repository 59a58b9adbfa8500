"""Zeros in ONNX weights: which sparse encoding they take, sparse tensors of ONNX files; every value stays exact."""

from typing import Any

import bittern
import numpy as np
import onnx
import pytest
from bittern.compression.zeros import sparse_codes, sparse_form
from bittern.encodings import Affine, Dense, Packed, Sparse
from bittern.errors import FormatError, InputError, ResourceError
from onnx import TensorProto, helper, numpy_helper

from tests.compare import assert_same_bits, assert_within
from tests.reference.arrays import Array


def described(weight: Array) -> str:
    """The form a weight takes; it must decode to the same bits and be smaller than the dense one."""
    tree = sparse_form(weight)
    if tree is None:
        return "dense"
    assert_same_bits(tree.decode(), weight)
    assert tree.nbytes < weight.nbytes
    return tree.describe()


def kept(rng: np.random.Generator, mask: Array) -> Array:
    """Random weights where the mask is set, else zero."""
    return np.where(mask, rng.standard_normal(mask.shape).astype(np.float32), np.float32(0))


def groups(rng: np.random.Generator, shape: tuple[int, ...], n: int, m: int) -> Array:
    """A mask with n of every m elements."""
    places = np.argsort(rng.random((int(np.prod(shape)) // m, m)), axis=1)
    found: Array = (places < n).reshape(shape)
    return found


def test_structure_is_found(rng: np.random.Generator) -> None:
    random = rng.random
    for n, m in ((2, 4), (1, 4), (1, 8), (2, 8), (2, 16)):
        form = f"sparse(n_of_m({n}:{m}, packed({m.bit_length() - 1})), dense)"
        assert described(kept(rng, groups(rng, (64, 96), n, m))) == form
    three_of_eight = kept(rng, groups(rng, (64, 96), 3, 8))  # 9 bits of places for 8 elements
    assert described(three_of_eight) == "sparse(bitmap(packed(1)), dense)"
    channels_last = groups(rng, (32, 3, 3, 16), 2, 4).transpose(0, 3, 1, 2)
    tree = sparse_form(kept(rng, channels_last))
    assert tree is not None and tree.order == "OHWI" and tree.describe() == "sparse(n_of_m(2:4, packed(2)), dense)"
    assert_same_bits(tree.decode() != 0, channels_last)
    for height, width in ((4, 4), (8, 1), (1, 32), (16, 2)):
        grid = random((64 // height, 128 // width)) < 0.3
        mask = np.repeat(np.repeat(grid, height, axis=0), width, axis=1)
        assert described(kept(rng, mask)) == f"sparse(blocks({height}x{width}, bitmap(packed(1))), dense)"
    windows = np.repeat(random((32, 16)) < 0.4, 9, axis=1).reshape(32, 16, 3, 3)
    assert described(kept(rng, windows)) == "sparse(blocks(1x9, bitmap(packed(1))), dense)"
    filters = np.broadcast_to((random(40) < 0.5)[:, None, None, None], (40, 8, 3, 3))
    assert described(kept(rng, filters)).startswith("sparse(blocks(")


def test_scattered_zeros(rng: np.random.Generator) -> None:
    for density, form in ((0.5, "bitmap"), (0.3, "bitmap"), (0.005, "relative_index"), (0.99, "dense")):
        assert described(kept(rng, rng.random((128, 333)) < density)).startswith(("sparse(" + form, form))
    assert described(np.zeros((64, 64), np.float32)) != "dense"
    assert described(np.zeros((3, 5), np.float32)) == "dense"  # the header would be larger
    special = kept(rng, rng.random((64, 64)) < 0.2)
    special[:2] = [[-0.0] * 64, [np.nan] * 64]
    assert described(special).startswith("sparse(")


def test_random_masks_keep_every_bit(rng: np.random.Generator) -> None:
    found = 0
    for _ in range(100):
        shape = tuple(int(size) for size in rng.integers(1, 24, int(rng.integers(1, 5))))
        weight = kept(rng, rng.random(shape) < rng.random() ** 2)
        tree = sparse_form(weight)
        decoded = weight if tree is None else tree.decode()
        assert decoded.shape == weight.shape and decoded.tobytes() == weight.tobytes(), f"{shape}: {tree}"
        found += tree is not None
    assert found > 20


def model(weight: Array, **graph: Any) -> onnx.ModelProto:
    """A product of `x` and the constant `w`."""
    nodes = [*graph.pop("before", []), helper.make_node("MatMul", ["x", "w"], ["y"], "product")]
    value = helper.make_tensor_value_info
    inputs, outputs = (
        [value("x", TensorProto.FLOAT, ["N", weight.shape[0]])],
        [value("y", TensorProto.FLOAT, ["N", weight.shape[1]])],
    )
    made = helper.make_graph(nodes, "g", inputs, outputs, **graph)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)])


def coordinates(weight: Array, flat: bool, name: str = "w") -> onnx.SparseTensorProto:
    """A sparse tensor with its positions as numbers or as coordinates."""
    where = np.flatnonzero(weight) if flat else np.argwhere(weight)
    values = numpy_helper.from_array(weight[weight != 0], name)
    return helper.make_sparse_tensor(values, numpy_helper.from_array(where.astype(np.int64), "i"), weight.shape)


def test_convert_takes_sparse_encodings(rng: np.random.Generator) -> None:
    """Zeros of an initializer, sparse initializers of both forms and a sparse constant: the same file, and it runs."""
    weight = kept(rng, rng.random((64, 48)) < 0.2)
    dense = bittern.convert(model(weight, initializer=[numpy_helper.from_array(weight, "w")]))
    node = helper.make_node("Constant", [], ["w"], sparse_value=coordinates(weight, True))
    others = [
        model(weight, sparse_initializer=[coordinates(weight, True)]),
        model(weight, sparse_initializer=[coordinates(weight, False)]),
        model(weight, before=[node]),
    ]
    assert isinstance(dense.constants["w"], Sparse)
    for other in others:
        onnx.checker.check_model(other)
        assert bittern.convert(other).to_bytes() == dense.to_bytes()
    x = rng.standard_normal((3, 64)).astype(np.float32)
    loaded = bittern.load(dense)
    assert_same_bits(loaded.constant("w"), weight)
    result = loaded(x)
    assert isinstance(result, np.ndarray)
    assert_within(result, (x.astype(np.float64) @ weight).astype(np.float32), 1e-5)
    assert np.array_equal(numpy_helper.to_array(dense.to_onnx().graph.initializer[0]), weight)


def test_integers_and_empty_sparse_tensors(rng: np.random.Generator) -> None:
    """A sparse tensor of another type, and one without values, become what they mean."""
    weight = np.zeros((4, 5), np.float32)
    empty = bittern.convert(model(weight, sparse_initializer=[coordinates(weight, True)]))
    assert isinstance(empty.constants["w"], Dense)
    assert_same_bits(empty.constants["w"].decode(), weight)
    reshape = helper.make_node("Reshape", ["w0", "s"], ["w"])
    table = numpy_helper.from_array(np.arange(20, dtype=np.float32).reshape(20, 1), "w0")
    size = coordinates(np.array([1, 20]), False, "s")
    made = model(np.zeros((1, 20)), before=[reshape], initializer=[table], sparse_initializer=[size])
    assert_same_bits(bittern.convert(made).constants["s"].decode(), np.array([1, 20]))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"indices": [0, 1]}, "values of shape"),
        ({"indices": [0, 1, 12]}, "indices outside 0..11"),
        ({"indices": [-1, 1, 2]}, "indices outside"),
        ({"indices": [0, 2, 1]}, "strictly increase"),
        ({"indices": [0, 1, 1]}, "strictly increase"),
        ({"indices": [[0, 0], [1, 0], [2, 4]]}, "coordinates outside"),
        ({"indices": [[0, 0], [1, 0], [1, -1]]}, "coordinates outside"),
        ({"indices": [[0, 0, 0]] * 3}, "indices of shape"),
        ({"dims": [-3, 4]}, "is of shape"),
        ({"dims": [2**40, 2**40]}, "at most"),
        ({"dims": [2**14, 2**15]}, "at most"),
        ({"dims": [0, 2**62, 2**62], "values": [], "indices": np.zeros((0, 3))}, "at most"),
        ({"dims": [2**62, 2**62, 0], "values": [], "indices": []}, "at most"),
        ({"dtype": np.int32}, "type int32"),
        ({"values": [[1.0, 2.0, 3.0]]}, "values of shape"),
    ],
)
def test_wrong_sparse_tensors(change: dict[str, Any], problem: str) -> None:
    values = np.array(change.get("values", [1.0, 2.0, 3.0]), np.float32)
    indices = np.array(change.get("indices", [0, 1, 2]), change.get("dtype", np.int64))
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(values, "w"), numpy_helper.from_array(indices, "i"), change.get("dims", [3, 4])
    )
    with pytest.raises((FormatError, ResourceError), match=problem) as caught:
        bittern.convert(model(np.zeros((3, 4)), sparse_initializer=[sparse]))
    assert "'w'" in str(caught.value)


def test_patterns_that_do_not_fit() -> None:
    from bittern.encodings import Blocks, NOfM

    mask = np.ones((4, 6), bool)
    for make, said in (
        (lambda: NOfM.of(mask, 2, 4), "do not divide"),
        (lambda: NOfM.of(mask, 1, 3), "more than 1"),
        (
            lambda: Sparse(Blocks.of(mask[:2, :2], 2, 3), Dense(np.ones(11, np.float32)), (4, 6)).decode(),
            "11 values are no whole number",
        ),
        (lambda: Sparse(Blocks.of(mask[:2, :2], 2, 4), Dense(np.ones(24, np.float32)), (4, 6)), "do not divide"),
        (lambda: Blocks(0, 1, Blocks.of(mask, 1, 1)), "height is 0"),
    ):
        with pytest.raises((InputError, FormatError), match=said):
            make()


def through_codes(codes: Array, zero: Array | None, scale: Array) -> onnx.ModelProto:
    """The product with a weight that DequantizeLinear makes of codes, one scale or one of each column."""
    constants = {"codes": codes, "scale": scale} | ({} if zero is None else {"zero": zero})
    before = helper.make_node("DequantizeLinear", list(constants), ["w"], axis=1)
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    return model(codes, before=[before], initializer=tensors)


def test_codes_with_zeros(rng: np.random.Generator) -> None:
    """Codes at the zero point go where the file is smaller for it; every weight and every result stays."""
    x = rng.standard_normal((3, 64)).astype(np.float32)
    columns = rng.uniform(0.01, 0.1, 48).astype(np.float32)
    one = np.float32(0.25).reshape(())
    fours = np.repeat(rng.random((16, 48)) < 0.1, 4, axis=0)
    for name, mask, zero, dtype, scale, form in (
        ("scattered", rng.random((64, 48)) < 0.3, 0, np.int8, one, "bitmap"),
        ("few", rng.random((64, 48)) < 0.004, None, np.int8, columns, "relative_index"),
        ("blocks", fours, 0, np.int8, columns, "blocks"),
        ("groups", groups(rng, (64, 48), 1, 8), 0, np.int8, columns, "n_of_m"),
        ("a zero point", rng.random((64, 48)) < 0.3, 128, np.uint8, one, "bitmap"),
        ("zero points", rng.random((64, 48)) < 0.3, np.arange(100, 148), np.uint8, columns, "bitmap"),
        ("far zero points", rng.random((64, 48)) < 0.3, 3, np.uint8, one, ""),
        ("hardly any zeros", rng.random((64, 48)) < 0.95, 0, np.int8, one, ""),
    ):
        points = np.broadcast_to(np.asarray(0 if zero is None else zero, np.int64), mask.shape)
        low, high = (-128, 127) if dtype == np.int8 else (0, 255)
        if name == "zero points":
            low, high = 20, 227
        codes = np.where(mask, rng.integers(low, high + 1, mask.shape), points).astype(dtype)
        held = None if zero is None else np.broadcast_to(np.asarray(zero, dtype), scale.shape).copy()
        net = bittern.convert(through_codes(codes, held, scale))
        (tree,) = (each for each in net.constants.values() if isinstance(each, Affine))
        assert isinstance(tree.codes, Sparse) == bool(form), name
        assert not form or tree.codes.describe().startswith(f"sparse({form}"), f"{name}: {tree.describe()}"
        wanted = ((codes.astype(np.int64) - points).astype(np.float32) * scale).astype(np.float32)
        assert_same_bits(tree.decode(), wanted, name)
        assert not form or tree.nbytes < codes.nbytes + scale.nbytes, name
        loaded = bittern.load(net)
        weight = next(key for key, each in net.constants.items() if each is tree)
        assert_same_bits(loaded.constant(weight), wanted, name)
        result = loaded(x)
        assert isinstance(result, np.ndarray)
        magnitude = np.abs(x).astype(np.float64) @ np.abs(wanted).astype(np.float64)
        assert (np.abs(result - x.astype(np.float64) @ wanted) <= 72 * 2.0**-24 * magnitude).all(), name


def test_codes_of_few_bits(rng: np.random.Generator) -> None:
    """They keep their bits, with what has no dense form of a smaller size; groups and orders stay as they are."""
    codes = np.where(rng.random((32, 40, 3, 3)) < 0.3, rng.integers(-8, 8, (32, 40, 3, 3)), 0)
    scale = Dense(rng.uniform(0.1, 1, 32).astype(np.float32))
    tree = Affine(Packed.pack(codes, 4, signed=True), scale, axis=0)
    smaller = sparse_codes(tree)
    assert smaller is not None and smaller.nbytes < 0.6 * tree.nbytes
    assert isinstance(smaller.codes, Sparse) and isinstance(smaller.codes.values, Packed)
    assert smaller.codes.values.bits == 4 and smaller.codes.values.signed
    assert_same_bits(smaller.decode(), tree.decode())
    assert sparse_codes(Affine(tree.codes, scale, Dense(np.full(32, 5, np.int32)), axis=0)) is None
    assert sparse_codes(Affine(Packed.pack(codes + 8, 4), scale, Dense(np.full(32, 8, np.int32)), axis=0)) is not None
    assert sparse_codes(Affine(Dense(codes.astype(np.int32)), scale, axis=0)) is None
    few = Packed.pack(np.clip(codes, -2, 1), 2, signed=True)
    assert sparse_codes(Affine(few, scale, axis=0)) is None, "planes of bits run them as they are"
