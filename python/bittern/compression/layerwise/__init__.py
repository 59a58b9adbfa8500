"""What methods share that work layer by layer: calibration data, the walk through a network, reconstruction."""
