"""`bittern run`: arrays or image files through a network."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bittern.cli.output import Output
from bittern.cli.parser import add_execution_options, positive
from bittern.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bittern.model import Model

    Feeds = dict[str, NDArray[Any]]

HELP = "inference on arrays or image files"
DESCRIPTION = """Run FILE on each input and show or save its outputs.

An .npy file holds the only input, an .npz file one array per input name. Anything else is taken for an image and
prepared as the file says (see bittern convert). Values are the network's own: no softmax is added."""
EXAMPLE = "bittern run net.bittern --input cat.jpg dog.png --top 5"
_DEFAULT_TOP = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("file", metavar="FILE", help=".bittern file")
    parser.add_argument(
        "--input", nargs="+", action="extend", required=True, metavar="X", help=".npy, .npz or image files"
    )
    parser.add_argument("--output", metavar="Y", help="save the outputs: .npz, or .npy for a single output")
    parser.add_argument(
        "--top", type=positive, metavar="K", help=f"list the K largest values (default for images: {_DEFAULT_TOP})"
    )
    parser.add_argument("--labels", metavar="FILE", help="class names (default: those in FILE, else indices)")
    add_execution_options(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Run every input in turn; outputs of several inputs are joined along axis 0."""
    import bittern
    from bittern.cli.files import check_array_output, read_labels, write_arrays
    from bittern.cli.networks import check_source

    check_source(arguments.file)
    if arguments.output is not None:
        check_array_output(arguments.output, [arguments.file, *arguments.input])
    given = read_labels(arguments.labels) if arguments.labels else None
    model = bittern.load(arguments.file, threads=arguments.threads, isa=arguments.isa)
    if arguments.output is not None and arguments.output.lower().endswith(".npy") and len(model.outputs) != 1:
        names = ", ".join(value.name for value in model.outputs)
        raise InputError(arguments.output, f"one array cannot hold the outputs {names}", "write an .npz file")
    labels = given if given is not None else _stored_labels(model.metadata)
    with output.progress() as progress:
        results = []
        for done, path in enumerate(arguments.input):
            progress(done, len(arguments.input), path)
            feeds, is_image = _feeds(model, path)
            top = arguments.top or (_DEFAULT_TOP if is_image and arguments.output is None else 0)
            outputs = model.run(feeds)
            if given is not None and not any(len(given) == _classes(array) for array in outputs.values()):
                sizes = ", ".join(str(_classes(array)) for array in outputs.values())
                raise InputError(
                    arguments.labels, f"names {len(given)} classes, the network has {sizes}", "give one line per class"
                )
            results.append((path, outputs, top))
    if arguments.output is not None:
        write_arrays(arguments.output, _joined([outputs for _, outputs, _ in results]))
    document = {
        "file": arguments.file,
        "output": arguments.output,
        "results": [_document(path, outputs, top, labels) for path, outputs, top in results],
    }
    output.result(document, lambda: _text(document))
    return 0


def _feeds(model: Model, path: str) -> tuple[Feeds, bool]:
    """The network's inputs from one file, and whether it is an image."""
    from bittern.cli.files import read_inputs

    if path.lower().endswith((".npy", ".npz")):
        return read_inputs(path, model.inputs), False
    return _image_feeds(model, path), True


def _image_feeds(model: Model, path: str) -> Feeds:
    from bittern.preprocess import Preprocess
    from bittern.report import shape_text

    if len(model.inputs) != 1:
        names = ", ".join(value.name for value in model.inputs)
        raise InputError(path, f"is an image, the network has the inputs {names}", "give an .npz file")
    wanted = model.inputs[0]
    stored = model.metadata.get("preprocess")
    array = (Preprocess() if stored is None else Preprocess.from_json(stored)).apply(path)
    sizes = wanted.shape or ()
    fits = len(sizes) == array.ndim and all(
        isinstance(size, str) or size == actual for size, actual in zip(sizes, array.shape, strict=True)
    )
    if not fits:
        how = "stores no preprocessing" if stored is None else "stores preprocessing that does not fit it"
        raise InputError(
            path,
            f"becomes {shape_text(array.shape)}, the input {wanted.name} is {shape_text(wanted.shape)}; the file {how}",
            "convert the network with --resize, --crop, --color or --channels-last, or give a fitting image",
        )
    return {wanted.name: array}


def _stored_labels(metadata: Mapping[str, str]) -> list[str]:
    """The labels of the file; none if it has none."""
    try:
        labels = json.loads(metadata.get("labels", "[]"))
    except (ValueError, RecursionError):
        labels = None
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise InputError("metadata 'labels'", "is not a JSON list of strings", "give --labels FILE")
    return labels


def _joined(outputs: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    import numpy as np

    if len(outputs) == 1:
        return dict(outputs[0])
    try:
        return {name: np.concatenate([each[name] for each in outputs]) for name in outputs[0]}
    except ValueError:
        shapes = sorted({str(list(each[name].shape)) for each in outputs for name in each})
        raise InputError(
            "--output", f"outputs of shapes {', '.join(shapes)} cannot be joined", "run the inputs one by one"
        ) from None


def _document(path: str, outputs: Mapping[str, NDArray[Any]], top: int, labels: Sequence[str]) -> dict[str, Any]:
    """What one input gave: per output its extent, and the largest values of each row if wanted."""
    described = []
    for name, array in outputs.items():
        entry: dict[str, Any] = {"name": name, "shape": list(array.shape), "dtype": str(array.dtype)}
        if array.size:
            entry |= {"min": array.min(), "max": array.max(), "mean": array.mean(dtype="float64")}
        if top:
            entry["top"] = _ranked(array, top, labels)
        described.append(entry)
    return {"input": path, "outputs": described}


def _classes(array: NDArray[Any]) -> int:
    """Elements of one row: what labels name."""
    count: int = array[:1].size if array.ndim > 1 else array.size
    return count


def _ranked(array: NDArray[Any], top: int, labels: Sequence[str]) -> list[list[dict[str, Any]]]:
    """Per row of the flattened [rows, classes] array, its largest values first; equal values by index."""
    import numpy as np

    if array.size == 0:
        return []
    rows = array.reshape(array.shape[0], -1) if array.ndim > 1 else array.reshape(1, -1)
    names = labels if len(labels) == _classes(array) else ()
    ranked = []
    for row in rows:
        best = np.argsort(-row.astype(np.float64), kind="stable")[:top]
        ranked.append([{"index": int(i), "label": names[i] if names else None, "value": row[i].item()} for i in best])
    return ranked


def _text(document: Mapping[str, Any]) -> str:
    from bittern.report import shape_text, significant

    lines: list[str] = []
    for result in document["results"]:
        several = len(result["outputs"]) > 1
        for entry in result["outputs"]:
            place = result["input"] + (f", {entry['name']}" if several else "")
            if "top" not in entry:
                extent = "empty" if "min" not in entry else f"{significant(float(entry['min']))} .. "
                extent += "" if "min" not in entry else f"{significant(float(entry['max']))}"
                lines.append(f"{place}: {entry['name']} {shape_text(entry['shape'])} {entry['dtype']}, values {extent}")
                continue
            for number, row in enumerate(entry["top"]):
                lines.append(place + (f", row {number}" if len(entry["top"]) > 1 else ""))
                for item in row:
                    label = item["label"] if item["label"] is not None else ""
                    lines.append(f"  {item['value']:>12.6g}  {item['index']:>5}  {label}".rstrip())
    if document["output"]:
        lines.append(f"wrote {document['output']}: {os.path.getsize(document['output']):,} bytes")
    return "\n".join(lines)
