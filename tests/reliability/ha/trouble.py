"""Losing engines while a caller works: killed, replaced, worked without, and brought back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka.admin import ConfigResource, ResourceType

from services.kit.contracts import contract
from tests.reliability.asking import Acknowledged, Journal
from tests.reliability.ha.engines import COPIES, IN_STEP
from tests.reliability.ha.world import ThreeWorld
from tests.reliability.specs import SITE
from tests.reliability.world import SERVICES, until

Loss = Mapping[str, bool]
IN_TURN: tuple[Loss, ...] = ({"broker": True}, {"primary": True})
AT_ONCE: tuple[Loss, ...] = ({"broker": True, "primary": True},)
#: So many inputs are acknowledged while it is gone and replaced, before it comes back.
INPUTS = 5
_REPLACED_SECONDS, _INPUT_SECONDS, _BACK_SECONDS = 180.0, 480.0, 300.0


@dataclass(frozen=True)
class Absence:
    """Engines were gone: after so many seconds others stood in, and so many inputs were acknowledged then."""

    names: tuple[str, ...]
    seconds: float
    acknowledged: int

    def __str__(self) -> str:
        who = " and ".join(self.names)
        return f"{who}: replaced after {self.seconds:.1f} s, {self.acknowledged} inputs without"


class Trouble:
    """Kills engines with SIGKILL while a caller works; they come back when enough was done without."""

    def __init__(
        self, world: ThreeWorld, told: Sequence[Acknowledged], losses: Iterable[Loss], inputs: int = INPUTS
    ) -> None:
        """`told` grows with every input that is acknowledged; so many `inputs` are without who is gone."""
        self.world = world
        self.absences: list[Absence] = []
        self.given_up = threading.Event()
        self._losses = losses
        self._told = told
        self._inputs = inputs

    def run(self) -> None:
        """Who is gone is back, and has caught up, before the next goes."""
        for which in self._losses:
            self._absent(**which)

    def _absent(self, *, broker: bool = False, primary: bool = False) -> None:
        """The broker that leads most partitions, or the primary, or both at once."""
        world, replaced = self.world, list[Callable[[], object]]()
        names = []
        if broker:
            leader = world.brokers.first()
            names.append(leader.name)
            replaced.append(lambda: world.brokers.replaced(leader))
        if primary:
            first = world.members.primary()
            assert first is not None
            names.append(first.name)
            replaced.append(world.members.primary)
        began = time.monotonic()
        for name in names:
            world.lose(name)
        self._until(f"others stand in for {names}", lambda: all(one() for one in replaced), _REPLACED_SECONDS)
        took, before = time.monotonic() - began, len(self._told)
        self._until(
            f"inputs are acknowledged without {names}",
            lambda: len(self._told) >= before + self._inputs,
            _INPUT_SECONDS,
        )
        assert not any(world.children[name].is_alive for name in names)
        self.absences.append(Absence(tuple(names), took, len(self._told) - before))
        for name in names:
            world.bring_back(name)
        self._until("every partition has its copies again", world.brokers.in_step, _BACK_SECONDS)
        self._until("the set is whole again", world.members.whole, _BACK_SECONDS)

    def _until(self, what: str, test: Callable[[], object], seconds: float) -> None:
        def so() -> object:
            assert not self.given_up.is_set(), f"the caller failed before: {what}"
            return test()

        until(what, so, seconds)


@contextmanager
def three(
    folder: Path, services: Iterable[str] = SERVICES, kind: type[ThreeWorld] = ThreeWorld
) -> Iterator[ThreeWorld]:
    """A world that runs; who fails in it is told who died and what the services said."""
    world = kind(folder / "world", folder / "keys", services)
    try:
        world.start()
        _is_safe(world)
        yield world
    except BaseException as error:
        deaths = "\n".join(str(death) for death in world.deaths[-12:])
        error.add_note("\n".join([deaths, *world.complaints()]))
        raise
    finally:
        world.stop()


def _is_safe(world: ThreeWorld) -> None:
    """Every topic of the platform stands on three brokers and acknowledges what two of them have."""
    names = [name for name, _ in contract().names((SITE,))]
    copies = world.brokers.copies()
    assert {name: copies[name] for name in names} == dict.fromkeys(names, COPIES)
    asked = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    answers = world.brokers.admin.describe_configs(asked, request_timeout=10)
    in_step = {one.name: future.result()["min.insync.replicas"].value for one, future in answers.items()}
    assert in_step == dict.fromkeys(names, str(IN_STEP))


def work_on(
    world: ThreeWorld,
    journal: Journal,
    play: Callable[[int], None],
    losses: Iterable[Loss],
    inputs: int = INPUTS,
) -> int:
    """Cases, one after the other, until the trouble is over; answers how many. Only the engines died."""
    trouble, cases = Trouble(world, journal.acknowledged, losses, inputs), 0
    with ThreadPoolExecutor(1, "trouble") as beside:
        over = beside.submit(trouble.run)
        try:
            while not (cases and over.done()):
                cases += 1
                play(cases)
        finally:
            trouble.given_up.set()  # who is done already does not look
            print(f"{cases} cases, {journal.calls} calls, {len(journal.acknowledged)} acknowledged")
            print(f"not answered: {dict(journal.failed)}", *trouble.absences, sep="\n")
    over.result()
    killed = [name for absence in trouble.absences for name in absence.names]
    assert sorted(death.name for death in world.deaths) == sorted(killed)
    world.wait_serving()
    return cases
