"""A plan's cost follows from the steps that a run asks for, before any of its files is there."""

from dataclasses import replace

import pytest
from graphs import NOWHERE, composed
from rich.console import Console

from icons_repro.config.checks import typed
from icons_repro.core.cache import Cache
from icons_repro.core.errors import ConfigError
from icons_repro.core.settings import LoraSettings, ModelSettings, TrainerSettings
from icons_repro.experiment import Experiment
from icons_repro.preflight.cost import (
    DEVICES,
    StageCost,
    counts,
    hours,
    memory_by_part,
    memory_by_work,
)
from icons_repro.preflight.cost_table import Assumptions, print_costs
from icons_repro.preflight.plan import plan_runs
from icons_repro.preflight.run_cost import PAPER_TARGETS, Rows, run_costs

SEVEN = {
    "layers": 32, "hidden": 4096, "intermediate": 11008, "key_value": 4096, "vocabulary": 32000,
    "image_tokens": 576, "vision": 303_507_456, "vision_hidden": 1024,
}  # fmt: skip
MODEL = ModelSettings(kind="assembled", shape=SEVEN)
ROWS = 665_298
GPU = TrainerSettings(accelerator="gpu", model_dtype="bfloat16", devices=8)


def costs(*overrides: str, rows: int = ROWS, tokens: float = 800.0) -> dict[str, StageCost]:
    """What LLaVA-665K would cost, by stage."""
    config = typed(composed("setup=llava_665k", *overrides))
    known = Rows(Assumptions(rows, "data.rows", tokens, "assumed"), 0.939, PAPER_TARGETS)
    return {stage.stage: stage for stage in run_costs([(config, known)], Cache(NOWHERE / "cache"))}


@pytest.fixture(scope="module")
def icons() -> dict[str, StageCost]:
    """Those of ICONS at 20%."""
    return costs()


def test_weights_are_those_of_the_real_checkpoints() -> None:
    n = counts(MODEL, LoraSettings())
    assert n.adapter == 319_815_680
    assert n.language + n.embedding == 6_738_415_616
    assert n.projector == 1024 * 4096 + 4096 + 4096 * 4096 + 4096
    large = {**SEVEN, "layers": 40, "hidden": 5120, "intermediate": 13824, "key_value": 5120}
    n = counts(replace(MODEL, shape=large), LoraSettings())
    assert n.adapter == 500_695_040
    assert n.language + n.embedding == 13_015_864_320


def test_steps_and_bytes_are_exact(icons: dict[str, StageCost]) -> None:
    assert list(icons) == ["warmup", "gradients", "target_gradients", "finetune, icons"]
    assert icons["finetune, icons"].steps == 1040
    assert costs("budget=1.0", "selector=full")["finetune, full"].steps == 5198
    assert icons["gradients"].disk_bytes == ROWS * 5120 * 2
    assert icons["target_gradients"].samples == 6604


def test_operations_follow_from_weights_and_tokens(icons: dict[str, StageCost]) -> None:
    """A gradient is two passes over the weights and three over the adapter's; training the same,
    with the forward pass done twice where activations are recomputed."""
    n = counts(MODEL, LoraSettings())
    image = 2 * n.vision * 577 * 0.939
    row = (4 * n.language + 6 * n.adapter) * 800 + image
    assert icons["gradients"].petaflops == pytest.approx(ROWS * row / 1e15)
    row = (6 * n.language + 6 * (n.adapter + n.projector)) * 800 + image
    assert icons["finetune, icons"].petaflops == pytest.approx(133_059 * row / 1e15)


def test_operations_grow_with_rows_and_tokens(icons: dict[str, StageCost]) -> None:
    twice, longer = costs(rows=2 * ROWS), costs(tokens=1600.0)
    assert twice["gradients"].petaflops == pytest.approx(2 * icons["gradients"].petaflops)
    name = "finetune, icons"
    assert longer[name].petaflops > 1.9 * icons[name].petaflops


@pytest.mark.parametrize(
    ("overrides", "stages"),
    [
        (["selector=random"], []),
        (["selector=el2n"], ["warmup", "forward"]),
        (["influence=rds"], ["warmup", "forward", "target_forward"]),
        (["influence=bm25"], []),
        (["selector=clip_score"], ["clip"]),
        (["gradients.mode=direct"], ["warmup", "influence"]),
        (["influence=gradients_subspace"], ["warmup", "subspace_gradients"]),
        (["influence=preconditioned"], ["warmup", "curvature", "gradients", "target_gradients"]),
        (["influence=cascade"], ["warmup", "gradients, at most", "target_gradients"]),
        (["selector=self_filter"], ["clip", "self_filter"]),
    ],
)
def test_only_what_the_method_asks_for_is_counted(overrides: list[str], stages: list[str]) -> None:
    found = list(costs(*overrides))
    assert sorted(found[:-1]) == sorted(stages)
    assert found[-1].startswith("finetune, ")


