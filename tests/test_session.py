"""A model as a function: arrays in and out, names, shapes, element types, batches."""

from collections.abc import Callable

import bittern
import numpy as np
import pytest

from tests.builders import NodeSpec, digits_like, floats, network, one_node, output, reference
from tests.compare import assert_equal, assert_same_bits, assert_within
from tests.reference import run
from tests.reference.arrays import Array
from tests.tolerances import network_bound


@pytest.fixture(scope="module")
def model() -> bittern.Model:
    """A small network with a symbolic batch."""
    return bittern.load(digits_like(), threads=1)


@pytest.fixture
def image(rng: np.random.Generator) -> Array:
    """Three images for it."""
    return floats(rng, 3, 1, 8, 8)


@pytest.fixture(scope="module")
def pair() -> bittern.Model:
    """Two inputs, two outputs."""
    nodes: list[NodeSpec] = [("Add", ["a", "b"], "total", {}), ("Sub", ["a", "b"], "difference", {})]
    return bittern.load(network({"a": ("N", 5), "b": ("N", 5)}, {}, nodes, ["total", "difference"]), threads=1)


def test_what_the_model_says_of_itself(model: bittern.Model) -> None:
    (value,) = model.inputs
    assert (value.name, value.shape, value.dtype) == ("image", ("N", 1, 8, 8), "f32")
    (value,) = model.outputs
    assert (value.name, value.shape, value.dtype) == ("scores", ("N", 10), "f32")


def test_ways_to_call(model: bittern.Model, pair: bittern.Model, image: Array) -> None:
    expected = run(reference(digits_like()), {"image": image})["scores"]
    results = [model(image), model(image=image), model.run({"image": image})["scores"]]
    for result in results:
        assert isinstance(result, np.ndarray) and isinstance(results[0], np.ndarray)
        assert_same_bits(result, results[0])
        assert_within(result, expected, network_bound(expected))
    a, b = np.arange(10, dtype=np.float32).reshape(2, 5), np.ones((2, 5), np.float32)
    for both in (pair(a, b), pair(a=a, b=b), pair.run({"b": b, "a": a})):
        assert isinstance(both, dict) and list(both) == ["total", "difference"]
        assert_equal(both["total"], a + b)
        assert_equal(both["difference"], a - b)


def test_results_are_the_callers_own(model: bittern.Model, image: Array) -> None:
    first = output(model, image)
    kept = first.copy()
    output(model, image + 1)
    assert_same_bits(first, kept, "a later run changed an earlier result")
    assert first.flags.writeable
    first[:] = 0
    assert_same_bits(output(model, image), kept)


def strided_forms(image: Array) -> dict[str, Array]:
    """The same numbers in every kind of memory."""
    wide = np.full((6, 1, 16, 8), np.nan, np.float32)
    wide[::2, :, ::2] = image
    read_only = image.copy()
    read_only.setflags(write=False)
    shifted = np.frombuffer(b"\0" + image.tobytes(), np.uint8)[1:].view(np.float32).reshape(image.shape)
    return {
        "strided": wide[::2, :, ::2],
        "negative strides": np.asarray(image[::-1, :, ::-1, ::-1], order="C")[::-1, :, ::-1, ::-1],
        "Fortran order": np.asfortranarray(image),
        "read-only": read_only,
        "transposed": np.asarray(image.transpose(3, 2, 1, 0), order="C").transpose(3, 2, 1, 0),
        "unaligned": shifted,
        "broadcast": np.broadcast_to(image[:1], image.shape),
    }


def test_any_memory_layout_is_read(model: bittern.Model, image: Array) -> None:
    for name, form in strided_forms(image).items():
        before = form.copy()
        assert_same_bits(output(model, form), output(model, np.array(form, order="C")), name)
        assert_same_bits(form.copy(), before, f"{name}: the input changed")


