"""bittern: an inference engine for compressed neural networks."""

from bittern import _native, encodings
from bittern.compress import compress
from bittern.errors import Error, FormatError, InputError, ResourceError, UnsupportedError
from bittern.graph import ValueInfo
from bittern.importers import convert
from bittern.limits import Limits, limits
from bittern.model import Model, load
from bittern.network import Network
from bittern.plan import Layer, LayerTime, Plan, Profile
from bittern.summary import Summary
from bittern.system import Cpu, Kernel, cpu, kernels
from bittern.verify import LayerError, VerifyReport, verify

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
    "compress",
    "convert",
    "cpu",
    "encodings",
    "kernels",
    "limits",
    "load",
    "verify",
]
