"""Whatever a user's files hold, the answer is a result or an error that a person can act on.

`make fuzz` tries 10,000 inputs a test; the default is Hypothesis' hundred. Inputs are sound ones
with something spoiled, since what is wrong all over is refused at the first look.
"""

from __future__ import annotations

import io
import json
import os
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from icons_repro.core.errors import UserError
from icons_repro.core.settings import RecordPolicy
from icons_repro.core.types import Record
from icons_repro.data.conversation import ConversationEncoder
from icons_repro.data.images import ImageFolder
from icons_repro.data.records import RecordTable, build_records
from icons_repro.data.subset import write_subset
from icons_repro.data.target_tasks import subtasks
from icons_repro.evaluation.benchmark_files import answers_yes_or_no
from icons_repro.models.llava import load_processor
from icons_repro.selection.resolve import build_selector

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")
SECONDS = 10
fuzzed = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

any_text = st.text(st.characters(), max_size=30) | st.sampled_from(
    [
        "<image>",
        "<image>\n<image>",
        "</s>",
        "<unk>",
        "{{ 1 / 0 }}",
        "{% generation %}",
        "[INST]",
        " ",
    ]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | any_text
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from(["a.png", "b.jpg", "../a.png", "/etc/hosts", "link.png", "pipe", "", "\0"])
odd = values | names | st.sampled_from(
    [[], {}, float("nan"), float("inf"), 10**400, "\ud83d", None, 0, "", " ", "gpt", [[[]]]]
)  # fmt: skip


@st.composite
def conversations(draw: st.DrawFn, tagged: bool) -> list[dict[str, Any]]:
    """Return sound turns."""
    texts = draw(st.lists(any_text, min_size=2, max_size=4))
    turns = [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)]
    turns[0]["value"] = "<image>\n" * tagged + turns[0]["value"].replace("<image>", "")
    turns[1]["value"] += "yes"
    return turns


@st.composite
def rows(draw: st.DrawFn) -> Any:
    """Return a row that is sound, or was until something in it was exchanged or lost."""
    image = draw(st.none() | names)
    tagged = image is not None and draw(st.integers(0, 4)) > 0
    raw: dict[str, Any] = {"conversations": draw(conversations(tagged))}
    raw |= {} if image is None else {"image": draw(st.sampled_from([image, [image]]))}
    for key in draw(st.sets(st.sampled_from(["id", "source", "category", "score"]), max_size=2)):
        raw[key] = draw(values)
    return spoiled(draw, raw) if draw(st.booleans()) else raw


def spoiled(draw: st.DrawFn, raw: dict[str, Any]) -> Any:
    """Exchange or drop something in a row, or the row."""
    if draw(st.integers(0, 9)) == 0:
        return draw(odd)
    place: Any = raw
    key = draw(st.sampled_from(places(raw)))
    while (inside := places(place[key])) and draw(st.integers(0, 4)):
        place, key = place[key], draw(st.sampled_from(inside))
    if draw(st.integers(0, 4)) == 0:
        del place[key]
    else:
        place[key] = draw(odd)
    return raw


def places(value: Any) -> list[Any]:
    """Return the keys or numbers of what is inside a value."""
    if isinstance(value, dict):
        return list(value)
    return list(range(len(value))) if isinstance(value, list) else []


encodings = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1"])


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Return `content` with some bytes exchanged, and perhaps some put in or cut off."""
    spoilt = bytearray(content)
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, max(0, len(spoilt) - 1)))
        spoilt[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(spoilt)))
        gone = draw(st.sampled_from([0, 1, 4, 64, len(spoilt)]))
        spoilt[at : at + gone] = draw(st.binary(max_size=8))
    return bytes(spoilt)


class HangError(BaseException):
    """No `Exception`, since code that tries what it is given catches those."""


@contextmanager
def in_time() -> Iterator[None]:
    """Fail what hangs, be it in a loop or in `open`."""

    def stop(*_: object) -> None:
        raise HangError(f"no answer in {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `images/`, to write in."""
    home = tmp_path_factory.mktemp("fuzz")
    (home / "images").mkdir()
    Image.new("RGB", (4, 6), "red").save(home / "images" / "a.png")
    Image.new("RGB", (9, 2), "blue").save(home / "images" / "b.jpg")
    (home / "images" / "link.png").symlink_to("/etc/hosts")
    os.mkfifo(home / "images" / "pipe")
    return home


