"""Change control of a limit against a model of it: whoever signs and records what, in whatever order."""

from __future__ import annotations

from collections.abc import Callable

from google.protobuf.message import Message
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pharmaloop.production.v1 import events_pb2 as events
from services.production.domain import capa as capas
from services.production.domain.capa import Capa
from services.refusals import Absent, Malformed, Refusal
from tests.unit.production.test_capa import WHOLE, assess, check, fold, validate

_BEFORE, _AFTER = 6.0, 5.0
_RECORDS = {"validation", "filing"}
_CATEGORIES = (events.FILING_CATEGORY_NOT_REPORTED, events.FILING_CATEGORY_PRIOR_APPROVAL)


class Life(RuleBasedStateMachine):
    """`state` and `recorded` are the model; `limit` is what is in force at the plant."""

    def __init__(self) -> None:
        super().__init__()
        self.held: Capa | None = None
        self.state = ""
        self.recorded: set[str] = set()
        self.limit = _BEFORE
        self.told: list[Message] = []

    def does(self, decide: Callable[[], list[Message]], allowed: bool) -> bool:
        """Let it be decided; it is refused exactly when the model says so, and then nothing is said."""
        try:
            decided = decide()
        except (Absent, Malformed, Refusal):
            assert not allowed
            return False
        assert allowed
        self.told += decided
        for event in decided:
            self.held = capas.evolve(self.held, event)
        return True

    @rule()
    def propose(self) -> None:
        decided = capas.decide_propose(self.held, WHOLE, "c1", _BEFORE, _AFTER)
        assert bool(decided) == (not self.state), "a run has one proposal"
        if decided:
            self.state, self.told = "proposed", [*self.told, *decided]
            self.held = capas.evolve(None, decided[0])

    @rule(meaning=st.sampled_from(["I agree", " "]))
    def approve(self, meaning: str) -> None:
        signed = bool(meaning.strip())
        if self.does(
            lambda: capas.decide_approve(self.held, "qa", meaning), self.state == "proposed" and signed
        ):
            self.state = "approved"

    @rule(record=st.sampled_from(["V-1", ""]))
    def validate(self, record: str) -> None:
        allowed = self.state == "approved" and "validation" not in self.recorded and bool(record)
        if self.does(lambda: validate(self.held, self.limit, record=record), allowed):
            self._record("validation")

    @rule(category=st.sampled_from(_CATEGORIES), reference=st.sampled_from(["A-7", ""]))
    def file(self, category: events.FilingCategory, reference: str) -> None:
        said = category == events.FILING_CATEGORY_NOT_REPORTED or bool(reference)
        allowed = self.state == "approved" and "filing" not in self.recorded and said
        if self.does(lambda: assess(self.held, self.limit, category=category, reference=reference), allowed):
            self._record("filing")

    def _record(self, what: str) -> None:
        self.recorded.add(what)
        if self.recorded == _RECORDS:
            self.state, self.limit = "effective", min(self.limit, _AFTER)

    @rule(limit=st.floats(3.0, 6.0))
    def another_action_tightens(self, limit: float) -> None:
        self.limit = min(self.limit, limit)

    @rule(helped=st.booleans())
    def look_whether_it_helped(self, helped: bool) -> None:
        outcome = (
            events.EFFECTIVENESS_OUTCOME_EFFECTIVE if helped else events.EFFECTIVENESS_OUTCOME_NOT_EFFECTIVE
        )
        if self.does(lambda: check(self.held, outcome=outcome), self.state == "effective"):
            self.state = "closed"

    @invariant()
    def it_stands_where_the_model_stands(self) -> None:
        assert (self.held.state if self.held else "") == self.state

    @invariant()
    def the_limit_changed_once_with_both_records_and_was_never_loosened(self) -> None:
        changes = [one for one in self.told if isinstance(one, events.ProcessLimitChanged)]
        learnt = [one for one in self.told if isinstance(one, events.InsightPublished)]
        assert len(changes) == len(learnt) == int(self.recorded == _RECORDS)
        assert all(one.limit_after <= min(one.limit_before, _AFTER) for one in changes)

    @invariant()
    def what_was_told_makes_the_same_state(self) -> None:
        if self.told:
            first = capas.evolve(None, self.told[0])
            assert fold(first, self.told[1:]) == self.held


Life.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestLife = Life.TestCase
