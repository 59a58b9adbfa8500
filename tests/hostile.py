"""Files that must be refused: each with what the message has to name."""

import copy
import json
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.rawfile import Header, RawLeaf, assemble, container, leaf, padded, product_graph, text

SHAPE = (4, 3)


@dataclass(frozen=True)
class Hostile:
    """A damaged file; `names` must occur in the message; `lazy` files are only refused when the constant is decoded."""

    name: str
    data: bytes
    names: str = ""
    lazy: bool = False


def good_parts() -> tuple[dict[str, Any], dict[str, RawLeaf]]:
    """The graph and leaves of a small file without fault."""
    codes = leaf(np.arange(12, dtype=np.uint8).reshape(SHAPE) % 4)
    leaves = {"w.codes": codes, "w.table": leaf(np.array([0, 1, -1, 0.5], np.float32))}
    tree = {
        "kind": "codebook",
        "codes": {"kind": "dense", "leaf": "w.codes"},
        "table": {"kind": "dense", "leaf": "w.table"},
    }
    return product_graph(tree, SHAPE), leaves


def good_file() -> bytes:
    """A small file without fault."""
    return assemble(*good_parts())


def file_with(change: Callable[[dict[str, Any]], object]) -> bytes:
    """The good file with a changed graph."""
    graph, leaves = good_parts()
    change(graph)
    return assemble(graph, leaves)


def patched(patch: Callable[[Header], object], seal: bool = True) -> bytes:
    """The good file with a changed header."""

    def apply(header: Header) -> None:
        patch(header)

    return assemble(*good_parts(), patch=apply, seal=seal)


def setter(*place: str | int, **values: object) -> Callable[[dict[str, Any]], object]:
    """A change that sets keys of the object at a place."""

    def change(target: Any) -> None:
        for step in place:
            target = target[step]
        target.update(values)

    return change


def remover(key: str) -> Callable[[dict[str, Any]], object]:
    """A change that removes a key."""

    def change(target: dict[str, Any]) -> None:
        del target[key]

    return change


def raw_header(header: str | bytes, section: bytes = b"") -> bytes:
    """Any header text."""
    return container(padded(header.encode("utf-8") if isinstance(header, str) else header), section)


def sections() -> Iterator[Hostile]:
    """Damage to the container: length, header text, offsets, checksum."""
    good = good_file()
    (length,) = struct.unpack("<Q", good[:8])
    header, section = good[8 : 8 + length], good[8 + length :]
    yield Hostile("empty", b"")
    yield Hostile("seven bytes", good[:7])
    yield Hostile("length only", good[:8])
    for size in (0, 1, len(good), 2**24 + 1, 2**31, 2**32 + length, 2**63, 2**64 - 8, 2**64 - 1):
        yield Hostile(f"header length {size}", container(header, section, length=size))
    yield Hostile("header beyond 16 MiB", raw_header(header + b" " * 2**24, section))
    yield Hostile("not JSON", raw_header("safetensors"))
    yield Hostile("not UTF-8", raw_header(header.replace(b"hostile", b"hostil\xff"), section))
    yield Hostile("header is a list", raw_header("[1, 2]"))
    yield Hostile("header is cut", raw_header(header.rstrip()[:-1], section))
    yield Hostile("text after the header", raw_header(header.rstrip() + b" {}", section))
    yield Hostile("deep header", raw_header("[" * 200_000))
    yield Hostile("deep metadata", raw_header('{"__metadata__":' + '{"a":' * 70 + "1" + "}" * 71))
    yield Hostile("trailing byte", good + b"\0")
    yield Hostile("trailing bytes inside the section", assemble(*good_parts(), trailing=b"abc"))
    yield Hostile("no metadata", raw_header("{}"), "__metadata__")
    yield Hostile("metadata is no object", patched(lambda h: h.update(__metadata__=3), seal=False), "__metadata__")
    yield Hostile("plain safetensors", patched(lambda h: h["__metadata__"].pop("format")), "format")
    yield Hostile("other format", patched(lambda h: h["__metadata__"].update(format="pt")), "pt")
    yield Hostile("version 1", patched(lambda h: h["__metadata__"].update(version="1")), "version")
    yield Hostile("version missing", patched(lambda h: h["__metadata__"].pop("version")), "version")
    yield Hostile("version is a number", patched(lambda h: h["__metadata__"].update(version=0)))
    yield Hostile("graph missing", patched(lambda h: h["__metadata__"].pop("graph")), "graph")
    yield Hostile("checksum missing", patched(lambda h: None, seal=False), "checksum")
    for value in ("crc32:00000000", "crc32:", "sha256:00", "", "crc32:0000000g"):
        yield Hostile(f"checksum {value!r}", patched(setter("__metadata__", checksum=value)), "checksum")
    doubled = header.replace(b'"w.codes":', b'"w.table":{"data_offsets":[0,16],"dtype":"F32","shape":[4]},"w.codes":')
    yield Hostile("leaf declared twice", raw_header(doubled, section), "w.table")
    twice = header.replace(b'"version":"0"', b'"version":"0","version":"0"')
    yield Hostile("version declared twice", raw_header(twice, section), "version")


