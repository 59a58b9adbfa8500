"""Real networks as onnxruntime.quantization quantises them, and how close two results of one are."""

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.reference.arrays import Array


def quantized_model(
    source: Path, target: Path, images: list[dict[str, Array]], *, form: str, activations: str, weights: str
) -> Path:
    """Quantise a float model to ``form`` (QDQ, QOperator), per channel; types are names such as QUInt8."""
    quantization = pytest.importorskip("onnxruntime.quantization", reason="onnxruntime is not installed")

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc,name-defined,unused-ignore]
        def __init__(self) -> None:
            self.images: Iterator[dict[str, Array]] = iter(images)

        def get_next(self) -> Any:
            return next(self.images, None)

    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quantization.quantize_static(
                str(source),
                str(target),
                Reader(),
                quant_format=quantization.QuantFormat[form],
                per_channel=True,
                activation_type=quantization.QuantType[activations],
                weight_type=quantization.QuantType[weights],
            )
    finally:
        logging.disable(logging.NOTSET)
    return target


def decibels(result: Array, expected: Array) -> float:
    """The signal over the noise: how close a result is."""
    noise = np.sum(np.square(result.astype(np.float64) - expected))
    return float(10 * np.log10(np.sum(np.square(expected.astype(np.float64))) / max(float(noise), 1e-30)))
