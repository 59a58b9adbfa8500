"""The demo: a digits network as float and in every compressed form, measured side by side on held-back images."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module, resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bittern.atomic_file import write_atomic
from bittern.bench import Feeds, Runner, measure, onnxruntime_session
from bittern.errors import UnsupportedError
from bittern.report import accuracy as share
from bittern.report import bytes_exact, ratio, significant, table

Progress = Callable[[int, int, str], None]

# How an ordinary image file becomes the network's 8x8 input; the digits of the test are fed directly.
_PREPROCESS = {"resize": [8, 8], "color": "GRAY", "scale": 1 / 255}
_LABELS = [str(digit) for digit in range(10)]
_SHADES = " .:-=+*#%@"
_SHOWN = 4


@dataclass(frozen=True)
class Form:
    """One way to store the network: its file, its recipe, and a sentence for the reader."""

    title: str
    file: str
    recipe: str | None
    options: dict[str, Any]
    explanation: str


FORMS = (
    Form("float32", "digits_float32.bittern", None, {}, "the network as trained, converted and nothing else"),
    Form("float16", "digits_float16.bittern", "float16", {}, "every weight rounded to a 16-bit float"),
    Form(
        "codebook, 8 bits",
        "digits_codebook8.bittern",
        "deep-compression",
        {"bits": 8},
        "a layer's weights on at most 255 values, entropy-coded",
    ),
    Form(
        "pruned to 30 %, 5 bits",
        "digits_pruned30_5bit.bittern",
        "deep-compression",
        {"density": 0.3, "bits": 5},
        "the largest 30 % of a layer's weights, on at most 31 values",
    ),
    Form(
        "pruned to 20 %, 4 bits",
        "digits_pruned20_4bit.bittern",
        "deep-compression",
        {"density": 0.2, "bits": 4},
        "the largest 20 % of a layer's weights, on at most 15 values",
    ),
)


@dataclass(frozen=True)
class Row:
    """A form measured: bytes of the file, accuracy and agreement as shares of 1, milliseconds per image."""

    title: str
    file: str
    bytes: int
    ratio: float
    bits_per_weight: float | None
    accuracy: float
    agreement: float
    median_ms: float
    p10_ms: float
    p90_ms: float
    explanation: str


@dataclass(frozen=True)
class Result:
    """All rows, and some digits with the classes that the smallest form gives them."""

    rows: tuple[Row, ...]
    source_bytes: int
    images: int
    threads: int
    rounds: int
    cpu: str
    isa: str
    peer: str | None
    kept: str | None
    pictures: NDArray[np.float32]
    shown_truth: tuple[int, ...]
    shown_predicted: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "source_bytes": self.source_bytes,
            "held_back_images": self.images,
            "threads": self.threads,
            "rounds": self.rounds,
            "cpu": self.cpu,
            "isa": self.isa,
            "onnxruntime": self.peer,
            "kept": self.kept,
            "rows": [asdict(row) for row in self.rows],
        }

    def __str__(self) -> str:
        rows = [
            [
                row.title,
                bytes_exact(row.bytes),
                ratio(row.ratio),
                significant(row.bits_per_weight) if row.bits_per_weight is not None else "32",
                share(row.accuracy),
                share(row.agreement),
                f"{1000 * row.median_ms:.1f} us",
            ]
            for row in self.rows
        ]
        headers = ["form", "bytes", "smaller", "bits", "accuracy", "same class", "per image"]
        width = max(len(row.title) for row in self.rows)
        own = [row for row in self.rows if row.file.endswith(".bittern")]
        smallest = min(own, key=lambda row: row.bytes)
        lines = [
            "A small convolutional network for handwritten digits, in every form that bittern can give it.",
            "",
            *_gallery(self.pictures, self.shown_truth, self.shown_predicted),
            f"held-back digits, read by the smallest file ({smallest.title})",
            "",
            table(headers, rows, "lrrrrrr"),
            "",
            *(f"{row.title:<{width}}  {row.explanation}" for row in self.rows),
            "",
            f"smaller     than the float .onnx file of {self.source_bytes:,} bytes",
            "bits        stored per weight, all constants counted",
            f"accuracy    on {self.images} digits held back from training",
            "same class  as the float32 form",
            f"per image   batch 1, median of {self.rounds} interleaved rounds, {_threads(self.threads)}, {self.isa},",
            f"            {self.cpu}",
        ]
        if self.peer is None:
            lines.append("onnxruntime is not installed, so it is not compared: pip install bittern[peers]")
        if self.kept is not None:
            lines.append(f"files       kept in {self.kept}; try: bittern inspect {Path(self.kept) / smallest.file}")
        return "\n".join(lines)


def digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The held-back fifth of scikit-learn's digits: images [360, 1, 8, 8] in 0..1 and labels [360].

    UnsupportedError if scikit-learn is not installed.
    """
    try:
        datasets, selection = import_module("sklearn.datasets"), import_module("sklearn.model_selection")
    except ImportError:
        raise UnsupportedError(
            "demo", "the package scikit-learn is not installed", "pip install bittern[demo]"
        ) from None
    data = datasets.load_digits()
    images = (data.images / 16.0).astype(np.float32).reshape(-1, 1, 8, 8)
    _, held, _, labels = selection.train_test_split(
        images, data.target, test_size=0.2, stratify=data.target, random_state=0
    )
    return np.ascontiguousarray(held), np.asarray(labels, np.int64)