def test_out_is_written(model: bittern.Model, image: Array) -> None:
    expected = output(model, image)
    out = np.full((3, 10), np.nan, np.float32)
    result = output(model, image, out=out)
    assert result is out
    assert_same_bits(out, expected)
    frame = np.full((6, 20), 7, np.float32)
    output(model, image, out=frame[::2, ::-2])
    assert_same_bits(frame[::2, ::-2].copy(), expected, "strided out")
    assert (frame[1::2] == 7).all() and (frame[:, ::2] == 7).all(), "wrote outside of out"


def test_out_of_several(pair: bittern.Model) -> None:
    a = np.ones((2, 5), np.float32)
    outs = {"total": np.zeros((2, 5), np.float32), "difference": np.ones((2, 5), np.float32)}
    result = pair(a, a, out=outs)
    assert isinstance(result, dict)
    assert result["total"] is outs["total"] and result["difference"] is outs["difference"]
    assert (outs["total"] == 2).all() and (outs["difference"] == 0).all()


def test_out_may_be_the_input(rng: np.random.Generator) -> None:
    x = floats(rng, 4, 33)
    expected = np.maximum(x, 0)
    model = bittern.load(one_node("Relu", x), threads=1)
    output(model, x, out=x)
    assert_equal(x, expected)


def test_wrong_out(model: bittern.Model, image: Array) -> None:
    read_only = np.zeros((3, 10), np.float32)
    read_only.setflags(write=False)
    for wrong, word in (
        (np.zeros((3, 11), np.float32), "11"),
        (np.zeros((2, 10), np.float32), "2"),
        (np.zeros((3, 10)), "f64|float64"),
        (read_only, "read-only|read only|writ"),
    ):
        with pytest.raises(bittern.InputError, match=word) as caught:
            output(model, image, out=wrong)
        assert "scores" in str(caught.value) or "out" in str(caught.value)


def test_wrong_dtype_says_what_to_do(model: bittern.Model, image: Array) -> None:
    with pytest.raises(bittern.InputError) as caught:
        output(model, image.astype(np.float64))
    message = str(caught.value)
    assert "image" in message
    assert any(word in message for word in ("float64", "f64"))
    assert any(word in message for word in ("float32", "f32"))
    assert "astype" in message
    for dtype in (np.uint8, np.int64, np.float16, np.complex64, np.bool_):
        with pytest.raises(bittern.InputError, match="image"):
            output(model, np.zeros((1, 1, 8, 8), dtype))


@pytest.mark.parametrize(
    "shape", [(1, 1, 8, 9), (1, 2, 8, 8), (1, 8, 8), (64,), (), (1, 1, 1, 8, 8), (1, 1, 8, 0)], ids=str
)
def test_wrong_shape(model: bittern.Model, shape: tuple[int, ...]) -> None:
    with pytest.raises(bittern.InputError, match="image") as caught:
        output(model, np.zeros(shape, np.float32))
    needed = "rank 4" if len(shape) != 4 else "2" if shape[1] == 2 else "8"
    assert needed in str(caught.value), "the message says what is needed"


def test_wrong_names(model: bittern.Model, pair: bittern.Model, image: Array) -> None:
    a = np.ones((2, 5), np.float32)
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: model.run({"picture": image}), "picture"),
        (lambda: model.run({}), "image"),
        (lambda: model.run({"image": image, "more": image}), "more"),
        (lambda: model(image, image), "2"),
        (lambda: model(), "image"),
        (lambda: model(picture=image), "picture"),
        (lambda: pair(a), "b"),
        (lambda: pair(a, a, a), "2"),
        (lambda: pair(a, a=a), "a"),
        (lambda: pair.run({"a": a}), "b"),
    ]
    for call, word in calls:
        with pytest.raises((bittern.InputError, TypeError), match=word):
            call()


def test_equal_symbols_are_equal_sizes(pair: bittern.Model) -> None:
    with pytest.raises(bittern.InputError, match="N"):
        pair(np.ones((2, 5), np.float32), np.ones((3, 5), np.float32))


def test_not_an_array(model: bittern.Model) -> None:
    for wrong in ("text", None, object()):
        with pytest.raises((bittern.InputError, TypeError), match="image"):
            model(wrong)


