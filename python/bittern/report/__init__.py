"""What the command line prints: aligned tables, quantities for readers, JSON for programs, progress on a terminal."""

from bittern.report.json_text import json_text
from bittern.report.progress import Progress
from bittern.report.quantities import accuracy, bytes_exact, bytes_short, milliseconds, ratio, shape_text, significant
from bittern.report.table import table

__all__ = [
    "Progress",
    "accuracy",
    "bytes_exact",
    "bytes_short",
    "json_text",
    "milliseconds",
    "ratio",
    "shape_text",
    "significant",
    "table",
]
