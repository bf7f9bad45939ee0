"""The settings of each stage, typed. `conf/` gives their values; Hydra checks them against these.

They live here, apart from the code they steer, so that reading a config imports no heavy package.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from icons_repro.core.step import added, placement

ImageIdentity = Literal["stat", "hash", "none"]


@dataclass(frozen=True)
class DataSettings:
    """How rows become tensors."""

    max_length: int = 2048
    """Tokens of a sample after image expansion."""
    aspect_ratio: Literal["pad", "square"] = "pad"
    image_first: bool = True
    """Move the image tag to the front of its turn, as LLaVA-1.5 does."""
    num_workers: int = placement(0)


@dataclass(frozen=True)
class RecordPolicy:
    """What to check in each row, and what to do with a row that fails."""

    on_bad_row: Literal["error", "skip"] = "error"
    """`error` stops at the first bad row; `skip` keeps its place, lists and counts it."""
    check_images: Literal["none", "exists", "decode"] = "exists"
    """`decode` opens every image; `exists` only looks for the file."""
    max_image_pixels: int = 100_000_000
    """Largest square that an image may be padded to: 1 x 20,000 counts as 20,000 x 20,000. An
    image beyond it is refused where it is decoded. 100 million pixels are 300 MB."""
    follow_symlinks: bool = False
    """Take images through symbolic links that leave the image folder; the folder itself may be a
    link in any case."""


@dataclass(frozen=True)
class LoraSettings:
    """The adapter's shape. LLaVA-1.5 uses rank 128, alpha 256, dropout 0.05."""

    rank: int = 128
    alpha: int = 256
    dropout: float = 0.05


@dataclass(frozen=True)
class TrainSettings:
    """A training recipe. The defaults are LLaVA-1.5's for LoRA (haotian-liu/LLaVA,
    scripts/v1_5/finetune_lora.sh)."""

    epochs: int = 1
    regime: Literal["same_epochs", "same_steps"] = "same_epochs"
    """What a subset shares with the full pool: `same_epochs`, as many passes over its rows;
    `same_steps`, as many optimizer steps."""
    rows: int | None = added(None)
    """Train on so many of the chosen rows, the pool's first; None: on all of them. For debugging
    (experiment=debug_one_batch)."""
    batch_size: int = 128
    """Global batch, over all devices and accumulated micro-batches."""
    micro_batch: int = 16
    """Rows on one device at once."""
    learning_rate: float = 2e-4
    projector_learning_rate: float = 2e-5
    weight_decay: float = 0.0
    warmup_ratio: float = 0.03
    """Share of the steps with a linearly rising rate, before the cosine."""
    max_grad_norm: float | None = None
    """Length that longer gradients are cut to; None and 0 cut nothing, as in LLaVA-1.5's runs."""
    group_by_length: bool = True
    gradient_checkpointing: bool = placement(False)
    resume_seconds: float = placement(300.0)
    """Seconds between resume points. One is also written when the run is told to stop."""


@dataclass(frozen=True)
class TrainerSettings:
    """Where models run, handed to Lightning's Trainer; and in which numbers, which is identity."""

    accelerator: str = placement("cpu")
    devices: int = placement(1)
    """Devices of one node that a training run takes."""
    num_nodes: int = placement(1)
    strategy: Literal["auto", "ddp", "fsdp2"] = placement("auto")
    """How several devices train together: `ddp` holds the model on each, `fsdp2` spreads it over
    them (training/sharding.py). `auto` is `ddp` where there are several."""
    precision: str = "32-true"
    threads: int | None = placement(None)
    """CPU threads; `OMP_NUM_THREADS` has the last word. None takes all cores."""
    profiler: Literal["simple", "advanced", "pytorch"] | None = placement(None)
    """Lightning's profiler of trainings; it writes `fit-profile.txt` beside what was trained."""
    detect_anomaly: bool = placement(False)
    """Stop at the operation whose gradient is NaN, and say which; slow."""
    model_dtype: str = "float32"
    """Type of the frozen base weights; the adapter is float32 always."""
    bits: Literal[4, 8] | None = None
    """Bits of the frozen language model's weights in training and selection (bitsandbytes, CUDA);
    None keeps `model_dtype`. An adapter is merged into weights of `model_dtype` always."""

    @property
    def device(self) -> str:
        """torch's name of the device for work that Lightning does not place."""
        return "cuda" if self.accelerator in ("gpu", "cuda") else "cpu"


