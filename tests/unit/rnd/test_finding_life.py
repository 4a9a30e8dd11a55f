"""The life of findings and of the hypothesis that they move, against a model of it, in any order."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pharmaloop.rnd.v1 import events_pb2 as events
from pharmaloop.rnd.v1 import service_pb2 as api
from services.kit.errors import Invalid, Rejected, Unknown
from services.rnd.views import DECLINED, FINDING_ROWS, HYPOTHESES, HYPOTHESIS_ROWS
from tests.unit.rnd.memory import Research
from tests.unit.rnd.test_candidates import (
    CONTRADICTED,
    GOOD,
    HARM,
    NEEDS_DATA,
    NONE,
    NOTHING,
    SUPPORTED,
    catalogue,
    product,
    publish,
)

MEDICINE = "warfarin"
EFFECTS = {"good": GOOD, "harm": HARM, "nothing": NOTHING, "none": NONE}
#: What findings of one kind alone, however many, say of the claim.
_ALONE = {"good": SUPPORTED, "harm": CONTRADICTED, "nothing": NEEDS_DATA}


class Findings(RuleBasedStateMachine):
    """`said` is what each finding found, `state` what became of it, `order` those that were taken up."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = TemporaryDirectory()
        self.research = Research(Path(self._folder.name))
        self.registered = False
        self.said: dict[str, str] = {}
        self.state: dict[str, str] = {}
        self.order: list[str] = []

    def teardown(self) -> None:
        self._folder.cleanup()

    @precondition(lambda self: not self.registered)
    @rule()
    def register(self) -> None:
        catalogue(self.research, MEDICINE)
        self.registered = True

    @precondition(lambda self: len(self.said) < 5)
    @rule(found=st.sampled_from(sorted(EFFECTS)))
    def publish(self, found: str) -> None:
        number = len(self.said) + 1
        insight = publish(self.research, MEDICINE, EFFECTS[found], study=number, hour=number)
        self.said[insight], self.state[insight] = found, "waiting"
        if self.registered and found != "none":
            self._taken_up(insight)

    @precondition(lambda self: self.said)
    @rule(chance=st.randoms(use_true_random=False))
    def publish_again(self, chance: Any) -> None:
        number = chance.randint(1, len(self.said))
        found = self.said[f"insight-{number}"]
        before = len(self.research.told(events.HypothesisUpdated))
        publish(self.research, MEDICINE, EFFECTS[found], study=number, hour=number)
        assert len(self.research.told(events.HypothesisUpdated)) == before

    insights = st.integers(1, 6).map(lambda number: f"insight-{number}")

    @rule(insight=insights)
    def take_up(self, insight: str) -> None:
        waits = self.state.get(insight) == "waiting"
        request = api.TakeUpInsightRequest(insight=insight)
        if self._does("TakeUpInsight", request, waits and self.registered):
            self._taken_up(insight)

    @rule(insight=insights, reason=st.sampled_from(["confounded", ""]))
    def decline(self, insight: str, reason: str) -> None:
        request = api.DeclineInsightRequest(insight=insight, reason=reason)
        if self._does("DeclineInsight", request, self.state.get(insight) == "waiting" and bool(reason)):
            self.state[insight] = "declined"

    def _taken_up(self, insight: str) -> None:
        self.state[insight] = "taken_up"
        self.order.append(insight)

    def _does(self, method: str, request: Any, allowed: bool) -> bool:
        """Ask; it is refused exactly when the model says so, and then nothing is said."""
        before = len(self.research.database.outbox)
        try:
            self.research.call(method, request, "cy")
        except (Invalid, Rejected, Unknown):
            assert not allowed
            assert len(self.research.database.outbox) == before
            return False
        assert allowed
        return True

    @invariant()
    def every_finding_is_where_its_model_is(self) -> None:
        rows = self.research.states(FINDING_ROWS)
        assert {insight: row.state for insight, row in rows.items()} == self.state
        declined = {insight for insight, state in self.state.items() if state == "declined"}
        assert set(self.research.states(DECLINED)) == declined

    @invariant()
    def a_finding_is_decided_once(self) -> None:
        kinds: tuple[Any, ...] = (events.HypothesisUpdated, events.InsightDeclined)
        told = [one for kind in kinds for one in self.research.told(kind)]
        decided = [one for one, state in self.state.items() if state != "waiting"]
        assert Counter(one.insight for one in told) == Counter(decided)

    @invariant()
    def the_hypothesis_rests_on_what_was_taken_up(self) -> None:
        # A finding without a number is about the other scale, and so about another claim.
        held = {one.updated: one.insights for one in self.research.states(HYPOTHESES).values()}
        assert sorted(insight for insights in held.values() for insight in insights) == sorted(self.order)
        rows = self.research.states(HYPOTHESIS_ROWS).values()
        assert {row.updated: row.insights for row in rows} == held

    @invariant()
    def findings_of_one_kind_say_what_each_says(self) -> None:
        for belief in self.research.states(HYPOTHESES).values():
            assert belief.message().product == product(MEDICINE)
            kinds = {self.said[insight] for insight in belief.insights} - {"none"}
            wanted = {_ALONE[kind] for kind in kinds} or {NEEDS_DATA}
            if len(wanted) == 1 and kinds != {"nothing"}:
                assert {belief.message().state} == wanted


Findings.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestFindings = Findings.TestCase
