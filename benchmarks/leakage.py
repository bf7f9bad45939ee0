"""Find near hashes of a pool among those of its tests: by bands, against every pair.

    python benchmarks/leakage.py [--json FILE] [--tiny]

Random 64-bit hashes, 665,298 x 30,000, of which a thousand tests are copies with 0 to 6 bits
flipped. Prints processor seconds of one thread, for the bands and for faiss's flat binary index (on
a sixteenth of the tests, scaled), and how many of the thousand the bands found.
"""

from __future__ import annotations

import time

import faiss
import numpy as np
from reporting import arguments, report

from icons_repro.leakage.crossings import DISTANCE
from icons_repro.leakage.near import BITS, near_pairs

POOL, TESTS, PLANTED, SHARE = 665_298, 30_000, 1000, 16
TINY = 20


def hashes(pool: int, tests: int) -> tuple[np.ndarray, np.ndarray]:
    """Return uint64 hashes of tests and pool; `PLANTED` tests are near to the pool's."""
    rng = np.random.default_rng(0)
    chosen_from = rng.integers(0, 2**BITS, pool, dtype=np.uint64)
    asked = rng.integers(0, 2**BITS, tests, dtype=np.uint64)
    for number in range(PLANTED):
        flipped = rng.choice(BITS, number % (DISTANCE + 1), replace=False)
        mask = sum(1 << int(bit) for bit in flipped)
        asked[number] = chosen_from[number * pool // PLANTED] ^ np.uint64(mask)
    return asked, chosen_from


def banded(asked: np.ndarray, chosen_from: np.ndarray) -> tuple[float, int]:
    """Return the bands' seconds, and how many of the planted they found."""
    started = time.process_time()
    found = {int(i) for block in near_pairs(asked, chosen_from, DISTANCE) for i in block[0]}
    return time.process_time() - started, len(found & set(range(PLANTED)))


def flat(asked: np.ndarray, chosen_from: np.ndarray) -> float:
    """Return the seconds of faiss's flat index, scaled from a share of the tests."""
    faiss.omp_set_num_threads(1)
    index = faiss.IndexBinaryFlat(BITS)
    index.add(chosen_from.view(np.uint8).reshape(-1, BITS // 8))
    share = asked[::SHARE].copy().view(np.uint8).reshape(-1, BITS // 8)
    started = time.process_time()
    index.range_search(share, DISTANCE + 1)
    return SHARE * (time.process_time() - started)


def main() -> None:
    """Measure, print, and write JSON if asked."""
    options = arguments(__doc__.partition("\n")[0]).parse_args()
    pool, tests = (POOL // TINY, TESTS // TINY) if options.tiny else (POOL, TESTS)
    asked, chosen_from = hashes(pool, tests)
    seconds, found = banded(asked, chosen_from)
    rows = [
        {"search": "bands", "processor_s": seconds, "found": found},
        {"search": "faiss, every pair", "processor_s": flat(asked, chosen_from), "found": None},
    ]
    figures = {"pool": pool, "tests": tests, "processor_s": seconds, "found": found}
    report(f"{tests:,} x {pool:,} hashes", rows, figures, options.json)


if __name__ == "__main__":
    main()
