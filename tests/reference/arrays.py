"""Names for the array types of the reference."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Attributes: TypeAlias = "dict[str, Any]"


def wide(x: Array) -> Array:
    """The array in float64, in which the reference computes."""
    return x.astype(np.float64)


def narrow(x: Array) -> Array:
    """The array rounded once to float32, the type of every value between operators."""
    with np.errstate(over="ignore"):
        return np.asarray(x.astype(np.float32), order="C")
