"""What a model will do, layer by layer, and how long that takes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from bittern.report.table import table


@dataclass(frozen=True)
class Layer:
    """An operator with all that was fused into it, and the kernel that runs it.

    ``kernel`` is empty where nothing has to be computed; ``reason`` says why this kernel, and what was given up.
    ``encoded_bytes`` counts the weights in the file, ``packed_bytes`` those in memory, ``macs`` the multiplications of
    the definition, ``density`` is the share of the weights that are not zero (negative where nobody looked). Where
    somebody looked, ``dense_kernel`` and ``sparse_kernel`` name what was compared, ``dense_estimate`` and
    ``sparse_estimate`` are the times it was judged by, in cycles of the vector unit, without moves between layouts.
    """

    name: str
    op: str
    kernel: str
    reason: str
    layout: str
    isa: str
    encoding: str
    output_shape: tuple[int, ...]
    encoded_bytes: int
    packed_bytes: int
    macs: float
    density: float = -1.0
    dense_kernel: str = ""
    sparse_kernel: str = ""
    dense_estimate: float = -1.0
    sparse_estimate: float = -1.0
    fused: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """The layers in the order they run, output shapes by name, and the scratch memory in bytes."""

    layers: list[Layer]
    output_shapes: dict[str, tuple[int | str, ...]]
    arena_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, strings and lists."""
        return {
            "layers": [asdict(layer) for layer in self.layers],
            "output_shapes": {name: list(shape) for name, shape in self.output_shapes.items()},
            "arena_bytes": self.arena_bytes,
        }

    def __str__(self) -> str:
        headers = ("layer", "op", "kernel", "layout", "encoding", "encoded", "packed", "MMAC", "density", "why")
        rows = []
        for layer in self.layers:
            op = "+".join([layer.op] + [f"({len(layer.fused)} fused)"] * bool(layer.fused))
            rows.append(
                (
                    layer.name,
                    op,
                    layer.kernel or "-",
                    layer.layout,
                    layer.encoding,
                    f"{layer.encoded_bytes:,}" if layer.encoded_bytes else "",
                    f"{layer.packed_bytes:,}" if layer.packed_bytes else "",
                    f"{layer.macs / 1e6:.1f}" if layer.macs else "",
                    f"{layer.density:.1%}" if layer.density >= 0 else "",
                    layer.reason,
                )
            )
        return table(headers, rows, "lllllrrrrl") + f"\nscratch memory: {self.arena_bytes:,} bytes"


@dataclass(frozen=True)
class LayerTime:
    """A layer's median time in milliseconds, its share of the whole run, and its effective rate in GFLOP/s."""

    layer: Layer
    ms: float
    share: float
    gflops: float


@dataclass(frozen=True)
class Profile:
    """Times of all layers. Sums of medians: for the time of whole runs, measure whole runs."""

    layers: list[LayerTime]
    runs: int

    @property
    def total_ms(self) -> float:
        """The sum over layers."""
        return sum(row.ms for row in self.layers)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, strings and lists."""
        rows = [asdict(row.layer) | {"ms": row.ms, "share": row.share, "gflops": row.gflops} for row in self.layers]
        return {"layers": rows, "runs": self.runs, "total_ms": self.total_ms}

    def __str__(self) -> str:
        headers = ("layer", "op", "kernel", "ms", "share", "GFLOP/s")
        rows = []
        for row in self.layers:
            layer = row.layer
            rate = f"{row.gflops:.1f}" if layer.macs else ""
            rows.append((layer.name, layer.op, layer.kernel or "-", f"{row.ms:.3f}", f"{row.share:.1%}", rate))
        return table(headers, rows, "lllrrr") + f"\ntotal {self.total_ms:.3f} ms, medians of {self.runs} runs"
