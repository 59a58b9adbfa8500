"""Constants whose form is right and whose leaves are wrong; every message must name the constant."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tests import rans_writer
from tests.hostile import Hostile
from tests.huffman_writer import encode
from tests.rawfile import RawLeaf, assemble, leaf, pack_bits, product_graph
from tests.reference.arrays import Array

SHAPE = (4, 3)
COUNT = 12


def bytes_leaf(data: bytes) -> RawLeaf:
    """A U8 leaf."""
    return RawLeaf("U8", (len(data),), data)


def dense(name: str) -> dict[str, Any]:
    """A dense node of the leaf of that name."""
    return {"kind": "dense", "leaf": name}


def hostile(
    name: str,
    tree: Mapping[str, Any],
    leaves: Mapping[str, RawLeaf],
    shape: tuple[int, ...] = SHAPE,
    lazy: bool = True,
    names: str = "w",
) -> Hostile:
    """A file that multiplies by the constant w."""
    return Hostile(name, assemble(product_graph(tree, shape), leaves), names, lazy)


def affine(codes: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """An affine root over codes with the scale leaf s."""
    return {"kind": "affine", "codes": dict(codes), "scale": dense("s"), **more}


SCALE = leaf(np.array(1, np.float32))


def code_values() -> Iterator[Hostile]:
    """Codes outside what their parent allows."""
    codes = np.zeros(SHAPE, np.int16)
    for bad in (4, -1, 1000):
        wrong = codes.copy()
        wrong[2, 1] = bad
        table = {"kind": "codebook", "codes": dense("c"), "table": dense("t")}
        leaves = {"c": leaf(wrong), "t": leaf(np.arange(4, dtype=np.float32))}
        yield hostile(f"codebook code {bad}", table, leaves)
        rows = {"t": leaf(np.ones((4, 4), np.float32))}
        yield hostile(f"codebook code {bad} with axis", {**table, "axis": 0}, {**leaves, **rows})
        ternary = {"kind": "ternary", "codes": dense("c"), "positive": dense("s"), "negative": dense("s")}
        yield hostile(f"ternary code {bad}", ternary, {"c": leaf(wrong), "s": SCALE})
        signs = {"kind": "signs", "codes": dense("c"), "scale": dense("s")}
        yield hostile(f"sign {bad}", signs, {"c": leaf(wrong), "s": SCALE})
    three = {"kind": "ternary", "codes": {"kind": "packed", "leaf": "c", "bits": 2, "shape": [4, 3]}}
    packed = pack_bits(np.full(COUNT, 3), 2)
    yield hostile(
        "ternary code 3", {**three, "positive": dense("s"), "negative": dense("s")}, {"c": packed, "s": SCALE}
    )


def parameter_shapes() -> Iterator[Hostile]:
    """Scales, zero points and tables of the wrong shape."""
    codes = leaf(np.zeros(SHAPE, np.int8))

    def scaled(name: str, scale: Array, **more: Any) -> Hostile:
        leaves = {"c": codes, "s": leaf(scale)}
        return hostile(name, affine(dense("c"), **more), leaves, lazy=False)

    ones = np.ones
    yield scaled("scale of one entry without axis", ones(1, np.float32))
    yield scaled("scale too long", ones(5, np.float32), axis=0)
    yield scaled("scale of another axis", ones(3, np.float32), axis=0)
    yield scaled("scale is a matrix", ones((4, 1), np.float32), axis=0)
    yield scaled("scale is integer", ones(4, np.int32), axis=0)
    yield scaled("scale is a 64-bit float", ones(4, np.float64), axis=0)
    yield scaled("group without axis", ones(4, np.float32), group=2)
    yield scaled("group 0", ones(SHAPE, np.float32), axis=0, group=0)
    yield scaled("negative group", ones(SHAPE, np.float32), axis=0, group=-2)
    yield scaled("group scale of the wrong size", ones((3, 3), np.float32), axis=0, group=2)
    zero = {"c": codes, "s": SCALE, "z": leaf(np.zeros(4, np.int8))}
    yield hostile("zero point of another shape", affine(dense("c"), zero_point=dense("z")), zero, lazy=False)
    real = {"c": codes, "s": SCALE, "z": leaf(np.zeros((), np.float32))}
    yield hostile("zero point is real", affine(dense("c"), zero_point=dense("z")), real, lazy=False)
    table = {"kind": "codebook", "codes": dense("c"), "table": dense("t")}
    for shape in ((), (2, 2), (0,), (4, 0)):
        leaves = {"c": codes, "t": leaf(ones(shape, np.float32))}
        yield hostile(f"table of shape {shape}", table, leaves)
    yield hostile(
        "root is packed", {"kind": "packed", "leaf": "c", "bits": 8, "shape": [4, 3]}, {"c": codes}, lazy=False
    )


def packed_streams() -> Iterator[Hostile]:
    """Packed codes whose size, width or spare bits are wrong."""

    def packed(name: str, data: bytes, bits: Any, shape: Any = SHAPE, **more: Any) -> Hostile:
        codes = {"kind": "packed", "leaf": "c", "bits": bits, "shape": list(shape), **more}
        return hostile(name, affine(codes), {"c": bytes_leaf(data), "s": SCALE}, lazy=name.startswith("spare"))

    yield packed("packed too short", bytes(4), 3)
    yield packed("packed too long", bytes(6), 3)
    yield packed("packed empty", b"", 3)
    for bits in (0, 33, -1, 64, 2**31, 3.0, "3"):
        yield packed(f"packed bits {bits!r}", bytes(5), bits)
    yield packed("spare bits are set", b"\0\0\0\0\x10", 3)
    yield packed("packed signed is a number", bytes(5), 3, signed=1)
    for shape in ((2**31, 2**31), (2**62, 4, 4), (-4, -3), (2**40, 0, 2**40), (4, 3, 2**40)):
        yield packed(f"packed shape {shape}", bytes(5), 3, shape)
    wide = {"c": leaf(np.zeros(5, np.uint16)), "s": SCALE}
    yield hostile(
        "packed leaf of 16 bits", affine({"kind": "packed", "leaf": "c", "bits": 3, "shape": [4, 3]}), wide, lazy=False
    )


def sparse_patterns() -> Iterator[Hostile]:
    """Patterns that leave the tensor, go backwards or do not match their values."""

    def sparse(name: str, pattern: Mapping[str, Any], leaves: Mapping[str, RawLeaf], kept: int = 3) -> Hostile:
        values = leaf(np.ones(kept, np.float32))
        tree = {"kind": "sparse", "pattern": pattern, "values": dense("v"), "shape": [4, 3]}
        return hostile(name, tree, {**leaves, "v": values})

    csr = {"kind": "csr", "row_ptr": dense("r"), "columns": dense("c")}

    def rows(name: str, row_ptr: list[int], columns: list[int], kept: int = 3) -> Hostile:
        pointers, indices = np.array(row_ptr, np.int32), np.array(columns, np.int32)
        return sparse(f"csr: {name}", csr, {"r": leaf(pointers), "c": leaf(indices)}, kept)

    yield sparse("pattern is a name", "c", {"c": leaf(np.zeros(3, np.uint8))})  # type: ignore[arg-type]
    yield rows("falls", [0, 2, 1, 2, 3], [0, 1, 2])
    yield rows("does not start at 0", [1, 1, 2, 2, 3], [0, 1, 2])
    yield rows("does not end at the number of values", [0, 1, 1, 2, 2], [0, 1, 2])
    yield rows("ends beyond the values", [0, 1, 2, 3, 4], [0, 1, 2])
    yield rows("jumps out and back", [0, 1000000, 1, 2, 3], [0, 1, 2])
    yield rows("negative pointer", [0, -5, 1, 2, 3], [0, 1, 2])
    yield rows("too few rows", [0, 1, 3], [0, 1, 2])
    yield rows("too many rows", [0, 1, 1, 1, 2, 3], [0, 1, 2])
    yield rows("no row pointer", [], [0, 1, 2])
    yield rows("column beyond the row", [0, 1, 2, 3, 3], [0, 3, 1])
    yield rows("huge column", [0, 1, 2, 3, 3], [0, 2**31 - 1, 1])
    yield rows("negative column", [0, 1, 2, 3, 3], [0, -1, 1])
    yield rows("columns fall", [0, 2, 2, 3, 3], [2, 1, 0])
    yield rows("column twice", [0, 2, 2, 3, 3], [1, 1, 0])
    yield rows("fewer values than columns", [0, 1, 1, 2, 3], [0, 1, 2], kept=2)

    relative = {"kind": "relative_index", "gaps": dense("g")}

    def gaps(name: str, steps: list[int], kept: int = 3) -> Hostile:
        return sparse(f"relative index: {name}", relative, {"g": leaf(np.array(steps, np.int32))}, kept)

    yield gaps("runs over the end", [5, 5, 0])
    yield gaps("huge gap", [0, 2**31 - 1, 2**31 - 1])
    yield gaps("negative gap", [3, -2, 1])
    yield gaps("negative first gap", [-1, 2, 1])
    yield gaps("more entries than values", [0, 0, 0, 0])
    yield gaps("fewer entries than values", [0, 0])

    def mask(name: str, bits: list[int], kept: int = 3) -> Hostile:
        node = {"kind": "bitmap", "mask": dense("m")}
        return sparse(f"bitmap: {name}", node, {"m": leaf(np.array(bits, np.uint8))}, kept)

    yield mask("too short", [1, 1, 1])
    yield mask("too long", [1, 1, 1] + [0] * 10)
    yield mask("not 0 or 1", [1, 2, 1] + [0] * 9)
    yield mask("more ones than values", [1] * 4 + [0] * 8)
    yield mask("fewer ones than values", [1] * 2 + [0] * 10)

    matrix = {"kind": "sparse", "pattern": relative, "values": dense("v"), "shape": [4, 3]}
    leaves = {"g": leaf(np.zeros(3, np.int32)), "v": leaf(np.ones((3, 1), np.float32))}
    yield hostile("values are a matrix", matrix, leaves, lazy=False)
    short = {"g": leaf(np.zeros(3, np.int32)), "v": leaf(np.ones(3, np.float32))}
    yield hostile("shape with a negative size", {**matrix, "shape": [-4, -3]}, short, lazy=False)
    yield hostile("shape that overflows", {**matrix, "shape": [2**32, 2**32]}, short, lazy=False)


def structured_patterns() -> Iterator[Hostile]:
    """Blocks and groups that do not divide the tensor, do not match their values, or lie elsewhere."""

    def sparse(name: str, pattern: Mapping[str, Any], leaves: Mapping[str, RawLeaf], kept: int, lazy: bool) -> Hostile:
        tree = {"kind": "sparse", "pattern": pattern, "values": dense("v"), "shape": [4, 3]}
        return hostile(name, tree, {**leaves, "v": leaf(np.ones(kept, np.float32))}, lazy=lazy)

    usual = {"kind": "blocks", "height": 2, "width": 3, "pattern": {"kind": "bitmap", "mask": dense("m")}}

    def blocks(name: str, grid: Any, more: Any = None, kept: int = 6, lazy: bool = False) -> Hostile:
        leaves = {"m": leaf(np.array(grid, np.uint8))}
        node = {**usual, **(more or {})}
        return sparse(f"blocks: {name}", node, leaves, kept, lazy)

    yield blocks("more than values", [1, 1], lazy=True)
    yield blocks("fewer than values", [0, 0], lazy=True)
    yield blocks("neither there nor not", [2, 0], lazy=True)
    yield blocks("half a block of values", [1, 0], kept=3)
    yield blocks("grid too small", [1])
    yield blocks("grid of the tensor's size", [1] * 6 + [0] * 6)
    for key, size in (("height", 3), ("width", 2), ("height", 8), ("width", 6), ("height", 0), ("width", -1)):
        yield blocks(f"{key} {size}", [1, 0], {key: size})
    yield blocks("huge", [1, 0], {"height": 2**48, "width": 2**48})
    yield blocks("height is a text", [1, 0], {"height": "2"})
    yield blocks("no pattern", [1, 0], {"pattern": None})
    yield blocks("pattern is a node", [1, 0], {"pattern": dense("m")})
    yield blocks("unknown key", [1, 0], {"depth": 1})
    gaps = {"pattern": {"kind": "relative_index", "gaps": dense("m")}}
    yield blocks("gap over the end", [2], gaps, lazy=True)
    deep: dict[str, Any] = {"kind": "bitmap", "mask": dense("m")}
    for _ in range(20):
        deep = {"kind": "blocks", "height": 1, "width": 1, "pattern": deep}
    yield blocks("nested too deep", [1] * 6 + [0] * 6, {"pattern": deep})

    def groups(name: str, places: Any, kept: int = 4, lazy: bool = False, **more: Any) -> Hostile:
        node = {"kind": "n_of_m", "n": 1, "m": 3, "places": dense("p"), **more}
        return sparse(f"n of m: {name}", node, {"p": leaf(np.array(places, np.int32))}, kept, lazy)

    yield groups("place beyond its group", [0, 1, 3, 0], lazy=True)
    yield groups("negative place", [0, 1, -1, 0], lazy=True)
    yield groups("huge place", [2**31 - 1, 0, 0, 0], lazy=True)
    yield groups("places fall", [1, 0] * 4, kept=8, lazy=True, n=2)
    yield groups("a place twice", [1, 1] * 4, kept=8, lazy=True, n=2)
    yield groups("places are missing", [0, 1, 2])
    yield groups("too many values", [0, 1, 2, 0], kept=5)
    for more in ({"m": 4}, {"m": 2}, {"m": 0}, {"m": 1}, {"m": 2**40}, {"n": 0}, {"n": 4}, {"n": -1}, {"n": 1.0}):
        yield groups(f"{more}", [0, 1, 2, 0], **more)


def huffman_streams() -> Iterator[Hostile]:
    """Code lengths that are no code, streams of the wrong size."""
    codes = np.arange(COUNT).reshape(SHAPE) % 4
    lengths = [1, 2, 3, 3]

    def stream(
        name: str,
        node: Mapping[str, Any] | None = None,
        leaves: Mapping[str, RawLeaf] | None = None,
        values: Array = codes,
        coded: list[int] | None = None,
    ) -> Hostile:
        good, parts = encode(values, 4, "c", coded or lengths)
        tree = affine({**good, **(node or {})})
        shape = tuple((node or {}).get("shape", values.shape))
        return hostile(f"huffman: {name}", tree, {**parts, **(leaves or {}), "s": SCALE}, shape)

    def table(name: str, wrong: list[int]) -> Hostile:
        return stream(name, leaves={"c.lengths": leaf(np.array(wrong, np.uint8))})

    yield table("too many codes", [1, 1, 2, 2])
    yield table("codes left over", [2, 3, 3, 3])
    yield table("a code of 16 bits", [*range(1, 17), 16])
    yield table("a code of 255 bits", [255, 1, 2, 2])
    yield table("no codes", [0, 0, 0, 0])
    yield table("one symbol of two bits", [2, 0, 0, 0])
    yield table("empty table", [])
    good, parts = encode(codes, 4, "c", lengths)
    data, total = parts["c.stream"].data, int(str(good["length"]))
    yield stream("length too small", {"length": total - 1})
    yield stream("length too large", {"length": total + 1})
    yield stream("length of another byte count", {"length": total + 64})
    yield stream("huge length", {"length": 2**62})
    yield stream("negative length", {"length": -1})
    yield stream("too short", leaves={"c.stream": bytes_leaf(data[:-1])})
    yield stream("too long", leaves={"c.stream": bytes_leaf(data + b"\0")})
    if total % 8:
        yield stream("spare bits are set", leaves={"c.stream": bytes_leaf(data[:-1] + bytes([data[-1] | 1]))})
    yield stream("more symbols than bits", {"shape": [1000, 1000]})
    yield stream("an absurd number of symbols", {"shape": [2**20, 2**20]})
    yield stream("fewer symbols than the stream holds", {"shape": [4, 2]})
    offsets = {"c.offsets": leaf(np.array([0], np.uint32))}
    yield stream("offsets for one chunk", {"offsets": "c.offsets"}, offsets)
    long = np.arange(70000) % 4
    _, many = encode(long, 4, "c", lengths)
    second = int(np.frombuffer(many["c.offsets"].data, np.uint32)[1])
    for name, wrong in {
        "wrong offset": [0, second + 1],
        "offsets beyond the stream": [0, 2**32 - 1],
        "falling offsets": [second, 0],
        "one offset for two chunks": [0],
        "three offsets for two chunks": [0, second, second + 10],
    }.items():
        yield stream(name, leaves={"c.offsets": leaf(np.array(wrong, np.uint32))}, values=long)
    node, _ = encode(long, 4, "c", lengths)
    del node["offsets"]
    del many["c.offsets"]
    yield hostile("huffman: no offsets for two chunks", affine(node), {**many, "s": SCALE}, (70000,))


def pow2_values() -> Iterator[Hostile]:
    """Sums of powers of two: codes without meaning, terms and widths out of range."""
    good = {"kind": "pow2", "codes": dense("c"), "scale": dense("s"), "terms": 2, "bits": 3}
    codes = np.zeros(SHAPE, np.int32)

    def coded(bad: int, **more: Any) -> Hostile:
        wrong = codes.copy()
        wrong[3, 2] = bad
        return hostile(f"pow2: code {bad} {more}", {**good, **more}, {"c": leaf(wrong), "s": SCALE})

    yield coded(64)
    yield coded(-1)
    yield coded(0b100)
    yield coded(0b100001)
    yield coded(2**31 - 1)
    yield coded(-(2**31), terms=4, bits=8)
    yield coded(0x80, terms=4, bits=8)
    yield coded(16, terms=1, bits=4)
    wide = {"c": leaf(np.full(SHAPE, 2**32, np.int64)), "s": SCALE}
    yield hostile("pow2: a code of 33 bits", {**good, "terms": 4, "bits": 8}, wide)
    plain = {"c": leaf(codes), "s": SCALE}

    def tree(name: str, lack: str = "", **more: Any) -> Hostile:
        kept = {key: value for key, value in {**good, **more}.items() if key != lack}
        return hostile(f"pow2: {name}", kept, plain, lazy=False)

    for terms in (0, 5, -1, 2**40, "2", 2.0):
        yield tree(f"terms {terms!r}", terms=terms)
    for bits in (1, 9, -3, 2**63 - 1, None):
        yield tree(f"bits {bits!r}", bits=bits)
    for key in ("codes", "terms", "bits"):
        yield tree(f"no {key}", lack=key)
    yield tree("a scale for an axis that needs four", axis=0)
    yield tree("an axis beyond the shape", axis=2)
    yield tree("an unknown key", group=2)
    real = {"c": leaf(np.zeros(SHAPE, np.float32)), "s": SCALE}
    yield hostile("pow2: codes are real", good, real, lazy=False)


def trits_streams() -> Iterator[Hostile]:
    """Bytes that are no five trits, spare trits, sizes."""

    def trits(name: str, data: bytes, shape: Any = SHAPE, kind: str = "U8") -> Hostile:
        codes = {"kind": "trits", "leaf": "c", "shape": list(shape)}
        leaves = {"c": RawLeaf(kind, (len(data),), data), "s": SCALE}
        return hostile(f"trits: {name}", affine(codes), leaves, lazy=len(data) == 3 and shape == SHAPE)

    yield trits("a byte of 243", bytes([0, 243, 0]))
    yield trits("a byte of 255", bytes([255, 0, 0]))
    yield trits("spare trits are set", bytes([0, 0, 9]))
    yield trits("spare trits and a byte above 242", bytes([0, 0, 250]))
    yield trits("too short", bytes(2))
    yield trits("too long", bytes(4))
    yield trits("nothing", b"")
    yield trits("signed bytes", bytes(3), kind="I8", shape=(3, 4))
    for shape in ((2**31, 2**31), (2**62, 4, 4), (-4, -3), (4, 3, 2**40)):
        yield trits(f"shape {shape}", bytes(3), shape)


def rans_streams() -> Iterator[Hostile]:
    """Frequencies that do not sum, states out of range, streams of the wrong size or with a wrong end."""
    codes = np.arange(COUNT).reshape(SHAPE) % 4
    frequencies = [5, 3, 4, 4]

    def stream(
        name: str,
        node: Mapping[str, Any] | None = None,
        leaves: Mapping[str, RawLeaf] | None = None,
        values: Array = codes,
        lazy: bool = True,
    ) -> Hostile:
        good, parts = rans_writer.encode(values, 4, "c", 4, frequencies)
        tree = affine({**good, **(node or {})})
        shape = tuple((node or {}).get("shape", values.shape))
        return hostile(f"rans: {name}", tree, {**parts, **(leaves or {}), "s": SCALE}, shape, lazy)

    def table(name: str, wrong: list[int], **more: Any) -> Hostile:
        return stream(name, more, {"c.frequencies": leaf(np.array(wrong, np.uint16))})

    yield table("frequencies below the sum", [5, 3, 4, 3])
    yield table("frequencies above the sum", [5, 3, 4, 5])
    yield table("frequencies far above the sum", [65535, 65535, 65535, 65535])
    yield table("frequencies that wrap around to the sum", [65535, 1, 12, 4])
    yield table("other frequencies of the right sum", [4, 4, 4, 4])
    yield table("no frequencies", [])
    yield table("only zeros", [0, 0, 0, 0])
    yield stream("too many symbols", leaves={"c.frequencies": leaf(np.ones(32769, np.uint16))}, lazy=False)
    yield stream("frequencies in bytes", leaves={"c.frequencies": leaf(np.array(frequencies, np.uint8))}, lazy=False)
    for bits in (0, 16, -1, 2**40, "4", None):
        yield stream(f"bits {bits!r}", {"bits": bits}, lazy=False)
    yield stream("other bits than the frequencies have", {"bits": 5})

    _, parts = rans_writer.encode(codes, 4, "c", 4, frequencies)
    words = np.frombuffer(parts["c.stream"].data, np.uint16)

    def written(name: str, wrong: Array, lazy: bool = True, **node: Any) -> Hostile:
        return stream(name, node, {"c.stream": leaf(wrong.astype(np.uint16))}, lazy=lazy)

    for at in (1, 3):
        low = words.copy()
        low[at] = 0
        yield written(f"state {at // 2} out of range", low)
    for at in range(words.size):
        changed = words.copy()
        changed[at] ^= 0x0101
        yield written(f"word {at} changed", changed)
    yield written("one word less", words[:-1], lazy=words.size > 4)
    yield written("one word more", np.append(words, 0))
    yield written("only one state", words[:2], lazy=False)
    yield written("nothing", words[:0], lazy=False)
    yield written("all zeros", words * 0)
    yield written("all ones", words * 0 + 65535)
    yield stream("words of 8 bits", leaves={"c.stream": bytes_leaf(bytes(20))}, lazy=False)
    yield written("more symbols than were coded", words, shape=[4, 4])
    yield written("fewer symbols than were coded", words, shape=[4, 2])
    yield written("a stream of nothing", words, shape=[4, 0])
    for shape in ((2**20, 2**20), (2**31, 2**31), (70000, 1)):
        yield written(f"shape {shape}", words, lazy=False, shape=list(shape))
    constant = np.array([0, 1, 0, 1])
    one = {"c.frequencies": leaf(np.array([16], np.uint16)), "c.stream": leaf(constant.astype(np.uint16))}
    yield stream("an absurd number of equal symbols", {"shape": [2**24, 2**24]}, one, lazy=False)

    offsets = {"c.offsets": leaf(np.array([0], np.uint32))}
    yield stream("offsets for one chunk", {"offsets": "c.offsets"}, offsets, lazy=False)
    long = np.arange(70000) % 4
    node, many = rans_writer.encode(long, 4, "c", 4, frequencies)
    second = int(np.frombuffer(many["c.offsets"].data, np.uint32)[1])
    for name, wrong in {
        "wrong offset": [0, second + 1],
        "offsets beyond the stream": [0, 2**32 - 1],
        "falling offsets": [second, 0],
        "one offset for two chunks": [0],
        "three offsets for two chunks": [0, second, second + 10],
    }.items():
        entry = {"c.offsets": leaf(np.array(wrong, np.uint32))}
        yield stream(name, leaves=entry, values=long, lazy=len(wrong) == 2)
    cut = leaf(np.frombuffer(many["c.stream"].data, np.uint16)[: second + 3])
    yield stream("ends inside the states of a chunk", leaves={"c.stream": cut}, values=long)
    del node["offsets"]
    del many["c.offsets"]
    yield hostile("rans: no offsets for two chunks", affine(node), {**many, "s": SCALE}, (70000,), lazy=False)


def all_values() -> Iterator[Hostile]:
    """Every file of this module."""
    yield from code_values()
    yield from parameter_shapes()
    coded = (huffman_streams, pow2_values, trits_streams, rans_streams)
    for source in (packed_streams, sparse_patterns, structured_patterns, *coded):
        yield from source()
