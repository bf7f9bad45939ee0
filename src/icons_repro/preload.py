"""What the server of `engine/local.py` imports once for all steps; nothing here starts a thread."""

import contextlib

import icons_repro.features.jobs
import icons_repro.gradients.jobs
import icons_repro.influence.jobs
import icons_repro.training.jobs

with contextlib.suppress(ImportError):  # without lmms-eval, the evaluate step says how to get it
    import icons_repro.evaluation.harness
    import icons_repro.evaluation.jobs  # noqa: F401