def entries() -> Iterator[Hostile]:
    """Wrong declarations of leaves."""

    def entry(name: str, key: str, value: object) -> bytes:
        return patched(lambda header: header[name].update({key: value}))

    for name, offsets in {
        "overlap": [15, 27],
        "gap": [17, 29],
        "beyond the file": [16, 2**40],
        "backwards": [28, 16],
        "negative": [-4, 8],
        "huge": [2**63, 2**63 + 12],
        "too short": [16, 20],
    }.items():
        # A gap is between leaves, and a number beyond 64 bits is already no JSON number of ours: neither names a leaf.
        names = "" if name in ("gap", "huge") else "w.codes"
        yield Hostile(f"offsets: {name}", entry("w.codes", "data_offsets", offsets), names)
    for name, value in {"one offset": [16], "three": [16, 20, 28], "text": "16", "floats": [16.0, 28.5]}.items():
        yield Hostile(f"offsets: {name}", entry_unsealed("w.codes", "data_offsets", value), "w.codes")
    for value in ([4, 4], [2**31, 2**31], [2**32, 2**32, 2**32], [-4, -3], [2**63], [0, 2**60]):
        yield Hostile(f"shape {value}", entry("w.codes", "shape", value), "" if value == [2**63] else "w.codes")
    for name, shape in {"float": [4.0, 3], "text": ["4", 3], "no list": 12, "bool": [True, 12]}.items():
        yield Hostile(f"shape: {name}", entry_unsealed("w.codes", "shape", shape), "w.codes")
    yield Hostile("unknown dtype", entry("w.codes", "dtype", "F8_E4M3"), "F8_E4M3")
    yield Hostile("dtype of another size", entry("w.codes", "dtype", "F32"), "w.codes")
    yield Hostile("unknown key of a leaf", entry("w.codes", "stride", 1), "w.codes")
    for key in ("dtype", "shape", "data_offsets"):
        yield Hostile(f"leaf without {key}", entry_unsealed("w.codes", key, None), key)
    graph, leaves = good_parts()
    leaves["zz.unused"] = RawLeaf("U8", (2,), b"ab")
    yield Hostile("unused leaf", assemble(graph, leaves), "zz.unused")
    yield Hostile(
        "leaf name not in the file", file_with(lambda g: g["constants"]["w"]["table"].update(leaf="gone")), "gone"
    )


def entry_unsealed(name: str, key: str, value: object) -> bytes:
    """The good file with one key of a leaf set (None: removed) and the checksum of the good file."""
    (length,) = struct.unpack("<Q", good_file()[:8])
    header = json.loads(good_file()[8 : 8 + length])
    if value is None:
        del header[name][key]
    else:
        header[name][key] = value
    return raw_header(text(header), good_file()[8 + length :])


