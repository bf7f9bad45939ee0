"""What the server of `engine/local.py` imports once for all steps; nothing here starts a thread."""

import contextlib
import importlib

from icons_repro.core.imports import uncollected
from icons_repro.core.screen import quiet_third_parties

PACKAGES = ("features", "gradients", "influence", "training")

quiet_third_parties()  # what these say while they are imported is nobody's to act on
with uncollected():
    for package in PACKAGES:
        importlib.import_module(f"icons_repro.{package}.jobs")
    with contextlib.suppress(ImportError):  # without lmms-eval, the evaluate step says what to do
        importlib.import_module("icons_repro.evaluation.harness")
        importlib.import_module("icons_repro.evaluation.jobs")
