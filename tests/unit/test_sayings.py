"""How sentences are made as codes and values, and that they are told as they were kept."""

from __future__ import annotations

from services.sayings import kept, saying, told


def test_a_text_stays_a_text_a_number_a_number_and_a_part_a_sentence() -> None:
    part = saying("SCALE_OF", term="age", scale="scale.risk_ratio")
    whole = saying("STUDY_FOUND", members="12", value=0.5, days=30, effect=part)
    kinds = {one.name: one.WhichOneof("value") for one in whole.arguments}
    assert kinds == {"members": "text", "value": "number", "days": "number", "effect": "phrase"}
    assert whole.arguments[-1].phrase == part


def test_sentences_are_told_as_they_were_kept() -> None:
    sentences = [saying("CHECK_LOOPS"), saying("LIMIT_STAYS", tag="ph", limit=2.7)]
    assert told(kept(sentences)) == sentences
    assert kept(told(kept(sentences))) == kept(sentences)
