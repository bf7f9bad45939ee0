"""Where numbers go: a metrics file of our own, always, and W&B where it works."""

from icons_repro.tracking.tracker import Tracker

__all__ = ["Tracker"]
