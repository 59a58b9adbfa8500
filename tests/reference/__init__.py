"""The meaning of every operator and encoding in plain NumPy, independent of the engine."""

from tests.reference.container import Leaf, parse
from tests.reference.decoders import decode
from tests.reference.executor import Node, ReferenceNetwork, apply, load_file, run

__all__ = ["Leaf", "Node", "ReferenceNetwork", "apply", "decode", "load_file", "parse", "run"]
