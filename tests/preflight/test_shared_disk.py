import json
from pathlib import Path

import pytest

from icons_repro.preflight.shared_disk import CLAIMS, judge


@pytest.mark.parametrize(
    ("won", "level", "words"),
    [
        ([range(0, CLAIMS, 2), range(1, CLAIMS, 2)], "ok", "each was one's"),
        ([range(CLAIMS), range(7)], "warning", f"both got 7 of {CLAIMS}"),
        ([range(CLAIMS)], "warning", "not to be had"),
    ],
)
def test_a_race_is_judged_by_who_got_what(
    tmp_path: Path, won: list[range], level: str, words: str
) -> None:
    for i, numbers in enumerate(won):
        (tmp_path / f"{i}.won").write_text(json.dumps(list(numbers)))
    finding = judge(tmp_path)
    assert finding.level == level
    assert words in finding.found
