"""Operators that move elements and make tensors."""

import math

import numpy as np

from tests.breadth.cases import (
    NUMBERS,
    Case,
    Family,
    Rng,
    floats,
    integers,
    number,
    one_of,
    sizes,
    values,
)

ANY = (*NUMBERS, "bool")


def concat(choose: Rng, change: Rng) -> Case:
    rank, dtype = number(choose, 1, 4), one_of(choose, ANY)
    axis = number(choose, -rank, rank - 1)
    shape = sizes(change, rank)
    shapes = []
    for _ in range(number(choose, 1, 4)):
        shapes.append(list(shape))
        shapes[-1][axis] = number(change, 0, 4)
    return Case("Concat", [values(change, dtype, each) for each in shapes], {"axis": axis})


def split(choose: Rng, change: Rng) -> Case:
    rank, dtype, count = number(choose, 1, 4), one_of(choose, ANY), number(choose, 1, 4)
    axis, shape = number(choose, -rank, rank - 1), sizes(change, rank)
    if choose.random() < 0.5:
        part = number(change, 1, 3)
        shape[axis] = part * (count - 1) + number(change, 1, part)
        return Case("Split", [values(change, dtype, shape)], {"axis": axis, "num_outputs": count}, outputs=count)
    parts = [number(change, 0, 3) for _ in range(count)]
    shape[axis] = sum(parts)
    return Case("Split", [values(change, dtype, shape), integers(*parts)], {"axis": axis}, outputs=count)


def slices(choose: Rng, change: Rng) -> Case:
    rank, count = number(choose, 1, 4), 0
    x = values(change, one_of(choose, ANY), sizes(change, rank, high=7))
    count = number(choose, 1, rank)
    kind = one_of(choose, (np.int32, np.int64))
    axes = change.permutation(rank)[:count] if choose.random() < 0.7 else None
    if axes is not None:
        axes = np.where(values(change, "bool", axes.shape), axes, axes - rank).astype(kind)
    starts, ends = (change.integers(-9, 10, count).astype(kind) for _ in range(2))
    steps = None
    if choose.random() < 0.6:
        steps = np.where(values(change, "bool", (count,)), 1, -1) * change.integers(1, 3, count)
        steps = steps.astype(kind)
        ends = np.where(steps < 0, -ends - 3, ends).astype(kind)
    return Case("Slice", [x, starts, ends, axes, steps])


def pads(choose: Rng, change: Rng) -> Case:
    rank, mode = number(choose, 1, 4), one_of(choose, ("constant", "reflect", "edge", "wrap"))
    x = values(change, one_of(choose, ("float32", "int32", "int64")), sizes(change, rank, low=3))
    axes = np.sort(change.permutation(rank)[: number(choose, 1, rank)]) if choose.random() < 0.5 else None
    count = rank if axes is None else len(axes)
    least = -1 if mode == "constant" else 0
    amounts = change.integers(least, 3, 2 * count).astype(np.int64)
    value = values(change, str(x.dtype), ()) if mode == "constant" and choose.random() < 0.6 else None
    return Case("Pad", [x, amounts, value, None if axes is None else axes.astype(np.int64)], {"mode": mode})


def reshape(choose: Rng, change: Rng) -> Case:
    shape = sizes(change, number(choose, 0, 4))
    total, target = math.prod(shape), []
    for _ in range(number(choose, 1, 4) - 1):
        factors = [f for f in range(1, total + 1) if total % f == 0]
        target.append(one_of(change, factors))
        total //= target[-1]
    target.append(total)
    if choose.random() < 0.5:
        target[number(change, 0, len(target) - 1)] = -1
    return Case("Reshape", [values(change, one_of(choose, ANY), shape), integers(*target)])


def shape_changes(choose: Rng, change: Rng) -> Case:
    op, dtype = one_of(choose, ("Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity")), one_of(choose, ANY)
    rank = number(choose, 1, 4)
    shape = sizes(change, rank, empty=True)
    if op == "Flatten":
        return Case(op, [values(change, dtype, shape)], {"axis": number(choose, -rank, rank)})
    if op == "Transpose":
        attributes = {"perm": choose.permutation(rank).tolist()} if choose.random() < 0.8 else {}
        return Case(op, [values(change, dtype, shape)], attributes)
    if op == "Identity":
        return Case(op, [values(change, dtype, shape)])
    count = number(choose, 1, rank)
    if op == "Unsqueeze":
        axes = change.permutation(rank + count)[:count]
        axes = np.where(values(change, "bool", axes.shape), axes, axes - rank - count)
        return Case(op, [values(change, dtype, shape), axes.astype(np.int64)])
    axes = change.permutation(rank)[:count]
    for axis in axes:
        shape[axis] = 1
    if choose.random() < 0.3:
        return Case(op, [values(change, dtype, shape)])
    return Case(op, [values(change, dtype, shape), axes.astype(np.int64)])


