"""What selectors read of the pool's rows besides influence."""

from __future__ import annotations

from typing import Any

from icons_repro.core.errors import ConfigError
from icons_repro.core.refs import Ref, existing, file_ref, source_ref
from icons_repro.data.stage import ReleasedKeys
from icons_repro.features.stage import (
    AttentionPass,
    AttentionTrajectory,
    ClipPass,
    CoincidePass,
    ForwardPass,
    ImagePass,
    QuestionPass,
    SelfFilter,
    SpectrumPass,
    TargetClipPass,
    TargetForwardPass,
    VisionTokenPass,
)
from icons_repro.graph.inputs import Inputs
from icons_repro.graph.warmups import WarmUps
from icons_repro.tiny.weights import TINY_CLIP


class FeatureSteps:
    """Passes over the pool, and files about it, one for each kind of feature."""

    def __init__(self, inputs: Inputs, warmups: WarmUps) -> None:
        self._inputs, self._warmups = inputs, warmups

    @property
    def forward(self) -> ForwardPass:
        """Losses and hidden states of the pool."""
        return ForwardPass(**self._pass)

    @property
    def target_forward(self) -> TargetForwardPass:
        """Losses and hidden states of the target tasks."""
        made = {name: value for name, value in self._pass.items() if name != "pool"}
        return TargetForwardPass(**made, targets=self._inputs.targets)

    @property
    def coincide(self) -> CoincidePass:
        """COINCIDE's attention outputs of the pool."""
        layers = self._inputs.config.features.coincide_layers
        return CoincidePass(**self._pass, layers=layers)

    @property
    def spectrum(self) -> SpectrumPass:
        """Singular values of the pool's token states."""
        return SpectrumPass(**self._pass)

    @property
    def vision_tokens(self) -> VisionTokenPass:
        """Image tokens of the pool in the base's first layer: ScalSelect trains no model."""
        return VisionTokenPass(**{**self._pass, "warmup": None})

    @property
    def questions(self) -> QuestionPass:
        """Losses with and without the question: at the warm-up, on what it was trained on."""
        return QuestionPass(**{**self._pass, "warmup": self._warmups.of_slice})

    @property
    def attention_trajectory(self) -> AttentionTrajectory:
        """XMAS's singular values over a run of the selection model on the whole pool."""
        i, features = self._inputs, self._inputs.config.features
        made: dict[str, Any] = {
            "pool": i.pool,
            "base": i.selection_base,
            "warmup": self._warmups.proxy(features.trajectory_points),
            "encoding": i.encoding,
            "trainer": i.trainer,
            "token_budget": features.token_budget,
        }
        points = [*range(1, features.trajectory_points), None]
        return AttentionTrajectory(point=tuple(AttentionPass(**made, point=p) for p in points))

    @property
    def _pass(self) -> dict[str, Any]:
        """What a forward pass over the pool reads: the warm-up's model, or the base's."""
        i, features = self._inputs, self._inputs.config.features
        return {
            "base": i.selection_base,
            "encoding": i.encoding,
            "trainer": i.trainer,
            "pool": i.pool,
            "warmup": self._warmups.of_slice if features.model == "warmup" else None,
            "dtype": features.dtype,
            "token_budget": features.token_budget,
        }

    @property
    def clip(self) -> ClipPass:
        """CLIP's embeddings of the pool."""
        return ClipPass(pool=self._inputs.pool, **self._clip)

    @property
    def target_clip(self) -> TargetClipPass:
        """CLIP's embeddings of the target tasks."""
        return TargetClipPass(targets=self._inputs.targets, **self._clip)

    @property
    def _clip(self) -> dict[str, Any]:
        i = self._inputs
        clip = self._encoder("features.clip", i.config.features.clip)
        return {"clip": clip, "trainer": i.trainer, "workers": i.encoding.num_workers}

    @property
    def images(self) -> ImagePass:
        """A vision encoder's class tokens of the pool's images."""
        i = self._inputs
        encoder = self._encoder("features.image_encoder", i.config.features.image_encoder)
        workers = i.encoding.num_workers
        return ImagePass(pool=i.pool, encoder=encoder, trainer=i.trainer, workers=workers)

    def _encoder(self, key: str, name: str | None) -> Ref:
        """Return what `key` names, or the CLIP that ships, where that knows the pool's pictures."""
        if name is None and self._inputs.world is None:
            raise ConfigError(
                f"{key} is not set, and the CLIP that ships knows the tiny world alone: "
                f"choose features=llava15, or {key}=FOLDER."
            )
        return source_ref(name or str(TINY_CLIP), self._inputs.index)

    @property
    def self_filter(self) -> SelfFilter:
        """Self-Filter's difficulty of the pool's rows."""
        i = self._inputs
        chosen = i.config.features.self_filter
        return SelfFilter(
            base=i.selection_base,
            pool=i.pool,
            clip=self.clip,
            settings=chosen,
            lora=i.config.lora if chosen.lora else None,
            encoding=i.encoding,
            trainer=i.trainer,
        )

    @property
    def released_keys(self) -> ReleasedKeys:
        """The content keys of the published subset `features.released`."""
        released = self._inputs.config.features.released
        if released is None:
            raise ConfigError(
                "selector=released needs the published subset: set features.released=FILE.json "
                "(LLaVA-ICONS-133K's JSON, say)."
            )
        path = existing(released, "features.released", folder=False)
        return ReleasedKeys(pool=self._inputs.pool, subset=file_ref(path, self._inputs.index))