def test_a_forward_pass_is_half_of_a_gradient_and_the_last_layers_are_between(
    icons: dict[str, StageCost],
) -> None:
    whole = icons["gradients"].petaflops
    assert costs("influence=rds")["forward"].petaflops == pytest.approx(whole / 2, rel=0.05)
    last = costs("influence=gradients_last")["gradients"].petaflops
    assert whole / 2 < last < 0.6 * whole


def test_epochs_points_references_and_other_choosers_are_counted(
    icons: dict[str, StageCost],
) -> None:
    less = costs("selector=less", "warmup.train.epochs=4")
    assert less["gradients"].samples == 4 * ROWS
    assert less["warmup"].steps == 4 * icons["warmup"].steps
    assert costs("selector=xmas")["cross_attention"].samples == 10 * ROWS
    compared = costs("reference=compute")
    assert list(compared)[-3:] == ["finetune, icons", "finetune, full", "finetune, random"]
    steps = costs("finetune.regime=same_steps")["finetune, icons"]
    assert (steps.samples, steps.steps) == (133_059, 5198)
    other = costs("model=vicuna_13b", "+model@selection_model=vicuna_7b")
    assert other["gradients"].petaflops == pytest.approx(icons["gradients"].petaflops)
    assert other["finetune, icons"].petaflops > 1.8 * icons["finetune, icons"].petaflops


def test_a_cascade_is_bounded_by_the_share_of_each_task() -> None:
    found = costs("influence=cascade", "influence.share=0.02")
    assert found["gradients, at most"].samples == round(0.02 * 10 * ROWS)


def test_hours_follow_from_the_devices_peak() -> None:
    assert hours(DEVICES[1].teraflops * 3.6, DEVICES[1], 1.0) == pytest.approx(1.0)


def test_a_model_of_unknown_shape_is_an_error_that_names_the_key() -> None:
    with pytest.raises(ConfigError, match=r"model\.shape\.layers is not set"):
        counts(ModelSettings(kind="folder"), LoraSettings())


def test_the_page_says_that_it_is_an_estimate_and_what_it_assumes(
    icons: dict[str, StageCost],
) -> None:
    console = Console(record=True, width=160)
    assumed = Assumptions(665_298, "data.rows", 800.0, "assumed")
    n = counts(MODEL, LoraSettings())
    print_costs(list(icons.values()), n, assumed, GPU, paper=True, console=console)
    text = console.export_text()
    for said in ("estimate", "not measured", "665,298 rows (data.rows)", "second-hand"):
        assert said in text


def test_the_tables_fit_eighty_columns_and_no_figure_is_cut() -> None:
    console = Console(record=True, width=80)
    assumed = Assumptions(665_298, "data.rows", 800.0, "assumed")
    stages = list(costs("selector=icons_as_released", "reference=compute").values())
    print_costs(stages, counts(MODEL, LoraSettings()), assumed, GPU, console=console)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    figures = set(text.replace("│", " ").split())
    for stage in stages:
        whole = {f"{stage.petaflops:,.0f}", *(f"{hours(stage.petaflops, d):,.1f}" for d in DEVICES)}
        assert {f"{stage.samples:,}", *whole} <= figures, stage.stage
    assert "319,815,680" in figures


def test_a_sweep_is_billed_once_for_what_its_runs_share(icons: dict[str, StageCost]) -> None:
    known = Rows(Assumptions(ROWS, "data.rows", 800.0, "assumed"), 0.939, PAPER_TARGETS)
    runs = [
        (typed(composed("setup=llava_665k", *one)), known)
        for one in (["budget=0.1"], ["budget=0.2"], ["selector=random"], ["influence=rds"])
    ]
    found = {stage.stage: stage for stage in run_costs(runs, Cache(NOWHERE / "cache"))}
    assert found["gradients"] == icons["gradients"]
    assert found["warmup"] == icons["warmup"]
    assert found["forward"].samples == ROWS
    assert found["finetune, icons"].samples == int(0.1 * ROWS) + 2 * int(0.2 * ROWS)
    assert found["finetune, random"].samples == int(0.2 * ROWS)


def test_memory_follows_bits_and_devices() -> None:
    n = counts(MODEL, LoraSettings())
    whole = memory_by_part(n, GPU)["frozen weights"]
    assert whole == pytest.approx(2 * n.frozen)
    four = memory_by_part(n, replace(GPU, bits=4))["frozen weights"]
    assert 0.25 < four / whole < 0.35
    spread = memory_by_part(n, replace(GPU, strategy="fsdp2"))
    assert spread["frozen weights"] < whole / 4
    assert spread["adapter, its gradient and moments"] == 2 * n.adapter
    work = memory_by_work(n, replace(GPU, bits=4))
    assert work["evaluation"] == pytest.approx(whole + 2 * n.projector)
    assert work["gradients"] < work["training"] < work["evaluation"]


def test_a_model_of_unknown_shape_leaves_a_plan_without_its_cost(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for one in (["model=hf", "model.folder=x/y"], ["+model@selection_model=tiny"]):
        config = typed(composed("setup=llava_665k", *one))
        plan_runs([Experiment(config, Cache(NOWHERE / "cache"))])
        assert "PFLOP" not in capsys.readouterr().out
        assert "there is no cost to show: the size of a model is not known" in caplog.text
        caplog.clear()