def enlarge(choose: Rng, change: Rng) -> Case:
    rank = number(choose, 0, 4)
    shape, dtype = sizes(change, rank), one_of(choose, ANY)
    if choose.random() < 0.5:
        repeats = change.integers(0, 4, rank).astype(np.int64)
        return Case("Tile", [values(change, dtype, shape), repeats])
    target = [*sizes(change, number(choose, 0, 2)), *shape]
    small = [1 if change.random() < 0.4 else size for size in shape]
    target = [1 if change.random() < 0.2 else size for size in target]
    return Case("Expand", [values(change, dtype, small), integers(*target)])


def gather(choose: Rng, change: Rng) -> Case:
    op = one_of(choose, ("Gather", "GatherElements"))
    rank, kind = number(choose, 1, 4), one_of(choose, ("int32", "int64"))
    shape = sizes(change, rank)
    axis = number(choose, -rank, rank - 1)
    wanted = sizes(change, number(choose, 0, 2))
    if op == "GatherElements":
        wanted = [number(change, 1, size) for size in shape]
        wanted[axis] = number(change, 1, 6)
    indices = change.integers(-shape[axis], shape[axis], wanted).astype(kind)
    return Case(op, [values(change, one_of(choose, ANY), shape), indices], {"axis": axis})


def gather_nd(choose: Rng, change: Rng) -> Case:
    rank = number(choose, 1, 4)
    shape, batch = sizes(change, rank), number(choose, 0, rank - 1)
    depth = number(choose, 1, rank - batch)
    indices = [change.integers(-size, size, [*shape[:batch], 3]) for size in shape[batch : batch + depth]]
    x = values(change, one_of(choose, ANY), shape)
    return Case("GatherND", [x, np.stack(indices, -1).astype(np.int64)], {"batch_dims": batch})


def scatter(choose: Rng, change: Rng) -> Case:
    rank, reduction = number(choose, 1, 3), one_of(choose, ("none", "add", "mul", "max", "min"))
    dtype = one_of(choose, ("float32", "int32", "int64"))
    shape = sizes(change, rank)
    axis = number(choose, -rank, rank - 1)
    places = [number(change, 1, size) for size in shape]
    # Places are distinct: with the reduction none the order of writing would matter.
    rows = np.argsort(change.random([*places[: axis % rank], *places[axis % rank + 1 :], shape[axis]]), -1)
    indices = np.moveaxis(rows[..., : places[axis]], -1, axis % rank)
    indices = np.where(values(change, "bool", indices.shape), indices, indices - shape[axis]).astype(np.int64)
    x, updates = values(change, dtype, shape), values(change, dtype, places)
    return Case("ScatterElements", [x, indices, updates], {"axis": axis, "reduction": reduction})


def scatter_nd(choose: Rng, change: Rng) -> Case:
    rank, reduction = number(choose, 1, 3), one_of(choose, ("none", "add", "mul", "max", "min"))
    dtype, depth = one_of(choose, ("float32", "int32", "int64")), number(choose, 1, rank)
    shape = sizes(change, rank)
    total = math.prod(shape[:depth])
    chosen = change.permutation(total)[: number(change, 1, total)]
    indices = np.stack(np.unravel_index(chosen, shape[:depth]), -1).astype(np.int64)
    updates = values(change, dtype, [len(chosen), *shape[depth:]])
    return Case("ScatterND", [values(change, dtype, shape), indices, updates], {"reduction": reduction})


def one_hot(choose: Rng, change: Rng) -> Case:
    rank, depth = number(choose, 0, 3), number(change, 1, 6)
    indices = change.integers(-depth, depth, sizes(change, rank)).astype(one_of(choose, ("int32", "int64")))
    two = values(change, one_of(choose, ("float32", "int64", "int8")), (2,))
    return Case("OneHot", [indices, np.array(depth, np.int64), two], {"axis": number(choose, -rank - 1, rank)})


NAMES = {
    "float32": "f32",
    "bool": "bool",
    **{f"{s}int{b}": f"{s or 'i'}{b}" for s in ("", "u") for b in (8, 16, 32, 64)},
}


