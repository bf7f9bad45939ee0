"""Benchmarks: lmms-eval's tasks and metrics, our model plugin, intervals, relative performance."""