GOOD = {"conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": "!"}]}


def strictly(text: str) -> Any:
    """Parse JSON as other programs do: no NaN, no half characters."""
    text.encode()
    return json.loads(text, parse_constant=pytest.fail)


@fuzzed
@given(
    pool=st.lists(rows(), max_size=6),
    lines=st.booleans(),
    policy=st.builds(
        RecordPolicy,
        on_bad_row=st.sampled_from(["skip", "skip", "skip", "error"]),
        check_images=st.sampled_from(["none", "exists", "decode"]),
    ),
)
def test_every_row_of_a_sound_file_keeps_its_place_or_is_listed(
    pool: list[Any], lines: bool, policy: RecordPolicy, folder: Path
) -> None:
    pool = [GOOD, *pool]  # a file without any usable row is refused as a whole
    text = "\n".join(map(json.dumps, pool)) if lines else json.dumps(pool)
    (folder / "pool.json").write_text(text)
    with in_time():
        try:
            counts = build_records(folder / "pool.json", folder / "images", folder, policy)
        except UserError:
            return
        table = RecordTable(folder / "records.arrow")
        listed = (folder / "skipped.jsonl").read_text().splitlines()
        assert len(table) == counts["rows"] == len(pool)
        assert [json.loads(s)["row"] for s in listed] == np.flatnonzero(~table.usable).tolist()
        for position in np.flatnonzero(table.usable).tolist():
            assert table[position].raw == pool[position]
        every = [strictly(table.json_line(i)) for i in range(len(table))]
        write_subset(table, np.flatnonzero(table.usable), folder / "subset.json")
        chosen = strictly((folder / "subset.json").read_text())
        assert chosen == [row for row, ok in zip(every, table.usable, strict=True) if ok]
        assert len(table.keys) == len(table.sources) == len(subtasks(table)) == len(pool)


@fuzzed
@given(data=st.data(), pool=st.lists(rows(), max_size=4), lines=st.booleans(), encoding=encodings)
def test_a_damaged_pool_file_is_read_or_refused(
    data: st.DataObject, pool: list[Any], lines: bool, encoding: str, folder: Path
) -> None:
    plain = data.draw(st.booleans())
    dumped = [json.dumps(row, ensure_ascii=plain) for row in [GOOD, *pool]]
    text = "\n".join(dumped) if lines else f"[{','.join(dumped)}]"
    keep = "replace" if encoding == "latin-1" else "surrogatepass"
    content = data.draw(damaged(text.encode(encoding, keep)))
    (folder / "damaged.json").write_bytes(content)
    policy = RecordPolicy(on_bad_row="skip", check_images="none")
    with in_time(), suppress(UserError):
        build_records(folder / "damaged.json", folder / "images", folder, policy)
        table = RecordTable(folder / "records.arrow")
        for position in range(len(table)):
            strictly(table.json_line(position))


@pytest.fixture(scope="module")
def encoder(tiny_base: Path) -> ConversationEncoder:
    return ConversationEncoder(load_processor(tiny_base), max_length=64)


@fuzzed
@given(conversation=conversations(tagged=False) | conversations(tagged=True), image=names)
def test_a_row_that_passed_is_encoded_or_refused(
    conversation: list[Any], image: str, encoder: ConversationEncoder, folder: Path
) -> None:
    raw = {"conversations": conversation, "image": image}
    (folder / "row.json").write_text(json.dumps([raw]))
    with in_time(), suppress(UserError):
        build_records(folder / "row.json", folder / "images", folder)
        record: Record = RecordTable(folder / "records.arrow")[0]
        encoded = encoder.encode(record)
        assert len(encoded.input_ids) == len(encoded.labels) <= encoder.max_length


