"""The life of a parameter set against a model of it: whoever signs what, in whatever order."""

from __future__ import annotations

from collections.abc import Callable

import hypothesis.strategies as st
from google.protobuf.message import Message
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pharmaloop.rnd.v1 import events_pb2 as events
from services.refusals import Refusal
from services.rnd.domain.parameter_sets import life
from services.rnd.domain.parameter_sets.model import ParameterSet, evolve
from services.rnd.domain.parameter_sets.rows import VersionRow, changed, drafted

PEOPLE, PLANTS = ("ada", "ben", "cy"), ("p", "q")
people, plants, versions = st.sampled_from(PEOPLE), st.sampled_from(PLANTS), st.integers(1, 4)


class Life(RuleBasedStateMachine):
    """`drafter`, `reviewer` by version; `at` is the version at a plant, `ever` what it had."""

    def __init__(self) -> None:
        super().__init__()
        self.held: ParameterSet | None = None
        self.rows: dict[int, VersionRow] = {}
        self.drafter: dict[int, str] = {}
        self.reviewer: dict[int, str] = {}
        self.withdrawn: set[int] = set()
        self.over: set[int] = set()
        self.at: dict[str, int] = {}
        self.ever: dict[str, set[int]] = {plant: set() for plant in PLANTS}

    def does(self, decide: Callable[[], list[Message]], allowed: bool) -> bool:
        """Let it be decided; it is refused exactly when the model says so."""
        try:
            decided = decide()
        except Refusal:
            assert not allowed
            return False
        assert allowed
        for event in decided:
            self.held = evolve(self.held, event)
            self._fold(event)
        return True

    def _fold(self, event: Message) -> None:
        if isinstance(event, events.ParameterSetDrafted):
            self.rows[event.version] = drafted(event, "t")
        else:
            version: int = getattr(event, "version")  # noqa: B009 -- every event of a set has it
            self.rows[version] = changed(self.rows[version], event, "t")

    @precondition(lambda self: len(self.drafter) < 4)
    @rule(who=people)
    def draft(self, who: str) -> None:
        version = len(self.drafter) + 1
        asked = events.ParameterSetDrafted(
            set="s", version=version, product="o/i/p", actor=who, changes=["statement"]
        )
        self.does(lambda: life.decide_draft(self.held, asked), True)
        self.drafter[version] = who

    def is_free(self, version: int) -> bool:
        return version in self.drafter and version not in self.withdrawn

    @rule(who=people, version=versions)
    def review(self, who: str, version: int) -> None:
        asked = events.ParameterSetReviewed(set="s", version=version, actor=who, meaning="m")
        fresh = self.is_free(version) and version not in self.reviewer
        if self.does(lambda: life.decide_review(self.held, asked), fresh and who != self.drafter[version]):
            self.reviewer[version] = who

    @rule(who=people, version=versions, plant=plants)
    def release(self, who: str, version: int, plant: str) -> None:
        asked = events.ParameterSetReleased(set="s", version=version, plant=plant, actor=who, meaning="m")
        signed = self.is_free(version) and self.reviewer.get(version, who) != who
        fresh = version not in self.over and version > max(self.at.get(plant, 0), *self.ever[plant], 0)
        if self.does(lambda: life.decide_release(self.held, [asked]), signed and fresh):
            self.at[plant] = version
            self.ever[plant].add(version)
            self._note_over()

    def _note_over(self) -> None:
        had = {version for ever in self.ever.values() for version in ever}
        self.over = {version for version in had if version not in self.at.values()} - self.withdrawn

    @rule(version=versions)
    def withdraw(self, version: int) -> None:
        allowed = self.is_free(version)
        if self.does(lambda: [*life.decide_withdraw(self.held, version, "cy", "r")], allowed):
            self.withdrawn.add(version)
            self.at = {plant: held for plant, held in self.at.items() if held != version}

    @invariant()
    def plants_work_by_one_version_that_two_people_signed(self) -> None:
        if self.held is None:
            return
        for plant in PLANTS:
            assert self.held.at(plant) == self.at.get(plant, 0)
        for version, release in self.held.standing():
            assert version.reviewer not in ("", version.drafter, release.actor)

    @invariant()
    def rows_say_what_the_set_is(self) -> None:
        states = {one.version: one.state for one in self.held.versions} if self.held else {}
        assert {version: row.state for version, row in self.rows.items()} == states


TestLife = Life.TestCase
