"""The settings of each stage, typed. `conf/` gives their values; Hydra checks them against these.

They live here, apart from the code they steer, so that reading a config imports no heavy package.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from icons_repro.core.bounds import (
    Checked,
    Count,
    Filled,
    Name,
    Names,
    NotNegative,
    Part,
    Pattern,
    Positive,
    Seed,
    Share,
    Whole,
    Within,
    no_project_name,
)
from icons_repro.core.parts import part
from icons_repro.core.step import added, placement

Scale = Literal["tiny", "paper", "own"]
"""The embedded world, the paper's data and models, or anything else: never in one table."""
ImageIdentity = Literal["stat", "hash", "none"]
FEW_STEPS = 10
"""Optimizer steps below which hardly anything is learnt."""
Precision = Literal["32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true"]


@dataclass(frozen=True)
class DataSettings:
    """How rows become tensors."""

    max_length: Count = 2048
    """Tokens of a sample after image expansion."""
    aspect_ratio: Literal["pad", "square"] = "pad"
    image_first: bool = True
    """Move the image tag to the front of its turn, as LLaVA-1.5 does."""
    num_workers: Annotated[int, Within(0, 1024)] = placement(0)


@dataclass(frozen=True)
class RecordPolicy:
    """What to check in each row, and what to do with a row that fails."""

    on_bad_row: Literal["error", "skip"] = "error"
    """`error` stops at the first bad row; `skip` keeps its place, lists and counts it."""
    check_images: Literal["none", "exists", "decode"] = "exists"
    """`decode` opens every image; `exists` only looks for the file."""
    max_image_pixels: Annotated[int, Within(1, 10**12)] = 100_000_000
    """Largest square that an image may be padded to: 1 x 20,000 counts as 20,000 x 20,000. An
    image beyond it is refused where it is decoded. 100 million pixels are 300 MB."""
    follow_symlinks: bool = False
    """Take images through symbolic links that leave the image folder; the folder itself may be a
    link in any case."""


@dataclass(frozen=True)
class LoraSettings:
    """The adapter's shape. LLaVA-1.5 uses rank 128, alpha 256, dropout 0.05."""

    rank: Annotated[int, Within(1, 65536)] = 128
    alpha: Count = 256
    dropout: Part = 0.05


@dataclass(frozen=True)
class TrainSettings:
    """A training recipe. The defaults are LLaVA-1.5's for LoRA (haotian-liu/LLaVA,
    scripts/v1_5/finetune_lora.sh)."""

    epochs: Annotated[int, Within(1, 100_000)] = 1
    regime: Literal["same_epochs", "same_steps"] = "same_epochs"
    """What a subset shares with the full pool: `same_epochs`, as many passes over its rows;
    `same_steps`, as many optimizer steps."""
    rows: Count | None = added(None)  # noqa: RUF009
    """Train on so many of the chosen rows, the pool's first; None: on all of them. For debugging
    (experiment=debug_one_batch)."""
    batch_size: Count = 128
    """Global batch, over all devices and accumulated micro-batches."""
    micro_batch: Count = 16
    """Rows on one device at once."""
    learning_rate: Positive = 2e-4
    projector_learning_rate: NotNegative = 2e-5
    weight_decay: NotNegative = 0.0
    warmup_ratio: Part = 0.03
    """Share of the steps with a linearly rising rate, before the cosine."""
    max_grad_norm: NotNegative | None = None
    """Length that longer gradients are cut to; None and 0 cut nothing, as in LLaVA-1.5's runs."""
    group_by_length: bool = True
    gradient_checkpointing: bool = placement(False)
    resume_seconds: NotNegative = placement(300.0)
    """Seconds between resume points. One is also written when the run is told to stop."""


