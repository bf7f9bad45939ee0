"""Find near hashes of a pool among those of its tests: by bands, against every pair.

    python benchmarks/leakage.py [--pool N] [--tests N] [--flat]

Random 64-bit hashes, of which a thousand tests are copies with 0 to 6 bits flipped; prints
processor seconds and how many of the thousand were found. `--flat` asks faiss's flat binary index
too, on a sixteenth of the tests.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from icons_repro.leakage.crossings import DISTANCE
from icons_repro.leakage.near import BITS, near_pairs

PLANTED = 1000
SHARE = 16


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


def flat_seconds(asked: np.ndarray, chosen_from: np.ndarray) -> float:
    """Return the seconds of faiss's flat index, scaled from a share of the tests."""
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.IndexBinaryFlat(BITS)
    index.add(chosen_from.view(np.uint8).reshape(-1, BITS // 8))
    share = asked[::SHARE].copy().view(np.uint8).reshape(-1, BITS // 8)
    started = time.process_time()
    index.range_search(share, DISTANCE + 1)
    return SHARE * (time.process_time() - started)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pool", type=int, default=665_298)
    parser.add_argument("--tests", type=int, default=30_000)
    parser.add_argument("--flat", action="store_true")
    options = parser.parse_args()
    asked, chosen_from = hashes(options.pool, options.tests)
    started = time.process_time()
    found = {int(i) for block in near_pairs(asked, chosen_from, DISTANCE) for i in block[0]}
    seconds = time.process_time() - started
    planted = len(found & set(range(PLANTED)))
    print(f"{options.tests:,} x {options.pool:,}: {seconds:.1f} s, {planted} of {PLANTED} found")
    if options.flat:
        print(f"faiss, every pair: {flat_seconds(asked, chosen_from):.1f} s")


if __name__ == "__main__":
    main()
