"""What operators do to dead letters: see them, have them processed again, give them up.

Nothing here processes a record: a letter is marked, and its runner takes it up
in the order of its key; a loop is told of it by records (`runners/loop_letters`).
A letter that is given up says for ever who did it and why.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from services.kit.clock import wall_now
from services.kit.errors import Invalid, Rejected, Unknown
from services.kit.runners.letters import DISCARDED, LETTERS, REDRIVE, Letter
from services.kit.runners.notes import PARKED
from services.kit.store.kinds import Get, Plan, Read, Stored, Where, Write
from services.kit.store.protocol import AsyncStore, AsyncTransaction

#: Letters that one transaction marks.
_TOGETHER = 100


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
            raise _unknown(id)
        return found

    async def redrive(self, choice: Choice, actor: str) -> int:
        """Have letters processed again; answers how many.

        Of an ordered key all letters before the chosen one must be done,
        discarded or chosen too: Invalid names the first that stands in the way.
        """
        chosen = await self._chosen(choice)
        for letter in chosen:
            self._check_runner(letter.state)
        await self._check_order(chosen)
        # From the last to the first: a key is not taken up before all chosen letters of it are marked, so
        # that one that fails again takes those behind it back with it.
        return sum([await self._judge(ids, REDRIVE, actor, "") for ids, _ in reversed(_pieces(chosen))])

    async def discard(self, choice: Choice, actor: str, why: str) -> int:
        """Give letters up; answers how many. What is parked behind the last of a key goes on.

        Rejected names the first that a loop is about to process.
        """
        if not why.strip():
            raise Invalid("REQUIRED", "say why these inputs may be given up", "reason")
        chosen = await self._chosen(choice)
        for letter in chosen:
            _check_rests(letter)
        return sum([await self._judge(ids, DISCARDED, actor, why, last) for ids, last in _pieces(chosen)])

    async def named(self, ids: Iterable[str]) -> list[Stored[Letter]]:
        """The letters of these ids; Unknown names the first that does not exist."""
        asked = dict.fromkeys(ids)
        found = {one.id: one for one in await self._store.among(LETTERS, "_id", asked)}
        for missing in (id for id in asked if id not in found):
            raise _unknown(missing)
        return [found[id] for id in asked]

    async def _chosen(self, choice: Choice) -> list[Stored[Letter]]:
        if not choice.narrows:
            raise Invalid("REQUIRED", "name letters, a runner or a reason", "filter")
        if choice.letters:
            waiting = [one for one in await self.named(choice.letters) if one.state.waits]
        else:
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

    async def _check_order(self, chosen: Collection[Stored[Letter]]) -> None:
        ids, first = {letter.id for letter in chosen}, dict[str, str]()
        keys = {letter.state.key for letter in chosen if letter.state.key}
        for other in await self._store.among(LETTERS, "key", keys) if keys else ():
            if other.state.waits and other.id not in ids:
                first[other.state.key] = min(other.id, first.get(other.state.key, other.id))
        for letter in chosen:
            if (before := first.get(letter.state.key, letter.id)) < letter.id:
                raise Invalid(
                    "OUT_OF_ORDER",
                    f"letter {before} stands before {letter.id} on its key: choose it too, or discard it",
                    "filter",
                )

    async def _judge(
        self, ids: Sequence[str], state: str, actor: str, why: str, last: Container[str] = ()
    ) -> int:
        """Note what was decided, in one transaction; answers of how many that were not settled meanwhile.

        `last` are the keys of which no further letter is given up.
        """
        told = {"judged_by": actor, "judged_why": why, "judged_at": wall_now().isoformat()}

        async def work(txn: AsyncTransaction) -> int:
            loaded = await txn.load([Get(LETTERS, id) for id in ids])
            waiting = [one for found in loaded.values() for one in found if one.state.waits]
            changed = [one for one in waiting if one.state.state != state]
            writes = [self._judged(one, state, told) for one in changed]
            if state == DISCARDED:
                writes += await self._unpark(txn, changed, last)
            await txn.write(Plan(tuple(writes), ()))
            return len(waiting)

        return await self._store.transact(work)

    def _judged(self, letter: Stored[Letter], state: str, told: dict[str, Any]) -> Write:
        if letter.state.runner in self._loops:
            if state == DISCARDED:
                _check_rests(letter)
            # What has no key parks nothing: the loop need not hear that it is given up.
            told = {**told, "untold": state == REDRIVE or bool(letter.state.key), "sent": None}
        judged = letter.state.become(state, **told)
        return Write(LETTERS, letter.id, letter.version, letter.version + 1, judged)

    async def _unpark(
        self, txn: AsyncTransaction, given_up: list[Stored[Letter]], last: Container[str]
    ) -> list[Write]:
        """End the parking of the keys of which no letter waits any more, in every making of their runners."""
        ids = {letter.id for letter in given_up}
        ends = {
            one.state.key: one.state
            for one in given_up
            if one.state.key in last and one.state.runner not in self._loops
        }
        reads: dict[str, Read] = {key: Where(LETTERS, "key", key) for key in ends}
        parked: dict[str, Read] = {one.runner: Where(PARKED, "runner", one.runner) for one in ends.values()}
        loaded = await txn.load([*reads.values(), *parked.values()])
        writes = []
        for key, letter in ends.items():
            if any(one.state.waits and one.id not in ids for one in loaded[reads[key]]):
                continue
            ending = f"|{letter.record.topic}|{(letter.record.key or b'').hex()}"
            notes = (one for one in loaded[parked[letter.runner]] if one.id.endswith(ending))
            writes += [Write(PARKED, one.id, one.version, 0, None) for one in notes]
        return writes


def _pieces(chosen: Sequence[Stored[Letter]]) -> list[tuple[list[str], set[str]]]:
    """Ids of letters that are marked together, and the keys of which no chosen letter comes after them."""
    ends = {letter.state.key: place // _TOGETHER for place, letter in enumerate(chosen)}
    return [
        (
            [letter.id for letter in chosen[first : first + _TOGETHER]],
            {key for key, piece in ends.items() if piece == first // _TOGETHER},
        )
        for first in range(0, len(chosen), _TOGETHER)
    ]


def _unknown(id: str) -> Unknown:
    return Unknown("UNKNOWN_LETTER", f"there is no letter {id!r}; `pharmaloop dlq list` shows them", "letter")


def _check_rests(letter: Stored[Letter]) -> None:
    """A record that is on its way to a loop has its effect: nobody may say that it was given up."""
    if letter.state.state == REDRIVE and letter.state.sent is not None:
        raise Rejected(
            "UNDER_WAY",
            f"letter {letter.id} is on its way to be processed: it is done in a moment, or open again; "
            "then discard it",
            "filter",
        )
