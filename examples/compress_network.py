"""Compress an ONNX network from Python, look at what every layer became, and check the answers.

python examples/compress_network.py net.onnx small.bittern
"""

import sys

import bittern


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit("usage: compress_network.py NET.onnx SMALL.bittern")
    source, target = sys.argv[1:]
    network = bittern.compress(source, recipe="deep-compression", density=0.3, bits=5)
    print(network.summary())
    network.save(target)

    model = bittern.load(target)
    print(model.plan)
    print(bittern.verify(model, source, tolerance=1.0))


if __name__ == "__main__":
    main()
