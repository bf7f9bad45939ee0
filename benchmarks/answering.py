"""Questions a second inside lmms-eval: one at a time against batches, with the same answers.

Loading the task, prompts, images, generation, scoring and files count; loading the model does not.

python benchmarks/answering.py [--threads 1] [--questions 400] [--json FILE]
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch
from reporting import arguments, interleaved, median_ratio, report

from icons_repro.core.settings import LoraSettings
from icons_repro.evaluation.answerer import Answerer
from icons_repro.evaluation.answers import read_rows
from icons_repro.evaluation.harness import Harness
from icons_repro.evaluation.runner import evaluate
from icons_repro.evaluation.tasks import write_local_tasks
from icons_repro.models.llava import load_model
from icons_repro.models.lora import attach_lora, projector_state
from icons_repro.tiny.model import write_tiny_base
from icons_repro.tiny.settings import WorldSettings
from icons_repro.tiny.world import build_world

SIZES = (1, 8, 32, 64, 128)


def write_adapter(base: Path, out: Path) -> None:
    """Write a random adapter of the shape that the tiny world trains."""
    from safetensors.torch import save_file

    model = attach_lora(load_model(base), LoraSettings(rank=8, alpha=16, dropout=0.0))
    model.save_pretrained(str(out), save_embedding_layers=False)
    save_file(projector_state(model), out / "projector.safetensors")


def main() -> None:
    """Time one benchmark at each batch size, then all seven as a run does."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--questions", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    count = 40 if args.tiny else args.questions
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        build_world(root / "world", WorldSettings(pool_size=100, test_rows=count))
        write_tiny_base(root / "base")
        write_adapter(root / "base", root / "adapter")
        tasks = write_local_tasks(root / "world" / "benchmarks", root / "tasks")
        predictions: dict[int, list[str]] = {}

        def harness(size: int) -> Harness:
            folder = root / f"out{size}"
            folder.mkdir()
            answerer = Answerer(root / "base", root / "adapter", batch_size=size)
            return Harness(root / "tasks", folder, answerer, None, 0)

        harnesses = {size: harness(size) for size in SIZES}

        def one(size: int) -> None:
            harnesses[size].run(tasks[0])
            rows = read_rows(root / f"out{size}" / "answers" / f"{tasks[0].name}.jsonl")
            predictions[size] = [row["prediction"] for row in rows]

        ways = {str(size): (lambda size=size: one(size)) for size in SIZES}
        seconds = interleaved(ways, 1 if args.tiny else args.rounds)
        assert all(texts == predictions[1] for texts in predictions.values())
        started = time.perf_counter()
        found = evaluate(root / "base", root / "adapter", tasks, root / "tasks", root / "all")
        whole = time.perf_counter() - started
        answered = sum(result["n"] for result in found.values())
    rows = [
        {
            "batch": int(size),
            "questions/s": count / min(seconds[size]),
            "x batch 1": median_ratio(seconds["1"], seconds[size]),
        }
        for size in ways
    ]
    figures = {
        "seconds for all benchmarks": whole,
        "questions": answered,
        "answers equal": True,
    }
    report(f"Answering {count} questions of {tasks[0].name}", rows, figures, args.json)


if __name__ == "__main__":
    main()