def graphs() -> Iterator[Hostile]:
    """A graph text that is no graph, or a graph whose parts do not fit."""
    _, leaves = good_parts()
    for name, graph in {
        "not JSON": "graph",
        "list": "[]",
        "empty object": "{}",
        "null": "null",
        "duplicate key": text(good_parts()[0])[:-1] + ',"name":"again"}',
        "NaN": text(good_parts()[0]).replace('"attributes":{}', '"attributes":{"alpha":NaN}'),
        "deep": '{"name":' + "[" * 100_000,
        "deep and closed": '{"name":' + "[" * 70 + "]" * 70 + "}",
    }.items():
        yield Hostile(f"graph: {name}", assemble(graph, leaves))
    for key in ("inputs", "outputs", "constants", "nodes"):
        yield Hostile(f"graph without {key}", file_with(remover(key)), "" if key == "constants" else key)
        yield Hostile(f"graph with a number as {key}", file_with(setter(**{key: 5})), key)
    yield Hostile("unknown key of the graph", file_with(lambda g: g.update(subgraphs=[])), "subgraphs")
    yield Hostile("metadata not strings", file_with(lambda g: g["metadata"].update(labels=[1])), "labels")

    def node(key: str, value: object) -> bytes:
        return file_with(lambda g: g["nodes"][0].update({key: value}))

    yield Hostile("unknown operator", node("op", "FancyOp"), "FancyOp")
    yield Hostile("unknown attribute", node("attributes", {"fancy": 1}), "fancy")
    yield Hostile("unknown key of a node", node("domain", "ai.onnx"), "domain")
    yield Hostile("attribute is an object", node("attributes", {"axis": {"a": 1}}), "axis")
    yield Hostile("attribute is null", node("attributes", {"axis": None}), "axis")
    yield Hostile("attribute is a list of lists", node("attributes", {"axis": [[1]]}), "axis")
    yield Hostile("input that nothing makes", node("inputs", ["x", "ghost"]), "ghost")
    yield Hostile("too few inputs", node("inputs", ["x"]), "product")
    yield Hostile("too many inputs", node("inputs", ["x", "w", "w"]), "product")
    yield Hostile("omitted input that is needed", node("inputs", ["x", ""]), "product")
    yield Hostile("no outputs", node("outputs", []), "product")
    yield Hostile("two outputs", node("outputs", ["y", "z"]), "product")
    yield Hostile("output already an input", node("outputs", ["x"]), "x")
    yield Hostile("output already a constant", node("outputs", ["w"]), "w")
    yield Hostile("eats its own output", node("inputs", ["y", "w"]), "y")

    def two_nodes(first: Mapping[str, Any], second: Mapping[str, Any]) -> bytes:
        template = good_parts()[0]["nodes"][0]
        return file_with(lambda g: g.update(nodes=[{**template, **first}, {**template, **second}]))

    back = {"name": "back", "inputs": ["t", "w"]}
    forth = {"name": "forth", "inputs": ["y", "w"], "outputs": ["t"]}
    yield Hostile("cycle", two_nodes(back, forth), "t")
    late = {"name": "late", "outputs": ["t"]}
    yield Hostile("not in topological order", two_nodes({"inputs": ["t", "w"]}, late), "t")
    yield Hostile("value with two producers", two_nodes({}, {"name": "again"}), "y")
    yield Hostile("two nodes of one name", two_nodes({"outputs": ["t"]}, {}), "product")
    yield Hostile("output that nothing makes", file_with(lambda g: g["outputs"][0].update(name="ghost")), "ghost")
    yield Hostile("two outputs of one name", file_with(lambda g: g["outputs"].append(dict(g["outputs"][0]))), "output")
    yield Hostile("two inputs of one name", file_with(lambda g: g["inputs"].append(dict(g["inputs"][0]))), "x")
    yield Hostile(
        "input named like a constant", file_with(lambda g: g["inputs"].append({**g["inputs"][0], "name": "w"})), "w"
    )
    for shape in ([-1, 3], [4, 3.5], [4, ""], [4, None], "4x3", [2**63, 3]):
        yield Hostile(f"input shape {shape}", file_with(setter("inputs", 0, shape=shape)))
    yield Hostile("operator with line feeds", node("op", "Fancy\n\x1b[31m\nOp"))
    yield Hostile("very long operator", node("op", "F" * 100_000))
    yield Hostile("unknown dtype of an input", file_with(lambda g: g["inputs"][0].update(dtype="f8")), "f8")
    yield Hostile("unknown key of an input", file_with(lambda g: g["inputs"][0].update(layout="NHWC")), "layout")


