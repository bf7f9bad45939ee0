"""A model says how much of a text it can read."""

from llama_tokenizer import llama_like

from icons_repro.models.vocabulary import coverage, spread
from icons_repro.tiny.model import build_tiny_processor


def test_the_tiny_model_does_not_know_a_foreign_pools_words() -> None:
    tokenizer = build_tiny_processor().tokenizer
    known = coverage(tokenizer, ["How many pips ?", "How many pips does it show ?"])
    assert not known.enough
    assert known.unknown["pips"] == 2
    assert "pips" in str(known)
    home = coverage(tokenizer, ["what color is the circle ?", "red"])
    assert home.share > known.share


def test_a_tokenizer_without_an_unknown_token_knows_everything() -> None:
    tokenizer = llama_like(legacy=False)
    assert not coverage(tokenizer, ["\N{SNOWMAN}"]).enough
    tokenizer.unk_token = None
    assert coverage(tokenizer, ["\N{SNOWMAN}"]).share == 1.0
    assert coverage(tokenizer, []).enough


def test_a_spread_reaches_over_all_and_is_bounded() -> None:
    places = spread(10_001, 1000)
    assert len(places) <= 1000
    assert (places[0], places[-1] > 9_900) == (0, True)
    assert list(spread(3, 1000)) == [0, 1, 2]
