"""Influence by validation row: read in blocks, kept as what is multiplied."""