@dataclass(frozen=True)
class TrainerSettings:
    """Where models run, handed to Lightning's Trainer; and in which numbers, which is identity."""

    accelerator: Literal["cpu", "gpu", "cuda"] = placement("cpu")
    devices: Annotated[int, Within(1, 1024)] = placement(1)
    """Devices of one node that a training run takes."""
    num_nodes: Annotated[int, Within(1, 65536)] = placement(1)
    strategy: Literal["auto", "ddp", "fsdp2"] = placement("auto")
    """How several devices train together: `ddp` holds the model on each, `fsdp2` spreads it over
    them (training/sharding.py). `auto` is `ddp` where there are several."""
    precision: Precision = "32-true"
    threads: Annotated[int, Within(1, 4096)] | None = placement(None)
    """CPU threads; `OMP_NUM_THREADS` has the last word. None takes all cores."""
    profiler: Literal["simple", "advanced", "pytorch"] | None = placement(None)
    """Lightning's profiler of trainings; it writes `fit-profile.txt` beside what was trained."""
    detect_anomaly: bool = placement(False)
    """Stop at the operation whose gradient is NaN, and say which; slow."""
    deterministic: bool = placement(True)
    """On a GPU, train with algorithms that give the same bits in every run; gradients are taken so
    in any case. False where a model has an operation without one."""
    model_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Type of the frozen base weights; the adapter is float32 always."""
    bits: Literal[4, 8] | None = None
    """Bits of the frozen language model's weights in training and selection (bitsandbytes, CUDA);
    None keeps `model_dtype`. An adapter is merged into weights of `model_dtype` always."""

    @property
    def device(self) -> str:
        """torch's name of the device for work that Lightning does not place."""
        return "cuda" if self.accelerator in ("gpu", "cuda") else "cpu"


@dataclass(frozen=True)
class SourceSettings:
    """Rows in a format other than LLaVA's JSON (data/formats/)."""

    path: Name | None = None
    """A file, or a folder of files of one format: its name's end says which."""
    hub: Name | None = None
    """In place of `path`: a dataset of the Hugging Face hub, or a folder that `datasets` reads."""
    subset: Name | None = None
    """Of a dataset with several, the one to read (`datasets` calls it a config)."""
    split: Name = "train"
    """Of a dataset, the split to read."""
    revision: Name | None = None
    """Of a dataset on the hub: branch, tag or commit. None: the one that was taken first."""
    files: Names | None = None
    """Of a dataset, patterns of the files to fetch and read; None fetches the whole repository."""
    columns: dict[str, Name | None] | None = None
    """Where rows keep what, if not under the usual names (data/formats/turns.py): `messages`,
    `images`, `question`, `answer`, ... to the column; null says that none has it."""
    images: Name | None = None
    """Folder that image paths are relative to."""


@dataclass(frozen=True)
class NamedSource(SourceSettings):
    """One of several sources."""

    name: Name | None = None
    """The source of its rows; of a target, the task."""
    weight: Annotated[float, Within(0, 1000, low_open=True)] = 1.0
    """Copies of each of its rows: 0.1 draws about a tenth, 2 takes each twice."""


@dataclass(frozen=True)
class PoolSettings(SourceSettings):
    """The pool that is selected from, and how its rows become tensors."""

    encoding: DataSettings = part(DataSettings)
    policy: RecordPolicy = part(RecordPolicy)
    json: Name | None = None
    """The pool in LLaVA's JSON or as JSON lines. None where a tiny `world` makes it."""
    sources: Annotated[list[dict[str, Any]], Filled] | None = None
    """Several sources instead of one: `{name: ..., path: ..., weight: ...}` (`NamedSource`)."""
    weight_seed: Seed = 0
    """Draws the rows of sources whose weight is no whole number; not the run's seed."""
    image_identity: ImageIdentity = "stat"
    """What tells that an image has changed: its size and modification time, its content, or
    nothing (data/image_identity.py says what each costs)."""
    rows: Count | None = placement(None)
    """How many rows, for plans made before the file is there."""
    world: dict[str, Any] | None = None
    """Settings of the tiny world (tiny/settings.py)."""
    blocks: dict[str, Count] | None = None
    """Rows of each contiguous block of the file, in its order: they name the rows' sources. None:
    rows say themselves (`source`, `task_name`), or their image's top folder does."""
    pretraining_sources: list[str] = field(default_factory=list)
    """Sources that the base's pre-training has seen; TIVE leaves them out."""


