"""Random networks of every operator, against the reference evaluator of the package onnx."""
