"""Two worlds that hear the same inputs: one is left in peace, the other is not; then they are compared."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.reliability.invariants import Facts, broken
from tests.reliability.observe import Observer, Seen, same
from tests.reliability.workload import Caller, Case, furnish
from tests.reliability.world import World

#: What is done to the rough world beside a case: it gets the world, and an event that is set when the
#: case is over.
Trouble = Callable[[World, threading.Event], None]
#: Production runs as three processes, so that its relay can be killed alone; the others as one each.
PARTS = {"production": ("api", "worker", "relay")}


class Stand:
    """The two worlds. Whoever breaks the comparison leaves it `spoilt`: the next test needs a new one."""

    def __init__(self, folder: Path) -> None:
        self.calm = World(folder / "calm", folder / "keys")
        self.rough = World(folder / "rough", folder / "keys", PARTS)
        self.spoilt = True
        #: So many dead letters lie in the rough world because a test wanted them.
        self.letters = 0
        self._count = 0
        self._behind: list[Future[None]] = []
        self._calm_plays = ThreadPoolExecutor(1, "calm")

    def start(self) -> None:
        with ThreadPoolExecutor(2) as both:
            list(both.map(World.start, (self.calm, self.rough)))
            self.peaceful, self.caller = Caller(self.calm), Caller(self.rough)
            list(both.map(furnish, (self.peaceful, self.caller)))
        self.observers = Observer(self.calm), Observer(self.rough)
        self.spoilt = False

    def stop(self) -> None:
        self._calm_plays.shutdown(wait=True, cancel_futures=True)
        for world in (self.calm, self.rough):
            world.stop()

    def case(self) -> Case:
        """The next case; the calm world plays it on its own."""
        self._count += 1
        made = Case(self._count)
        self._behind.append(self._calm_plays.submit(made.play, self.peaceful))
        return made

    @contextmanager
    def trouble(self, cause: Trouble) -> Iterator[threading.Event]:
        """Inside, the rough world has it; at the end the network is healed and everything serves.

        Gives an event that is set once the trouble is over by itself."""
        ended, over = threading.Event(), threading.Event()
        failed: list[BaseException] = []

        def run() -> None:
            try:
                cause(self.rough, ended)
            except BaseException as error:  # noqa: BLE001 -- told where it is waited for
                failed.append(error)
            finally:
                over.set()

        thread = threading.Thread(target=run, name="trouble")
        thread.start()
        try:
            yield over
        finally:
            ended.set()
            thread.join(120)
            self.rough.kafka_proxy.heal()
            self.rough.mongo_proxy.heal()
        if failed:
            raise failed[0]
        assert not thread.is_alive(), "the trouble did not end"

    def play(self, cause: Trouble) -> None:
        """One case under a trouble, then the comparison."""
        with self.judged(), self.trouble(cause):
            self.case().play(self.caller)

    @contextmanager
    def judged(self, *, moments: bool = True) -> Iterator[None]:
        """Afterwards both worlds are at rest, hold and have said the same, and no rule is broken."""
        self.spoilt = True
        try:
            yield
            self.compare(moments=moments)
        except BaseException as error:
            error.add_note(self._state())
            raise
        self.spoilt = False

    def _state(self) -> str:
        """How both worlds stand, for whoever has to understand a failure."""
        lines = []
        for name, observer in zip(("calm", "rough"), self.observers, strict=True):
            try:
                lines += [f"{name}: {line}" for line in observer.report()]
            except Exception as error:  # noqa: BLE001 -- it only helps to explain another one
                lines.append(f"{name} does not answer: {error!r}")
            lines += [f"{name} died: {death}" for death in observer.world.deaths[-12:]]
            lines += [f"{name} said: {line}" for line in observer.world.complaints()]
        return "\n".join(lines)

    def compare(self, *, moments: bool = True) -> None:
        while self._behind:
            self._behind.pop(0).result(300)
        self.rough.wait_serving()
        calm, rough = (self._look(observer, caller) for observer, caller in self._sides())
        assert len(rough.letters) == self.letters, f"dead letters: {rough.letters[-5:]}"
        same(calm, rough, moments=moments)

    def rests(self) -> None:
        """The rough world, by itself, is at rest and no rule is broken."""
        self.rough.wait_serving()
        self._look(self.observers[1], self.caller)

    def _sides(self) -> Iterator[tuple[Observer, Caller]]:
        return iter(zip(self.observers, (self.peaceful, self.caller), strict=True))

    @staticmethod
    def _look(observer: Observer, caller: Caller) -> Seen:
        observer.wait_for_rest()
        seen = observer.look()
        wrong = broken(
            Facts(seen.databases, seen.events, seen.ends, observer.marks(), caller.journal.acknowledged)
        )
        assert not wrong, "\n".join(wrong[:40])
        return seen
