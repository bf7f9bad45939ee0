"""XMAS's singular values equal a literal reading of its published hooks, row by row."""

import numpy as np
import pytest
import torch

from icons_repro.core.errors import ConfigError
from icons_repro.features.cross_attention import (
    CrossAttention,
    repeated_heads,
    top_singular_values,
)


def published_scores(k_proj: torch.Tensor, q_proj: torch.Tensor) -> torch.Tensor:
    """BigML-CS-UCLA/XMAS, XMAS/get_trajectory.py:18-53, where both have one width."""
    d_k = q_proj.shape[-1]
    scores = torch.matmul(q_proj, k_proj.transpose(-2, -1)) / (d_k**0.5)
    return torch.softmax(scores, dim=-1)


@torch.no_grad()
def test_values_are_those_of_the_summed_slice_of_each_row_alone(opened) -> None:
    dataset, collate, model = opened
    features = CrossAttention(model)
    found = features.rows(collate([dataset[i] for i in range(12)]))["values"]
    seen: dict[str, list[torch.Tensor]] = {"q_proj": [], "k_proj": []}
    layers = model.model.language_model.layers
    hooks = [
        getattr(layer.self_attn, name).register_forward_hook(
            lambda m, a, out, name=name: seen[name].append(out)
        )
        for layer in layers
        for name in seen
    ]
    image_id = model.config.image_token_id
    for i in range(12):
        batch = collate([dataset[i]])
        for outputs in seen.values():
            outputs.clear()
        model(**{k: v for k, v in batch.items() if k not in ("labels", "positions")})
        ids = batch["input_ids"][0].tolist()
        if image_id not in ids:
            assert found[i].isnan().all()
            continue
        first, count = ids.index(image_id), ids.count(image_id)
        cross = 0
        for q, k in zip(seen["q_proj"], seen["k_proj"], strict=True):
            cross = cross + published_scores(k, q)[:, first + count :, first : first + count]
        expected = torch.linalg.svdvals(cross[0].float())[:5]
        expected = torch.nn.functional.pad(expected, (0, 5 - len(expected)))
        torch.testing.assert_close(found[i], expected, rtol=1e-3, atol=1e-4)
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("shape", [(3, 40), (40, 3), (12, 12)])
def test_the_values_are_the_largest_singular_values_padded_with_zeros(shape) -> None:
    matrix = torch.from_numpy(np.random.default_rng(0).random(shape, dtype=np.float32))
    exact = torch.linalg.svdvals(matrix.double())[:5]
    exact = torch.nn.functional.pad(exact, (0, 5 - len(exact))).float()
    torch.testing.assert_close(top_singular_values(matrix, 5), exact, rtol=1e-5, atol=1e-6)


def test_a_key_head_answers_all_the_queries_that_share_it() -> None:
    k = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    assert repeated_heads(k, 8, head=2).tolist() == [[1, 2, 1, 2, 3, 4, 3, 4]]
    assert repeated_heads(k, 4, head=2).tolist() == k.tolist()


def test_a_model_with_its_queries_and_keys_in_one_matrix_is_refused_by_name(
    opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, model = opened
    own = model.model.language_model.layers[0].self_attn
    monkeypatch.delitem(own._modules, "q_proj")
    with pytest.raises(ConfigError, match=r"selector=xmas reads q_proj .* LlamaAttention lacks"):
        CrossAttention(model)
