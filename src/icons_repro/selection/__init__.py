"""Selectors: arrays in pool order in, a `Selection` out. One file for each method."""
