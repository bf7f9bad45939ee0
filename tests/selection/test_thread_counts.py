"""What clustering and neighbours decide does not depend on the number of threads."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SCRIPT = """
import hashlib, sys
import numpy as np
from selector_pools import SELECTORS, random_pool

pool = random_pool(0, 1500)
digest = hashlib.sha256()
for name in ("semdedup", "d2_pruning", "self_sup", "self_filter", "coincide", "tive", "icons_vote"):
    chosen = SELECTORS[name]().select(pool, 300, np.random.default_rng(0))
    digest.update(chosen.positions.tobytes())
    digest.update(np.nan_to_num(chosen.scores).tobytes())
print(digest.hexdigest())
"""


@cache
def digest(threads: int) -> str:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    env = os.environ | dict.fromkeys(names, str(threads))
    env["PYTHONPATH"] = os.pathsep.join([str(HERE), str(HERE.parents[1] / "src")])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize("threads", [2, 5])
def test_selection_and_scores_are_the_same_bits(threads):
    assert digest(threads) == digest(1)
