"""The experiments of whole tables sweep by themselves, over choices that exist."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from icons_repro.config.register import register
from icons_repro.selection.icons import RULES
from icons_repro.selection.rules.named import NAMED

CONF = Path(__file__).parents[2] / "conf"


def sweep(experiment: str) -> dict[str, list[str]]:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=[f"experiment={experiment}"], return_hydra_config=True)
    params = config.hydra.sweeper.params
    return {name: [v.strip() for v in str(values).split(",")] for name, values in params.items()}


def test_the_main_table_has_every_method_that_needs_no_file_of_the_user() -> None:
    known = {path.stem for path in (CONF / "selector").glob("*.yaml")}
    assert set(sweep("main_table")["selector"]) == known - {"full", "released"}


def test_the_ablation_has_every_aggregation_rule() -> None:
    assert set(sweep("aggregation_ablation")["selector.rule"]) == set(RULES)


def test_the_grid_has_every_source_and_every_rule() -> None:
    cells = sweep("grid")
    assert set(cells["influence"]) == {path.stem for path in (CONF / "influence").glob("*.yaml")}
    assert set(cells["selector.rule"]) == {*RULES, *NAMED}


@pytest.mark.parametrize("experiment", ["main_table", "aggregation_ablation"])
def test_tables_have_three_seeds(experiment: str) -> None:
    assert sweep(experiment)["seed"] == ["0", "1", "2"]
