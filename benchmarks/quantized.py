"""The networks in 8 bits: QDQ files that onnxruntime.quantization makes of the float ones."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

_IMAGES = 4


def quantize(source: Path, target: Path, shape: Sequence[int]) -> Path:
    """Write ``source`` to ``target`` with unsigned 8-bit activations and signed 8-bit weights with a scale per channel.

    Batch normalisation is folded first. Ranges come from a few random inputs of ``shape``: times do not depend on them.
    """
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    name = onnx.load(str(source), load_external_data=False).graph.input[0].name

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            rng = np.random.default_rng(0)
            inputs = ({name: rng.standard_normal(shape, np.float32)} for _ in range(_IMAGES))
            self._inputs: Iterator[dict[str, Any]] = inputs

        def get_next(self) -> Any:
            return next(self._inputs, None)

    folded = target.with_suffix(".folded.onnx")
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quant_pre_process(str(source), str(folded), skip_symbolic_shape=True)
            quantization.quantize_static(
                str(folded),
                str(target),
                Reader(),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
            )
    finally:
        logging.disable(logging.NOTSET)
        folded.unlink(missing_ok=True)
    return target
