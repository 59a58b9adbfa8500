"""Small files that ask for much: each must be refused, or accepted, soon and in little memory."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tests.rawfile import RawLeaf, assemble, leaf

NODES = 20_000

Node = Mapping[str, Any]


def node(name: str, op: str, inputs: list[str], **attributes: Any) -> Node:
    """A node whose output has its name."""
    return {"name": name, "op": op, "inputs": inputs, "outputs": [name], "attributes": attributes}


def value(name: str, *shape: int | str) -> Node:
    """A graph input or output."""
    return {"name": name, "dtype": "f32", "shape": list(shape)}


def graph(
    nodes: list[Node],
    outputs: list[Node],
    constants: Mapping[str, Any] | None = None,
    inputs: list[Node] | None = None,
) -> dict[str, Any]:
    """A graph with the input `x` of four numbers."""
    return {
        "name": "costly",
        "inputs": [value("x", 1, 4)] if inputs is None else inputs,
        "outputs": outputs,
        "constants": constants or {},
        "nodes": nodes,
        "metadata": {},
    }


def zeros(*shape: int) -> Mapping[str, Any]:
    """A tensor of any size from the leaves `g` and `v` of a few bytes."""
    return {
        "kind": "sparse",
        "pattern": {"kind": "relative_index", "gaps": {"kind": "dense", "leaf": "g"}},
        "values": {"kind": "dense", "leaf": "v"},
        "shape": list(shape),
    }


SPARSE: Mapping[str, RawLeaf] = {"g": leaf(np.zeros(2, np.uint8)), "v": leaf(np.ones(2, np.float32))}


def files() -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each."""
    chain = [node(f"n{i}", "Sigmoid", [f"n{i - 1}" if i else "x"]) for i in range(NODES)]
    yield "a long chain", assemble(graph(chain, [value(f"n{NODES - 1}", 1, 4)]), {})

    half = NODES // 2
    spread = [node(f"n{i}", "Sigmoid", ["x"]) for i in range(half)]
    sums = [node(f"s{i}", "Add", [f"n{i}", f"s{i - 1}" if i else "x"]) for i in range(half)]
    yield "many values alive at once", assemble(graph([*spread, *sums], [value(f"s{half - 1}", 1, 4)]), {})

    passed = [node(f"p{i}", "Identity", [f"n{i}"]) for i in range(half)]
    yield "many named outputs", assemble(graph([*spread, *passed], [value(f"p{i}", 1, 4) for i in range(half)]), {})

    names = ["x"] * 200_000
    yield (
        "many inputs of one node",
        assemble(graph([node("y", "Concat", names, axis=0)], [value("y", len(names), 4)]), {}),
    )

    blanks = [node(f"i{i}", "Identity", [f"i{i - 1}" if i else "x"]) for i in range(NODES)]
    yield "a long chain of nothing", assemble(graph(blanks, [value(f"i{NODES - 1}", 1, 4)]), {})

    large = {f"c{i}": zeros(1 << 22) for i in range(4_000)}
    yield "many large constants", assemble(graph([node("y", "Relu", ["x"])], [value("y", 1, 4)], large), SPARSE)

    picture, window = {"a": zeros(1, 1, 1400, 1400), "w": zeros(1, 1, 700, 700)}, value("y", 1, 1, 701, 701)
    yield "a constant convolution", assemble(graph([node("y", "Conv", ["a", "w"])], [window], picture, []), SPARSE)

    pooled = node("y", "AveragePool", ["a"], kernel_shape=[700, 700])
    yield "a constant average", assemble(graph([pooled], [window], {"a": picture["a"]}, []), SPARSE)

    product = {"a": zeros(3000, 3000), "w": zeros(3000, 3000)}
    multiplied = [node("y", "MatMul", ["a", "w"])]
    yield "a constant product", assemble(graph(multiplied, [value("y", 3000, 3000)], product, []), SPARSE)

    axes = {"axes": {"kind": "dense", "leaf": "axes"}}
    squeezed = [node("q", "Squeeze", ["x1", "axes"])]
    many = {"axes": leaf(np.zeros(1_000_000, np.int64))}
    one = [value("x1", 1, 4)]
    yield "a million axes", assemble(graph(squeezed, [value("q", 4)], axes, one), many)

    scaled = [
        node("c", "Conv", ["a", "w"]),
        *(node(f"m{i}", "Mul", [f"m{i - 1}" if i else "c", "s"]) for i in range(1_000)),
    ]
    channels = {"w": zeros(1 << 16, 1, 1, 1), "s": zeros(1 << 16, 1, 1)}
    image, result = [value("a", 1, 1, 1, 1)], [value("m999", 1, 1 << 16, 1, 1)]
    yield "a long chain of scales", assemble(graph(scaled, result, channels, image), SPARSE)

    chunks = 1 << 13
    equal = {
        "kind": "affine",
        "codes": {
            "kind": "rans",
            "leaf": "r",
            "frequencies": "f",
            "bits": 1,
            "offsets": "o",
            "shape": [chunks, 1 << 16],
        },
        "scale": {"kind": "dense", "leaf": "s"},
    }
    parts = {
        "r": leaf(np.tile(np.array([0, 1, 0, 1], np.uint16), chunks)),
        "f": leaf(np.array([2], np.uint16)),
        "o": leaf(np.arange(chunks, dtype=np.uint32) * 4),
        "s": leaf(np.array(1, np.float32)),
    }
    yield (
        "half a billion equal symbols",
        assemble(graph([node("y", "Relu", ["x"])], [value("y", 1, 4)], {"w": equal}), parts),
    )
