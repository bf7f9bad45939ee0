"""ICONS from the command line: `python run.py experiment=icons_20pct`; `--help` shows the rest."""

from __future__ import annotations

import sys

try:
    from icons_repro.core.stop import stop_at_once

    if __name__ == "__main__":  # processes of executor=local read this file too
        stop_at_once()  # before the imports that take time
        from icons_repro.launcher import main
except ModuleNotFoundError as error:
    sys.exit(f"{error}. Run `make setup` once, or `pip install -e .` in your own environment.")

if __name__ == "__main__":
    main()
