"""The next piece of work is prepared while this one is done, in order, and one at a time."""

from __future__ import annotations

import threading

import pytest

from icons_repro.evaluation.ahead import prepared_ahead


def test_items_come_in_order_with_what_was_made_of_them() -> None:
    assert list(prepared_ahead(lambda n: n * n, range(4))) == [(0, 0), (1, 1), (2, 4), (3, 9)]
    assert list(prepared_ahead(str, [])) == []


def test_the_next_item_is_prepared_while_this_one_is_worked_on_and_no_further_one() -> None:
    begun = [threading.Event() for _ in range(4)]

    def prepare(number: int) -> int:
        begun[number].set()
        return number

    for number, _ in prepared_ahead(prepare, range(4)):
        if number < 3:
            assert begun[number + 1].wait(5), "it is prepared without anybody asking for it"
        assert not any(event.is_set() for event in begun[number + 2 :])


def test_what_goes_wrong_while_preparing_is_raised_in_its_place() -> None:
    def prepare(number: int) -> int:
        if number == 2:
            raise KeyboardInterrupt
        return number

    found = prepared_ahead(prepare, range(4))
    assert [next(found), next(found)] == [(0, 0), (1, 1)]
    with pytest.raises(KeyboardInterrupt):
        next(found)
