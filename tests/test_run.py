"""One short real run of everything, as a user starts it, and what must be found afterwards."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from forked import SOURCE, forked, run_forked
from rich.console import Console

from icons_repro.core.types import content_key
from icons_repro.studies.counterfactual.__main__ import add
from icons_repro.studies.counterfactual.chosen import FILE, Chosen
from icons_repro.studies.csv_rows import read_rows

ROOT = Path(__file__).parents[1]
SMALL = [
    "data.world.pool_size=400",
    "data.world.test_rows=24",
    "data.world.validation_rows=12",
    "finetune.epochs=1",
]
pytestmark = pytest.mark.e2e


def run(
    output: Path, *arguments: str, small: bool = True, path: str = ""
) -> subprocess.CompletedProcess[str]:
    words = [*arguments, *(SMALL if small else [])]
    return run_forked(words, output, environment(output), path)


def environment(output: Path) -> dict[str, str]:
    return os.environ | {
        "ICONS_OUTPUT": str(output),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": SOURCE,
    }


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs of `experiment=icons_20pct`, run once for this file."""
    folder = tmp_path_factory.mktemp("outputs")
    command = [sys.executable, str(ROOT / "run.py"), "experiment=icons_20pct", *SMALL]
    result = subprocess.run(
        command, env=environment(folder), cwd=folder, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-3000:]
    (folder / "screen.txt").write_text(result.stdout)
    (folder / "errors.txt").write_text(result.stderr)
    return folder


def results_of(output: Path, pattern: str) -> dict[str, Any]:
    (path,) = output.glob(f"runs/{pattern}/results.json")
    results: dict[str, Any] = json.loads(path.read_text())
    return results


def scores_of(influence: Path) -> np.ndarray:
    """Return the scores of an influence file, tasks in order of name."""
    table = pq.read_table(influence)
    tasks = [c for c in table.column_names if c not in ("position", "key")]
    return np.column_stack([table[task].to_numpy() for task in sorted(tasks)])


def test_results_hold_the_contract(output: Path) -> None:
    results = results_of(output, "tiny/icons_20pct/icons-b0.2-s0-*")
    assert results["scale"] == "tiny"
    assert results["n_pool"] == 400
    assert results["n_selected"] == 80
    assert len(results["benchmarks"]) >= 6
    for score in results["benchmarks"].values():
        assert score["status"] == "ok"
        assert 0 <= score["score"] <= 100
        assert score["n"] == 24
    assert results["relative"]["reference"] == "full"
    for name in ("selection", "adapter", "influence"):
        assert (ROOT / results[name]).exists()
    assert not results["stages"]["warmup"]["cached"]
    assert {"prepare", "report"}.isdisjoint(results["stages"])


def test_the_selection_is_the_same_rows_in_every_file(output: Path) -> None:
    results = results_of(output, "tiny/icons_20pct/icons-b0.2-s0-*")
    folder = Path(results["selection"])
    positions = np.load(folder / "positions.npy")
    assert positions.dtype == np.int64
    assert (np.diff(positions) > 0).all()
    (world,) = output.glob("cache/world/*/pool.json")
    pool = json.loads(world.read_text())
    subset = json.loads((folder / "subset.json").read_text())
    assert subset == [pool[i] for i in positions]
    keys = (folder / "keys.txt").read_text().split()
    assert keys == [content_key(row) for row in subset]
    scores = pq.read_table(folder / "scores.parquet")
    assert {"key", "position", "score", "votes"} <= set(scores.column_names)
    assert scores.num_rows == 400
    assert (folder / "manifest.json").exists()


def test_the_screen_ends_with_the_table_the_files_and_what_to_try(output: Path) -> None:
    screen = (output / "screen.txt").read_text()
    for words in ("benchmark", "blind", "full", "random", "this run", "Files", "Try next"):
        assert words in screen
    shown = (output / "screen.txt").read_text() + (output / "errors.txt").read_text()
    assert "Warning" not in shown
    assert ".part" not in shown  # no name of what is half written


def test_the_page_holds_all_rows_and_every_answer_with_its_picture(output: Path) -> None:
    (page,) = output.glob("runs/tiny/icons_20pct/icons-b0.2-s0-*/report.html")
    text = page.read_text()
    found = {}
    for name in ("rows-data", "answers-data"):
        _, _, rest = text.partition(f'<script type="application/json" id="{name}">')
        found[name] = json.loads(rest.partition("</script>")[0])
    rows, answers = found["rows-data"], found["answers-data"]
    assert len(rows["key"]) == 400
    assert sum(flag & 1 for flag in rows["flags"]) == 80
    assert "random 0.2, seed 0" in rows["others"]
    assert answers["models"] == ["this run", "full", "random"]
    assert min(answers["image"]) >= 0


