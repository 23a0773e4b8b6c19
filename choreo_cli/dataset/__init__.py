"""Datasets to train on: windows as indices, splits by connected component, and the memory-mapped pack."""
