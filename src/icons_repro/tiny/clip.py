"""The tiny CLIP: a small image-text encoder pair, trained on the captions of the tiny world.

It plays the part of openai/clip-vit-large-patch14-336 and is loaded by the same code
(`models/encoders.py`). transformers' own `CLIPModel`, 32x32 pixels; its tokenizer has the words of
the tiny base, and its vision tower starts from the base's. `python -m icons_repro.tiny.clip
OUT` trains it anew (182 s of one core); the result ships in `weights/clip/`.

A picture of the validation split finds its own caption among 50 (chance 0.02) at a rate of 0.94
over all kinds of scene, 1.00 dots, 0.98 bars, 0.80 spatial, 0.76 letters; among the 24 captions of
shapes 0.58, of 10 digits 1.00. It is weak on wrong answers to short questions, which differ from
right ones by one word: their cosines are below the right ones' in 58% of pairs.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from pathlib import Path

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from tokenizers.processors import TemplateProcessing
from torch.nn import functional
from torch.utils.data import DataLoader
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    PreTrainedTokenizerFast,
)

from icons_repro.models.trainer import quiet_trainer
from icons_repro.tiny.captions import caption, facts
from icons_repro.tiny.model import IMAGE_SIDE, PATCH_SIDE, build_tiny_processor, load_tiny_base
from icons_repro.tiny.sampling import KINDS, Sampler
from icons_repro.tiny.streams import Split, stream

log = logging.getLogger(__name__)
TEXT_TOKENS = 77
"""CLIP's text length; a longer text is cut."""
WIDTH = 64


@dataclass(frozen=True)
class ClipTraining:
    """How the shipped encoder pair was trained."""

    scenes: int = 12_000
    """Pictures of the split "pretrain", so none occurs in any pool, validation or test."""
    batch_size: int = 256
    epochs: int = 20
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    seed: int = 0


@dataclass(frozen=True)
class Pairs:
    """Pictures with what can be said about each."""

    pixels: torch.Tensor
    """float32 `[N, 3, 32, 32]`, as the image processor gives them."""
    kinds: tuple[str, ...]
    captions: tuple[str, ...]
    facts: tuple[tuple[str, ...], ...]
    """Prompted captions with their answers ("focus red number 3") of each picture."""


def clip_config() -> CLIPConfig:
    """Return the architecture; the vision tower is of the tiny base's shape."""
    tokenizer = clip_tokenizer()
    shared = {
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "projection_dim": WIDTH,
    }
    text = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": TEXT_TOKENS,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {"image_size": IMAGE_SIDE, "patch_size": PATCH_SIDE}
    return CLIPConfig(
        text_config=shared | text, vision_config=shared | vision, projection_dim=WIDTH
    )


def clip_tokenizer() -> PreTrainedTokenizerFast:
    """Return the tiny base's tokenizer with CLIP's frame: `<s> text </s>`, 77 tokens at most."""
    tokenizer = build_tiny_processor().tokenizer
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in ("<s>", "</s>")}
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=list(ids.items())
    )
    tokenizer.model_max_length = TEXT_TOKENS
    return tokenizer


def clip_processor() -> CLIPProcessor:
    """Return CLIP's own processor for the small pictures and the small vocabulary."""
    image_processor = CLIPImageProcessor(
        size={"shortest_edge": IMAGE_SIDE},
        crop_size={"height": IMAGE_SIDE, "width": IMAGE_SIDE},
    )
    return CLIPProcessor(image_processor=image_processor, tokenizer=clip_tokenizer())


def draw_pairs(count: int, split: Split, seed: int) -> Pairs:
    """Draw `count` scenes of a split, the kinds in turn, and say what is on them."""
    rng = stream(seed, "clip", split)
    imitate = 0.5 if split == "pretrain" else 0.0  # as for the tiny base: few real shapes are left
    sampler = Sampler(split, stream(seed, "clip", split, "scenes"), imitate)
    kinds = tuple(KINDS[i % len(KINDS)] for i in range(count))
    scenes = [sampler.draw(kind) for kind in kinds]
    pixels = clip_processor().image_processor([s.pixels for s in scenes], return_tensors="pt")
    return Pairs(
        pixels["pixel_values"].float(),
        kinds,
        tuple(caption(scene) for scene in scenes),
        tuple(tuple(f"{p} {a}" for p, a in facts(scene, rng)) for scene in scenes),
    )


