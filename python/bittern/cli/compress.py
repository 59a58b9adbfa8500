"""`bittern compress`: a smaller network, with a report of what every layer became."""

from __future__ import annotations

import argparse
import os
from importlib import import_module
from typing import Any

from bittern.cli.metadata import add_metadata_options, labels_of, preprocess_of
from bittern.cli.output import Output
from bittern.cli.parser import positive
from bittern.errors import InputError, UnsupportedError

HELP = "lossy compression with a per-layer report"
DESCRIPTION = """Compress SOURCE and report, layer by layer, the encoding, bits per weight, bytes and error.

recipes
  float16            weights as 16-bit floats
  deep-compression   pruning (with --density), a codebook of 2^bits values, coded positions, entropy codes;
                     without --density zeros stay zeros and nothing is pruned
  int8               8-bit weights and activations; ranges of activations from --calibration
  int4, codebook4, ternary, shift
                     weights of 4 bits (even levels, codebook), three values, sums of two powers of two; activations
                     stay float32 unless --set activations=u8; better with --calibration
  quantize           any other method: --set method=NAME, and its options (help(bittern.compress) lists them), e.g.
                     binary, separable, residual; --set batch_norm=recalibrate measures normalisations again
  local-binary       random filters from a seed and a fitted 1x1 convolution; better with --calibration
  prune              --sparsity of the weights become zero, the least ones, or with --calibration those that the others
                     can make good best; --set pattern=unstructured, 2:4, 1x4, row-balanced or filters;
                     --set quantize=int8 (or another of these recipes) gives what is left few bits
  winograd           3x3 convolutions with weights pruned in Winograd's domain: --density of them stay (default 0.3)
A recipe may also be a .toml file: a key `recipe` with the name, and the recipe's options as further keys."""
EXAMPLE = "bittern compress net.onnx -o small.bittern --density 0.3 --density conv1=0.8 --bits 5"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("source", metavar="SOURCE", help="network: .onnx, .tflite or .bittern")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="file to write")
    parser.add_argument("--recipe", metavar="NAME", help="recipe or .toml file (default: deep-compression)")
    parser.add_argument(
        "--density",
        action="append",
        default=[],
        metavar="[LAYER=]D",
        help="share of weights kept, for all layers or for the one named; repeatable",
    )
    parser.add_argument(
        "--sparsity",
        action="append",
        default=[],
        metavar="[LAYER=]S",
        help="share of weights removed by the recipe prune, for all layers, or for those a name or pattern tells;"
        " repeatable",
    )
    parser.add_argument(
        "--bits", type=positive, metavar="B", help="bits of a code, 2..8 (default: as the recipe has it)"
    )
    parser.add_argument("--index-bits", type=positive, metavar="B", help="bits of a gap, 2..8 (default: the best)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other option of the recipe, e.g. reconstruct=false; repeatable",
    )
    parser.add_argument("--calibration", metavar="DATA.npz", help="sample inputs by name, for recipes that use them")
    add_metadata_options(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Compress, save, report."""
    import bittern
    from bittern.cli.files import check_output, read_arrays
    from bittern.cli.networks import check_source, network_json

    check_source(arguments.source)
    check_output(arguments.output, [arguments.source, arguments.calibration, arguments.labels])
    recipe, options = _recipe(arguments)
    calibration = read_arrays(arguments.calibration) if arguments.calibration else None
    network = bittern.convert(arguments.source, preprocess=preprocess_of(arguments), labels=labels_of(arguments))
    with output.progress() as progress:
        small = bittern.compress(network, recipe=recipe, calibration=calibration, progress=progress, **options)
    small.save(arguments.output)
    before, after = os.path.getsize(arguments.source), os.path.getsize(arguments.output)
    summary = small.summary()
    document = {
        "source": arguments.source,
        "source_bytes": before,
        "output": arguments.output,
        "output_bytes": after,
        "recipe": recipe,
        "options": options,
        **network_json(small),
        "summary": summary,
    }
    head = f"{arguments.source}: {before:,} bytes -> {arguments.output}: {after:,} bytes"
    output.result(document, lambda: f"{summary}\n\n{head}, {before / after:.1f} times smaller")
    return 0


def _recipe(arguments: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """The recipe's name and options; options of the command line win over those of a file."""
    recipe: str = arguments.recipe or "deep-compression"
    options: dict[str, Any] = {}
    if recipe.endswith(".toml"):
        recipe, options = _recipe_file(recipe)
    if arguments.density:
        options["density"] = _density(arguments.density)
    if arguments.sparsity:
        layers = _shares("--sparsity", arguments.sparsity, zero=True)
        if "" in layers:
            options["sparsity"] = layers.pop("")
        if layers:
            options["per_layer"] = layers
    for name in ("bits", "index_bits"):
        if getattr(arguments, name) is not None:
            options[name] = getattr(arguments, name)
    for part in arguments.set:
        name, value = _setting(part)
        if name in options and name != "exclude":
            raise InputError(f"--set {part}", f"{name} is given twice", "give each option once")
        options[name] = [*options.get(name, []), *value.split(",")] if name == "exclude" else _value(value)
    return recipe, options


def _setting(part: str) -> tuple[str, str]:
    name, mark, value = part.partition("=")
    if not name or not mark or not value:
        raise InputError(f"--set {part}", "is not NAME=VALUE", "write for example --set reconstruct=false")
    return name.replace("-", "_"), value


def _value(text: str) -> Any:
    """A number, true, false or none; else the text itself."""
    words: dict[str, Any] = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _density(parts: list[str]) -> float | dict[str, float]:
    """`D` for all layers, or `LAYER=D` for some. InputError if both are given or a number is not a share."""
    layers = _shares("--density", parts, zero=False)
    if "" not in layers:
        return layers
    if len(layers) > 1:
        raise InputError("--density", "is given for all layers and for single ones", "name every layer, or none")
    return layers[""]


def _shares(option: str, parts: list[str], *, zero: bool) -> dict[str, float]:
    """Shares by layer, that of all under the empty name: 0 to below 1, or (without zero) above 0 to 1."""
    letter, limits = ("S", "0 <= S < 1") if zero else ("D", "0 < D <= 1")
    layers: dict[str, float] = {}
    for part in parts:
        layer, mark, number = part.rpartition("=")
        try:
            share = float(number)
        except ValueError:
            share = -1.0
        if not (0.0 <= share < 1.0 if zero else 0.0 < share <= 1.0):
            raise InputError(f"{option} {part}", "is not a share", f"give {letter} or LAYER={letter} with {limits}")
        if layer in layers or (not layer and mark):
            raise InputError(f"{option} {part}", "repeats or lacks a layer name", "name each layer once")
        layers[layer] = share
    return layers


def _recipe_file(path: str) -> tuple[str, dict[str, Any]]:
    try:
        tomllib = import_module("tomllib")
    except ImportError:
        raise UnsupportedError(path, "reading a .toml recipe needs Python 3.11", "give the options instead") from None
    with open(path, "rb") as stream:
        try:
            options = tomllib.load(stream)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InputError(path, f"is not TOML ({error})", "correct the file") from None
    recipe = options.pop("recipe", "deep-compression")
    if not isinstance(recipe, str):
        raise InputError(path, "the key 'recipe' is not a name", 'write recipe = "deep-compression"')
    return recipe, options
