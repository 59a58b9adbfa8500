"""What this build and this machine offer."""

from __future__ import annotations

from dataclasses import dataclass

from bittern import _native


@dataclass(frozen=True)
class Kernel:
    """A registered kernel. ``rows`` and ``cols``: its register tile in pixels and channels, 0 where there is none."""

    name: str
    loop: str
    isa: str
    usable: bool
    rows: int
    cols: int
    description: str


@dataclass(frozen=True)
class Cpu:
    """The processor as this process may use it. ``isa``: the default level; ``memory_granted`` in bytes."""

    name: str
    features: list[str]
    isa_levels_built: list[str]
    isa_levels_usable: list[str]
    isa: str
    cpus_granted: int
    cpus_present: int
    memory_granted: int


def kernels() -> list[Kernel]:
    """Every kernel of this build, usable here or not."""
    return [Kernel(*row) for row in _native.kernels()]


def cpu() -> Cpu:
    """The processor. Raises InputError if BITTERN_ISA names a level that cannot be used here."""
    return Cpu(**_native.cpu())