@dataclass(frozen=True)
class TargetSettings:
    """The validation sets that influence is measured on."""

    folder: Name | None = None
    """Folder of `TASK.json` files in LLaVA's schema. None takes the tiny world's."""
    images: Name | None = None
    """Folder that their image paths are relative to."""
    tasks: Names | None = None
    """Tasks to use; None takes every file of the folder."""
    subtasks: list[str] = field(default_factory=list)
    """Tasks whose rows carry a `category` and are scored sub-task by sub-task, as MME is."""
    unreleased_subtasks: list[str] = field(default_factory=list)
    """Sub-tasks `TASK/SUBTASK` without a part in ICONS' released code (`icons_as_released`)."""
    build: dict[str, Count] = field(default_factory=dict)
    """Without a `folder`: rows to draw for each task from its benchmark's dev or train split."""
    sources: Name | None = None
    """For `build`: folder with local copies; what is not there is fetched from the hub."""
    task_sources: Annotated[list[dict[str, Any]], Filled] | None = None
    """In place of a `folder`: a `NamedSource` for each task, `{name: TASK, path: ...}`."""
    seed: Seed = 0
    """For `build`, and weights of `task_sources`: seed of the draw; not the run's seed."""
    test_rows: list[str] = field(default_factory=list)
    """For `build`: benchmarks that publish nothing but their test rows, to take these all the same,
    as the paper did; their scores are then not held out."""

    @property
    def draws(self) -> bool:
        """Whether the rows are drawn from benchmarks; a folder has the last word."""
        return self.folder is None and self.task_sources is None and bool(self.build)


@dataclass(frozen=True)
class ModelSettings:
    """The base model that every run starts from. A name is a folder, or a hub repository."""

    kind: Literal["tiny", "folder", "assembled"]
    """`tiny` is the base that ships; `folder` a model of any supported family in transformers'
    layout; `assembled` joins a language model, a CLIP tower and LLaVA's projector."""
    folder: Name | None = None
    """For `folder`: the model with its processor."""
    language: Name | None = None
    """For `assembled`: a Llama, Vicuna or Qwen2 checkpoint."""
    vision: Name | None = None
    """For `assembled`: a CLIP checkpoint."""
    projector: Name | None = None
    """For `assembled`: `mm_projector.bin`, or what holds it."""
    template: Literal["v1", "llama3", "qwen"] | None = None
    """Chat template of the package to use. None keeps the folder's own."""
    images: dict[str, Any] | None = None
    """For `folder`: settings of its image processor to change, `size` say; see docs/models.md."""
    width: Literal[96, 64] = 96
    """For `tiny`: hidden size of the language model; bases of 96 and 64 ship."""
    shape: dict[str, Count] | None = placement(None)
    """Widths and depths, for plans made before the checkpoint is there (preflight/cost.py)."""


@dataclass(frozen=True)
class WarmupSettings:
    """The model that gradients are taken at."""

    fraction: Share = 0.05
    """Share of the pool, drawn at random, that the warm-up trains on."""
    seed: Seed = 0
    """Seed of the draw and of training; not the run's seed, so that a sweep warms up once."""
    full_run_steps: Count = 500
    """For `gradients.checkpoints=full_run`: optimizer steps of the run over the whole pool, by the
    fine-tuning recipe and its full schedule, after which the adapter is taken."""
    train: TrainSettings = field(default_factory=TrainSettings)


@dataclass(frozen=True)
class PretrainSettings:
    """The recipe of the tiny base (`experiment=pretrain_tiny`)."""

    rows: Count = 50_000
    """Rows of the pre-training corpus."""
    width: Annotated[int, Within(8, 4096)] = 96
    """Hidden size of the language model."""
    seed: Seed = 0
    """Seed of the corpus, of the first weights and of training."""
    train: TrainSettings = field(default_factory=TrainSettings)


