"""`python -m icons_repro experiment=icons_20pct`: the same as `run.py` and `icons-repro`."""


def main() -> None:
    """Be the command line; processes of `executor=local` read this file and need nothing of it."""
    from icons_repro.launcher import main as launched

    launched()


if __name__ == "__main__":
    main()
