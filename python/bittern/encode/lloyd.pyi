import numpy as np
from numpy.typing import NDArray

def lloyd(
    values: NDArray[np.float32], k: int, iterations: int = 50
) -> tuple[NDArray[np.float64], NDArray[np.int64]]: ...
