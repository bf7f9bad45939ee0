"""`make bench`: the seconds of every stage, then each benchmark of this folder.

python -m benchmarks                  all of them
python -m benchmarks gradients stages some of them
python -m benchmarks --json FOLDER    also write FOLDER/<name>.json
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SCRIPTS = (
    *("stages", "sweep", "gradients", "projections", "scoring", "selectors", "answering"),
    *("records", "kmeans_threads", "grid", "cascade", "streamed", "leakage", "starting"),
)


def main() -> None:
    """Run the chosen scripts one after another, each in a fresh process."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"any of {', '.join(SCRIPTS)}; all if none")
    parser.add_argument("--json", type=Path, metavar="FOLDER", help="write FOLDER/<name>.json")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(SCRIPTS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(SCRIPTS)}")
    failed = []
    for name in arguments.names or SCRIPTS:
        command = [sys.executable, str(HERE / f"{name}.py")]
        if arguments.json:
            arguments.json.mkdir(parents=True, exist_ok=True)
            command += ["--json", str(arguments.json / f"{name}.json")]
        print(f"\n== {name}", flush=True)
        if subprocess.run(command).returncode:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