@dataclass(frozen=True)
class PoolSettings(DataSettings, RecordPolicy):
    """The pool that is selected from, and how its rows become tensors."""

    json: str | None = None
    """The pool in LLaVA's JSON or as JSON lines. None where a tiny `world` makes it."""
    images: str | None = None
    """Folder that image paths are relative to."""
    image_identity: ImageIdentity = "stat"
    """What tells that an image has changed: its size and modification time, its content, or
    nothing (data/image_identity.py says what each costs)."""
    rows: int | None = placement(None)
    """How many rows, for plans made before the file is there."""
    world: dict[str, Any] | None = None
    """Settings of the tiny world (tiny/settings.py)."""
    blocks: dict[str, int] | None = None
    """Rows of each contiguous block of the file, in its order: they name the rows' sources. None:
    rows say themselves (`source`, `task_name`), or their image's top folder does."""
    pretraining_sources: list[str] = field(default_factory=list)
    """Sources that the base's pre-training has seen; TIVE leaves them out."""


@dataclass(frozen=True)
class TargetSettings:
    """The validation sets that influence is measured on."""

    folder: str | None = None
    """Folder of `TASK.json` files in LLaVA's schema. None takes the tiny world's."""
    images: str | None = None
    """Folder that their image paths are relative to."""
    tasks: list[str] | None = None
    """Tasks to use; None takes every file of the folder."""
    subtasks: list[str] = field(default_factory=list)
    """Tasks whose rows carry a `category` and are scored sub-task by sub-task, as MME is."""
    unreleased_subtasks: list[str] = field(default_factory=list)
    """Sub-tasks `TASK/SUBTASK` without a part in ICONS' released code (`icons_as_released`)."""
    build: dict[str, int] = field(default_factory=dict)
    """Without a `folder`: rows to draw for each task from its benchmark's dev or train split."""
    sources: str | None = None
    """For `build`: folder with local copies; what is not there is fetched from the hub."""
    seed: int = 0
    """For `build`: seed of the draw; not the run's seed."""
    test_rows: list[str] = field(default_factory=list)
    """For `build`: benchmarks that publish nothing but their test rows, to take these all the same,
    as the paper did; their scores are then not held out."""

    @property
    def draws(self) -> bool:
        """Whether the rows are drawn from benchmarks; a folder has the last word."""
        return self.folder is None and bool(self.build)


@dataclass(frozen=True)
class ModelSettings:
    """The base model that every run starts from. A name is a folder, or a hub repository."""

    kind: Literal["tiny", "folder", "assembled"]
    """`tiny` is the base that ships; `folder` a model of any supported family in transformers'
    layout; `assembled` joins a language model, a CLIP tower and LLaVA's projector."""
    folder: str | None = None
    """For `folder`: the model with its processor."""
    language: str | None = None
    """For `assembled`: a Llama, Vicuna or Qwen2 checkpoint."""
    vision: str | None = None
    """For `assembled`: a CLIP checkpoint."""
    projector: str | None = None
    """For `assembled`: `mm_projector.bin`, or what holds it."""
    template: Literal["v1", "llama3", "qwen"] | None = None
    """Chat template of the package to use. None keeps the folder's own."""
    images: dict[str, Any] | None = None
    """For `folder`: settings of its image processor to change, `size` say; see docs/models.md."""
    width: int = 96
    """For `tiny`: hidden size of the language model; bases of 96 and 64 ship."""
    shape: dict[str, int] | None = placement(None)  # noqa: RUF009
    """Widths and depths, for plans made before the checkpoint is there (preflight/cost.py)."""


@dataclass(frozen=True)
class WarmupSettings:
    """The model that gradients are taken at."""

    fraction: float = 0.05
    """Share of the pool, drawn at random, that the warm-up trains on."""
    seed: int = 0
    """Seed of the draw and of training; not the run's seed, so that a sweep warms up once."""
    full_run_steps: int = 500
    """For `gradients.checkpoints=full_run`: optimizer steps of the run over the whole pool, by the
    fine-tuning recipe and its full schedule, after which the adapter is taken."""
    train: TrainSettings = field(default_factory=TrainSettings)


@dataclass(frozen=True)
class PretrainSettings:
    """The recipe of the tiny base (`experiment=pretrain_tiny`)."""

    rows: int = 50_000
    """Rows of the pre-training corpus."""
    width: int = 96
    """Hidden size of the language model."""
    seed: int = 0
    """Seed of the corpus, of the first weights and of training."""
    train: TrainSettings = field(default_factory=TrainSettings)


