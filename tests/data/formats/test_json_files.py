import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sources import answers, picture, pool, pool_graph, turns

from icons_repro.core.errors import DataError
from icons_repro.data.export import write_sharegpt


def write(rows: list[Any], path: Path, *shades: int) -> Path:
    """Write rows, and the images that they name beside them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))
    for shade in shades:
        (path.parent / f"{shade}.png").write_bytes(picture(shade))
    return path


def said(content: Any, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": content}


YES = said("yes", "assistant")
FORMS: dict[str, tuple[Any, str]] = {
    "trl, text with a column of images": (
        {"messages": [said("what is it"), YES], "images": ["1.png"]},
        "<image>\nwhat is it",
    ),
    "trl, parts with a place": (
        {
            "messages": [said([{"type": "image"}, {"type": "text", "text": "what is it"}]), YES],
            "images": ["1.png"],
        },
        "<image>\nwhat is it",
    ),
    "trl, parts with the image": (
        {"messages": [said([{"type": "text", "text": "see "},
                            {"type": "image", "image": "1.png"}]), YES]},
        "see <image>",
    ),
    "trl, prompt and completion": (
        {"prompt": [said("what is it")], "completion": [YES], "image": "1.png"},
        "<image>\nwhat is it",
    ),
    "the hub's image_url": (
        {"messages": [said([{"type": "image_url", "image_url": {
            "url": "data:image/png;base64," + base64.b64encode(picture(1)).decode()}},
            {"type": "text", "text": "what is it"}]), YES]},
        "<image>\nwhat is it",
    ),
    "a system message": (
        {"messages": [said("be brief", "system"), said("<image>what is it"), YES],
         "images": ["1.png"]},
        "be brief\n\n<image>what is it",
    ),
    "sharegpt": (
        {"conversations": turns(), "images": ["1.png"]},
        "<image>\nis it so",
    ),
    "cauldron": (
        {"texts": [{"user": "what is it", "assistant": "yes", "source": "x"}], "images": ["1.png"]},
        "<image>\nwhat is it",
    ),
    "question and answer": (
        {"question": "what is it", "answer": "yes", "image": "1.png"},
        "<image>\nwhat is it",
    ),
}  # fmt: skip


def test_every_form_of_a_conversation_is_read_with_its_image(tmp_path: Path) -> None:
    path = write([row for row, _ in FORMS.values()], tmp_path / "in" / "x.json", 1)
    table, images = pool(tmp_path, f"data.path={path}")
    for i, (form, (_, question)) in enumerate(FORMS.items()):
        assert [t["value"] for t in table[i].conversations] == [question, "yes"], form
        assert (images / table[i].images[0]).read_bytes() == picture(1), form


BAD: dict[str, tuple[Any, str]] = {
    "image_elsewhere": ({"question": "q", "answer": "a", "image": "https://x.y/z.png"}, "download"),
    "missing_image": ({"question": "q", "answer": "a", "image": "2.png"}, "is not in"),
    "image_outside": ({"question": "q", "answer": "a", "image": "../o.png"}, "leaves the image"),
    "unreadable_image": ({"question": "q", "answer": "a", "image": "data:image/png,x"}, "base64"),
    "unknown_part": ({"messages": [said([{"type": "video"}]), YES]}, "'video'"),
    "unknown_speaker": ({"messages": [said("hello"), said("42", "tool")]}, "'tool'"),
    "no_conversations": ({"text": "hello"}, r"data\.columns"),
    "bad_turn": ({"messages": [said(None), YES]}, "turn 0"),
    "not_an_object": ("hello", "expected an object"),
    "image_token_count": ({"conversations": turns(tag=""), "images": ["1.png", "1.png"]}, "0 imag"),
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_row_is_named_by_file_row_and_reason(reason: str, tmp_path: Path) -> None:
    row, why = BAD[reason]
    path = write([FORMS["sharegpt"][0], row], tmp_path / "in" / "x.json", 1)
    (tmp_path / "o.png").write_bytes(picture(1))
    with pytest.raises(DataError, match=rf"in/x\.json, row 1: .*{why}"):
        pool(tmp_path, f"data.path={path}")
    table, _ = pool(tmp_path, f"data.path={path}", "data.on_bad_row=skip")
    assert table.usable.tolist() == [True, False]
    assert json.loads((table.path.parent / "skipped.jsonl").read_text())["reason"] == reason


def test_the_sharegpt_that_a_run_exports_is_a_pool_again(tmp_path: Path) -> None:
    rows = [{"conversations": turns(f"{n}"), "images": [f"{n}.png"]} for n in range(3)]
    path = write(rows, tmp_path / "in" / "x.json", 0, 1, 2)
    table, images = pool(tmp_path, f"data.path={path}")
    write_sharegpt(table, np.array([0, 2]), tmp_path / "subset.json")
    again, other = pool(
        tmp_path / "again", f"data.path={tmp_path}/subset.json", f"data.images={images}"
    )
    assert answers(again) == ["0", "2"]
    assert again[1].images == table[2].images
    assert Image.open(other / again[1].images[0]).getpixel((0, 0)) == (2, 0, 0)


def test_an_exchanged_picture_is_another_pool_and_an_equal_copy_elsewhere_is_not(
    tmp_path: Path,
) -> None:
    path = write([FORMS["sharegpt"][0]], tmp_path / "a" / "x.json", 1)
    how = "data.image_identity=hash"
    before = pool_graph(tmp_path, f"data.path={path}", how).pool.fingerprint
    copy = write([FORMS["sharegpt"][0]], tmp_path / "b" / "x.json", 1)
    assert pool_graph(tmp_path, f"data.path={copy}", how).pool.fingerprint == before
    (tmp_path / "a" / "1.png").write_bytes(picture(200) + b" ")
    assert pool_graph(tmp_path, f"data.path={path}", how).pool.fingerprint != before
