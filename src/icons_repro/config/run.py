"""One run's settings, whole: the keys of `conf/config.yaml` and their types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from icons_repro.core.bounds import Count, Filled, Name, Seed, Share
from icons_repro.core.settings import (
    BenchmarkGroup,
    ExecutorSettings,
    FeatureSettings,
    GradientSettings,
    LoggerSettings,
    LoraSettings,
    ModelSettings,
    PathSettings,
    PoolSettings,
    PretrainSettings,
    Scale,
    TargetSettings,
    TrainerSettings,
    TrainSettings,
    WarmupSettings,
)
from icons_repro.engine.resources import Resources

Stage = Literal[
    "preflight",
    "prepare",
    "warmup",
    "extract",
    "score",
    "select",
    "finetune",
    "evaluate",
    "export",
    "report",
    "pretrain",
]
USED_DEVICES: Mapping[str, bool | None] = {
    "prepare": None,
    "warmup": True,
    "extract": False,
    "features": False,
    "score": None,
    "select": False,
    "finetune": True,
    "evaluate": False,
    "export": None,
    "pretrain": True,
}
"""Kinds of work, the keys of `resources`: those that take all of the trainer's devices (True), one
device (False), none (None)."""


@dataclass(frozen=True)
class Names:
    """The choices of config groups, as the user named them."""

    setup: Name
    experiment: Name
    selector: Name
    influence: Name = "gradients"


@dataclass(frozen=True)
class RunConfig:
    """One run, whole. The fields are the keys of `conf/config.yaml`."""

    names: Names
    scale: Scale
    budget: Share
    seed: Seed
    selection_seed: Seed | None
    """Seed of random selection alone; None: `seed`, which fine-tuning has too."""
    stages: Annotated[list[Stage], Filled]
    plan: bool
    verify: bool
    """Read the content of every finished artifact that is used, before work starts."""
    reference: Literal["compute", "reuse", "none"]
    paths: PathSettings
    model: ModelSettings
    selection_model: ModelSettings | None
    """The model that warm-up, gradients and features are of; None: `model`, which is trained."""
    data: PoolSettings
    targets: TargetSettings
    benchmarks: BenchmarkGroup
    lora: LoraSettings
    warmup: WarmupSettings
    pretrain: PretrainSettings
    finetune: TrainSettings
    gradients: GradientSettings
    projection: dict[str, Any]
    """The random projection of gradients."""
    features: FeatureSettings
    influence: dict[str, Any]
    """What influence is measured with; see influence/sources/."""
    selector: dict[str, Any]
    references: dict[str, dict[str, Any]]
    """Selectors of the reference runs: `random` and `full`."""
    trainer: TrainerSettings
    logger: LoggerSettings
    executor: ExecutorSettings
    workers: Count | None
    """Processes of `executor=local`; None: one for each GPU, or each core."""
    resources: dict[str, Resources]
    """What each kind of work asks of the machine; see engine/resources.py."""
    leakage: bool = True
    """Look for pictures that tests share with pool and targets, where a run is evaluated."""
