"""Image tokens equal the released code's steps, row by row, on a whole model."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from family_toys import BUILDERS, write_toy
from toy_rows import write_rows

from icons_repro.core.settings import DataSettings
from icons_repro.data.datamodule import open_dataset
from icons_repro.features.vision_tokens import VisionTokens, most_attended
from icons_repro.models.batches import IGNORE, model_inputs
from icons_repro.models.llava import load_model


@torch.no_grad()
def literal(model, batch, share: float) -> torch.Tensor:
    """ChangtiWu/ScalSelect, feature_extract_sft.py:215-288, of one row."""
    out = model(
        **model_inputs(batch), output_hidden_states=True, output_attentions=True, use_cache=False
    )
    ids, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
    image_id = model.config.image_token_id
    vision = [i for i, token in enumerate(ids) if token == image_id]
    user = [i for i in range(len(ids)) if ids[i] != image_id and labels[i] == IGNORE]
    weights = out.attentions[0][0].mean(dim=0)[user][:, vision].mean(dim=0)
    ordered, places = torch.sort(weights / weights.sum(), descending=True)
    beyond = (ordered.cumsum(dim=0) > share).nonzero()
    count = int(beyond[0]) + 1 if len(beyond) else len(vision)
    return out.hidden_states[1][0][[vision[i] for i in places[:count].tolist()]].mean(dim=0)


@pytest.mark.parametrize("share", [0.2, 0.9])
@torch.no_grad()
def test_attended_tokens_are_those_of_the_released_code(opened, share) -> None:
    dataset, collate, model = opened
    batch = collate([dataset[i] for i in range(12)])
    found = VisionTokens(deepcopy(model), share=share).rows(batch)
    model = deepcopy(model)
    model.set_attn_implementation("eager")
    for i in range(12):
        if dataset.table.image_counts[i] == 0:
            assert found["attended"][i].isnan().all()
            continue
        expected = literal(model, collate([dataset[i]]), share)
        torch.testing.assert_close(found["attended"][i], expected, rtol=1e-4, atol=1e-5)


def test_the_token_that_passes_the_share_is_the_last_one_taken() -> None:
    weights = torch.tensor([[[0.1, 0.6, 0.0, 0.3, 0.0]] * 5])
    image = torch.tensor([[True, True, False, True, False]])
    asking = torch.tensor([[False, False, True, False, False]])
    for share, taken in ((0.5, [1]), (0.61, [1, 3]), (0.95, [0, 1, 3]), (1.0, [0, 1, 3])):
        found = most_attended(weights, asking, image, share)
        assert found[0].nonzero().flatten().tolist() == taken, share
    assert not most_attended(weights, torch.zeros_like(asking), image, 0.9).any()
    even = most_attended(torch.zeros_like(weights), asking, image, 0.5)
    assert even[0].nonzero().flatten().tolist() == [0, 1]


@pytest.mark.parametrize("model_type", sorted(BUILDERS))
@torch.no_grad()
def test_every_family_has_image_tokens(model_type: str, tmp_path: Path) -> None:
    if model_type == "smolvlm":
        pytest.importorskip("num2words", reason="SmolVLM's processor asks for it")
    torch.manual_seed(0)
    folder = write_toy(model_type, tmp_path / "toy")
    write_rows(tmp_path, 3)
    dataset, collate = open_dataset(tmp_path, tmp_path, folder, DataSettings())
    found = VisionTokens(load_model(folder)).rows(collate([dataset[i] for i in range(3)]))
    for values in found.values():
        assert values.isfinite().all(dim=1).tolist() == [True, True, False]
