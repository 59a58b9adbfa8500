"""The C interface of the installed shared library: Python's answers, and no misuse goes unnoticed."""

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from ctypes import POINTER, Structure, byref, c_char_p, c_int32, c_int64, c_size_t, c_uint64, c_void_p, cast, sizeof
from pathlib import Path
from typing import Any

import bittern
import numpy as np
import pytest

from tests.builders import digits_like, floats, network
from tests.compare import assert_same_bits
from tests.reference.arrays import Array

OK, FORMAT, UNSUPPORTED, INPUT, RESOURCE, IO = range(6)
DTYPES = ("f32", "f16", "bf16", "f64", "i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64", "bool")


class LoadOptions(Structure):
    """bittern_load_options, and behind it room for a field of a later version."""

    _fields_ = [
        ("size", c_size_t),
        ("isa", c_char_p),
        ("device", c_char_p),
        ("memory_limit", c_uint64),
        ("checksum", c_int32),
        ("no_winograd", c_int32),
        ("later", c_uint64),
    ]


class SessionOptions(Structure):
    """bittern_session_options."""

    _fields_ = [("size", c_size_t), ("threads", c_int32)]


class ShapeOf(Structure):
    """bittern_shape."""

    _fields_ = [("sizes", POINTER(c_int64)), ("rank", c_int32)]


class Value(Structure):
    """bittern_value."""

    _fields_ = [
        ("name", c_char_p),
        ("dtype", c_int32),
        ("rank", c_int32),
        ("sizes", POINTER(c_int64)),
        ("symbols", POINTER(c_char_p)),
    ]


class View(Structure):
    """bittern_view and bittern_const_view."""

    _fields_ = [
        ("data", c_void_p),
        ("sizes", POINTER(c_int64)),
        ("strides", POINTER(c_int64)),
        ("rank", c_int32),
        ("dtype", c_int32),
    ]


RESULTS: dict[str, Any] = {
    "bittern_version": c_char_p,
    "bittern_dtype_size": c_size_t,
    "bittern_dtype_name": c_char_p,
    "bittern_error_code": c_int32,
    "bittern_error_message": c_char_p,
    "bittern_error_place": c_char_p,
    "bittern_error_problem": c_char_p,
    "bittern_error_remedy": c_char_p,
    "bittern_error_free": None,
    "bittern_load": c_int32,
    "bittern_load_bytes": c_int32,
    "bittern_model_free": None,
    "bittern_model_name": c_char_p,
    "bittern_model_isa": c_char_p,
    "bittern_model_bytes": c_uint64,
    "bittern_model_metadata": c_char_p,
    "bittern_model_metadata_key": c_char_p,
    "bittern_model_input_count": c_size_t,
    "bittern_model_output_count": c_size_t,
    "bittern_model_input": POINTER(Value),
    "bittern_model_output": POINTER(Value),
    "bittern_session_new": c_int32,
    "bittern_session_free": None,
    "bittern_session_prepare": c_int32,
    "bittern_session_output_count": c_size_t,
    "bittern_session_output": POINTER(Value),
    "bittern_run": c_int32,
}


def integers(values: tuple[int, ...]) -> Any:
    """An array of int64 that C can read."""
    return cast((c_int64 * max(1, len(values)))(*values), POINTER(c_int64))


def view(array: Array, strided: bool = False, dtype: int = 0) -> View:
    """A NumPy array for C; it must outlive the view."""
    data = array.__array_interface__["data"][0]
    return View(data, integers(array.shape), integers(array.strides) if strided else None, array.ndim, dtype)


def plain(value: Any) -> tuple[str, str, tuple[int | str, ...]]:
    """What a bittern_value says."""
    given = value.contents
    shape = [given.symbols[i].decode() if given.symbols[i] else given.sizes[i] for i in range(given.rank)]
    assert all(given.sizes[i] == -1 for i in range(given.rank) if isinstance(shape[i], str))
    return given.name.decode(), DTYPES[given.dtype], tuple(shape)


