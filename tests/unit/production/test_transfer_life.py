"""The life of a transfer against a small model of it: whatever happens, and in whichever order."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pharmaloop.production.v1 import events_pb2 as events
from services.kit.errors import Rejected
from services.production.views import TRANSFERS
from tests.unit.production.transfer_story import PRODUCT, TRANSFER, FakeTwin, Story, measured, result, start

VERSIONS = (1, 2, 3)
ACTIONS = st.one_of(
    st.tuples(st.sampled_from(["release", "open", "withdraw", "supersede"]), st.sampled_from(VERSIONS)),
    st.tuples(
        st.sampled_from(["steps", "accept", "refuse", "validate", "file", "start", "test", "line"]),
        st.just(0),
    ),
)
#: What is said anew of a version whose line has changed.
_AGAIN = {
    *("TwinAdapted", "OptimisationProposed", "OptimisationDecided"),
    *("RecipeValidated", "RecipeFilingAssessed"),
}


class Model:
    """What a version may become, written down without looking at how it is done."""

    def __init__(self) -> None:
        self.released: set[int] = set()
        self.opened: set[int] = set()
        self.over: set[int] = set()
        self.state: dict[int, str] = {}
        self.recorded: dict[int, set[str]] = {}
        self.lots: list[int] = []

    @property
    def newest(self) -> int:
        return max(self.state, default=0)

    def end(self, version: int) -> None:
        if version in self.opened:
            self.state[version] = "ended"

    def supersede(self, version: int) -> None:
        if self.state.get(version) not in ("effective", "concluded"):
            self.end(version)

    def steps(self) -> None:
        for version in sorted(self.opened - self.over):
            if self.newest < version:
                self.state[version] = "proposed"

    def line(self) -> None:
        """What is not effective yet is adapted and advised anew; what was signed of it is void."""
        if self.newest not in self.over and self.state.get(self.newest) == "in_change_control":
            self.state[self.newest] = "proposed"
            self.recorded.pop(self.newest, None)

    def decide(self) -> bool:
        return self._move("proposed", "in_change_control")

    def record(self, what: str) -> bool:
        newest, known = self.newest, self.recorded.setdefault(self.newest, set())
        if self.state.get(newest) != "in_change_control" or what in known:
            return False
        known.add(what)
        if len(known) == 2:
            before = {v: "ended" for v, state in self.state.items() if state in ("effective", "concluded")}
            self.state |= before | {newest: "effective"}
        return True

    def start(self) -> bool:
        usable = [v for v, state in self.state.items() if state in ("effective", "concluded")]
        if usable:
            self.lots.append(max(usable))
        return bool(usable)

    def test(self) -> None:
        """Every lot that was started is tested."""
        for version in self.lots:
            if self.state[version] == "effective":
                self.state[version] = "concluded"

    def _move(self, before: str, after: str) -> bool:
        if self.state.get(self.newest) != before:
            return False
        self.state[self.newest] = after
        return True


class Life:
    """The same actions, done to the service and to the model."""

    def __init__(self) -> None:
        self.story, self.model = Story(FakeTwin()), Model()
        self.story.register()
        self._slower = False

    def act(self, action: str, version: int) -> None:
        model, story = self.model, self.story
        if action == "release":
            story.give(story.released(version))
            model.released.add(version)
        elif action == "open" and version in model.released - model.opened:
            story.give(story.opened(version))
            model.opened.add(version)
            if version in model.over:
                model.end(version)
        elif action in ("withdraw", "supersede") and version in model.released:
            story.give(story.withdrawn(version) if action == "withdraw" else story.superseded(version))
            model.over.add(version)
            model.end(version) if action == "withdraw" else model.supersede(version)
        elif action == "steps":
            story.run_steps()
            model.steps()
        elif action == "line":
            self._slower = not self._slower
            story.register(stirrer_max_per_s=5.0 if self._slower else 5.8)
            story.run_steps()
            model.line()
            model.steps()
        else:
            self._of_people(action)

    def _of_people(self, action: str) -> None:
        model, story = self.model, self.story
        if action in ("accept", "refuse"):
            known = TRANSFER in story.memory.states(TRANSFERS) and story.newest().proposed
            proposal = story.newest().proposal().proposal if known else "none"
            self._asked(lambda: story.decide(action == "accept", proposal=proposal), model.decide())
        elif action in ("validate", "file"):
            self._asked(story.validate if action == "validate" else story.file, model.record(action))
        elif action == "start":
            lot = f"{PRODUCT}/L-{len(model.lots)}"
            self._asked(lambda: start(story, lot), model.start())
        elif action == "test":
            for number in range(len(model.lots)):
                lot = f"{PRODUCT}/L-{number}"
                measured(story, result("titre", 4.1, lot), result("impurity", 0.9, lot))
            model.test()

    def _asked(self, ask: Callable[[], object], allowed: bool) -> None:
        if allowed:
            ask()
            return
        before = len(self.story.memory.out())
        with pytest.raises(Rejected):
            ask()
        assert len(self.story.memory.out()) == before, "a refusal leaves nothing behind"

    def check(self) -> None:
        held = self.story.memory.states(TRANSFERS).get(TRANSFER)
        states = {one.version: one.state for one in held.versions} if held else {}
        assert states == self.model.state

    def check_story(self) -> None:
        """What was said, over all: each version once, nothing after its end, nothing effective unsigned."""
        seen: dict[str, list[str]] = {}
        for event in self.story.memory.out():
            if event.source.endswith("/transfer"):
                seen.setdefault(event.run, []).append(type(event.message).__name__)
        for told in seen.values():
            once = [name for name in told if name not in _AGAIN]
            assert len(once) == len(set(once))
            if "TransferEnded" in told:
                after = told[told.index("TransferEnded") + 1 :]
                assert after == (["TransferOutcomeRecorded"] if after else []), "of a lot that it made"
            if "RecipeEffective" in told:
                last = max(at for at, name in enumerate(told) if name == "TwinAdapted")
                before = told[last : told.index("RecipeEffective")]
                assert {"OptimisationDecided", "RecipeValidated", "RecipeFilingAssessed"} <= set(before)
        assert not self.story.out(events.TransferRefused)


WHOLE_LIFE = [
    *(("release", 1), ("open", 1), ("steps", 0), ("accept", 0), ("validate", 0), ("file", 0)),
    *(("start", 0), ("test", 0), ("release", 2), ("supersede", 1), ("open", 2), ("steps", 0)),
    *(("line", 0), ("refuse", 0), ("file", 0), ("withdraw", 2), ("validate", 0), ("start", 0)),
]


def live(actions: list[tuple[str, int]]) -> Life:
    life = Life()
    for action, version in actions:
        life.act(action, version)
        life.check()
    life.check_story()
    return life


def test_a_whole_life_reaches_every_state() -> None:
    reached: set[str] = set()
    life = Life()
    for action, version in WHOLE_LIFE:
        life.act(action, version)
        life.check()
        reached |= set(life.model.state.values())
    life.check_story()
    assert reached == {"proposed", "in_change_control", "effective", "concluded", "ended"}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ACTIONS, max_size=24), st.integers(0, len(WHOLE_LIFE)))
def test_whatever_happens_a_transfer_is_where_its_model_is(
    actions: list[tuple[str, int]], begun: int
) -> None:
    live([*WHOLE_LIFE[:begun], *actions])
