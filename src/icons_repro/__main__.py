"""`python -m icons_repro experiment=icons_20pct`: the same as `run.py` and `icons-repro`."""

from icons_repro.launcher import main

if __name__ == "__main__":
    main()