class Library:
    """The functions of the shared library; those that can fail give their code and message."""

    def __init__(self, path: Path) -> None:
        self.functions = ctypes.CDLL(os.fspath(path))
        for name, result in RESULTS.items():
            getattr(self.functions, name).restype = result

    def __getattr__(self, name: str) -> Any:
        return getattr(self.functions, f"bittern_{name}")

    def attempt(self, name: str, *arguments: Any) -> tuple[int, str]:
        """Code and message of a call that may fail; its error object is checked and freed."""
        error = c_void_p()
        code: int = getattr(self.functions, f"bittern_{name}")(*arguments, byref(error))
        assert (code == OK) == (error.value is None)
        assert self.error_code(error) == code
        message: str = self.error_message(error).decode()
        if code != OK:
            place, problem, remedy = (
                part(error).decode() for part in (self.error_place, self.error_problem, self.error_remedy)
            )
            assert place and problem and message == f"{place}: {problem}" + (f"; {remedy}" if remedy else "")
        self.error_free(error)
        return code, message

    def must(self, name: str, *arguments: Any) -> None:
        """A call that must succeed."""
        code, message = self.attempt(name, *arguments)
        assert code == OK, message

    def run_once(self, session: c_void_p, x: Array, y: Array, strided: bool = False) -> None:
        """Run a network of one input and one output."""
        self.must("run", session, byref(view(x, strided)), c_size_t(1), byref(view(y, strided)), c_size_t(1))


