"""All methods by name. A new one is a file with a class, and a line here."""

from __future__ import annotations

from bittern.compress.quantize.affine import AffineMethod
from bittern.compress.quantize.binary import BinaryMethod
from bittern.compress.quantize.entropy import CellsMethod, EntropyMethod
from bittern.compress.quantize.fixed_point import FixedPointMethod
from bittern.compress.quantize.grid import WeightMethod
from bittern.compress.quantize.kmeans import CodebookMethod
from bittern.compress.quantize.powers import LinearMethod, LogMethod
from bittern.compress.quantize.shift import ShiftMethod
from bittern.compress.quantize.ternary import TernaryMethod
from bittern.compress.quantize.unit import BalancedMethod, DorefaMethod

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
        ShiftMethod,
        TernaryMethod,
    )
}
