"""What all nodes of an encoding tree share: their JSON form, their leaves, their checks."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, NoReturn

import numpy as np
from numpy.typing import NDArray

from bittern.container import LEAF_TYPES
from bittern.errors import FormatError, InputError, ResourceError

MAX_DEPTH = 16
MAX_ELEMENTS = 2**48
REAL_TYPES = ("F32", "F16")
INTEGER_TYPES = ("BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "I64")

# Called with a role ("codes.lengths"), an array and its type in the file; returns the name of the leaf.
RegisterLeaf = Callable[[str, NDArray[Any], str], str]


@dataclass(frozen=True, eq=False)
class Tree(ABC):
    """A node: its dataclass fields are the keys of its JSON form (field metadata says where they differ)."""

    kind: ClassVar[str]

    def __post_init__(self) -> None:
        if self.depth > MAX_DEPTH:
            self.refuse(f"the tree is {self.depth} deep, at most {MAX_DEPTH} are allowed")
        self._check()

    @abstractmethod
    def _check(self) -> None:
        """Check what can be seen without decoding; called after construction."""

    def children(self) -> Iterator[tuple[str, Tree]]:
        """The nodes right below this one, with their keys."""
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Tree):
                yield item.name, value
            elif _is_list(value):
                for index, part in enumerate(value):
                    yield f"{item.name}[{index}]", part

    def leaves(self) -> Iterator[NDArray[Any]]:
        """All arrays of the tree; one that is used twice comes twice."""
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Tree):
                yield from value.leaves()
            elif _is_list(value):
                for part in value:
                    yield from part.leaves()
            elif isinstance(value, np.ndarray):
                yield value

    @cached_property
    def depth(self) -> int:
        """Nodes on the longest way down, this one included."""
        return 1 + max((child.depth for _, child in self.children()), default=0)

    @property
    def nbytes(self) -> int:
        """Bytes of all leaves, each counted once."""
        return sum({leaf_key(leaf): leaf.nbytes for leaf in self.leaves()}.values())

    def describe(self) -> str:
        """The tree in short, e.g. ``codebook(sparse(bitmap(packed(1)), huffman))``; small parameters are left out."""
        parts = [child.describe() for key, child in self.children() if key not in _PARAMETERS]
        return f"{self.kind}({', '.join(parts)})" if parts else self.kind

    def to_json(self, register_leaf: RegisterLeaf, role: str = "") -> dict[str, Any] | str:
        """The JSON form of this node. ``register_leaf`` is called for every leaf and gives its name."""
        out: dict[str, Any] = {"kind": self.kind}
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Tree):
                out[item.name] = value.to_json(register_leaf, self._role_of(role, item.name))
            elif _is_list(value):
                out[item.name] = [part.to_json(register_leaf, join(role, str(n))) for n, part in enumerate(value)]
            elif isinstance(value, np.ndarray):
                name = role if item.name == "leaf" else join(role, item.name)
                out[item.name] = register_leaf(name, value, self._leaf_type(value))
            elif item.metadata.get("json", True) and value != item.default:
                out[item.metadata.get("key", item.name)] = list(value) if isinstance(value, tuple) else value
        return out

    def _role_of(self, role: str, key: str) -> str:
        return role if key == "codes" else join(role, key)  # codes stand for the tensor: a short name for a large leaf

    def _leaf_type(self, leaf: NDArray[Any]) -> str:
        return LEAF_TYPES[leaf.dtype.str]

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)  # the dataclass is frozen once it is built

    def refuse(self, problem: str, remedy: str = "") -> NoReturn:
        """Report a node that cannot be built."""
        raise InputError(f"{self.kind} encoding", problem, remedy)

    def damaged(self, problem: str) -> NoReturn:
        """Report leaves that hold what their node does not allow."""
        raise FormatError(f"{self.kind} encoding", problem, "the data is damaged or was built wrongly")


@dataclass(frozen=True, eq=False)
class Encoding(Tree):
    """A node that yields a tensor: real (float32 numbers) or integer.

    ``order="OHWI"`` (roots of four dimensions only) says that the elements are stored in that order; ``shape`` and
    ``decode`` then still speak OIHW, while ``axis`` counts in the stored order.
    """

    order: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if math.prod(max(size, 1) for size in self.stored_shape) > MAX_ELEMENTS:
            self.refuse(f"shape {list(self.stored_shape)} has too many elements")
        if self.order not in ("", "OHWI"):
            self.refuse(f"order is {self.order!r}", "leave it out, or use 'OHWI'")
        if self.order and len(self.stored_shape) != 4:
            self.refuse(f"order {self.order!r} needs four dimensions, found shape {list(self.stored_shape)}")
        for key, child in self.children():
            if isinstance(child, Encoding) and child.order:
                self.refuse(f"{key} has an order; only the root of a tree may have one")

    @property
    @abstractmethod
    def is_real(self) -> bool:
        """Whether the elements are float32 numbers; else they are integers."""

    @property
    @abstractmethod
    def stored_shape(self) -> tuple[int, ...]:
        """The shape in the order of storage."""

    @abstractmethod
    def _decode(self) -> NDArray[Any]:
        """The elements in the order of storage."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the tensor."""
        stored = self.stored_shape
        return (stored[0], stored[3], stored[1], stored[2]) if self.order else stored

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.stored_shape)

    def decode(self) -> NDArray[Any]:
        """The tensor: float32 if real, else an integer type (dense leaves: their own).

        Raises FormatError if the leaves hold values that their node does not allow, ResourceError if memory runs out.
        """
        try:
            elements = self._decode()
        except MemoryError:
            raise ResourceError(
                f"{self.kind} encoding", f"no memory for a tensor of shape {list(self.shape)}"
            ) from None
        return np.ascontiguousarray(elements.transpose(0, 3, 1, 2)) if self.order else elements

    @cached_property
    def nnz(self) -> int:
        """The number of elements that are not zero (decodes the tree once)."""
        return int(np.count_nonzero(self.decode()))


