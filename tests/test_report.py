"""What the command line prints with: tables, quantities, JSON, the progress line; the interleaved timer."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bittern.bench import Feeds, Runner, measure
from bittern.report import Progress, bytes_short, json_text, milliseconds, ratio, shape_text, significant, table


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def test_tables_align() -> None:
    text = table(["layer", "bytes"], [["a", "1"], ["long", "12,345"]], "lr", ["total", "12,346"])
    assert text.splitlines() == [
        "layer   bytes",
        "-----  ------",
        "a           1",
        "long   12,345",
        "-----  ------",
        "total  12,346",
    ]
    with pytest.raises(ValueError, match="3 cells, 2 headers"):
        table(["a", "b"], [["1", "2", "3"]])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.04567, "0.0457"),
        (1, "1.00"),
        (9.999, "10.0"),
        (0.9997, "1.00"),
        (12.34, "12.3"),
        (123456, "123456"),
    ],
)
def test_significant(value: float, text: str) -> None:
    assert significant(value) == text


def test_quantities() -> None:
    assert [bytes_short(size) for size in (0, 999, 1000, 999_600, 5_003_709, 7e9)] == [
        "0 B",
        "999 B",
        "1.00 kB",
        "1.00 MB",
        "5.00 MB",
        "7.00 GB",
    ]
    assert (milliseconds(0.0432), ratio(21.77), shape_text(("N", 3, 8)), shape_text(())) == (
        "0.0432 ms",
        "21.8x",
        "Nx3x8",
        "scalar",
    )


def test_json_is_plain() -> None:
    value = {
        "a": np.float32(0.5),
        "b": np.arange(3),
        "c": (1, None, True),
        "d": float("nan"),
        "e": np.float64("inf"),
        "f": Path("x"),
        "g": "Reiher é",
        "h": {"y", "x"},
    }
    assert json.loads(json_text(value)) == {
        "a": 0.5,
        "b": [0, 1, 2],
        "c": [1, None, True],
        "d": None,
        "e": None,
        "f": "x",
        "g": "Reiher é",
        "h": ["x", "y"],
    }
    with pytest.raises(TypeError, match="object"):
        json_text(object())


def test_progress_is_for_terminals_and_leaves_nothing() -> None:
    stream = Terminal()
    with Progress(stream=stream) as progress:
        progress(1, 2, "first layer")
        progress(2, 2, "second")
    shown = stream.getvalue()
    assert "1/2 first layer" in shown and "2/2 second" in shown and "\n" not in shown and shown.endswith(" \r")
    for silent, quiet in ((io.StringIO(), False), (Terminal(), True)):
        with Progress(stream=silent, quiet=quiet) as progress:
            progress(1, 1, "x")
        assert silent.getvalue() == ""


def test_the_timer_interleaves_and_varies_inputs() -> None:
    calls: list[tuple[str, int]] = []

    def recorder(name: str) -> Callable[[Feeds], object]:
        def call(feeds: Feeds) -> None:
            calls.append((name, int(feeds["x"][0])))
            sum(range(60_000))  # about a millisecond, so that samples need few repeats

        return call

    feeds = [{"x": np.array([number])} for number in range(4)]
    timings = measure([Runner("a", recorder("a")), Runner("b", recorder("b"))], feeds, rounds=6)
    assert [timing.name for timing in timings] == ["a", "b"]
    assert all(len(timing.samples_ms) == 6 and min(timing.samples_ms) > 0 for timing in timings)
    assert all(timing.p10_ms <= timing.median_ms <= timing.p90_ms for timing in timings)
    assert {number for _, number in calls} == {0, 1, 2, 3}
    order = [name for index, (name, _) in enumerate(calls[6:]) if index == 0 or calls[6 + index - 1][0] != name]
    assert len(order) >= 6 and {"a", "b"} == set(order)
