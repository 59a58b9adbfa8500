"""Writes the damaged files of the tests, and random ones, as a corpus for programs: write_hostile FOLDER [COUNT]."""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from tests import hostile
from tests.builders import digits_like
from tests.rawfile import RawLeaf, assemble, text
from tests.test_files import HOSTILE


def changed_graph(graph: dict[str, Any], rng: np.random.Generator) -> str:
    """The graph's text with a few characters replaced, dropped or doubled: often no JSON, else seldom a network."""
    characters = list(text(graph))
    for at in rng.integers(0, len(characters), int(rng.integers(1, 4))):
        characters[at] = str(rng.choice(["", characters[at] * 2, "0", "9", "-", "[", "}", '"', ","]))
    return "".join(characters)


def changed_leaf(leaf: RawLeaf, rng: np.random.Generator) -> RawLeaf:
    """The leaf with a few bytes replaced."""
    data = bytearray(leaf.data)
    for at in rng.integers(0, len(data), int(rng.integers(1, 4))):
        data[at] = int(rng.integers(256))
    return RawLeaf(leaf.dtype, leaf.shape, bytes(data))


def chance(rng: np.random.Generator) -> bytes:
    """A good file with random faults under a checksum that fits, so that the reader must find them itself."""
    graph, leaves = hostile.good_parts()
    if rng.random() < 0.5:
        return assemble(changed_graph(graph, rng), leaves)
    name = str(rng.choice(sorted(leaves)))
    return assemble(graph, {**leaves, name: changed_leaf(leaves[name], rng)})


def main(folder: Path, count: int) -> None:
    """Write every hostile file, `count` random ones, and two good ones to show that good ones pass."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    files = [case.data for case in HOSTILE] + [chance(rng) for _ in range(count)]
    for number, data in enumerate([hostile.good_file(), digits_like().to_bytes(), *files]):
        (folder / f"{number:05}.bittern").write_bytes(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1000)
