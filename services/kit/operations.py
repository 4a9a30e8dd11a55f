"""What operators do to dead letters: see them, have them processed again, give them up.

Nothing here processes a record: a letter is marked, and its runner takes it up
in the order of its key. A letter that is given up says for ever who did it and
why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from services.kit.clock import wall_now
from services.kit.errors import Invalid, Unknown
from services.kit.runners.letters import DISCARDED, LETTERS, OPEN, REDRIVE, Letter
from services.kit.runners.notes import PARKED, Making
from services.kit.store.kinds import Get, Plan, Read, Stored, Where, Write
from services.kit.store.protocol import AsyncStore, AsyncTransaction

_WAITING = (OPEN, REDRIVE)


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

    def __init__(self, store: AsyncStore, generation: Callable[[str], int]) -> None:
        self._store = store
        self._generation = generation

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
            await self._check_order(letter, ids)
        for letter in chosen:
            await self._judge(letter.id, REDRIVE, actor, "")
        return len(chosen)

    async def discard(self, choice: Choice, actor: str, why: str) -> int:
        """Give letters up; answers how many. What is parked behind the last of a key goes on."""
        if not why.strip():
            raise Invalid("REQUIRED", "say why these inputs may be given up", "reason")
        chosen = await self._chosen(choice)
        for letter in chosen:
            await self._judge(letter.id, DISCARDED, actor, why)
        return len(chosen)

    async def _chosen(self, choice: Choice) -> list[Stored[Letter]]:
        if not choice.narrows:
            raise Invalid("REQUIRED", "name letters, a runner or a reason", "filter")
        for id in choice.letters:
            await self.get(id)
        waiting = [one for state in _WAITING for one in await self._store.where(LETTERS, "state", state)]
        return sorted((one for one in waiting if choice.takes(one)), key=lambda one: one.id)

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

    async def _judge(self, id: str, state: str, actor: str, why: str) -> None:
        async def work(txn: AsyncTransaction) -> None:
            found = (await txn.load([Get(LETTERS, id)]))[Get(LETTERS, id)]
            if not found or not found[0].state.waits:
                return
            letter = found[0]
            judged = replace(
                letter.state,
                state=state,
                judged_by=actor,
                judged_why=why,
                judged_at=wall_now().isoformat(),
            )
            writes = [Write(LETTERS, id, letter.version, letter.version + 1, judged)]
            if state == DISCARDED and letter.state.key:
                writes += await self._unpark(txn, letter)
            await txn.write(Plan(tuple(writes), ()))

        await self._store.transact(work)

    async def _unpark(self, txn: AsyncTransaction, letter: Stored[Letter]) -> Iterable[Write]:
        """End the parking of a key whose last waiting letter this is."""
        making = Making(letter.state.runner, self._generation(letter.state.runner))
        others = Where(LETTERS, "key", letter.state.key)
        parked = Get(PARKED, making.parked(letter.state.record.record))
        reads: tuple[Read, ...] = (others, parked)
        loaded = await txn.load(reads)
        if any(one.state.waits and one.id != letter.id for one in loaded[others]):
            return []
        return [Write(PARKED, parked.id, one.version, 0, None) for one in loaded[parked]]
