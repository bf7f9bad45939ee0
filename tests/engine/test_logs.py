"""What a failed step failed of, read from the log that its workers share."""

from pathlib import Path

import pytest

from icons_repro.engine.logs import cause_in, end_of


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ("gradients ...\nError: row 3 is bad\n", "row 3 is bad"),
        ("Error: row 3 is bad\ngradients ...\n", "row 3 is bad"),  # a helper began after it
        (
            "Traceback (most recent call last):\n  x\nValueError: no\npart 2 done\n",
            "ValueError: no",
        ),
        ("a\ntorch.cuda.OutOfMemoryError: too much\n", "torch.cuda.OutOfMemoryError: too much"),
        ("Error: of an earlier try\nx ...\nError: of this one\n", "of this one"),
        ("no error here\nbut it ended\n", "but it ended"),
        ("", "it ended without a word"),
    ],
)
def test_the_cause_is_the_last_error_whoever_speaks_after_it(
    tmp_path: Path, said: str, cause: str
) -> None:
    (tmp_path / "step.log").write_text(said)
    assert cause_in(tmp_path / "step.log") == cause
    assert cause_in(tmp_path / "none.log") == "it ended without a word"


def test_an_error_of_an_earlier_attempt_is_not_the_cause(tmp_path: Path) -> None:
    log = tmp_path / "step.log"
    assert end_of(log) == 0
    log.write_text("gradients ...\nError: the disk is full\n")
    since = end_of(log)
    assert cause_in(log, since) == "it ended without a word"
    with log.open("a") as more:
        more.write("gradients ...\n")
    assert cause_in(log, since) == "gradients ..."
