"""Pruning after training: patterns, how much of each layer, reconstruction; filters taken out of the graph."""
