from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icons_repro.core.types import Record
from icons_repro.data.conversation import ConversationEncoder
from icons_repro.data.dataset import Collator, Sample
from icons_repro.models.batches import IGNORE
from icons_repro.models.llava import image_sequence_length, load_processor


@pytest.fixture(scope="module")
def encoder(tiny_base: Path) -> ConversationEncoder:
    return ConversationEncoder(load_processor(tiny_base), max_length=64)


def record(*turns: str, image: bool = True) -> Record:
    raw: dict[str, Any] = {
        "conversations": [
            {"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(turns)
        ]
    }
    return Record(0, "k", raw, ("x.png",) if image else (), "test")


def supervised(encoder: ConversationEncoder, row: Record) -> list[str]:
    encoded = encoder.encode(row)
    chosen = encoded.input_ids[encoded.labels != IGNORE]
    assert np.array_equal(chosen, encoded.labels[encoded.labels != IGNORE])
    return encoder.tokenizer.convert_ids_to_tokens(chosen.tolist())


def test_only_answers_and_their_end_are_supervised(encoder: ConversationEncoder) -> None:
    row = record("<image>\nwhat color is the circle ?", "red", "how many ?", "2")
    assert supervised(encoder, row) == ["red", "</s>", "2", "</s>"]


def test_text_only_rows_have_no_image_tokens(encoder: ConversationEncoder) -> None:
    row = record("what color ?", "blue", image=False)
    encoded = encoder.encode(row)
    assert not (encoded.input_ids == encoder.image_id).any()
    assert supervised(encoder, row) == ["blue", "</s>"]


def test_an_image_expands_to_its_placeholders_at_the_front_of_the_turn(
    encoder: ConversationEncoder,
) -> None:
    ids = encoder.encode(record("what color ?\n<image>", "red")).input_ids
    where = np.flatnonzero(ids == encoder.image_id)
    assert len(where) == image_sequence_length(encoder.processor) == 16
    assert (np.diff(where) == 1).all()
    words = encoder.tokenizer.convert_ids_to_tokens(ids[where[-1] + 1 :].tolist())
    assert words[:2] == ["what", "color"]


def test_an_answer_without_text_supervises_its_end_alone(encoder: ConversationEncoder) -> None:
    row = record("<image>\nwhat color ?", "", "how many ?", "2")
    assert supervised(encoder, row) == ["</s>", "2", "</s>"]


def test_an_answer_before_the_first_question_is_left_out(encoder: ConversationEncoder) -> None:
    late = record("what color ?", "blue", image=False)
    turns = [{"from": "gpt", "value": "red"}, *late.conversations]
    early = Record(0, "k", {"conversations": turns}, (), "test")
    assert encoder.encode(early).input_ids.tolist() == encoder.encode(late).input_ids.tolist()


def test_in_a_row_without_an_image_an_image_tag_is_text(encoder: ConversationEncoder) -> None:
    row = record("what is <image> ?", "a <image>", image=False)
    encoded = encoder.encode(row)
    assert not (encoded.input_ids == encoder.image_id).any()
    assert supervised(encoder, row)[-1] == "</s>"


def test_truncation_inside_an_answer_keeps_what_is_left(tiny_base: Path) -> None:
    encoder = ConversationEncoder(load_processor(tiny_base), max_length=22)
    whole = ConversationEncoder(encoder.processor, max_length=64)
    row = record("<image>\nwhat color ?", "red blue green red blue green")
    kept = supervised(encoder, row)
    assert kept == supervised(whole, row)[: len(kept)]
    assert 0 < len(kept) < 7


def test_training_text_is_what_the_chat_template_makes_for_evaluation(
    encoder: ConversationEncoder,
) -> None:
    question = {"type": "text", "text": "what color ?"}
    prompt = encoder.processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "image"}, question]}], add_generation_prompt=True
    )
    text, _ = encoder.render(record("<image>\nwhat color ?", "red").conversations)
    assert " ".join(text.split()).startswith(" ".join(prompt.split()))


def test_a_batch_is_padded_on_the_right_with_images_in_row_order(
    encoder: ConversationEncoder,
) -> None:
    from PIL import Image

    rows = [
        record("<image>\nwhat color ?", "red"),
        record("what color ?", "blue", image=False),
        record("<image>\nwhat color is the circle ?", "blue"),
    ]
    images = [[Image.new("RGB", (32, 32), "red")], [], [Image.new("RGB", (32, 32), "blue")]]
    samples = [
        Sample(i, encoder.encode(r), im) for i, (r, im) in enumerate(zip(rows, images, strict=True))
    ]
    batch = Collator(encoder.processor)(samples)
    lengths = batch["attention_mask"].sum(1).tolist()
    assert lengths == [len(s.conversation.input_ids) for s in samples]
    assert (batch["labels"][batch["attention_mask"] == 0] == IGNORE).all()
    assert batch["pixel_values"].shape == (2, 3, 32, 32)
    red, blue = batch["pixel_values"].mean(dim=(2, 3))
    assert red[0] > red[2]
    assert blue[2] > blue[0]
