from pathlib import Path

import benchmark_files as made
import pytest

from icons_repro.core.build import obtain
from icons_repro.core.cache import Cache
from icons_repro.core.errors import ConfigError
from icons_repro.core.settings import RecordPolicy, TargetSettings
from icons_repro.data.records import RecordTable
from icons_repro.data.stage import DrawnTargets, Targets
from icons_repro.data.targets.choice import drawn_targets


def settings_of(sources: Path, **changes: object) -> TargetSettings:
    return TargetSettings(
        build={"gqa": 4, "textvqa": 3, "mme": 2},
        sources=str(sources),
        **changes,  # type: ignore[arg-type]
    )


def drawn_from(sources: Path, **changes: object) -> DrawnTargets:
    return DrawnTargets(**drawn_targets(settings_of(sources, **changes)))


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    folder = tmp_path / "sources"
    for split, seeds in (("val", range(1, 8)), ("testdev", range(7, 10))):
        made.gqa(folder, split, seeds)
    for split, seeds in (("train", range(1, 8)), ("validation", range(7, 10))):
        made.textvqa(folder, split, seeds)
    made.mme(folder, range(1, 8))
    return folder


def test_drawn_rows_become_the_runs_targets(sources: Path, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    drawn = drawn_from(sources)
    folder = obtain(Targets(policy=RecordPolicy(), tasks=None, made=drawn), cache)
    assert {p.parent.name for p in folder.glob("*/records.arrow")} == {"gqa", "textvqa"}
    table = RecordTable(folder / "gqa" / "records.arrow")
    assert len(table) == 4
    for i in range(4):
        assert (folder / "images" / table[i].images[0]).is_file()
    counts = cache.manifest(drawn)["counts"]
    assert counts["not_built"] == ["mme"]
    assert counts["tasks"]["gqa"]["overlap"].startswith("none")


def test_test_rows_are_taken_where_they_are_asked_for(sources: Path, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    drawn = drawn_from(sources, test_rows=["mme"], tasks=["mme"])
    obtain(drawn, cache)
    counts = cache.manifest(drawn)["counts"]
    assert "not held out" in counts["tasks"]["mme"]["overlap"]
    assert counts["not_built"] == []
    with pytest.raises(ConfigError, match="no target is left"):
        drawn_from(sources, tasks=["mme"])


def test_other_files_other_counts_and_another_seed_make_other_targets(sources: Path) -> None:
    first = drawn_from(sources).fingerprint
    assert drawn_from(sources).fingerprint == first
    assert drawn_from(sources, seed=1).fingerprint != first
    made.gqa(sources, "val", range(1, 9))
    assert drawn_from(sources).fingerprint != first
