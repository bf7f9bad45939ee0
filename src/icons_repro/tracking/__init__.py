"""Where numbers go: a metrics file of our own, always, and the loggers that the user chose."""

from icons_repro.tracking.about import About, Product, Sheet
from icons_repro.tracking.mirrors import check_loggers
from icons_repro.tracking.tracker import Tracker

__all__ = ["About", "Product", "Sheet", "Tracker", "check_loggers"]
