"""Settings made of parts: one group of keys in a config, a value each in the code."""

from dataclasses import dataclass, field

import pytest

from icons_repro.core.bounds import Count
from icons_repro.core.errors import ConfigError
from icons_repro.core.parts import gathered, keys_marked, keys_of, part
from icons_repro.core.step import PLACEMENT, placement
from icons_repro.core.typed import checked_part, defaults_of


@dataclass(frozen=True)
class Inner:
    size: Count = 3
    at: str = placement("here")


@dataclass(frozen=True)
class Group:
    inner: Inner = part(Inner)
    name: str = "a"


@dataclass(frozen=True)
class Placed:
    group: Group = part(Group)
    threads: int = placement(1)
    inner: Inner | None = None


@dataclass(frozen=True)
class Machine:
    placed: Placed
    shape: Inner = placement(Inner())


@dataclass(frozen=True)
class Whole:
    group: Group
    other: Inner = field(default_factory=Inner)


def test_a_parts_keys_are_its_owners_in_a_config_and_a_value_of_its_own_in_the_code() -> None:
    assert list(keys_of(Group)) == ["size", "at", "name"]
    tree = {"group": {"name": "b", "size": 5}, "other": {"size": 7}}
    assert checked_part(Whole, tree, "") == Whole(Group(Inner(5), "b"), Inner(7))
    assert gathered(Whole, tree)["group"] == {"name": "b", "inner": {"size": 5}}
    assert defaults_of(Whole) == {
        "group": {"size": 3, "at": "here", "name": "a"},
        "other": {"size": 3, "at": "here"},
    }


def test_marked_keys_are_named_as_a_config_names_them() -> None:
    assert list(keys_marked(Machine, PLACEMENT)) == [
        *("placed.at", "placed.threads", "placed.inner.at"),
        "shape",
    ]


@pytest.mark.parametrize(
    ("group", "says"),
    [
        ({"size": 0}, r"^top\.group\.size=0 is outside"),
        ({"sise": 4}, r"^unknown key top\.group\.sise; did you mean size\?"),
        ({"inner": {"size": 4}}, r"^unknown key top\.group\.inner"),
        (None, r"^top\.group=None"),
    ],
)
def test_an_error_names_the_key_as_it_is_written(group: object, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        checked_part(Whole, {"group": group}, "top")
