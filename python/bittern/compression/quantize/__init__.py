"""Post-training quantisation: methods for weights, ranges for activations, reconstruction layer by layer."""
