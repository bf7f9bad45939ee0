"""COINCIDE's features equal the source's reading, token by token, under LLaVA-1.5's template."""

import numpy as np
import pytest
import torch

from icons_repro.core.errors import ConfigError
from icons_repro.data.conversation import ConversationEncoder
from icons_repro.features.embeddings import CoincideFeatures, layers_at_sixths, prompt_length


def language_tokens(encoder: ConversationEncoder, ids: list[int], image_id: int) -> list[int]:
    """Places of the tokens after the image, or after the first `USER:` where there is none."""
    if image_id in ids:
        return list(range(len(ids) - ids[::-1].index(image_id), len(ids)))
    names = encoder.tokenizer.convert_ids_to_tokens(ids)
    return list(range(names.index("▁USER") + 2, len(ids)))  # past the colon


@torch.no_grad()
def test_each_half_is_tanh_of_the_mean_over_the_image_or_over_what_follows_it(opened) -> None:
    dataset, collate, model = opened
    features = CoincideFeatures(model, prompt_length(dataset.encoder), [0, 1])
    found = features.rows(collate([dataset[i] for i in range(12)]))["rows"]
    seen: list[torch.Tensor] = []
    layers = model.model.language_model.layers
    hooks = [
        layer.self_attn.o_proj.register_forward_hook(lambda m, a, out: seen.append(out[0]))
        for layer in layers
    ]
    image_id = model.config.image_token_id
    for i in range(12):
        seen.clear()
        batch = collate([dataset[i]])
        model(**{k: v for k, v in batch.items() if k not in ("labels", "positions")})
        ids = batch["input_ids"][0].tolist()
        after = language_tokens(dataset.encoder, ids, image_id)
        expected = []
        for output in seen:
            for places in ([j for j, t in enumerate(ids) if t == image_id], after):
                mean = output[places].mean(0) if places else torch.zeros(output.shape[-1])
                half = torch.tanh(mean)
                expected.append(half / half.norm().clamp_min(1e-12) / 2)
        torch.testing.assert_close(found[i], torch.cat(expected), rtol=1e-4, atol=1e-5)
    for hook in hooks:
        hook.remove()


@torch.no_grad()
def test_the_system_sentence_does_not_make_rows_alike(opened) -> None:
    """Its 29 tokens, the same in all rows, once outweighed a question of three words."""
    dataset, collate, model = opened
    batch = collate([dataset[i] for i in range(12)])
    features = CoincideFeatures(model, prompt_length(dataset.encoder))
    halves = features.rows(batch)["rows"].reshape(12, 2, 2, -1)[:, :, 1].flatten(1) * 2**0.5
    cosines = (halves @ halves.T)[np.triu_indices(12, 1)]
    assert cosines.mean() < 0.8  # .67; it was .97


@torch.no_grad()
def test_rows_with_an_image_have_length_one_and_text_rows_no_vision_half(opened) -> None:
    dataset, collate, model = opened
    features = CoincideFeatures(model, prompt_length(dataset.encoder))
    assert features.facts == {"layers": 2}
    found = features.rows(collate([dataset[i] for i in range(4)]))["rows"]
    torch.testing.assert_close(found.norm(dim=1), torch.tensor([1.0, 1.0, 0.5**0.5, 0.5**0.5]))
    vision = found.reshape(4, 2, 2, -1)[:, :, 0]
    assert (vision[2:] == 0).all()
    assert (vision[:2] != 0).any(dim=-1).all()


def test_the_layers_are_those_of_the_source_at_its_depth_and_as_deep_in_others() -> None:
    assert layers_at_sixths(24) == (3, 7, 11, 15, 19)  # TinyLLaVA-2.0B
    assert layers_at_sixths(32) == (5, 10, 15, 21, 26)
    assert layers_at_sixths(40) == (6, 13, 19, 26, 33)
    assert layers_at_sixths(4) == (0, 1, 2, 3)
    assert layers_at_sixths(1) == (0,)


def test_layers_that_the_model_lacks_are_refused(opened) -> None:
    _, _, model = opened
    with pytest.raises(ConfigError, match=r"coincide_layers=\[3, 7\]: .* 0 to 1"):
        CoincideFeatures(model, 0, [3, 7])
    with pytest.raises(ConfigError, match=r"coincide_layers=\[\]"):
        CoincideFeatures(model, 0, [])


def test_the_prompt_ends_where_the_first_question_begins(opened) -> None:
    dataset, _, _ = opened
    assert prompt_length(dataset.encoder) == 1 + 29 + 2  # <s>, the system sentence, "USER:"
