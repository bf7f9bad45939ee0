from dataclasses import replace

import pytest
from rich.console import Console

from icons_repro.core.errors import ConfigError
from icons_repro.core.settings import (
    GradientSettings,
    LoraSettings,
    ModelSettings,
    TrainSettings,
    WarmupSettings,
)
from icons_repro.preflight.cost import DEVICES, StageCost, counts, hours, stage_costs
from icons_repro.preflight.cost_table import Assumptions, print_costs

SEVEN = {
    "layers": 32, "hidden": 4096, "intermediate": 11008, "key_value": 4096, "vocabulary": 32000,
    "image_tokens": 576, "vision": 303_507_456, "vision_hidden": 1024,
}  # fmt: skip
MODEL = ModelSettings(kind="assembled", shape=SEVEN)
LLAVA = TrainSettings(gradient_checkpointing=True)


def costs(model: ModelSettings = MODEL, **changes: object) -> dict[str, StageCost]:
    keys: dict[str, object] = {
        "dim": 5120, "rows": 665_298, "target_rows": 6604, "budget": 0.2, "tokens": 800.0,
        "image_share": 0.939,
    }  # fmt: skip
    stages = stage_costs(
        model,
        LoraSettings(),
        WarmupSettings(0.1, 0, LLAVA),
        LLAVA,
        GradientSettings(),
        **(keys | changes),  # type: ignore[arg-type]
    )
    return {stage.stage: stage for stage in stages}


def test_weights_are_those_of_the_real_checkpoints() -> None:
    n = counts(MODEL, LoraSettings())
    assert n.adapter == 319_815_680
    assert n.language + n.embedding == 6_738_415_616
    assert n.projector == 1024 * 4096 + 4096 + 4096 * 4096 + 4096
    large = {**SEVEN, "layers": 40, "hidden": 5120, "intermediate": 13824, "key_value": 5120}
    n = counts(replace(MODEL, shape=large), LoraSettings())
    assert n.adapter == 500_695_040
    assert n.language + n.embedding == 13_015_864_320


def test_steps_and_bytes_are_exact() -> None:
    found = costs()
    assert found["finetune"].steps == 1040
    assert costs(budget=1.0)["finetune"].steps == 5198
    assert found["extract, pool"].disk_bytes == 665_298 * 5120 * 2


def test_operations_grow_with_rows_and_tokens() -> None:
    once, twice = costs(), costs(rows=2 * 665_298)
    assert twice["extract, pool"].petaflops == pytest.approx(2 * once["extract, pool"].petaflops)
    assert costs(tokens=1600.0)["finetune"].petaflops > 1.9 * once["finetune"].petaflops


def test_hours_follow_from_the_devices_peak() -> None:
    assert hours(DEVICES[1].teraflops * 3.6, DEVICES[1], 1.0) == pytest.approx(1.0)


def test_a_model_of_unknown_shape_is_an_error_that_names_the_key() -> None:
    with pytest.raises(ConfigError, match=r"model\.shape\.layers is not set"):
        counts(ModelSettings(kind="folder"), LoraSettings())


def test_the_page_says_that_it_is_an_estimate_and_what_it_assumes() -> None:
    console = Console(record=True, width=160)
    assumed = Assumptions(665_298, "data.rows", 800.0, "assumed")
    print_costs(list(costs().values()), counts(MODEL, LoraSettings()), assumed, 8, console)
    text = console.export_text()
    for said in ("estimate", "not measured", "665,298 rows (data.rows)", "second-hand"):
        assert said in text


def test_the_tables_fit_eighty_columns_and_no_figure_is_cut() -> None:
    console = Console(record=True, width=80)
    assumed = Assumptions(665_298, "data.rows", 800.0, "assumed")
    stages = list(costs().values())
    print_costs(stages, counts(MODEL, LoraSettings()), assumed, 1, console)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    figures = set(text.replace("│", " ").split())
    for stage in stages:
        whole = {f"{stage.petaflops:,.0f}", *(f"{hours(stage.petaflops, d):,.1f}" for d in DEVICES)}
        assert {f"{stage.samples:,}", *whole} <= figures, stage.stage
    assert "319,815,680" in figures