def picture(form: str) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((16, 12), 50).convert("RGB").save(out, form)
    return out.getvalue()


FORMATS = {form: picture(form) for form in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "ICO")}


@fuzzed
@given(data=st.data(), form=st.sampled_from(sorted(FORMATS)))
def test_a_damaged_picture_is_decoded_or_refused(
    data: st.DataObject, form: str, folder: Path
) -> None:
    (folder / "images" / "fuzzed").write_bytes(data.draw(damaged(FORMATS[form])))
    with in_time(), suppress(UserError):
        assert ImageFolder(folder / "images").load("fuzzed").mode == "RGB"


@fuzzed
@given(size=st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1)))
def test_a_picture_that_claims_to_be_huge_is_refused_before_it_is_decoded(
    size: tuple[int, int], folder: Path
) -> None:
    head = struct.pack(
        "<2sIHHIIiiHHIIiiII", b"BM", 58, 0, 0, 54, 40, *size, 1, 24, 0, 4, 0, 0, 0, 0
    )
    (folder / "images" / "fuzzed").write_bytes(head + bytes(4))
    with in_time(), suppress(UserError):
        assert max(ImageFolder(folder / "images").load("fuzzed").size) <= 10_000


def parquet(columns: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


SOUND = {
    "question_id": ["1", "2"],
    "image": [{"bytes": FORMATS["PNG"], "path": None}, None],
    "question": ["what", "where"],
    "answer": ["it", "here"],
}
WHOLE = parquet(SOUND)


@fuzzed
@given(content=damaged(WHOLE))
def test_a_damaged_benchmark_file_is_read_or_refused(content: bytes, folder: Path) -> None:
    (folder / "b.parquet").write_bytes(content)
    with in_time(), suppress(UserError):
        answers_yes_or_no(folder / "b.parquet")


columns = st.sampled_from(
    [
        [None, None],
        ["a", None],
        ["yes", "no"],
        [1, 2],
        [0.5, float("nan")],
        [b"\xff", b""],
        [[1], []],
        [True, False],
        [{"bytes": b"x", "path": "y"}, None],
        [{"bytes": "x"}, {"bytes": None}],
        [{"path": "x.png"}, None],
        [{}, {"bytes": {"bytes": b""}}],
    ]
)


@fuzzed
@given(
    odd=st.dictionaries(st.sampled_from([*SOUND, "other"]), columns),
    lost=st.sets(st.sampled_from(sorted(SOUND)), max_size=1),
)
def test_a_benchmark_of_odd_columns_is_read_or_refused(
    odd: dict[str, Any], lost: set[str], folder: Path
) -> None:
    table = {name: column for name, column in (SOUND | odd).items() if name not in lost}
    with suppress(pa.ArrowException):  # a table that cannot even be written
        (folder / "b.parquet").write_bytes(parquet(table))
        with in_time(), suppress(UserError):
            answers_yes_or_no(folder / "b.parquet")


TARGETS = [
    "icons_repro.selection.icons.Icons",
    "icons_repro.selection.tive.Tive",
    "icons_repro.selection.coincide.Coincide",
    "icons_repro.selection.base.Keep",
    "builtins.dict",
    "os.path.join",
    ".x",
    "icons_repro.",
]
keys = st.sampled_from(["_target_", "rule", "percentile", "tasks", "floor", "tau", "clusters"])


@fuzzed
@given(
    target=st.sampled_from(TARGETS) | any_text.filter(lambda t: "." not in t),
    arguments=st.dictionaries(keys, values, max_size=3),
)
def test_a_selectors_config_makes_a_selector_or_is_refused(
    target: str, arguments: dict[str, Any]
) -> None:
    with in_time(), suppress(UserError):
        assert build_selector({**arguments, "_target_": target}).name