@dataclass(frozen=True)
class GradientSettings:
    """How per-sample gradients are taken and stored."""

    mode: Literal["store", "direct"] = "store"
    """`direct` scores unprojected gradients as they are formed and stores none."""
    per_sample: Literal["batched", "loop"] = "batched"
    """`loop` is the slow, obvious way: one sample, one backward."""
    parameters: str = "lora"
    """"lora", "lora+projector", or a regular expression over parameter names."""
    train_direction: Literal["sgd", "adam", "sign"] = "sgd"
    """What of a pool row's gradient is scored: itself, Adam's step along it, or its signs."""
    val_direction: Literal["sgd", "adam", "sign"] = "sgd"
    """The same of a validation row."""
    normalise_subtasks: bool = True
    """False leaves the validation gradients of tasks with sub-tasks (MME's) at their length, as
    ICONS' released code does."""
    checkpoints: Literal["last", "epochs", "full_run"] = "last"
    """Where gradients are taken: the end of the warm-up (ICONS), the end of each of its epochs,
    influence summed by the epochs' mean learning rates (LESS), or a step of the run over the whole
    pool (ICONS' released code): `warmup.full_run_steps`."""
    dtype: Literal["float32", "float16", "bfloat16", "int8", "bit1"] = "float16"
    """Type of the stored rows; they are normalised in float32 before."""
    token_budget: int = placement(4096)
    """Padded tokens in one batch."""
    gradient_checkpointing: bool = placement(False)
    """Recompute the layers in the backward pass: less memory, a third more time."""


@dataclass(frozen=True)
class SelfFilterSettings:
    """Stage 1 of Self-Filter: the score net's training.

    The original: LLaVA-158K, three passes, every weight but the tower's, 2e-5, batches at random
    (RayRuiboChen/Self-Filter, scripts/run_stage1_clip.sh).
    """

    lora: bool = True
    """Train the run's LoRA and projector beside the score net; False trains every weight but the
    vision tower's."""
    score_learning_rate: float | None = None
    """Of the score net. None: the model's, as the original has one rate for all."""
    seed: int = 0
    """Not the run's seed, so that a sweep trains the score net once."""
    train: TrainSettings = field(
        default_factory=lambda: TrainSettings(epochs=3, group_by_length=False)
    )

    @property
    def score_rate(self) -> float:
        """The score net's learning rate."""
        given = self.score_learning_rate
        return self.train.learning_rate if given is None else given


@dataclass(frozen=True)
class FeatureSettings:
    """What the baselines read: forward statistics, embeddings, scores. Each is computed once."""

    model: Literal["warmup", "base"] = "warmup"
    """The model behind losses, EL2N, margins, hidden states and COINCIDE's features."""
    clip: str | None = None
    """A CLIP in Hugging Face's format: folder, or hub name. None takes the tiny world's own."""
    coincide_layers: list[int] | None = None
    """Layers of the language model, from 0. None takes those at one to five sixths of its depth, as
    COINCIDE took 3, 7, 11, 15 and 19 of the 24 of TinyLLaVA-2.0B."""
    dtype: Literal["float16", "float32"] = "float16"
    """Type of stored hidden states and COINCIDE features."""
    token_budget: int = placement(4096)
    """Padded tokens in one batch."""
    instance_parameters: str = r"\.self_attn\..*\.lora_[AB]\."
    """Whose gradients TIVE reads: the attention's LoRA, in the run's `projection`."""
    released: str | None = None
    """A published subset in LLaVA's JSON, for `selector=released`."""
    self_filter: SelfFilterSettings = field(default_factory=SelfFilterSettings)


@dataclass(frozen=True)
class LoggerSettings:
    """Where numbers go besides the run's own files."""

    kind: Literal["wandb", "none"]
    mode: Literal["auto", "offline", "online"] = "auto"
    """`auto` is online where an API key is found, offline elsewhere."""
    project: str = "icons-repro"
    entity: str | None = None


@dataclass(frozen=True)
class BenchmarkGroup:
    """The benchmarks of a setup; each entry of `tasks` is a `BenchmarkSettings`."""

    scale: Literal["tiny", "paper"]
    local: bool = False
    """Take every parquet file of the tiny world, or of `folder`."""
    folder: str | None = None
    """Folder of parquet files with the columns of evaluation/tasks.py."""
    only: list[str] | None = None
    """Names to run; None runs all."""
    tasks: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    batch_size: int = placement(64)
    """Questions answered at once."""


@dataclass(frozen=True)
class ExecutorSettings:
    """Who walks the graph: this process, `workers` processes here, or a SLURM cluster."""

    kind: Literal["inline", "local", "slurm"]
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    wait: bool = True
    """Stay and show what the cluster does; False submits and leaves."""
    report_only: bool = False
    """Compute nothing; report on what is there."""
    hours: float = 4.0
    """Time limit of jobs whose row of `resources` has none."""
    requeues: int = 20
    """How often a job that reaches its time limit is queued again."""
    signal_seconds: int = 120
    """Time that a job has to save before its limit."""
    array_parallelism: int = 256
    """Workers on one step at once."""
    poll_seconds: float = 5.0
    """Time between two looks at the queue."""
    more: dict[str, Any] = field(default_factory=dict)
    """Further options of sbatch, by their long names."""


@dataclass(frozen=True)
class PathSettings:
    """Where everything is written."""

    output: str
    cache: str
    run: str
    """This run's directory."""