def test_the_metrics_file_holds_every_step_of_every_training(output: Path) -> None:
    (path,) = output.glob("runs/tiny/icons_20pct/icons-b0.2-s0-*/metrics.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    stages = {line["stage"] for line in lines}
    assert {"warmup", "finetune", "finetune_full", "finetune_random", "summary"} <= stages
    losses = [line["loss"] for line in lines if line["stage"] == "finetune_full"]
    assert len(losses) == 25
    assert np.isfinite(losses).all()


def test_the_same_command_again_computes_nothing(output: Path) -> None:
    before = results_of(output, "tiny/icons_20pct/icons-b0.2-s0-*")
    result = run(output, "experiment=icons_20pct")
    assert result.returncode == 0, result.stderr[-3000:]
    after = results_of(output, "tiny/icons_20pct/icons-b0.2-s0-*")
    assert all(stage["cached"] for stage in after["stages"].values())
    assert after["benchmarks"] == before["benchmarks"]
    assert after["relative"] == before["relative"]


def test_a_sweep_shares_what_it_can(output: Path) -> None:
    result = run(output, "-m", "selector=icons,random", "budget=0.1", "seed=0,1", "stages=[select]")
    assert result.returncode == 0, result.stderr[-3000:]
    for stage in ("world", "pool", "base", "warmup", "gradients", "influence"):
        assert len(list(output.glob(f"cache/{stage}/*/manifest.json"))) == 1, stage
    found = list(output.glob("runs/tiny/icons_20pct/*-b0.1-s*/results.json"))
    assert len(found) == 4
    sizes = {json.loads(path.read_text())["n_selected"] for path in found}
    assert sizes == {40}


def test_the_slow_gradients_choose_the_same_rows(output: Path) -> None:
    result = run(output, "gradients.per_sample=loop", "stages=[select]")
    assert result.returncode == 0, result.stderr[-3000:]
    runs = output.glob("runs/tiny/icons_20pct/icons-b0.2-s0-*/results.json")
    folders = [Path(json.loads(path.read_text())["selection"]) for path in runs]
    assert len(set(folders)) == 2
    assert np.array_equal(*(np.load(folder / "positions.npy") for folder in folders))


def test_what_training_on_the_chosen_did_to_each_task_is_measured_once(
    output: Path, tmp_path: Path
) -> None:
    add(tmp_path, output / "runs" / "tiny", Console())
    lines = read_rows(tmp_path / FILE, Chosen)
    assert {(c.source, c.rule, c.train_seed) for c in lines} == {("gradients", "vote", 0)}
    assert len({c.task for c in lines}) == len(lines) == 7
    (base,) = output.glob("cache/base/*/config.json")
    words = json.loads(base.read_text())["text_config"]["vocab_size"]
    assert all(0 < c.loss < np.inf for c in lines)
    assert np.mean([c.loss for c in lines]) < np.log(words), "or a guess would be as good"
    add(tmp_path, output / "runs" / "tiny", Console())
    assert read_rows(tmp_path / FILE, Chosen) == lines


def test_less_sums_influence_over_the_epochs_of_the_warmup(output: Path) -> None:
    result = run(output, "selector=less", "warmup.train.epochs=2", "stages=[select]")
    assert result.returncode == 0, result.stderr[-3000:]
    total = Path(results_of(output, "tiny/icons_20pct/less-*")["selection"])
    (summed,) = [
        path.parent
        for path in output.glob("cache/influence/*/manifest.json")
        if json.loads(path.read_text())["step"] == "InfluenceOverEpochs"
    ]
    inputs = json.loads((summed / "manifest.json").read_text())["inputs"]
    (warmup,) = output.glob(f"cache/warmup/{inputs['warmup']}")
    rates = json.loads((warmup / "adapter.json").read_text())["epoch_rates"]
    parts = [
        scores_of(output / f"cache/influence/{inputs[name]}/influence.parquet")
        for name in ("epoch_1", "epoch_2")
    ]
    assert np.abs(parts[0] - parts[1]).max() > 0.01
    expected = (rates[0] * parts[0] + rates[1] * parts[1]) / sum(rates)
    assert np.allclose(scores_of(summed / "influence.parquet"), expected, atol=1e-6)
    best = np.sort(np.argsort(-expected.max(axis=1), kind="stable")[:80])
    assert np.array_equal(np.load(total / "positions.npy"), best)


def test_transfer_selects_with_one_model_and_trains_another(output: Path) -> None:
    result = run(output, "experiment=transfer")
    assert result.returncode == 0, result.stderr[-3000:]
    chosen = Path(results_of(output, "tiny/transfer/icons-*")["selection"])
    result = run(output, "model=tiny_narrow", "stages=[select]", "seed=5")
    assert result.returncode == 0, result.stderr[-3000:]
    narrow = Path(results_of(output, "tiny/icons_20pct/icons-b0.2-s5-*")["selection"])
    assert np.array_equal(*(np.load(folder / "positions.npy") for folder in (chosen, narrow)))
    adapter = Path(results_of(output, "tiny/transfer/icons-*")["adapter"])
    trained = json.loads((adapter / "manifest.json").read_text())["inputs"]["base"]
    config = json.loads((output / f"cache/base/{trained}/config.json").read_text())
    assert config["text_config"]["hidden_size"] == 96


def test_a_bad_row_stops_the_run_naming_it_and_skip_lists_it(output: Path) -> None:
    (world,) = (path.parent for path in output.glob("cache/world/*/manifest.json"))
    pool = json.loads((world / "pool.json").read_text())
    with_image = next(i for i, row in enumerate(pool) if "image" in row)
    pool[with_image]["image"] = "none/missing.png"
    (output / "bad.json").write_text(json.dumps(pool))
    mine = [
        f"data.json={output / 'bad.json'}",
        f"data.images={world / 'images'}",
        f"targets.folder={world / 'targets'}",
        f"targets.images={world / 'images'}",
        "data.world=null",
        "selector=random",
        "stages=[select]",
    ]
    stopped = run(output, *mine, small=False)
    assert stopped.returncode == 1
    assert f"bad.json, row {with_image}: image 'none/missing.png' is not in" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    skipped = run(output, *mine, "data.on_bad_row=skip", small=False)
    assert skipped.returncode == 0, skipped.stderr[-3000:]
    lists = [path.read_text() for path in output.glob("cache/pool/*/skipped.jsonl")]
    (line,) = "".join(lists).splitlines()
    assert json.loads(line)["row"] == with_image
    assert json.loads(line)["reason"] == "missing_image"


def test_skipped_rows_take_no_part_and_shift_no_other(output: Path) -> None:
    (world,) = (path.parent for path in output.glob("cache/world/*/manifest.json"))
    pool = json.loads((world / "pool.json").read_text())[:120]
    pool[3]["conversations"][1]["value"] = ""
    (output / "gap.json").write_text(json.dumps(pool))
    result = run(
        output,
        f"data.json={output / 'gap.json'}",
        f"data.images={world / 'images'}",
        f"targets.folder={world / 'targets'}",
        f"targets.images={world / 'images'}",
        "data.world=null",
        "data.on_bad_row=skip",
        "warmup.fraction=0.3",
        "budget=0.5",
        "stages=[select]",
        small=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    results = results_of(output, "own/icons_20pct/icons-b0.5-s0-*")
    assert results["scale"] == "own"  # neither the tiny world's pool nor the paper's
    assert results["n_pool"] == 119
    assert results["n_selected"] == 59
    folder = Path(results["selection"])
    positions = np.load(folder / "positions.npy")
    assert 3 not in positions
    subset = json.loads((folder / "subset.json").read_text())
    assert subset == [pool[i] for i in positions]
    scores = pq.read_table(folder / "scores.parquet")
    assert scores.num_rows == 120
    assert np.isnan(scores["score"][3].as_py())


def test_the_pages_selector_runs_from_outside_the_package(output: Path) -> None:
    section = (ROOT / "docs" / "extend.md").read_text().split("## Add a selector")[1]
    code, config = (block.split("\n", 1)[1] for block in section.split("```")[1:4:2])
    mine = output / "mine"
    (mine / "conf" / "selector").mkdir(parents=True)
    (mine / "maximin.py").write_text(code)
    (mine / "conf" / "selector" / "maximin.yaml").write_text(config)
    options = ("--config-dir", str(mine / "conf"), "selector=maximin", "stages=[select]")
    result = run(output, *options, path=str(mine))
    assert result.returncode == 0, result.stderr[-3000:]
    assert results_of(output, "tiny/icons_20pct/maximin-b0.2-s0-*")["n_selected"] == 80


def test_a_target_task_without_rows_is_an_error_naming_its_file(output: Path) -> None:
    (world,) = (path.parent for path in output.glob("cache/world/*/manifest.json"))
    (output / "targets").mkdir()
    (output / "targets" / "empty.json").write_text("[]")
    result = run(
        output,
        f"targets.folder={output / 'targets'}",
        f"targets.images={world / 'images'}",
        "targets.subtasks=[]",
        "stages=[prepare]",
    )
    assert result.returncode == 1
    assert "empty.json has no rows" in result.stderr
    assert "Traceback" not in result.stderr


def test_direct_influence_is_that_of_an_unprojected_store(output: Path) -> None:
    found = {}
    features = ("gradients.train_direction=sign", "gradients.val_direction=sgd")
    for name, settings in {
        "direct": ("gradients.mode=direct",),
        "stored": ("projection=none", "gradients.dtype=float32"),
    }.items():
        result = run(
            output, *settings, *features, f"seed={len(name)}{len(found)}", "stages=[select]"
        )
        assert result.returncode == 0, result.stderr[-3000:]
        results = results_of(output, f"tiny/icons_20pct/icons-b0.2-s{len(name)}{len(found)}-*")
        found[name] = scores_of(Path(results["influence"]))
    assert np.abs(found["stored"]).max() > 0.01
    assert np.allclose(found["direct"], found["stored"], atol=1e-5)


def test_a_sweep_goes_on_past_a_failure_and_says_how_to_go_on(output: Path) -> None:
    sweep = ("-m", "selector=coincide,random", "budget=0.15", "stages=[select]")
    local = ("executor=local", "workers=2")
    result = run(output, *sweep, *local, "features.coincide_layers=[99]")
    assert result.returncode == 1
    assert "1 of 2 runs failed" in result.stdout
    assert "the language model has the layers 0 to 3" in result.stdout
    assert "The same command computes what is missing" in result.stdout
    assert "Traceback" not in result.stderr
    page = output / "runs" / "tiny" / "icons_20pct" / "sweep.html"
    assert "Runs that enter no number" in page.read_text()
    assert "the language model has the layers 0 to 3" in page.read_text()
    (random,) = output.glob("runs/tiny/icons_20pct/random-b0.15-*/results.json")
    assert json.loads(random.read_text())["n_selected"] == 60
    logs = list(output.glob("cache/logs/coincide/*.log"))
    assert "the language model has the layers" in logs[0].read_text()
    result = run(output, *sweep)
    assert result.returncode == 0, result.stderr[-3000:]
    assert list(output.glob("runs/tiny/icons_20pct/coincide-b0.15-*/results.json"))
    assert "Runs that enter no number" not in page.read_text()


def test_inline_and_local_choose_and_score_alike(output: Path) -> None:
    elsewhere = output / "elsewhere"
    elsewhere.mkdir()
    chunks = ("resources.extract.chunks=3", "resources.evaluate.chunks=2")
    local = ("executor=local", "workers=2", "reference=none")
    result = run(elsewhere, "experiment=icons_20pct", *local, *chunks)
    assert result.returncode == 0, result.stderr[-3000:]
    after = results_of(elsewhere, "tiny/icons_20pct/icons-b0.2-s0-*")
    runs = output.glob("runs/tiny/icons_20pct/icons-b0.2-s0-*/results.json")
    everything = [json.loads(path.read_text()) for path in runs]
    (before,) = (found for found in everything if found["benchmarks"])
    assert after["benchmarks"] == before["benchmarks"]
    for name in ("rows.bin", "norms.bin", "status.bin"):
        (b,) = elsewhere.glob(f"cache/gradients/*/{name}")
        a = output / b.relative_to(elsewhere)
        assert a.read_bytes() == b.read_bytes(), name
    folders = [Path(one["adapter"]) for one in (before, after)]
    assert folders[0].name == folders[1].name
    a, b = ((f / "adapter_model.safetensors").read_bytes() for f in folders)
    assert a == b


@pytest.mark.parametrize(
    ("number", "code", "executor"),
    [
        (signal.SIGINT, 130, "inline"),
        (signal.SIGTERM, 143, "inline"),
        (signal.SIGINT, 130, "local"),
    ],
)
def test_a_stopped_run_says_so_in_a_line_and_goes_on(
    output: Path, number: int, code: int, executor: str
) -> None:
    seed = f"seed={code + len(executor)}"
    words = [*SMALL[:-1], "finetune.epochs=40", seed, f"executor={executor}", "workers=2"]
    words += ["reference=none", "stages=[finetune]"]
    until = time.monotonic() + 120
    with forked(words, output, environment(output)) as process:
        while not (parts := list(output.glob("cache/finetune/*.part/metrics.jsonl"))):
            assert process.runs()
            assert time.monotonic() < until
            time.sleep(0.1)
        while len(parts[0].read_text().splitlines()) < 5:
            time.sleep(0.05)
        os.kill(process.pid, number)
        assert process.ended() == code
        errors = process.said()
    assert "Traceback" not in errors
    assert "Stopped. What is finished is kept; the same command goes on from there." in errors
    (resume,) = output.glob("cache/finetune/*.part/resume.ckpt")
    resume.parent.rename(resume.parent.with_suffix(".seen"))
