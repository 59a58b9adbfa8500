"""bittern: an inference engine for compressed neural networks."""

from typing import TYPE_CHECKING

from bittern import _native

if TYPE_CHECKING:
    from bittern import encodings
    from bittern.compression import compress
    from bittern.compression.prune.channels import remove_channels
    from bittern.compression.prune.filters import prune_filters
    from bittern.compression.prune.neurons import fold_dead_neurons
    from bittern.compression.prune.performance import sparse_outlook
    from bittern.compression.prune.schedule import gradual_sparsity
    from bittern.compression.prune.sensitivity import prune_sensitivity
    from bittern.errors import Error, FormatError, InputError, ResourceError, UnsupportedError
    from bittern.importers import convert
    from bittern.machine_limits import Limits, limits, panel_limit
    from bittern.model import Model, load
    from bittern.network import Network
    from bittern.plan import Layer, LayerTime, Plan, Profile
    from bittern.residual_levels import add_residual_levels, residual_scales
    from bittern.summary import Summary
    from bittern.system import Cpu, Kernel, cpu, kernels
    from bittern.values import ValueInfo
    from bittern.verification import LayerError, VerifyReport, verify

__version__ = _native.version()

__all__ = [
    "Cpu",
    "Error",
    "FormatError",
    "InputError",
    "Kernel",
    "Layer",
    "LayerError",
    "LayerTime",
    "Limits",
    "Model",
    "Network",
    "Plan",
    "Profile",
    "ResourceError",
    "Summary",
    "UnsupportedError",
    "ValueInfo",
    "VerifyReport",
    "__version__",
    "add_residual_levels",
    "compress",
    "convert",
    "cpu",
    "encodings",
    "fold_dead_neurons",
    "gradual_sparsity",
    "kernels",
    "limits",
    "load",
    "panel_limit",
    "prune_filters",
    "prune_sensitivity",
    "remove_channels",
    "residual_scales",
    "sparse_outlook",
    "verify",
]

# A program that loads a file and runs it should not wait for what converts and compresses: each name is imported when
# it is first used. No module may be called like a public function: importing it would replace the function.
_HOMES = {
    "compression": ("compress",),
    "compression.prune.channels": ("remove_channels",),
    "compression.prune.filters": ("prune_filters",),
    "compression.prune.neurons": ("fold_dead_neurons",),
    "compression.prune.performance": ("sparse_outlook",),
    "compression.prune.schedule": ("gradual_sparsity",),
    "compression.prune.sensitivity": ("prune_sensitivity",),
    "errors": ("Error", "FormatError", "InputError", "ResourceError", "UnsupportedError"),
    "importers": ("convert",),
    "machine_limits": ("Limits", "limits", "panel_limit"),
    "model": ("Model", "load"),
    "network": ("Network",),
    "plan": ("Layer", "LayerTime", "Plan", "Profile"),
    "residual_levels": ("add_residual_levels", "residual_scales"),
    "summary": ("Summary",),
    "system": ("Cpu", "Kernel", "cpu", "kernels"),
    "values": ("ValueInfo",),
    "verification": ("LayerError", "VerifyReport", "verify"),
}


if not TYPE_CHECKING:  # a type checker would take it for leave to use any name

    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name == "encodings":
            return import_module("bittern.encodings")
        for home, names in _HOMES.items():
            if name in names:
                value = getattr(import_module(f"bittern.{home}"), name)
                globals()[name] = value
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