def test_shapes_may_change_between_calls(model: bittern.Model, rng: np.random.Generator) -> None:
    network_ = reference(digits_like())
    for batch in (1, 5, 2, 1, 7, 5, 33, 1):
        x = floats(rng, batch, 1, 8, 8)
        expected = run(network_, {"image": x})["scores"]
        assert_within(output(model, x), expected, network_bound(expected), f"batch {batch}")


def test_symbolic_sizes(rng: np.random.Generator) -> None:
    """A fully convolutional network takes any size; one too small for the window is an error that names the node."""
    w = floats(rng, 9, 3, 3, 3)
    nodes: list[NodeSpec] = [("Conv", ["x", "w"], "y", {})]
    net = network({"x": ("N", 3, "H", "W")}, {"w": w}, nodes, ["y"])
    model = bittern.load(net)
    for height, width in ((3, 3), (17, 5), (4, 31), (3, 3)):
        x = floats(rng, 2, 3, height, width)
        expected = run(reference(net), {"x": x})["y"]
        assert_within(output(model, x), expected, network_bound(expected))
    with pytest.raises(bittern.InputError, match="y_node"):
        output(model, floats(rng, 1, 3, 2, 5))
    assert tuple(model.plan_for({"x": (1, 3, 9, 7)}).layers[-1].output_shape) == (1, 9, 7, 5)


def test_images_of_a_batch_do_not_depend_on_each_other(isa: str, rng: np.random.Generator) -> None:
    model = bittern.load(digits_like(), isa=isa)
    x = floats(rng, 9, 1, 8, 8)
    whole = output(model, x)
    for i in range(9):
        assert_within(output(model, x[i : i + 1]), whole[i : i + 1], network_bound(whole[i : i + 1]), f"image {i}")


def test_empty_batch(model: bittern.Model) -> None:
    assert output(model, np.zeros((0, 1, 8, 8), np.float32)).shape == (0, 10)


def test_empty_dimension() -> None:
    x = np.zeros((2, 0, 3), np.float32)
    assert output(bittern.load(one_node("Relu", x)), x).shape == (2, 0, 3)
    joined = network({"x": (2, 0), "z": (2, 3)}, {}, [("Concat", ["x", "z"], "y", {"axis": 1})], ["y"])
    z = np.ones((2, 3), np.float32)
    assert_equal(output(bittern.load(joined), np.zeros((2, 0), np.float32), z), z)


def test_arrays_that_share_memory(pair: bittern.Model, rng: np.random.Generator) -> None:
    """Outputs over inputs, in part or backwards, are right all the same; outputs over each other are refused."""
    seen = {"refused": 0, "over an input": 0, "apart": 0}
    for _ in range(200):
        buffer = floats(rng, 60)

        def place(size: int = 60, memory: Array = buffer) -> tuple[Array, set[int]]:
            """Two rows of five somewhere in the buffer, and which elements they are."""
            step = int(rng.choice([1, 1, 2, -1]))
            start = int(rng.integers(max(0, -9 * step), size - max(0, 9 * step)))
            at = start + step * np.arange(10)
            end = int(at[-1]) + step
            return memory[start : (None if end < 0 else end) : step].reshape(2, 5), set(range(min(at), max(at) + 1))

        (a, of_a), (b, of_b), (total, of_total), (difference, of_difference) = (place() for _ in range(4))
        assert all(np.shares_memory(view, buffer) for view in (a, b, total, difference))
        expected = a + b, a - b
        if of_total & of_difference:
            seen["refused"] += 1
            with pytest.raises(bittern.InputError, match="output total: shares memory with output difference"):
                pair(a, b, out={"total": total, "difference": difference})
            continue
        seen["over an input" if (of_a | of_b) & (of_total | of_difference) else "apart"] += 1
        pair(a, b, out={"total": total, "difference": difference})
        assert_equal(total, expected[0])
        assert_equal(difference, expected[1])
    assert min(seen.values()) > 2, seen
