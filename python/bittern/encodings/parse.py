"""Encoding trees from their JSON form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from bittern.container import Leaf, is_size
from bittern.encodings.base import MAX_DEPTH, Encoding, Pattern, Tree
from bittern.encodings.binary import MAX_PARTS, Seeded, SeparableSigns, Sum
from bittern.encodings.dense import Affine, Codebook, Dense, Signs, Ternary
from bittern.encodings.pow2 import Pow2
from bittern.encodings.sparse import Bitmap, Blocks, Csr, NOfM, RelativeIndex, Sparse
from bittern.encodings.streams import Huffman, Packed, Rans, Trits
from bittern.errors import FormatError, InputError

# What stands under each key: a leaf, a node, nodes, a pattern, an integer, a flag or a shape; "?": it may be absent.
_KEYS: dict[type[Tree], dict[str, str]] = {
    Dense: {"leaf": "leaf"},
    Affine: {"codes": "node", "scale": "node", "zero_point": "node?", "axis": "integer?", "group": "integer?"},
    Codebook: {"codes": "node", "table": "node", "axis": "integer?"},
    Ternary: {"codes": "node", "positive": "node", "negative": "node", "axis": "integer?"},
    Signs: {"codes": "node", "scale": "node", "axis": "integer?"},
    Pow2: {"codes": "node", "scale": "node", "terms": "integer", "bits": "integer", "axis": "integer?"},
    Sum: {"parts": "nodes"},
    Seeded: {"seed": "integer", "threshold": "integer", "shape": "shape"},
    Sparse: {"pattern": "pattern", "values": "node", "shape": "shape"},
    Packed: {"leaf": "leaf", "bits": "integer", "signed": "flag?", "shape": "shape"},
    Trits: {"leaf": "leaf", "shape": "shape"},
    SeparableSigns: {"leaf": "leaf", "shape": "shape"},
    Huffman: {"leaf": "leaf", "lengths": "leaf", "length": "integer", "offsets": "leaf?", "shape": "shape"},
    Rans: {"leaf": "leaf", "frequencies": "leaf", "bits": "integer", "offsets": "leaf?", "shape": "shape"},
    Bitmap: {"mask": "node"},
    Csr: {"row_ptr": "node", "columns": "node"},
    RelativeIndex: {"gaps": "node"},
    Blocks: {"height": "integer", "width": "integer", "pattern": "pattern"},
    NOfM: {"n": "integer", "m": "integer", "places": "node"},
}
KINDS: dict[str, type[Tree]] = {cls.kind: cls for cls in _KEYS}


def from_json(value: Any, leaves: Mapping[str, Leaf], place: str, used: set[str] | None = None) -> Encoding:
    """The tree of one constant; the names of the leaves it uses are added to ``used``.

    Raises FormatError, with ``place``, on a wrong tree or an unknown kind. Values inside the leaves are checked
    when the tree is decoded.
    """
    tree = _node(value, leaves, place, set() if used is None else used, 1)
    if not isinstance(tree, Encoding):
        raise FormatError(place, f"{tree.kind} is a pattern, it cannot be a constant")
    return tree


def _node(value: Any, leaves: Mapping[str, Leaf], place: str, used: set[str], depth: int) -> Tree:
    def refuse(problem: str) -> NoReturn:
        raise FormatError(place, problem)

    if isinstance(value, str):  # the short form of a dense node
        value = {"kind": Dense.kind, "leaf": value}
    if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
        refuse("an encoding must be an object with a kind, or the name of a leaf")
    if depth > MAX_DEPTH:
        refuse(f"encodings are nested deeper than {MAX_DEPTH}")
    kind = value["kind"]
    if kind not in KINDS:
        refuse(f"encoding {kind!r} is unknown, known are {', '.join(sorted(KINDS))}")
    cls = KINDS[kind]
    place = f"{place}: {kind}"
    keys = _KEYS[cls]
    allowed = {"kind", *keys} | ({"order"} if depth == 1 and issubclass(cls, Encoding) else set())
    if unknown := sorted(set(value) - allowed):
        refuse(f"has the unknown key {unknown[0]!r}")
    arguments: dict[str, Any] = {}
    if "order" in value:
        if value["order"] != "OHWI":
            refuse(f"order is {value['order']!r}, only 'OHWI' is known")
        arguments["order"] = "OHWI"
    for key, what in keys.items():
        if key not in value:
            if not what.endswith("?"):
                refuse(f"has no {key!r}")
            continue
        item, what, name = value[key], what.rstrip("?"), "dims" if key == "shape" else key
        if what == "leaf":
            if not isinstance(item, str) or item not in leaves:
                refuse(f"{key} names the leaf {item!r}, which is not in the file")
            used.add(item)
            arguments[name] = leaves[item].array
            if leaves[item].dtype == "BF16":
                if cls is not Dense:
                    refuse(f"{key} is of type BF16")
                arguments["bf16"] = True
        elif what in ("node", "pattern"):
            child = _node(item, leaves, f"{place}.{key}", used, depth + 1)
            if isinstance(child, Pattern) != (what == "pattern"):
                refuse(f"{key} cannot be a {child.kind}")
            arguments[name] = child
        elif what == "nodes":
            if not isinstance(item, list) or len(item) > MAX_PARTS:
                refuse(f"{key} is no list of 1 to {MAX_PARTS} nodes")
            arguments[name] = tuple(
                _node(part, leaves, f"{place}.{key}[{index}]", used, depth + 1) for index, part in enumerate(item)
            )
        elif what == "integer":
            if not is_size(item):
                refuse(f"{key} is {item!r}, expected a non-negative integer")
            arguments[name] = item
        elif what == "flag":
            if type(item) is not bool:
                refuse(f"{key} is {item!r}, expected true or false")
            arguments[name] = item
        elif not isinstance(item, list) or not all(is_size(size) for size in item):
            refuse(f"{key} is not a list of sizes")
        else:
            arguments[name] = tuple(item)
    try:
        return cls(**arguments)
    except InputError as error:
        raise FormatError(place, error.problem) from None
