"""Pruning after training: patterns, how much of each layer, reconstruction; filters taken out of the graph."""

from __future__ import annotations

from bittern.compression.prune.channels import remove_channels
from bittern.compression.prune.filters import prune_filters
from bittern.compression.prune.neurons import fold_dead_neurons
from bittern.compression.prune.performance import sparse_outlook
from bittern.compression.prune.schedule import gradual_sparsity
from bittern.compression.prune.sensitivity import prune_sensitivity

__all__ = [
    "fold_dead_neurons",
    "gradual_sparsity",
    "prune_filters",
    "prune_sensitivity",
    "remove_channels",
    "sparse_outlook",
]
