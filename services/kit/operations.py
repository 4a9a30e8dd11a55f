"""What operators do to dead letters: see them, have them processed again, give them up.

Nothing here processes a record: a letter is marked, and its runner takes it up
in the order of its key; a loop is told of it by records (`runners/loop_letters`).
A letter that is given up says for ever who did it and why.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Any

from services.kit.clock import wall_now
from services.kit.errors import Invalid, Rejected, Unknown
from services.kit.runners.letters import DISCARDED, LETTERS, REDRIVE, Letter
from services.kit.runners.notes import PARKED
from services.kit.store.kinds import Get, Plan, Stored, Where, Write
from services.kit.store.protocol import AsyncStore, AsyncTransaction


@dataclass(frozen=True)
class Choice:
    """Which letters are meant; what is empty does not narrow."""

    letters: tuple[str, ...] = ()
    runner: str = ""
    reason: str = ""

    @property
    def narrows(self) -> bool:
        return bool(self.letters or self.runner or self.reason)

    def takes(self, letter: Stored[Letter]) -> bool:
        state = letter.state
        return (
            (not self.letters or letter.id in self.letters)
            and self.runner in ("", state.runner)
            and self.reason in ("", state.reason)
        )


class DeadLetters:
    """The dead letters of one service."""

    def __init__(self, store: AsyncStore, runners: Container[str], loops: Container[str] = ()) -> None:
        """`runners` are those that can process a letter again in the database's transactions, `loops` the
        others."""
        self._store = store
        self._runners = runners
        self._loops = loops

    async def get(self, id: str) -> Stored[Letter]:
        found = await self._store.get(LETTERS, id)
        if found is None:
            raise Unknown(
                "UNKNOWN_LETTER", f"there is no letter {id!r}; `pharmaloop dlq list` shows them", "letter"
            )
        return found

    async def redrive(self, choice: Choice, actor: str) -> int:
        """Have letters processed again; answers how many.

        Of an ordered key all letters before the chosen one must be done,
        discarded or chosen too: Invalid names the first that stands in the way.
        """
        chosen = await self._chosen(choice)
        ids = {letter.id for letter in chosen}
        for letter in chosen:
            self._check_runner(letter.state)
            await self._check_order(letter, ids)
        return sum([await self._judge(letter.id, REDRIVE, actor, "") for letter in chosen])

    async def discard(self, choice: Choice, actor: str, why: str) -> int:
        """Give letters up; answers how many. What is parked behind the last of a key goes on.

        Rejected names the first that a loop is about to process.
        """
        if not why.strip():
            raise Invalid("REQUIRED", "say why these inputs may be given up", "reason")
        chosen = await self._chosen(choice)
        for letter in chosen:
            _check_rests(letter)
        return sum([await self._judge(letter.id, DISCARDED, actor, why) for letter in chosen])

    async def named(self, ids: Iterable[str]) -> list[Stored[Letter]]:
        """The letters of these ids; Unknown names the first that does not exist."""
        return [await self.get(id) for id in dict.fromkeys(ids)]

    async def _chosen(self, choice: Choice) -> list[Stored[Letter]]:
        if not choice.narrows:
            raise Invalid("REQUIRED", "name letters, a runner or a reason", "filter")
        await self.named(choice.letters)
        waiting = await self._store.where(LETTERS, "waits", True)
        return sorted((one for one in waiting if choice.takes(one)), key=lambda one: one.id)

    def _check_runner(self, letter: Letter) -> None:
        if letter.runner not in self._runners and letter.runner not in self._loops:
            raise Rejected(
                "NO_SUCH_RUNNER",
                f"this version of the service has no runner {letter.runner}, so nobody would process "
                "the letter: deploy one that has it, or discard the letter",
                "filter",
            )

    async def _check_order(self, letter: Stored[Letter], chosen: set[str]) -> None:
        if not letter.state.key:
            return
        for other in await self._store.where(LETTERS, "key", letter.state.key):
            if other.state.waits and other.id < letter.id and other.id not in chosen:
                raise Invalid(
                    "OUT_OF_ORDER",
                    f"letter {other.id} stands before {letter.id} on its key: choose it too, or discard it",
                    "filter",
                )

    async def _judge(self, id: str, state: str, actor: str, why: str) -> bool:
        """Note what was decided; False where the letter has been settled meanwhile."""

        async def work(txn: AsyncTransaction) -> bool:
            found = (await txn.load([Get(LETTERS, id)]))[Get(LETTERS, id)]
            if not found or not found[0].state.waits:
                return False
            letter = found[0]
            now = wall_now().isoformat()
            told: dict[str, Any] = {"judged_by": actor, "judged_why": why, "judged_at": now}
            of_loop = letter.state.runner in self._loops
            if of_loop and letter.state.state != state:
                if state == DISCARDED:
                    _check_rests(letter)
                # What has no key parks nothing: the loop need not hear that it is given up.
                told |= {"untold": state == REDRIVE or bool(letter.state.key), "sent": None}
            judged = letter.state.become(state, **told)
            writes = [Write(LETTERS, id, letter.version, letter.version + 1, judged)]
            if state == DISCARDED and letter.state.key and not of_loop:
                writes += await self._unpark(txn, letter)
            await txn.write(Plan(tuple(writes), ()))
            return True

        return await self._store.transact(work)

    async def _unpark(self, txn: AsyncTransaction, letter: Stored[Letter]) -> Iterable[Write]:
        """End the parking of a key whose last waiting letter this is, in every making of the runner."""
        record = letter.state.record
        others = Where(LETTERS, "key", letter.state.key)
        parked = Where(PARKED, "runner", letter.state.runner)
        loaded = await txn.load([others, parked])
        if any(one.state.waits and one.id != letter.id for one in loaded[others]):
            return []
        ending = f"|{record.topic}|{(record.key or b'').hex()}"
        return [
            Write(PARKED, one.id, one.version, 0, None) for one in loaded[parked] if one.id.endswith(ending)
        ]


def _check_rests(letter: Stored[Letter]) -> None:
    """A record that is on its way to a loop has its effect: nobody may say that it was given up."""
    if letter.state.state == REDRIVE and letter.state.sent is not None:
        raise Rejected(
            "UNDER_WAY",
            f"letter {letter.id} is on its way to be processed: it is done in a moment, or open again; "
            "then discard it",
            "filter",
        )
