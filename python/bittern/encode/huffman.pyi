from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_LENGTH: int
CHUNK: int

def code_lengths(counts: Sequence[int] | NDArray[Any]) -> NDArray[np.uint8]: ...
def canonical_codes(lengths: NDArray[np.uint8]) -> NDArray[np.uint16]: ...
def encode(
    symbols: NDArray[np.uint32], lengths: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], int, NDArray[np.uint32]]: ...
def decode(
    stream: NDArray[np.uint8], bits: int, lengths: NDArray[np.uint8], n: int, offsets: NDArray[np.uint32] | None = None
) -> NDArray[np.uint32]: ...
