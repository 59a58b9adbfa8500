"""Constants in every encoding kind and combination, as JSON trees and leaves made without the package."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tests import binary_samples, huffman_writer, rans_writer
from tests.rawfile import RawLeaf, leaf, pack_bits
from tests.reference.arrays import Array

Tree = Mapping[str, Any] | str
WEIGHT = (5, 3, 3, 2)


class Samples:
    """Collects constants; leaf names are derived from the constant's name."""

    def __init__(self) -> None:
        self.constants: dict[str, Tree] = {}
        self.leaves: dict[str, RawLeaf] = {}

    def put(self, name: str, entry: RawLeaf) -> str:
        """Store a leaf under its name."""
        assert name not in self.leaves
        self.leaves[name] = entry
        return name

    def dense(self, name: str, array: Array) -> dict[str, Any]:
        """A dense node."""
        return {"kind": "dense", "leaf": self.put(name, leaf(array))}

    def packed(self, name: str, codes: Array, bits: int, signed: bool = False) -> Tree:
        """A packed node."""
        node = {
            "kind": "packed",
            "leaf": self.put(name, pack_bits(codes, bits)),
            "bits": bits,
            "shape": list(codes.shape),
        }
        return {**node, "signed": True} if signed else node

    def huffman(self, name: str, codes: Array, alphabet: int, lengths: list[int] | None = None) -> Tree:
        """A huffman node."""
        node, leaves = huffman_writer.encode(codes, alphabet, name, lengths)
        for key, entry in leaves.items():
            self.put(key, entry)
        return node

    def trits(self, name: str, codes: Array) -> Tree:
        """A trits node."""
        padded = [*codes.reshape(-1).tolist(), *[0] * (-codes.size % 5)]
        data = bytes(sum(padded[i + d] * 3**d for d in range(5)) for i in range(0, len(padded), 5))
        return {"kind": "trits", "leaf": self.put(name, RawLeaf("U8", (len(data),), data)), "shape": list(codes.shape)}

    def rans(
        self, name: str, codes: Array, alphabet: int, bits: int = 12, frequencies: list[int] | None = None
    ) -> Tree:
        """A rans node."""
        node, leaves = rans_writer.encode(codes, alphabet, name, bits, frequencies)
        for key, entry in leaves.items():
            self.put(key, entry)
        return node