def contrastive_loss(scores: torch.Tensor, texts: list[str]) -> torch.Tensor:
    """Return CLIP's symmetric loss for `scores` `[B, B]` (image x text), in nats.

    Pictures of equal text are equally right: the target is uniform over them.
    """
    _, group = np.unique(np.array(texts), return_inverse=True)
    same = torch.from_numpy(group[:, None] == group[None, :]).to(scores)
    target = same / same.sum(dim=1, keepdim=True)
    rows = functional.cross_entropy(scores, target)
    return (rows + functional.cross_entropy(scores.T, target)) / 2


class ClipTrainer(L.LightningModule):
    """Trains the pair; each time a picture is seen, other true words are drawn for it."""

    def __init__(self, pairs: Pairs, settings: ClipTraining, steps: int) -> None:
        super().__init__()
        self.settings, self.steps, self._pairs = settings, steps, pairs
        self._rng = stream(settings.seed, "clip", "words")
        self._tokenizer = clip_tokenizer()
        self.model = CLIPModel(clip_config())
        tower = load_tiny_base().model.vision_tower.state_dict()
        own = self.model.vision_model.state_dict()
        self.model.vision_model.load_state_dict(own | {k: v for k, v in tower.items() if k in own})

    def words(self, row: int) -> str:
        """Say the whole caption of a picture, or (half of the time) one to three facts."""
        if self._rng.random() < 0.5:
            return self._pairs.captions[row]
        known = self._pairs.facts[row]
        order = self._rng.permutation(len(known))[: int(self._rng.integers(1, 4))]
        return " ".join(known[i] for i in order)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        """Return the contrastive loss of the pictures numbered in `batch` `[B]`."""
        texts = [self.words(row) for row in batch.tolist()]
        tokens = self._tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        output = self.model(
            input_ids=tokens["input_ids"].to(self.device),
            attention_mask=tokens["attention_mask"].to(self.device),
            pixel_values=self._pairs.pixels[batch.cpu()].to(self.device),
        )
        loss = contrastive_loss(output.logits_per_image, texts)
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW under a one-cycle rate."""
        s = self.settings
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=s.learning_rate, weight_decay=s.weight_decay
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, s.learning_rate, total_steps=self.steps
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def train_clip(out: Path, settings: ClipTraining | None = None) -> CLIPModel:
    """Train the pair and write it with its processor as a plain Hugging Face folder."""
    settings = settings or ClipTraining()
    L.seed_everything(settings.seed, verbose=False)
    pairs = draw_pairs(settings.scenes, "pretrain", settings.seed)
    rows = torch.arange(settings.scenes)
    loader: DataLoader[torch.Tensor] = DataLoader(
        rows,  # type: ignore[arg-type]
        settings.batch_size,
        shuffle=True,
        drop_last=True,
    )
    tuner = ClipTrainer(pairs, settings, steps=len(loader) * settings.epochs)
    quiet_trainer(
        accelerator="cpu",
        max_epochs=settings.epochs,
        callbacks=[TQDMProgressBar(refresh_rate=20)],
    ).fit(tuner, loader)
    tuner.model.save_pretrained(out)
    clip_processor().save_pretrained(out)
    return tuner.model.eval()


@torch.no_grad()
def retrieval_accuracy(model: CLIPModel, pairs: Pairs, candidates: int = 50) -> dict[str, float]:
    """Return, for each kind of scene and for all, how often a picture finds its own caption.

    Top 1 among the pictures' distinct captions, `candidates` at most, of the same kind of scene;
    "all" mixes the kinds. Chance is one over the number of captions.
    """
    tokenizer = clip_tokenizer()
    image = model.get_image_features(pixel_values=pairs.pixels).pooler_output
    accuracy: dict[str, float] = {}
    for kind in (*dict.fromkeys(pairs.kinds), "all"):
        chosen = [i for i, k in enumerate(pairs.kinds) if kind in (k, "all")]
        distinct = {pairs.captions[i]: i for i in reversed(chosen)}
        rows = sorted(distinct.values())[:candidates]
        texts = [pairs.captions[i] for i in rows]
        tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        text = model.get_text_features(tokens["input_ids"], tokens["attention_mask"]).pooler_output
        scores = functional.normalize(image[rows]) @ functional.normalize(text).T
        right = scores.argmax(dim=1) == torch.arange(len(rows))
        accuracy[f"{kind} (of {len(rows)})"] = round(float(right.float().mean()), 3)
    return accuracy


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    trained = train_clip(Path(sys.argv[1]))
    log.info("%s", retrieval_accuracy(trained, draw_pairs(1200, "validation", 0)))