@pytest.fixture(scope="module")
def library(installed: Path) -> Library:
    """The installed shared library."""
    (path,) = installed.rglob("libbittern.so")
    return Library(path)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with a free batch, a softmax and metadata."""
    net = digits_like()
    net.metadata.update({"b": "second", "a": "f\u00fcrst"})
    path = tmp_path_factory.mktemp("c") / "digits.bittern"
    net.save(path)
    return path


@pytest.fixture
def model(library: Library, file: Path) -> Iterator[c_void_p]:
    """The network, loaded."""
    handle = c_void_p()
    library.must("load", os.fsencode(file), None, byref(handle))
    yield handle
    library.model_free(handle)


@pytest.fixture
def session(library: Library, model: c_void_p) -> Iterator[c_void_p]:
    """A session of it."""
    handle = c_void_p()
    library.must("session_new", model, None, byref(handle))
    yield handle
    library.session_free(handle)


def test_a_model_tells_what_python_tells(library: Library, model: c_void_p, file: Path) -> None:
    same = bittern.load(file)
    assert library.version().decode() == bittern.__version__
    assert library.model_name(model).decode() == "test"
    assert library.model_isa(model).decode() == same.isa
    assert library.model_bytes(model) > 4 * 17 * 17 * 9
    assert library.model_input_count(model) == library.model_output_count(model) == 1
    for ours, theirs in ((library.model_input, same.inputs), (library.model_output, same.outputs)):
        assert plain(ours(model, c_size_t(0))) == (
            "image" if ours is library.model_input else "scores",
            "f32",
            theirs[0].shape,
        )
        assert not ours(model, c_size_t(1)) and not ours(model, c_size_t(2**64 - 1))
    keys: list[str] = []
    while (key := library.model_metadata_key(model, c_size_t(len(keys)))) is not None:
        keys.append(key.decode())
    assert keys == sorted(same.metadata) and {"a", "b"} <= set(keys)
    assert {key: library.model_metadata(model, key.encode()).decode() for key in keys} == same.metadata
    assert library.model_metadata(model, b"absent") is None


def test_dtypes_are_those_of_the_file_format(library: Library) -> None:
    sizes = [4, 2, 2, 8, 1, 1, 2, 2, 4, 4, 8, 8, 1]
    for number, (name, size) in enumerate(zip(DTYPES, sizes, strict=True)):
        assert (library.dtype_name(number), library.dtype_size(number)) == (name.encode(), size)
    for number in (-1, 13, 255, 256, 2**31 - 1, -(2**31)):
        assert (library.dtype_name(number), library.dtype_size(number)) == (b"unknown", 0)


@pytest.mark.parametrize("threads", [0, 1, 2])
def test_a_run_gives_pythons_bits(
    library: Library, model: c_void_p, file: Path, threads: int, rng: np.random.Generator
) -> None:
    session = c_void_p()
    library.must("session_new", model, byref(SessionOptions(sizeof(SessionOptions), threads)), byref(session))
    same = bittern.load(file, threads=threads)
    for batch in (3, 1, 3):
        x, y = floats(rng, batch, 1, 8, 8), np.full((batch, 10), np.nan, np.float32)
        library.must("session_prepare", session, byref(ShapeOf(integers(x.shape), 4)), c_size_t(1))
        assert library.session_output_count(session) == 1
        assert plain(library.session_output(session, c_size_t(0))) == ("scores", "f32", y.shape)
        assert not library.session_output(session, c_size_t(1))
        library.run_once(session, x, y)
        assert_same_bits(y, same(x))  # type: ignore[arg-type]
        wide = np.zeros((batch, 20), np.float32)
        library.run_once(session, np.asfortranarray(x[:, :, ::-1]), wide[:, ::2], strided=True)
        assert_same_bits(wide[:, ::2], same(x[:, :, ::-1]))  # type: ignore[arg-type]
        assert not wide[:, 1::2].any()
    library.session_free(session)


def test_several_inputs_and_outputs(library: Library, rng: np.random.Generator) -> None:
    net = network(
        {"a": (2, 3), "b": (3,)}, {}, [("Add", ["a", "b"], "s", {}), ("Mul", ["a", "b"], "p", {})], ["s", "p"]
    )
    data, model, session = net.to_bytes(), c_void_p(), c_void_p()
    library.must("load_bytes", data, c_size_t(len(data)), None, None, byref(model))
    library.must("session_new", model, None, byref(session))
    library.model_free(model)  # the session keeps what it needs
    a, b, s, p = floats(rng, 2, 3), floats(rng, 3), np.empty((2, 3), np.float32), np.empty((2, 3), np.float32)
    library.must("run", session, (View * 2)(view(a), view(b)), c_size_t(2), (View * 2)(view(s), view(p)), c_size_t(2))
    assert_same_bits(s, a + b)
    assert_same_bits(p, a * b)
    library.session_free(session)


def test_files_that_cannot_be_loaded(library: Library, file: Path, tmp_path: Path) -> None:
    model = c_void_p(1)
    code, message = library.attempt("load", os.fsencode(tmp_path / "absent"), None, byref(model))
    assert code == IO and "absent" in message and model.value is None
    data = file.read_bytes()
    flipped = data[:-1] + bytes([data[-1] ^ 1])
    for damaged, place in ((b"", None), (data[:100], b"my bytes"), (flipped, b"my bytes")):
        model = c_void_p(1)
        code, message = library.attempt("load_bytes", damaged, c_size_t(len(damaged)), place, None, byref(model))
        assert code == FORMAT and message.startswith("<bytes>" if place is None else "my bytes") and model.value is None
    skip = LoadOptions(size=LoadOptions.later.offset, checksum=2)
    library.must("load_bytes", flipped, c_size_t(len(flipped)), None, byref(skip), byref(model))
    library.model_free(model)


@pytest.mark.parametrize(
    ("fields", "code", "problem"),
    [
        ({"size": 0}, INPUT, "load_options: the field size is 0; set it to sizeof(bittern_load_options)"),
        ({"size": 8}, INPUT, "the field size is 8"),
        ({"size": 2**63}, INPUT, "the field size is"),
        ({"later": 1}, INPUT, "use a newer library"),
        ({"isa": b"mmx"}, INPUT, "isa: unknown level mmx"),
        ({"device": b"abacus"}, UNSUPPORTED, "unknown device abacus"),
        ({"memory_limit": 1000}, RESOURCE, "1000"),
        ({"checksum": 3}, INPUT, "checksum: unknown value 3"),
        ({"checksum": -1}, INPUT, "checksum: unknown value -1"),
    ],
)
def test_load_options(library: Library, file: Path, fields: dict[str, Any], code: int, problem: str) -> None:
    model = c_void_p(1)
    options = LoadOptions(**({"size": sizeof(LoadOptions)} | fields))
    found, message = library.attempt("load", os.fsencode(file), byref(options), byref(model))
    assert found == code and problem in message and model.value is None


def test_options_take_effect(library: Library, file: Path) -> None:
    model = c_void_p()
    options = LoadOptions(
        size=sizeof(LoadOptions), isa=b"scalar", device=b"cpu", memory_limit=1 << 24, checksum=1, no_winograd=1
    )
    library.must("load", os.fsencode(file), byref(options), byref(model))
    assert library.model_isa(model) == b"scalar"
    library.model_free(model)


def test_missing_objects(library: Library, model: c_void_p, session: c_void_p, file: Path) -> None:
    """NULL is an error where a code is returned, and nothing elsewhere."""
    other, one = c_void_p(), c_size_t(1)
    array = np.zeros((1, 1, 8, 8), np.float32)
    x = view(array)
    calls: list[tuple[Any, ...]] = [
        ("load", None, None, byref(other)),
        ("load", os.fsencode(file), None, None),
        ("load_bytes", None, one, None, None, byref(other)),
        ("load_bytes", b"x", one, None, None, None),
        ("session_new", None, None, byref(other)),
        ("session_new", model, None, None),
        ("session_prepare", None, byref(ShapeOf(integers((1, 1, 8, 8)), 4)), one),
        ("session_prepare", session, None, one),
        ("session_prepare", session, byref(ShapeOf(None, 4)), one),
        ("run", None, byref(x), one, byref(x), one),
        ("run", session, None, one, byref(x), one),
        ("run", session, byref(x), one, None, one),
        ("run", session, byref(View(x.data, None, None, 4, 0)), one, byref(x), one),
        ("run", session, byref(View(None, x.sizes, None, 4, 0)), one, byref(x), one),
    ]
    for name, *arguments in calls:
        code, message = library.attempt(name, *arguments)
        assert code == INPUT and ("NULL" in message or "no data" in message), (name, message)
        assert getattr(library, name)(*arguments, None) == INPUT  # nobody wants the reason
        assert other.value is None
    for name in ("model_name", "model_isa", "error_message", "error_place", "error_problem", "error_remedy"):
        assert getattr(library, name)(None) == b""
    for name in ("model_input_count", "model_output_count", "session_output_count", "model_bytes", "error_code"):
        assert getattr(library, name)(None) == 0
    for name in ("model_input", "model_output", "session_output", "model_metadata_key"):
        assert not getattr(library, name)(None, c_size_t(0))
    assert library.model_metadata(None, b"a") is None and library.model_metadata(model, None) is None
    for name in ("model_free", "session_free", "error_free"):
        getattr(library, name)(None)
    assert library.session_output_count(session) == 0  # nothing was prepared


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda x, y: ([], [y]), "inputs: 0 given; 1 are needed"),
        (lambda x, y: ([x, x], [y]), "inputs: 2 given; 1 are needed"),
        (lambda x, y: ([x], []), "outputs: 0 given; 1 are needed"),
        (lambda x, y: ([x], [y, y]), "outputs: 2 given; 1 are needed"),
        (lambda x, y: ([View(x.data, x.sizes, None, -1, 0)], [y]), "input 0: its rank is -1"),
        (lambda x, y: ([View(x.data, x.sizes, None, 2**31 - 1, 0)], [y]), "input 0: its rank is 2147483647"),
        (lambda x, y: ([View(x.data, x.sizes, None, 3, 0)], [y]), "[1, 1, 8]"),
        (lambda x, y: ([View(x.data, x.sizes, None, 4, 13)], [y]), "input 0: unknown dtype 13"),
        (lambda x, y: ([View(x.data, x.sizes, None, 4, -1)], [y]), "input 0: unknown dtype -1"),
        (lambda x, y: ([View(x.data, x.sizes, None, 4, 3)], [y]), "f64"),
        (lambda x, y: ([View(x.data, integers((1, 1, 8, -8)), None, 4, 0)], [y]), "-8"),
        (lambda x, y: ([View(x.data, integers((2**40, 2**40, 8, 8)), None, 4, 0)], [y]), "image"),
        (lambda x, y: ([x], [View(y.data, integers((1, 11)), None, 2, 0)]), "it must be [1, 10]"),
        (lambda x, y: ([x], [View(y.data, y.sizes, None, 2, 10)]), "i64"),
        (lambda x, y: ([x], [View(None, y.sizes, None, 2, 0)]), "no data"),
        (lambda x, y: ([x], [View(y.data, None, None, 2, 0)]), "output 0: its sizes are NULL"),
    ],
)
def test_wrong_arrays(
    library: Library,
    session: c_void_p,
    file: Path,
    change: Callable[[View, View], tuple[list[View], list[View]]],
    problem: str,
    rng: np.random.Generator,
) -> None:
    x, y = floats(rng, 1, 1, 8, 8), np.full((1, 10), np.nan, np.float32)
    inputs, outputs = change(view(x), view(y))
    arrays = (
        (View * len(inputs))(*inputs),
        c_size_t(len(inputs)),
        (View * len(outputs))(*outputs),
        c_size_t(len(outputs)),
    )
    code, message = library.attempt("run", session, *arrays)
    assert code == INPUT and problem in message
    assert np.isnan(y).all()
    library.run_once(session, x, y)  # the session still works
    assert_same_bits(y, bittern.load(file)(x))  # type: ignore[arg-type]


def test_wrong_shapes(library: Library, session: c_void_p) -> None:
    good, one = ShapeOf(integers((2, 1, 8, 8)), 4), c_size_t(1)
    library.must("session_prepare", session, byref(good), one)
    for shape, count, problem in (
        (good, 0, "inputs: 0 given"),
        (good, 2, "inputs: 2 given"),
        (ShapeOf(integers((2, 1, 8)), 3), 1, "image"),
        (ShapeOf(integers((2, 1, 8, 9)), 4), 1, "image"),
        (ShapeOf(integers((2, 1, 8, -8)), 4), 1, "image"),
        (ShapeOf(integers((2,)), -4), 1, "rank is -4"),
    ):
        code, message = library.attempt("session_prepare", session, byref(shape), c_size_t(count))
        assert code == INPUT and problem in message
    assert plain(library.session_output(session, c_size_t(0)))[2] == (2, 10)  # the last that succeeded


def test_wrong_session_options(library: Library, model: c_void_p) -> None:
    for options, problem in (
        (SessionOptions(0, 1), "sizeof(bittern_session_options)"),
        (SessionOptions(sizeof(SessionOptions), -1), "threads: -1"),
    ):
        handle = c_void_p(1)
        code, message = library.attempt("session_new", model, byref(options), byref(handle))
        assert code == INPUT and problem in message and handle.value is None


def test_threads(library: Library, model: c_void_p, file: Path, rng: np.random.Generator) -> None:
    """A session per thread always works; in a shared one each call is right or refused."""
    x = floats(rng, 64, 1, 8, 8)
    expected = bittern.load(file)(x)
    shared, wrong, refused = c_void_p(), [], []
    library.must("session_new", model, None, byref(shared))

    def work(own: bool) -> None:
        session = c_void_p()
        if own:
            library.must("session_new", model, None, byref(session))
        for _ in range(50):
            y = np.full((64, 10), np.nan, np.float32)
            arrays = (byref(view(x)), c_size_t(1), byref(view(y)), c_size_t(1))
            code, message = library.attempt("run", session if own else shared, *arrays)
            if code == OK:
                wrong.extend([] if np.array_equal(y, expected) else ["other numbers"])  # type: ignore[arg-type]
            elif own or code != INPUT or "another thread is using it" not in message:
                wrong.append(message)
            else:
                refused.append(message)
        if own:
            library.session_free(session)

    for own in (True, False):
        workers = [threading.Thread(target=work, args=(own,)) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    library.session_free(shared)
    assert wrong == []
    assert len(refused) < 200
