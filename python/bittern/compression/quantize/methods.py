"""All methods by name. A new one is a file with a class, and a line here."""

from __future__ import annotations

from bittern.compression.layerwise.grid import WeightMethod
from bittern.compression.quantize.affine import AffineMethod
from bittern.compression.quantize.binary import BinaryMethod
from bittern.compression.quantize.entropy import CellsMethod, EntropyMethod
from bittern.compression.quantize.fixed_point import FixedPointMethod
from bittern.compression.quantize.kmeans import CodebookMethod
from bittern.compression.quantize.loss_aware import LossAwareMethod
from bittern.compression.quantize.powers import LinearMethod, LogMethod
from bittern.compression.quantize.residual import ResidualMethod
from bittern.compression.quantize.separable import SeparableMethod
from bittern.compression.quantize.shift import ShiftMethod
from bittern.compression.quantize.ternary import TernaryMethod
from bittern.compression.quantize.unit import BalancedMethod, DorefaMethod

METHODS: dict[str, type[WeightMethod]] = {
    method.name: method
    for method in (
        AffineMethod,
        BalancedMethod,
        BinaryMethod,
        CellsMethod,
        CodebookMethod,
        DorefaMethod,
        EntropyMethod,
        FixedPointMethod,
        LinearMethod,
        LogMethod,
        LossAwareMethod,
        ResidualMethod,
        SeparableMethod,
        ShiftMethod,
        TernaryMethod,
    )
}