@dataclass(frozen=True, eq=False)
class Pattern(Tree):
    """A node that says where the entries of a sparse tensor stand."""

    @property
    def unit(self) -> int:
        """Entries come in multiples of this number."""
        return 1

    @abstractmethod
    def check_shape(self, shape: tuple[int, ...]) -> int | None:
        """Check the pattern against a tensor's shape; the number of entries where it is known without decoding."""

    @abstractmethod
    def positions(self, shape: tuple[int, ...]) -> NDArray[np.int64]:
        """The flat positions, strictly increasing, all inside ``shape``. Raises FormatError."""


def _is_list(value: object) -> bool:
    """Whether the value of a field is several nodes."""
    return isinstance(value, tuple) and bool(value) and all(isinstance(part, Tree) for part in value)


_PARAMETERS = frozenset({"table", "scale", "zero_point", "positive", "negative", "row_ptr"})  # small: not described


def join(role: str, key: str) -> str:
    """The role of what stands under ``key`` of the node with this role."""
    return f"{role}.{key}" if role else key


def leaf_key(leaf: NDArray[Any]) -> tuple[Any, ...]:
    """Equal for views of the same memory as the same tensor: this is how trees share a leaf."""
    return (leaf.ctypes.data if leaf.size else id(leaf), leaf.dtype.str, leaf.shape)


def as_leaf(owner: Tree, key: str, allowed: Sequence[str]) -> None:
    """Make the field ``key`` a read-only, contiguous, little-endian array of an allowed type; a view if it can be."""
    given = np.asarray(getattr(owner, key))
    array = np.require(given, given.dtype.newbyteorder("<"), ["C", "A"])[...]
    if array.ndim != given.ndim:
        array = array.reshape(given.shape)
    found = LEAF_TYPES.get(array.dtype.str, str(array.dtype))
    if found not in allowed:
        owner.refuse(f"{key} is of type {found}, allowed are {', '.join(allowed)}")
    array = array.view()
    array.flags.writeable = False
    owner._set(key, array)


def as_shape(owner: Tree, key: str) -> None:
    """Make the field ``key`` a tuple of sizes."""
    value = getattr(owner, key)
    if not isinstance(value, (tuple, list)) or not all(
        isinstance(size, (int, np.integer)) and not isinstance(size, bool) and 0 <= size <= MAX_ELEMENTS
        for size in value
    ):
        owner.refuse(f"shape is {value!r}, expected a list of sizes")
    shape = tuple(int(size) for size in value)
    if math.prod(max(size, 1) for size in shape) > MAX_ELEMENTS:
        owner.refuse(f"shape {list(shape)} has too many elements")
    owner._set(key, shape)


def need(owner: Tree, key: str, *, real: bool) -> Encoding:
    """The child ``key``, which must be real or integer."""
    child = getattr(owner, key)
    if not isinstance(child, Encoding):
        owner.refuse(f"{key} is {type(child).__name__}, expected an encoding")
    if child.is_real != real:
        kinds = ("integer", "real")
        owner.refuse(f"{key} is {kinds[child.is_real]}, it must be {kinds[real]}")
    return child


def check_axis(owner: Tree, axis: int | None, shape: tuple[int, ...]) -> None:
    """Check that ``axis`` counts one of the dimensions of ``shape``."""
    if axis is not None and (type(axis) is not int or not 0 <= axis < len(shape)):
        owner.refuse(f"axis is {axis!r} for a tensor of {len(shape)} dimensions")


def check_parameter(owner: Tree, key: str, axis: int | None, shape: tuple[int, ...]) -> None:
    """Check the shape of a per-tensor or per-axis parameter of a tensor of this shape."""
    expected = () if axis is None else (shape[axis],)
    found = getattr(owner, key).shape
    if found != expected:
        owner.refuse(f"{key} has shape {list(found)}, expected {list(expected)}")


def along(parameter: NDArray[Any], axis: int | None, rank: int) -> NDArray[Any]:
    """A parameter, shaped so that it broadcasts along its axis."""
    return parameter if axis is None else parameter.reshape([-1 if i == axis else 1 for i in range(rank)])