@dataclass(frozen=True)
class GradientSettings:
    """How per-sample gradients are taken and stored."""

    mode: Literal["store", "direct"] = "store"
    """`direct` scores unprojected gradients as they are formed and stores none."""
    per_sample: Literal["batched", "loop"] = "batched"
    """`loop` is the slow, obvious way: one sample, one backward."""
    parameters: Pattern = "lora"
    """"lora", "lora+projector", or a regular expression over parameter names."""
    last_layers: Count | None = None
    """Of those, the parameters in so many last layers of the language model alone: the backward
    pass ends there. None takes all layers."""
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
    token_budget: Count = placement(4096)
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
    score_learning_rate: Positive | None = None
    """Of the score net. None: the model's, as the original has one rate for all."""
    seed: Seed = 0
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
    clip: Name | None = None
    """A CLIP in Hugging Face's format: folder, or hub name. None takes the tiny world's own."""
    image_encoder: Name | None = None
    """A DINOv2, ViT or CLIP whose class token PreSel clusters: folder, or hub name. None takes the
    tower of the tiny world's own CLIP."""
    coincide_layers: Annotated[list[Whole], Filled] | None = None
    """Layers of the language model, from 0. None takes those at one to five sixths of its depth, as
    COINCIDE took 3, 7, 11, 15 and 19 of the 24 of TinyLLaVA-2.0B."""
    dtype: Literal["float16", "float32"] = "float16"
    """Type of stored hidden states, image tokens and COINCIDE features."""
    token_budget: Count = placement(4096)
    """Padded tokens in one batch."""
    instance_parameters: Pattern = r"\.self_attn\..*\.lora_[AB]\."
    """Whose gradients TIVE reads: the attention's LoRA, in the run's `projection`."""
    trajectory_points: Annotated[int, Within(2, 1000)] = 10
    """At how many points of a run over the whole pool, by the fine-tuning recipe, XMAS watches its
    proxy: so many forward passes. Its public scripts keep one every 200 steps of 32 rows."""
    released: Name | None = None
    """A published subset in LLaVA's JSON, for `selector=released`."""
    self_filter: SelfFilterSettings = field(default_factory=SelfFilterSettings)


@dataclass(frozen=True)
class LoggerSettings:
    """Who shows a run's numbers, besides its own files: any of these, several at once."""

    wandb: bool = False
    tensorboard: bool = False
    mlflow: bool = False
    csv: bool = False
    mode: Literal["offline", "auto", "online"] = "offline"
    """W&B's: `auto` is online where an API key is found; `wandb sync` sends an offline run."""
    project: Annotated[str, Filled, Checked(no_project_name)] = "icons-repro"
    """W&B's project, and MLflow's experiment."""
    entity: Name | None = None
    upload: bool = False
    """Send the run's selection, adapter and scores to W&B; else it gets their paths alone."""
    mlflow_uri: Name | None = None
    """MLflow's server, or database. None: `mlflow.db` in the folder of all runs."""


@dataclass(frozen=True)
class BenchmarkGroup:
    """The benchmarks of a setup; each entry of `tasks` is a `BenchmarkSettings`."""

    scale: Scale
    local: bool = False
    """Take every parquet file of the tiny world, or of `folder`."""
    folder: Name | None = None
    """Folder of parquet files with the columns of evaluation/tasks.py."""
    only: Names | None = None
    """Names to run; None runs all."""
    tasks: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    batch_size: Count = placement(64)
    """Questions answered at once."""


@dataclass(frozen=True)
class ExecutorSettings:
    """Who walks the graph: this process, `workers` processes here, or a SLURM cluster."""

    kind: Literal["inline", "local", "slurm"]
    partition: Name | None = None
    account: Name | None = None
    qos: Name | None = None
    wait: bool = True
    """Stay and show what the cluster does; False submits and leaves."""
    report_only: bool = False
    """Compute nothing; report on what is there."""
    hours: Positive = 4.0
    """Time limit of jobs whose row of `resources` has none."""
    requeues: Whole = 20
    """How often a job that reaches its time limit is queued again."""
    signal_seconds: Annotated[int, Within(1, 65535)] = 120
    """Time that a job has to save before its limit."""
    array_parallelism: Count = 256
    """Workers on one step at once."""
    poll_seconds: Positive = 5.0
    """Time between two looks at the queue."""
    more: dict[str, Any] = field(default_factory=dict)
    """Further options of sbatch, by their long names."""


@dataclass(frozen=True)
class PathSettings:
    """Where everything is written."""

    output: Name
    cache: Name
    run: Name
    """This run's directory."""


@dataclass(frozen=True)
class ProjectionSettings:
    """What `projection` may say; the gradients' package builds it."""

    kind: Literal["count_sketch", "rademacher", "srht", "kronecker", "none"]
    dim: Count | None = None
    """Length of a projected row; `none` needs none."""
    seed: Seed = 0
