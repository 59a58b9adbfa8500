"""Encoding trees: how the elements of a constant are written (docs/format.md).

Every node yields a real tensor (float32) or an integer tensor; ``decode`` is its definition, in NumPy.
"""

from bittern.encodings.base import Encoding, Pattern, RegisterLeaf, Tree, leaf_key
from bittern.encodings.binary import Seeded, SeparableSigns, Sum
from bittern.encodings.dense import Affine, Codebook, Dense, Signs, Ternary, as_encoding
from bittern.encodings.parse import KINDS, from_json
from bittern.encodings.pow2 import Pow2
from bittern.encodings.sparse import Bitmap, Blocks, Csr, NOfM, RelativeIndex, Sparse
from bittern.encodings.streams import Huffman, Packed, Rans, Trits

__all__ = [
    "KINDS",
    "Affine",
    "Bitmap",
    "Blocks",
    "Codebook",
    "Csr",
    "Dense",
    "Encoding",
    "Huffman",
    "NOfM",
    "Packed",
    "Pattern",
    "Pow2",
    "Rans",
    "RegisterLeaf",
    "RelativeIndex",
    "Seeded",
    "SeparableSigns",
    "Signs",
    "Sparse",
    "Sum",
    "Ternary",
    "Tree",
    "Trits",
    "as_encoding",
    "from_json",
    "leaf_key",
]
