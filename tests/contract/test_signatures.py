"""Whoever decides signs: the record says who, when, and what the signature means (21 CFR 11.50)."""

from __future__ import annotations

from importlib import import_module

from google.protobuf.descriptor import Descriptor

_DOMAINS = ("production", "rnd", "loops", "exchange", "alerting", "traceability", "clinical")
#: What a person says to a decision.
_WORDS = {"reason", "statement", "impact", "note", "instruction"}
#: Has an actor and words, and is no decision: a computation that somebody ran, and what a rule makes of
#: somebody's decision, which is an event of its own.
_NO_DECISIONS = {"TrialCompleted", "AlertSeverityRaised", "AlertResolved"}
#: Decisions of which the person says nothing but that they decide.
_WORDLESS = {
    *("LotReleased", "CapaApproved", "ParameterSetReviewed", "ParameterSetReleased", "StudyApproved"),
}


def _events() -> dict[str, Descriptor]:
    found: dict[str, Descriptor] = {}
    for domain in _DOMAINS:
        file = import_module(f"pharmaloop.{domain}.v1.events_pb2").DESCRIPTOR
        found |= file.message_types_by_name
    return found


def test_every_event_of_a_decision_says_what_the_signature_means() -> None:
    told = _events()
    decisions = {
        name
        for name, event in told.items()
        if name in _WORDLESS or ("actor" in event.fields_by_name and _WORDS & set(event.fields_by_name))
    } - _NO_DECISIONS
    assert len(decisions) > 25
    assert sorted(name for name in decisions if "meaning" not in told[name].fields_by_name) == []


def test_every_meaning_of_an_event_has_an_actor_who_signs() -> None:
    lacking = [
        name
        for name, event in _events().items()
        if "meaning" in event.fields_by_name and "actor" not in event.fields_by_name
    ]
    assert lacking == []
