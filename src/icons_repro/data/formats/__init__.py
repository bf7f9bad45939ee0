"""Pools and targets in other people's formats, turned once into the pool's own records.

A format is a file here and an entry of `registry.py`: it cuts a source into shards and reads their
rows. `turns.py` says what the rows may look like, whatever they are kept in.
"""
