"""A reproduction harness for ICONS: influence consensus for vision-language data selection."""

__version__ = "0.1.0"