def dense_samples(samples: Samples, rng: np.random.Generator) -> None:
    """Leaves as they are, every half and bfloat16 number among them."""
    halves = np.arange(65536, dtype=np.uint16)
    signalling = ((halves & 0x7C00) == 0x7C00) & ((halves & 0x03FF) != 0) & ((halves & 0x0200) == 0)
    samples.constants["dense.f16"] = samples.dense("dense.f16", halves[~signalling].view(np.float16))
    signalling = ((halves & 0x7F80) == 0x7F80) & ((halves & 0x007F) != 0) & ((halves & 0x0040) == 0)
    values = halves[~signalling]
    samples.put("dense.bf16", RawLeaf("BF16", values.shape, values.astype("<u2").tobytes()))
    samples.constants["dense.bf16"] = {"kind": "dense", "leaf": "dense.bf16"}
    special = np.array([0.0, -0.0, 1e-45, -1e-40, 3.4e38, np.inf, -np.inf, np.nan, 1.5], np.float32)
    samples.constants["dense.f32"] = samples.dense("dense.f32", special)
    samples.constants["dense.scalar"] = samples.dense("dense.scalar", np.array(2.5, np.float32))
    samples.constants["dense.empty"] = samples.dense("dense.empty", np.zeros((3, 0, 2), np.float32))
    weight = rng.standard_normal((5, 3, 2, 4)).astype(np.float32)
    samples.constants["dense.ohwi"] = {**samples.dense("dense.ohwi", weight), "order": "OHWI"}
    for dtype in ("u1", "i1", "u2", "i2", "u4", "i4", "i8"):
        limits = np.iinfo(np.dtype(dtype))
        numbers = np.array([limits.min, limits.max, 0, 1, limits.max // 3], dtype)
        samples.constants[f"dense.{dtype}"] = samples.dense(f"dense.{dtype}", numbers)
    samples.constants["dense.name"] = samples.put("dense.name", leaf(rng.standard_normal((4, 3)).astype(np.float32)))
    samples.constants["dense.name.i4"] = samples.put("dense.name.i4", leaf(np.array([3, -1], np.int32)))
    samples.constants["dense.bool"] = samples.dense("dense.bool", np.array([[True, False], [False, True]]))


def packed_samples(samples: Samples, rng: np.random.Generator) -> None:
    """Every width, signed or not, seen through an affine node and, minus itself, without rounding."""
    for bits in range(1, 33):
        for signed in (False, True):
            low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
            codes = rng.integers(low, high, (3, 11), dtype=np.int64)
            codes.reshape(-1)[:2] = [low, high - 1]
            name = f"packed.{'s' if signed else 'u'}{bits}"
            samples.constants[name] = {
                "kind": "affine",
                "codes": samples.packed(f"{name}.codes", codes, bits, signed),
                "scale": samples.dense(f"{name}.scale", np.array(0.5, np.float32)),
            }
            # With group 1 every element has its own zero point: the small difference shows every bit of the code.
            near = np.clip(codes - rng.integers(-1000, 1001, codes.shape), low, high - 1)
            near_type = np.int32 if signed else np.uint32
            name += ".exact"
            samples.constants[name] = {
                "kind": "affine",
                "codes": samples.packed(f"{name}.codes", codes, bits, signed),
                "scale": samples.dense(f"{name}.scale", np.ones(codes.shape, np.float32)),
                "zero_point": samples.dense(f"{name}.zero", near.astype(near_type)),
                "axis": 1,
                "group": 1,
            }
    empty = {"kind": "affine", "codes": samples.packed("packed.empty.codes", np.zeros((0, 3), np.int64), 5)}
    samples.constants["packed.empty"] = {**empty, "scale": samples.dense("packed.empty.scale", np.array(1, np.float32))}


def affine_samples(samples: Samples, rng: np.random.Generator) -> None:
    """Scales and zero points per tensor, per axis and per group; integer leaves as codes."""
    for dtype in ("i1", "u1", "i2", "u2", "i4", "u4"):
        limits = np.iinfo(np.dtype(dtype))
        codes = rng.integers(limits.min, limits.max, WEIGHT, dtype=np.dtype(dtype), endpoint=True)
        samples.constants[f"affine.{dtype}"] = {
            "kind": "affine",
            "codes": samples.dense(f"affine.{dtype}.codes", codes),
            "scale": samples.dense(f"affine.{dtype}.scale", rng.standard_normal(()).astype(np.float32) + np.float32(2)),
            "zero_point": samples.dense(f"affine.{dtype}.zero", np.array(limits.max // 5, dtype)),
        }
    for axis in range(4):
        size = WEIGHT[axis]
        codes = rng.integers(0, 16, WEIGHT)
        samples.constants[f"affine.axis{axis}"] = {
            "kind": "affine",
            "codes": samples.packed(f"affine.axis{axis}.codes", codes, 4),
            "scale": samples.dense(f"affine.axis{axis}.scale", rng.standard_normal(size).astype(np.float16)),
            "zero_point": samples.packed(f"affine.axis{axis}.zero", rng.integers(0, 16, size), 4),
            "axis": axis,
        }
    for axis, group in ((0, 2), (1, 2), (1, 3), (1, 64), (0, 1)):
        codes = rng.integers(-8, 8, (5, 7))
        shape = list(codes.shape)
        shape[axis] = -(-shape[axis] // group)
        name = f"affine.group{group}.axis{axis}"
        samples.constants[name] = {
            "kind": "affine",
            "codes": samples.packed(f"{name}.codes", codes, 4, signed=True),
            "scale": samples.dense(f"{name}.scale", rng.standard_normal(shape).astype(np.float32)),
            "zero_point": samples.dense(f"{name}.zero", rng.integers(-4, 4, shape).astype(np.int8)),
            "axis": axis,
            "group": group,
        }
    nested = {
        "kind": "affine",
        "codes": samples.packed("affine.nested.scale.codes", rng.integers(0, 64, 5), 6),
        "scale": samples.dense("affine.nested.scale.scale", np.array(0.01, np.float32)),
    }
    samples.constants["affine.nested"] = {
        "kind": "affine",
        "codes": samples.packed("affine.nested.codes", rng.integers(-4, 4, (5, 9)), 3, signed=True),
        "scale": nested,
        "axis": 0,
    }
    samples.constants["affine.ohwi"] = {
        "kind": "affine",
        "codes": samples.packed("affine.ohwi.codes", rng.integers(0, 8, (4, 2, 3, 5)), 3),
        "scale": samples.dense("affine.ohwi.scale", rng.standard_normal(4).astype(np.float32)),
        "axis": 0,
        "order": "OHWI",
    }


def table_samples(samples: Samples, rng: np.random.Generator) -> None:
    """Codebooks, ternary weights and signs."""
    for bits in (1, 3, 8):
        codes = rng.integers(0, 2**bits, WEIGHT)
        samples.constants[f"codebook.{bits}"] = {
            "kind": "codebook",
            "codes": samples.packed(f"codebook.{bits}.codes", codes, bits),
            "table": samples.dense(f"codebook.{bits}.table", rng.standard_normal(2**bits).astype(np.float32)),
        }
    for axis in (0, 1, 3):
        samples.constants[f"codebook.axis{axis}"] = {
            "kind": "codebook",
            "codes": samples.dense(f"codebook.axis{axis}.codes", rng.integers(0, 6, WEIGHT).astype(np.uint8)),
            "table": samples.dense(
                f"codebook.axis{axis}.table", rng.standard_normal((WEIGHT[axis], 6)).astype(np.float16)
            ),
            "axis": axis,
        }
    for chosen in (None, 0, 1):
        shape: tuple[int, ...] = () if chosen is None else (WEIGHT[chosen],)
        where: dict[str, int] = {} if chosen is None else {"axis": chosen}
        label = "tensor" if chosen is None else f"axis{chosen}"
        samples.constants[f"ternary.{label}"] = {
            "kind": "ternary",
            "codes": samples.packed(f"ternary.{label}.codes", rng.integers(0, 3, WEIGHT), 2),
            "positive": samples.dense(f"ternary.{label}.positive", rng.standard_normal(shape).astype(np.float32)),
            "negative": samples.dense(f"ternary.{label}.negative", rng.standard_normal(shape).astype(np.float32)),
            **where,
        }
        samples.constants[f"signs.{label}"] = {
            "kind": "signs",
            "codes": samples.packed(f"signs.{label}.codes", rng.integers(0, 2, WEIGHT), 1),
            "scale": samples.dense(f"signs.{label}.scale", np.abs(rng.standard_normal(shape)).astype(np.float32)),
            **where,
        }


def patterns(samples: Samples, name: str, mask: Array, rng: np.random.Generator) -> dict[str, tuple[Tree, Array]]:
    """Every way to write the positions of a mask, with the mask of entries it stands for (fillers included)."""
    rows = mask.reshape(mask.shape[0], -1)
    row_ptr = np.concatenate([[0], np.cumsum(rows.sum(axis=1))])
    columns = np.concatenate([np.flatnonzero(row) for row in rows])
    flat = mask.reshape(-1).astype(bool)
    gaps, entries, zeros = [], flat.copy(), 0
    for position, kept in enumerate(flat):
        if kept or zeros == 3:
            gaps.append(zeros)
            entries[position] = True
            zeros = 0
        else:
            zeros += 1
    gap_codes = np.array(gaps)
    found: dict[str, tuple[Tree, Array]] = {
        "bitmap": ({"kind": "bitmap", "mask": samples.packed(f"{name}.bitmap", flat.astype(np.int64), 1)}, flat),
        "bytes": ({"kind": "bitmap", "mask": samples.dense(f"{name}.bytes", flat)}, flat),
        "csr": (
            {
                "kind": "csr",
                "row_ptr": samples.dense(f"{name}.csr.row_ptr", row_ptr.astype(np.uint32)),
                "columns": samples.packed(f"{name}.csr.columns", columns, 7),
            },
            flat,
        ),
        "relative": ({"kind": "relative_index", "gaps": samples.packed(f"{name}.gaps", gap_codes, 2)}, entries),
        "huffman": ({"kind": "relative_index", "gaps": samples.huffman(f"{name}.coded", gap_codes, 4)}, entries),
    }
    return found


def sparse_samples(samples: Samples, rng: np.random.Generator) -> None:
    """Sparse reals and sparse integers under every pattern, and the Deep Compression form."""
    for shape in (WEIGHT, (7, 13), (19,)):
        for density in (0.0, 0.3, 1.0):
            label = f"sparse.{'x'.join(map(str, shape))}.{density}"
            mask = rng.random(shape) < density
            for kind, (pattern, entries) in patterns(samples, label, mask, rng).items():
                kept = int(entries.sum())
                fillers = ~mask.reshape(-1)[entries]
                name = f"{label}.{kind}"
                values = rng.standard_normal(kept).astype(np.float32)
                values[fillers] = 0
                # A leaf may serve several trees, so the pattern is shared between the two constants.
                samples.constants[f"{name}.real"] = {
                    "kind": "sparse",
                    "pattern": pattern,
                    "values": samples.dense(f"{name}.values", values),
                    "shape": list(shape),
                }
                codes = rng.integers(1, 8, kept)
                codes[fillers] = 0
                table = np.concatenate([[0], rng.standard_normal(7)]).astype(np.float32)
                coded = (
                    samples.packed(f"{name}.codes", codes, 3)
                    if kept == 0
                    else samples.huffman(f"{name}.codes", codes, 8)
                )
                samples.constants[f"{name}.codebook"] = {
                    "kind": "codebook",
                    "codes": {"kind": "sparse", "pattern": pattern, "values": coded, "shape": list(shape)},
                    "table": samples.dense(f"{name}.table", table),
                }
    mask = rng.random(WEIGHT) < 0.4
    pattern, entries = patterns(samples, "sparse.affine", mask, rng)["csr"]
    samples.constants["sparse.affine"] = {
        "kind": "affine",
        "codes": {
            "kind": "sparse",
            "pattern": pattern,
            "values": samples.packed(
                "sparse.affine.codes", rng.integers(-128, 128, int(entries.sum())), 8, signed=True
            ),
            "shape": list(WEIGHT),
        },
        "scale": samples.dense("sparse.affine.scale", rng.standard_normal(WEIGHT[0]).astype(np.float32)),
        "axis": 0,
        "order": "OHWI",
    }
    # The patterns that this tree did not take would be unused leaves.
    taken = {"sparse.affine.csr.row_ptr", "sparse.affine.csr.columns"}
    for name in [*samples.leaves]:
        if name.startswith(
            ("sparse.affine.bitmap", "sparse.affine.bytes", "sparse.affine.gaps", "sparse.affine.coded")
        ):
            assert name not in taken
            del samples.leaves[name]


def structured_samples(samples: Samples, rng: np.random.Generator) -> None:
    """Blocks under every pattern, blocks of blocks, groups of m with n entries; reals, codes, other orders."""

    def constant(name: str, shape: tuple[int, ...], pattern: Tree, entries: int, order: str = "") -> None:
        where = {"shape": list(shape)}
        values = samples.dense(f"{name}.values", rng.standard_normal(entries).astype(np.float32))
        tree = {"kind": "sparse", "pattern": pattern, "values": values, **where}
        samples.constants[name] = {**tree, "order": order} if order else tree
        codes = samples.packed(f"{name}.codes", rng.integers(0, 8, entries), 3)
        table = samples.dense(f"{name}.table", rng.standard_normal(8).astype(np.float32))
        inner = {"kind": "sparse", "pattern": pattern, "values": codes, **where}
        samples.constants[f"{name}.codebook"] = {"kind": "codebook", "codes": inner, "table": table}

    for shape, height, width in (((8, 6), 2, 3), ((6, 4, 3, 2), 3, 6), ((5, 7), 5, 1), ((5, 7), 1, 1), ((9,), 3, 1)):
        columns = int(np.prod(shape[1:], dtype=int))
        grid = rng.random((shape[0] // height, columns // width)) < 0.5
        label = f"blocks.{'x'.join(map(str, shape))}.{height}x{width}"
        for kind, (pattern, entries) in patterns(samples, label, grid, rng).items():
            tree = {"kind": "blocks", "height": height, "width": width, "pattern": pattern}
            constant(f"{label}.{kind}", shape, tree, int(entries.sum()) * height * width)
    mask = samples.packed("blocks.nested.mask", np.array([1, 0, 0, 1]), 1)
    inner = {"kind": "blocks", "height": 2, "width": 1, "pattern": {"kind": "bitmap", "mask": mask}}
    constant("blocks.nested", (8, 6), {"kind": "blocks", "height": 2, "width": 3, "pattern": inner}, 24)
    none = {"kind": "bitmap", "mask": samples.packed("blocks.empty.mask", np.zeros(0, np.int64), 1)}
    constant("blocks.empty", (4, 0), {"kind": "blocks", "height": 2, "width": 1, "pattern": none}, 0)
    for shape, n, m in (((5, 8), 2, 4), ((3, 12), 1, 4), ((4, 4, 1, 3), 3, 6), ((2, 16), 7, 8), ((2, 4), 4, 4)):
        groups = int(np.prod(shape, dtype=int)) // m
        places = np.sort(np.argsort(rng.random((groups, m)), axis=1)[:, :n], axis=1).reshape(-1)
        label = f"n_of_m.{'x'.join(map(str, shape))}.{n}.{m}"
        packed = samples.packed(f"{label}.places", places, (m - 1).bit_length())
        order = "OHWI" if len(shape) == 4 else ""
        constant(label, shape, {"kind": "n_of_m", "n": n, "m": m, "places": packed}, groups * n, order)
    coded = samples.huffman("n_of_m.coded.places", np.array([0, 3, 1, 2, 0, 1, 2, 3]), 4)
    constant("n_of_m.coded", (2, 8), {"kind": "n_of_m", "n": 2, "m": 4, "places": coded}, 8)


def huffman_samples(samples: Samples, rng: np.random.Generator) -> None:
    """Streams of one symbol, of the longest codes, and of more than one chunk."""
    scale = np.array(1, np.float32)

    def constant(name: str, codes: Array, alphabet: int, lengths: list[int] | None = None) -> None:
        samples.constants[name] = {
            "kind": "affine",
            "codes": samples.huffman(f"{name}.codes", codes, alphabet, lengths),
            "scale": samples.dense(f"{name}.scale", scale),
        }

    constant("huffman.one", np.full((4, 5), 3), 6)
    constant("huffman.two", rng.integers(0, 2, (9, 1)), 2)
    skewed = np.minimum(rng.geometric(0.4, (31, 7)) - 1, 40)
    constant("huffman.skewed", skewed, 64)
    longest = [*range(1, 16), 15]
    constant("huffman.longest", rng.integers(0, 16, 300), 16, longest)
    constant("huffman.bytes", rng.integers(0, 256, 4096), 256)
    constant("huffman.wide", np.concatenate([np.arange(1000), rng.integers(0, 1000, 500)]), 1000)
    constant("huffman.chunk", rng.integers(0, 5, 65536), 5)
    constant("huffman.chunks", np.minimum(rng.geometric(0.5, (3, 47000)) - 1, 20), 21)


def pow2_samples(samples: Samples, rng: np.random.Generator) -> None:
    """Every number of terms with every width, scales per tensor and per axis, the codes in other streams."""
    for terms in range(1, 5):
        for bits in range(2, 9):
            shape = (7, 2**bits) if terms == 1 else WEIGHT
            parts = rng.integers(0, 2**bits - 1, (*shape, terms))
            if terms == 1:
                parts[:] = np.arange(2**bits)[:, None] % (2**bits - 1)  # every level
            parts += parts >= 2 ** (bits - 1)  # there is no minus zero
            codes = (parts << np.arange(terms) * bits).sum(axis=-1)
            axis = (terms + bits) % (len(shape) + 1) - 1
            name = f"pow2.{terms}x{bits}"
            node = {
                "kind": "pow2",
                "codes": samples.packed(f"{name}.codes", codes, terms * bits),
                "scale": samples.dense(
                    f"{name}.scale", rng.standard_normal(() if axis < 0 else shape[axis]).astype(np.float32)
                ),
                "terms": terms,
                "bits": bits,
            }
            samples.constants[name] = node if axis < 0 else {**node, "axis": axis}
    scale = np.array(0.75, np.float32)
    few = rng.integers(0, 8, WEIGHT)
    samples.constants["pow2.dense"] = {
        "kind": "pow2",
        "codes": samples.dense("pow2.dense.codes", few.astype(np.uint8)),
        "scale": samples.dense("pow2.dense.scale", scale),
        "terms": 1,
        "bits": 5,
        "order": "OHWI",
    }
    samples.constants["pow2.rans"] = {
        "kind": "pow2",
        "codes": samples.rans("pow2.rans.codes", few, 8),
        "scale": samples.dense("pow2.rans.scale", rng.standard_normal(3).astype(np.float16)),
        "terms": 1,
        "bits": 4,
        "axis": 1,
    }
    nothing = samples.packed("pow2.empty.codes", np.zeros((0, 3), np.int64), 8)
    samples.constants["pow2.empty"] = {
        "kind": "pow2",
        "codes": nothing,
        "scale": samples.dense("pow2.empty.scale", scale),
        "terms": 2,
        "bits": 4,
    }


def trits_samples(samples: Samples, rng: np.random.Generator) -> None:
    """Every remainder by five, no element at all, and all five-trit bytes."""
    every = np.arange(243)[:, None] // 3 ** np.arange(5) % 3
    shapes = {"n": (5, 1, 3), "bytes": (243, 5), "empty": (0, 2), "scalar": ()}
    shapes |= {f"{n}": (n,) for n in (1, 2, 3, 4, 5, 6, 11)}
    for label, shape in shapes.items():
        codes = every if label == "bytes" else rng.integers(0, 3, shape)
        samples.constants[f"trits.{label}"] = {
            "kind": "ternary",
            "codes": samples.trits(f"trits.{label}.codes", np.asarray(codes)),
            "positive": samples.dense(f"trits.{label}.positive", np.array(0.3, np.float32)),
            "negative": samples.dense(f"trits.{label}.negative", np.array(0.7, np.float32)),
        }


def rans_samples(samples: Samples, rng: np.random.Generator) -> None:
    """One symbol, the least and most bits, wide alphabets, more than one chunk, nothing."""
    scale = np.array(1, np.float32)

    def constant(name: str, codes: Array, alphabet: int, bits: int = 12, frequencies: list[int] | None = None) -> None:
        samples.constants[f"rans.{name}"] = {
            "kind": "affine",
            "codes": samples.rans(f"rans.{name}.codes", codes, alphabet, bits, frequencies),
            "scale": samples.dense(f"rans.{name}.scale", scale),
        }

    constant("one", np.full((4, 5), 3), 6)
    constant("one of 15 bits", np.zeros(7, np.int64), 1, 15)
    constant("two", rng.integers(0, 2, (9, 1)), 2, 1)
    constant("single", np.array(1), 2)
    constant("skewed", np.minimum(rng.geometric(0.4, (31, 7)) - 1, 40), 64, 15)
    constant("rare", np.concatenate([np.zeros(3000, np.int64), [1]]), 2, 15)
    constant("other frequencies", rng.integers(0, 4, 300), 5, 9, [1, 2, 3, 500, 6])
    constant("bytes", rng.integers(0, 256, 4096), 256, 14)
    constant("most symbols", np.array([0, 32767, 5]), 32768, 15, [1] * 32768)
    constant("chunk", rng.integers(0, 5, 65536), 5, 8)
    constant("chunks", np.minimum(rng.geometric(0.5, (3, 47000)) - 1, 20), 21, 13)
    constant("empty", np.zeros((0, 4), np.int64), 2, 3, [7, 1])
    # Signed codes, shifted by the zero point, in every stream of unsigned ones.
    for kind, alphabet in (("packed", 256), ("trits", 3), ("huffman", 256), ("rans", 256)):
        codes = rng.integers(0, alphabet, WEIGHT)
        name = f"affine.{kind}"
        if kind == "packed":
            stream = samples.packed(f"{name}.codes", codes, 8)
        elif kind == "trits":
            stream = samples.trits(f"{name}.codes", codes)
        else:
            coder = samples.huffman if kind == "huffman" else samples.rans
            stream = coder(f"{name}.codes", codes, alphabet)
        zero = rng.integers(alphabet // 3, alphabet // 2 + 1, WEIGHT[0])
        samples.constants[name] = {
            "kind": "affine",
            "codes": stream,
            "scale": samples.dense(f"{name}.scale", rng.standard_normal(WEIGHT[0]).astype(np.float32)),
            "zero_point": samples.dense(f"{name}.zero", zero.astype(np.uint8)),
            "axis": 0,
        }


def all_samples(rng: np.random.Generator) -> Samples:
    """Every constant of this module."""
    samples = Samples()
    groups = (dense_samples, packed_samples, affine_samples, table_samples, sparse_samples, huffman_samples)
    coded = (structured_samples, pow2_samples, trits_samples, rans_samples)
    for add in (*groups, *coded, binary_samples.separable, binary_samples.seeded, binary_samples.sums):
        add(samples, rng)
    return samples
