"""The engine: walks a graph of steps, in this process, in several, or as jobs of a cluster.

It knows steps (core/step.py) and nothing of what they do.
"""