def run(
    *,
    keep: str | None = None,
    threads: int = 1,
    isa: str | None = None,
    rounds: int = 50,
    progress: Progress | None = None,
) -> Result:
    """Convert, compress, run and time every form; the files stay in `keep` if given. Errors: any bittern.Error."""
    import bittern

    images, labels = digits()
    cpu = bittern.cpu()
    tell = progress or (lambda done, total, what: None)
    steps = len(FORMS) + 1
    with contextlib.ExitStack() as stack:
        if keep is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bittern-demo-")))
        else:
            folder = Path(keep)
            os.makedirs(folder, exist_ok=True)
        source = folder / "digits.onnx"
        write_atomic(source, (resources.files("bittern") / "data" / "digits.onnx").read_bytes())
        original = bittern.convert(source, preprocess=_PREPROCESS, labels=_LABELS)
        runners: list[Runner] = []
        scores: list[NDArray[np.float32]] = []
        entries: list[tuple[Form, int, float | None]] = []
        for number, form in enumerate(FORMS):
            tell(number, steps, form.title)
            network = original
            if form.recipe is not None:
                network = bittern.compress(original, recipe=form.recipe, **form.options)
            path = folder / form.file
            network.save(path)
            model = bittern.load(path, threads=threads, isa=isa)
            scores.append(model.run({"image": images})["scores"])
            runners.append(Runner(form.title, model.run))
            entries.append((form, path.stat().st_size, network.summary().totals["bits_per_weight"]))
        peer = _add_onnxruntime(str(source), threads, images, runners, scores, entries)
        tell(len(FORMS), steps, "timing")
        feeds = [{"image": images[i : i + 1]} for i in range(16)]
        timings = measure(runners, feeds, rounds=rounds, progress=progress)
        source_bytes = source.stat().st_size
    reference = scores[0].argmax(axis=1)
    rows = []
    for (form, size, bits), each, timing in zip(entries, scores, timings, strict=True):
        predicted = each.argmax(axis=1)
        rows.append(
            Row(
                title=form.title,
                file=form.file,
                bytes=size,
                ratio=source_bytes / size,
                bits_per_weight=bits,
                accuracy=float((predicted == labels).mean()),
                agreement=float((predicted == reference).mean()),
                median_ms=timing.median_ms,
                p10_ms=timing.p10_ms,
                p90_ms=timing.p90_ms,
                explanation=form.explanation,
            )
        )
    smallest = min(range(len(FORMS)), key=lambda index: entries[index][1])
    shown = np.sort(np.unique(labels, return_index=True)[1])[:_SHOWN]  # the first digit of each of a few classes
    return Result(
        rows=tuple(rows),
        source_bytes=source_bytes,
        images=len(images),
        threads=threads,
        rounds=rounds,
        cpu=cpu.name,
        isa=isa or cpu.isa,
        peer=peer,
        kept=None if keep is None else str(folder),
        pictures=images[shown, 0],
        shown_truth=tuple(int(label) for label in labels[shown]),
        shown_predicted=tuple(int(digit) for digit in scores[smallest][shown].argmax(axis=1)),
    )


def _add_onnxruntime(
    source: str,
    threads: int,
    images: NDArray[np.float32],
    runners: list[Runner],
    scores: list[NDArray[np.float32]],
    entries: list[tuple[Form, int, float | None]],
) -> str | None:
    """Add ONNX Runtime on the float file where it is installed; return its version."""
    try:
        session, version = onnxruntime_session(source, threads)
    except UnsupportedError:
        return None

    def call(feeds: Feeds) -> object:
        return session.run(["scores"], feeds)

    form = Form("ONNX Runtime float32", "digits.onnx", None, {}, f"ONNX Runtime {version} on the float .onnx file")
    runners.append(Runner(form.title, call))
    scores.append(np.asarray(session.run(["scores"], {"image": images})[0]))
    entries.append((form, os.path.getsize(source), None))
    return version


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _gallery(pictures: NDArray[np.float32], truth: Sequence[int], predicted: Sequence[int]) -> list[str]:
    """Digits side by side, two characters a pixel, each with what it is and what it was taken for."""
    columns = []
    for picture in pictures:
        shades = np.clip(np.rint(picture * (len(_SHADES) - 1)), 0, len(_SHADES) - 1).astype(int)
        columns.append(["".join(_SHADES[shade] * 2 for shade in row) for row in shades])
    lines = ["  ".join(column[row] for column in columns).rstrip() for row in range(len(columns[0]))]
    captions = [
        f"{found}" if found == true else f"{found}, but is {true}" for true, found in zip(truth, predicted, strict=True)
    ]
    width = len(columns[0][0])
    return [*lines, "  ".join(caption.center(width) for caption in captions).rstrip()]
