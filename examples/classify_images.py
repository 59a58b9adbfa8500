"""Classify image files with a compressed network, from Python.

bittern convert net.onnx -o net.bittern --resize 256 256 --crop 224 224 --labels names.txt
python examples/classify_images.py net.bittern photo.jpg ...
"""

import json
import sys

import bittern
import numpy as np
from bittern.preprocess import Preprocess


def main() -> None:
    if len(sys.argv) < 3:
        sys.exit("usage: classify_images.py FILE.bittern IMAGE...")
    model = bittern.load(sys.argv[1])
    preprocess = Preprocess.from_json(model.metadata.get("preprocess", "{}"))
    labels = json.loads(model.metadata.get("labels", "[]"))
    for path in sys.argv[2:]:
        scores = np.asarray(model(preprocess.apply(path))).reshape(-1)
        print(path)
        for index in np.argsort(-scores)[:5]:
            print(f"  {scores[index]:10.4f}  {labels[index] if labels else index}")


if __name__ == "__main__":
    main()
