from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_BITS: int
CHUNK: int
STATE_WORDS: int

def frequencies(counts: Sequence[int] | NDArray[Any], bits: int) -> NDArray[np.uint16]: ...
def encode(
    symbols: NDArray[np.uint32], frequencies: NDArray[np.uint16], bits: int
) -> tuple[NDArray[np.uint16], NDArray[np.uint32]]: ...
def decode(
    stream: NDArray[np.uint16],
    frequencies: NDArray[np.uint16],
    bits: int,
    n: int,
    offsets: NDArray[np.uint32] | None = None,
) -> NDArray[np.uint32]: ...