def casts(choose: Rng, change: Rng) -> Case:
    source, target = one_of(choose, ANY), one_of(choose, ANY)
    x = values(change, source, sizes(change, number(choose, 0, 3), empty=True), 0 if "u" in target else -90, 90)
    if choose.random() < 0.5:
        return Case("CastLike", [x, values(change, target, (2,))])
    return Case("Cast", [x], {"to": NAMES[target]})


def made(choose: Rng, change: Rng) -> Case:
    op = one_of(choose, ("ConstantOfShape", "Range", "Shape", "Size", "EyeLike"))
    rank = number(choose, 0, 4)
    if op == "ConstantOfShape":
        # The value is part of the operator, not an input of the model: tests/test_breadth.py keeps it constant.
        value = values(choose, one_of(choose, ("float32", "int8", "int64", "bool")), (1,))
        return Case(op, [integers(*sizes(change, rank, empty=True)), value])
    if op == "Range":
        dtype = one_of(choose, ("float32", "int32", "int64"))
        step = number(change, 1, 3) * (1 if change.random() < 0.6 else -1)
        parts = (number(change, -5, 5), number(change, -9, 9), step)
        return Case(op, [np.array(part, dtype) for part in parts])
    x = values(change, one_of(choose, ANY), sizes(change, rank, empty=True))
    if op == "EyeLike":
        x = values(change, one_of(choose, ("float32", "int32", "bool")), sizes(change, 2))
        attributes = {"k": number(choose, -2, 2)}
        return Case(op, [x], attributes | ({"dtype": one_of(choose, ("f32", "i64"))} if x.dtype == bool else {}))
    if op == "Size":
        return Case(op, [x])
    return Case(op, [x], {"start": number(choose, -5, 5), "end": number(choose, -5, 5)})


def others(choose: Rng, change: Rng) -> Case:
    op = one_of(choose, ("Trilu", "ReverseSequence", "DepthToSpace", "SpaceToDepth", "NonZero"))
    if op == "Trilu":
        shape = [*sizes(change, number(choose, 0, 2)), *sizes(change, 2, high=6)]
        k = np.array(number(change, -3, 3), np.int64) if choose.random() < 0.7 else None
        return Case(op, [values(change, one_of(choose, ANY), shape), k], {"upper": number(choose, 0, 1)})
    if op == "ReverseSequence":
        batch = number(choose, 0, 1)
        shape = sizes(change, number(choose, 2, 4))
        lengths = change.integers(1, shape[1 - batch] + 1, shape[batch]).astype(np.int64)
        return Case(op, [floats(change, shape), lengths], {"batch_axis": batch, "time_axis": 1 - batch})
    if op == "NonZero":
        return Case(op, [np.rint(values(change, "float32", sizes(change, number(choose, 1, 3), empty=True), -1, 1))])
    block = number(choose, 1, 3)
    n, c, h, w = sizes(change, 4, high=3)
    shape = [n, c * block * block, h, w] if op == "DepthToSpace" else [n, c, h * block, w * block]
    attributes = {"blocksize": block} | ({"mode": one_of(choose, ("DCR", "CRD"))} if op == "DepthToSpace" else {})
    return Case(op, [floats(change, shape)], attributes)


def resize(choose: Rng, change: Rng) -> Case:
    mode, rank = one_of(choose, ("nearest", "linear", "cubic")), 4
    modes = ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric")
    attributes = {"mode": mode, "coordinate_transformation_mode": one_of(choose, modes)}
    if mode == "nearest":
        attributes["nearest_mode"] = one_of(choose, ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"))
    x = floats(change, sizes(change, rank, low=2))
    if choose.random() < 0.5:
        scales = np.array([1, 1, *(change.integers(1, 8, 2) / 2)], np.float32)
        return Case("Resize", [x, None, scales], attributes, tolerance=1e-4)
    out = integers(*x.shape[:2], number(change, 1, 9), number(change, 1, 9))
    return Case("Resize", [x, None, None, out], attributes, tolerance=1e-4)


FAMILIES: dict[str, Family] = {
    "concat": concat,
    "split": split,
    "slices": slices,
    "pads": pads,
    "reshape": reshape,
    "shape changes": shape_changes,
    "enlarge": enlarge,
    "gather": gather,
    "gather nd": gather_nd,
    "scatter": scatter,
    "scatter nd": scatter_nd,
    "one hot": one_hot,
    "casts": casts,
    "made": made,
    "others": others,
    "resize": resize,
}