def nested_file(levels: int) -> bytes:
    """A weight of four ones inside `levels` sparse nodes that keep everything."""
    leaves = {"values": leaf(np.ones(4, np.float32)), "mask": leaf(np.ones(4, np.uint8))}
    pattern = {"kind": "bitmap", "mask": {"kind": "dense", "leaf": "mask"}}
    tree: dict[str, Any] = {"kind": "dense", "leaf": "values"}
    for _ in range(levels):
        tree = {"kind": "sparse", "pattern": pattern, "values": tree, "shape": [4]}
    return assemble(product_graph(tree, (4,)), leaves)


def trees() -> Iterator[Hostile]:
    """Encoding trees of the wrong form."""

    def tree(change: Callable[[dict[str, Any]], object]) -> bytes:
        return file_with(lambda g: change(g["constants"]["w"]))

    yield Hostile("unknown kind", tree(lambda t: t["codes"].update(kind="zip")), "zip")
    yield Hostile("no kind", tree(lambda t: t.pop("kind")), "w")
    yield Hostile("unknown key of an encoding", tree(lambda t: t.update(fancy=1)), "fancy")
    yield Hostile("missing codes", tree(lambda t: t.pop("codes")), "codes")
    yield Hostile("codes are no object", tree(lambda t: t.update(codes=["w.codes"])), "codes")
    yield Hostile("codes are a leaf that is not there", tree(lambda t: t.update(codes="absent")), "absent")
    yield Hostile("codes are a leaf of real numbers", tree(lambda t: t.update(codes="w.table")), "w")
    yield Hostile(
        "a constant is a leaf that is not there", file_with(lambda g: g["constants"].update(w="no\nleaf")), "w"
    )
    yield Hostile("a constant is an empty name", file_with(lambda g: g["constants"].update(w="")), "w")
    yield Hostile("codes are real", tree(lambda t: t.update(codes=copy.deepcopy(t["table"]))), "w")
    yield Hostile("table is integer", tree(lambda t: t.update(table=copy.deepcopy(t["codes"]))), "w")
    yield Hostile("unknown order", tree(lambda t: t.update(order="HWIO")), "HWIO")
    yield Hostile("order of a matrix", tree(lambda t: t.update(order="OHWI")), "w")
    yield Hostile("order inside a tree", tree(lambda t: t["codes"].update(order="OHWI")), "order")
    yield Hostile("axis without a table per entry", tree(lambda t: t.update(axis=0)), "w")
    yield Hostile("axis beyond the rank", tree(lambda t: t.update(axis=2)), "axis")
    yield Hostile("negative axis", tree(lambda t: t.update(axis=-1)), "axis")
    yield Hostile("axis is a float", tree(lambda t: t.update(axis=0.0)), "axis")
    yield Hostile("pattern as a constant", tree(lambda t: t.update(kind="bitmap", mask=t["codes"])), "w")
    yield Hostile("encoding nested too deep", nested_file(18), "w")
    yield Hostile("encoding nested much too deep", nested_file(60), "w")
