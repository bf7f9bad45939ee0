from pathlib import Path

import benchmark_files as made
import pytest

from icons_repro.core.artifacts import ArtifactCache
from icons_repro.core.errors import ConfigError
from icons_repro.core.settings import RecordPolicy, TargetSettings
from icons_repro.data.records import RecordTable
from icons_repro.stages import prepare


def settings_of(sources: Path, **changes: object) -> TargetSettings:
    return TargetSettings(
        build={"gqa": 4, "textvqa": 3, "mme": 2},
        sources=str(sources),
        **changes,  # type: ignore[arg-type]
    )


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
    cache = ArtifactCache(tmp_path / "cache")
    drawn = prepare.drawn_targets(settings_of(sources))
    targets = prepare.targets(settings_of(sources), RecordPolicy(), drawn, tmp_path / "index")
    cache.get(targets)
    folder = cache.path(targets)
    assert {p.parent.name for p in folder.glob("*/records.arrow")} == {"gqa", "textvqa"}
    table = RecordTable(folder / "gqa" / "records.arrow")
    assert len(table) == 4
    for i in range(4):
        assert (folder / "images" / table[i].images[0]).is_file()
    counts = cache.manifest(drawn)["counts"]
    assert counts["not_built"] == ["mme"]
    assert counts["tasks"]["gqa"]["overlap"].startswith("none")


def test_test_rows_are_taken_where_they_are_asked_for(sources: Path, tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path / "cache")
    drawn = prepare.drawn_targets(settings_of(sources, test_rows=["mme"], tasks=["mme"]))
    cache.get(drawn)
    counts = cache.manifest(drawn)["counts"]
    assert "not held out" in counts["tasks"]["mme"]["overlap"]
    assert counts["not_built"] == []
    with pytest.raises(ConfigError, match="no target is left"):
        prepare.drawn_targets(settings_of(sources, tasks=["mme"]))


def test_other_files_other_counts_and_another_seed_make_other_targets(sources: Path) -> None:
    first = prepare.drawn_targets(settings_of(sources)).fingerprint
    assert prepare.drawn_targets(settings_of(sources)).fingerprint == first
    assert prepare.drawn_targets(settings_of(sources, seed=1)).fingerprint != first
    made.gqa(sources, "val", range(1, 9))
    assert prepare.drawn_targets(settings_of(sources)).fingerprint != first
