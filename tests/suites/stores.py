"""What every store must do, in memory and on MongoDB: one suite for all that stand behind the protocols."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from typing import Any, Protocol

import pytest

from services.kit.bus.protocol import Position
from services.kit.clock import wall_now
from services.kit.errors import Invalid, Retryable
from services.kit.store.kinds import Get, Kind, OutboxRow, Plan, Prefix, Read, Where, Write
from services.kit.store.protocol import (
    AsyncStore,
    AsyncTransaction,
    Backlog,
    Loaded,
    Page,
    Store,
    Transaction,
    Unstorable,
)


@dataclass(frozen=True)
class Inner:
    name: str
    weight: float


@dataclass(frozen=True)
class Thing:
    """A state with a field of every form that states may have."""

    colour: str = "red"
    size: int = 0
    tags: tuple[str, ...] = ()
    done: bool = False
    at: str = ""
    body: bytes = b""
    inner: Inner | None = None
    parts: dict[str, Any] = field(default_factory=dict)


THING: Kind[Thing] = Kind(
    "thing", Thing, ("colour", "size", "tags", "done", "at"), orders=(("colour", "size"),)
)
OTHER: Kind[Thing] = Kind("other", Thing, ("colour",))
KINDS = (THING, OTHER)


@dataclass(frozen=True)
class Newer(Thing):
    """The state as a later build has it."""

    grade: str = ""
    pairs: tuple[tuple[str, int], ...] = ()


NEWER: Kind[Newer] = Kind("thing", Newer)
NOTHING = Plan((), ())
PlanOf = Callable[[Loaded], Plan]


class Form(Protocol):
    """The synchronous or the asynchronous form of a store, driven alike."""

    async def run(self, reads: Iterable[Read], plan_of: PlanOf, fail: Exception | None = None) -> Loaded:
        """In one transaction: load, write what `plan_of` says, raise `fail` if given."""


@dataclass
class SyncForm:
    store: Store

    async def run(self, reads: Iterable[Read], plan_of: PlanOf, fail: Exception | None = None) -> Loaded:
        def work(txn: Transaction) -> Loaded:
            loaded = txn.load(reads)
            txn.write(plan_of(loaded))
            if fail:
                raise fail
            return loaded

        return self.store.transact(work)


@dataclass
class AsyncForm:
    store: AsyncStore

    async def run(self, reads: Iterable[Read], plan_of: PlanOf, fail: Exception | None = None) -> Loaded:
        async def work(txn: AsyncTransaction) -> Loaded:
            loaded = await txn.load(reads)
            await txn.write(plan_of(loaded))
            if fail:
                raise fail
            return loaded

        return await self.store.transact(work)


@dataclass
class Stores:
    """Both forms of a store over one database."""

    blocking: Store
    waiting: AsyncStore

    def form(self, name: str) -> Form:
        return SyncForm(self.blocking) if name == "sync" else AsyncForm(self.waiting)


def row(id: str, aggregate: str = "lot/a", seq: int = 1, value: bytes = b"\x00\xff") -> OutboxRow:
    return OutboxRow(id, aggregate, seq, "topic", b"k\x00", value, (("ce_id", id.encode()), ("raw", b"\xff")))


def insert(id: str, state: Thing, kind: Kind[Thing] = THING) -> Write:
    return Write(kind, id, 0, 1, state)


async def keep(form: Form, *writes: Write, outbox: tuple[OutboxRow, ...] = ()) -> None:
    await form.run([], lambda _: Plan(writes, outbox))


async def held(form: Form, id: str, kind: Kind[Any] = THING) -> tuple[int, Thing] | None:
    read = Get(kind, id)
    found = (await form.run([read], lambda _: NOTHING))[read]
    return (found[0].version, found[0].state) if found else None


async def pages(
    store: AsyncStore, filters: dict[str, Any], order: str, descending: bool, limit: int
) -> list[Page]:
    """Every page of a query, by its tokens."""
    found, token = [], ""
    while True:
        page = await store.page(THING, filters, order, descending, token, limit)
        found.append(page)
        if not page.token:
            return found
        token = page.token


def forged(*parts: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(list(parts)).encode()).decode()


def altered(token: str, value: Any, id: Any) -> str:
    """A token that this query gave, with another place in it."""
    mark, *_ = json.loads(base64.urlsafe_b64decode(token))
    return forged(mark, value, id)


@pytest.fixture(params=["sync", "async"])
def form(request: pytest.FixtureRequest, stores: Stores) -> Form:
    return stores.form(request.param)


class TransactionSuite:
    """Transactions, in both forms. Subclasses give the fixture `stores`."""

    async def test_what_is_written_is_read_with_its_version(self, form: Form) -> None:
        full = Thing(
            "blå 药",
            2**62,
            ("x", "y"),
            True,
            "2026-01-01T00:00:00.000001+00:00",
            b"\x00\xff",
            Inner("n", -0.5),
            {"a.b": 1, "$c": [1, "2", None], "": {"deep": 1.5}},
        )
        await keep(form, insert("a/1|x", full))
        assert await held(form, "a/1|x") == (1, full)
        assert await held(form, "a/1") is None
        assert await held(form, "a/1|x", OTHER) is None

    async def test_a_state_changes_from_the_version_that_was_read(self, form: Form) -> None:
        await keep(form, insert("a", Thing(size=1)))
        await keep(form, Write(THING, "a", 1, 4, Thing(size=2)))
        assert await held(form, "a") == (4, Thing(size=2))

    @pytest.mark.parametrize(
        "late",
        [
            Write(THING, "a", 0, 1, Thing(size=9)),
            Write(THING, "a", 1, 2, Thing(size=9)),
            Write(THING, "a", 1, 1, None),
            Write(THING, "gone", 1, 2, Thing(size=9)),
            Write(THING, "gone", 1, 1, None),
        ],
        ids=["insert over it", "replace", "delete", "replace what is gone", "delete what is gone"],
    )
    async def test_a_change_from_another_version_is_refused_whole(self, form: Form, late: Write) -> None:
        await keep(form, insert("a", Thing(size=1)))
        await keep(form, Write(THING, "a", 1, 2, Thing(size=2)))
        good = insert("b", Thing())
        with pytest.raises(Retryable):
            await form.run([], lambda _: Plan((good, late), (row("e"),)))
        assert await held(form, "a") == (2, Thing(size=2))
        assert await held(form, "b") is None, "half of a transaction was written"

    async def test_a_transaction_that_met_a_change_runs_again(self, form: Form, stores: Stores) -> None:
        await keep(form, insert("a", Thing(size=1)))
        read, seen = Get(THING, "a"), []

        def plan(loaded: Loaded) -> Plan:
            found = loaded[read][0]
            seen.append(found.state.size)
            if len(seen) == 1:  # somebody else commits between our reading and our writing
                theirs = Plan((Write(THING, "a", 1, 2, Thing(size=10)),), ())
                stores.blocking.transact(lambda txn: txn.write(theirs))
            ours = replace(found.state, size=found.state.size + 1)
            return Plan((Write(THING, "a", found.version, found.version + 1, ours),), ())

        await form.run([read], plan)
        assert seen == [1, 10]
        assert await held(form, "a") == (3, Thing(size=11))

    async def test_of_two_that_make_one_state_one_is_first(self, form: Form, stores: Stores) -> None:
        read, tries = Get(THING, "new"), []

        def plan(loaded: Loaded) -> Plan:
            tries.append(bool(loaded[read]))
            if len(tries) == 1:
                stores.blocking.transact(lambda txn: txn.write(Plan((insert("new", Thing("theirs")),), ())))
            return NOTHING if loaded[read] else Plan((insert("new", Thing("ours")),), ())

        await form.run([read], plan)
        assert tries == [False, True]
        assert await held(form, "new") == (1, Thing("theirs"))

    async def test_a_failed_transaction_leaves_nothing(self, form: Form, stores: Stores) -> None:
        with pytest.raises(LookupError):
            await form.run([], lambda _: Plan((insert("a", Thing()),), (row("e"),)), LookupError("late"))
        assert await held(form, "a") is None
        assert await stores.waiting.outbox_waiting() == 0

    async def test_a_deleted_state_is_gone_and_may_come_again(self, form: Form) -> None:
        await keep(form, insert("a", Thing(size=1)))
        await keep(form, Write(THING, "a", 1, 1, None))
        assert await held(form, "a") is None
        await keep(form, Write(THING, "never", 0, 0, None))
        await keep(form, insert("a", Thing(size=2)))
        assert await held(form, "a") == (1, Thing(size=2))

    async def test_fields_of_another_build_stay_when_this_one_writes_the_state(self, form: Form) -> None:
        await keep(form, Write(NEWER, "a", 0, 1, Newer(size=1, grade="A", pairs=(("x", 1),))))
        full = Thing("blue", 2, (), True, "t", b"\x00", Inner("n", 0.5), {"a.b": 1, "$c": 2})
        await keep(form, Write(THING, "a", 1, 2, full))
        ours = {name.name: getattr(full, name.name) for name in fields(Thing)}
        assert await held(form, "a", NEWER) == (2, Newer(**ours, grade="A", pairs=(("x", 1),)))
        # What a field holds is the writer's whole: a part that is gone is gone.
        await keep(form, Write(THING, "a", 2, 3, Thing(parts={"d": 1})))
        assert await held(form, "a", NEWER) == (3, Newer(parts={"d": 1}, grade="A", pairs=(("x", 1),)))

    async def test_fields_of_another_build_go_with_their_state(self, form: Form) -> None:
        await keep(form, Write(NEWER, "a", 0, 1, Newer(grade="A")))
        await keep(form, Write(THING, "a", 1, 1, None))
        await keep(form, insert("a", Thing()))
        assert await held(form, "a", NEWER) == (1, Newer())

    async def test_where_finds_by_value_and_by_element(self, form: Form) -> None:
        await keep(form, insert("a", Thing("red", tags=("x", "y"))), insert("b", Thing("blue", tags=("y",))))
        await keep(form, insert("c", Thing("red", done=True)), insert("d", Thing("red", tags=("y",)), OTHER))
        asked = {
            "red": Where(THING, "colour", "red"),
            "x": Where(THING, "tags", "x"),
            "y": Where(THING, "tags", "y"),
            "done": Where(THING, "done", True),
            "none": Where(THING, "tags", "z"),
            "part of a word": Where(THING, "colour", "re"),
            "red and done": Where(THING, "colour", "red", (("done", True),)),
            "red, done and y": Where(THING, "colour", "red", (("done", True), ("tags", "y"))),
            "blue and y": Where(THING, "colour", "blue", (("tags", "y"),)),
        }
        loaded = await form.run([*asked.values(), Get(THING, "b")], lambda _: NOTHING)
        found = {name: sorted(item.id for item in loaded[read]) for name, read in asked.items()}
        assert found == {
            "red": ["a", "c"],
            "x": ["a"],
            "y": ["a", "b"],
            "done": ["c"],
            "none": [],
            "part of a word": [],
            "red and done": ["c"],
            "red, done and y": [],
            "blue and y": ["b"],
        }
        assert [item.version for item in loaded[Get(THING, "b")]] == [1]

    async def test_an_outbox_row_is_kept_as_it_was_first_written(self, form: Form, stores: Stores) -> None:
        await keep(form, outbox=(row("e", value=b"first"),))
        await keep(form, outbox=(row("e", value=b"second"), row("f")))
        rows = await stores.waiting.unpublished(9)
        assert [(r.id, r.value) for r in rows] == [("e", b"first"), ("f", b"\x00\xff")]

    async def test_one_transaction_may_name_an_outbox_row_twice(self, form: Form, stores: Stores) -> None:
        # Two events of one batch that both record the same fact.
        await keep(form, outbox=(row("e", value=b"first"), row("f"), row("e", value=b"second")))
        rows = await stores.waiting.unpublished(9)
        assert [(r.id, r.value) for r in rows] == [("e", b"first"), ("f", b"\x00\xff")]

    async def test_a_document_that_is_too_large_fails_at_once(self, form: Form) -> None:
        large = Thing(body=b"x" * 17_000_000)
        with pytest.raises(Unstorable):
            await keep(form, insert("a", large), outbox=(row("e"),))
        await keep(form, insert("a", Thing(size=1)))
        with pytest.raises(Unstorable):
            await keep(form, Write(THING, "a", 1, 2, large))
        assert await held(form, "a") == (1, Thing(size=1))

    @pytest.mark.parametrize("parts", [{"n": 2**64}, {"a\x00b": 1}], ids=["too big", "NUL in a name"])
    async def test_what_cannot_be_stored_fails_at_once(self, form: Form, parts: dict[str, Any]) -> None:
        with pytest.raises(Unstorable):
            await keep(form, insert("a", Thing(parts=parts)))
        assert await held(form, "a") is None


class QuerySuite:
    """Queries and the outbox, of the asynchronous form. Subclasses give the fixture `stores`."""

    async def test_states_are_read_alone(self, stores: Stores) -> None:
        await keep(stores.form("sync"), insert("a", Thing("red", tags=("x",))), insert("b", Thing("blue")))
        found = await stores.waiting.get(THING, "a")
        assert found is not None
        assert (found.id, found.version, found.state) == ("a", 1, Thing("red", tags=("x",)))
        assert await stores.waiting.get(THING, "z") is None
        assert [item.id for item in await stores.waiting.where(THING, "tags", "x")] == ["a"]
        assert await stores.waiting.where(THING, "colour", "green") == []

    async def test_states_with_one_of_many_values_are_found_at_once(self, stores: Stores) -> None:
        red, blue = Thing("red", tags=("x", "y")), Thing("blue", tags=("y",))
        await keep(stores.form("sync"), insert("a", red), insert("b", blue), insert("c", Thing("green")))
        asked: list[tuple[str, list[str]]] = [
            ("colour", ["red", "green", "grey"]),
            ("tags", ["x", "y"]),
            ("_id", ["c", "z", "c"]),
            ("colour", []),
        ]
        found = [await stores.waiting.among(THING, *one) for one in asked]
        assert [sorted(item.id for item in items) for items in found] == [["a", "c"], ["a", "b"], ["c"], []]
        assert found[2][0].state == Thing("green")
        assert [len(await stores.waiting.among(THING, "tags", ["x", "y"], limit)) for limit in (1, 5)] == [
            1,
            2,
        ]
        assert len(await stores.waiting.among(THING, "_id", ["a", "b", "c"], 2)) == 2

    @pytest.mark.parametrize("descending", [False, True])
    @pytest.mark.parametrize("order", ["_id", "size", "at"])
    @pytest.mark.parametrize("limit", [1, 3, 7, 100])
    async def test_pages_give_everything_once_in_order(
        self, stores: Stores, order: str, descending: bool, limit: int
    ) -> None:
        # Many rows share a value, so that pages end in the middle of ties.
        things = {f"{n:02}": Thing(size=n % 3, at=f"t{n % 2}") for n in range(14)}
        await keep(stores.form("sync"), *(insert(id, thing) for id, thing in things.items()))
        found = await pages(stores.waiting, {}, order, descending, limit)
        ids = [item.id for page in found for item in page.items]
        place = {id: (id if order == "_id" else getattr(thing, order), id) for id, thing in things.items()}
        assert ids == sorted(things, key=lambda id: place[id], reverse=descending)
        assert all(len(page.items) == limit for page in found[:-1])
        assert found[-1].items, "a page without items"

    async def test_pages_keep_to_their_filters(self, stores: Stores) -> None:
        things = [Thing("red" if n % 2 else "blue", size=n, tags=("a", f"m{n % 3}")) for n in range(12)]
        await keep(stores.form("sync"), *(insert(str(thing.size), thing) for thing in things))
        wanted = {"colour": "red", "tags": "m0"}
        found = await pages(stores.waiting, wanted, "size", True, 1)
        assert [item.state.size for page in found for item in page.items] == [9, 3]
        assert await stores.waiting.count(THING, wanted) == 2
        assert await stores.waiting.count(THING, {}) == 12
        assert await stores.waiting.count(THING, {"colour": "green"}) == 0

    async def test_pages_keep_to_beginnings_and_ids(self, stores: Stores) -> None:
        colours = {"a/1": "red", "a/2": "redder", "a/20": "re.", "b/2": "Red", "b/3": "r\U0001f600"}
        things = (insert(id, Thing(colour)) for id, colour in colours.items())
        await keep(stores.form("sync"), *things)

        async def of(**filters: Any) -> list[str]:
            return [
                item.id
                for page in await pages(stores.waiting, filters, "at", False, 1)
                for item in page.items
            ]

        assert await of(colour=Prefix("red")) == ["a/1", "a/2"]
        assert await of(colour=Prefix("re.")) == ["a/20"], "text, and no pattern"
        assert await of(_id=Prefix("a/2")) == ["a/2", "a/20"]
        assert await of(_id=Prefix("a/"), colour="redder") == ["a/2"]
        assert await of(_id="a/2") == ["a/2"]
        assert await of(_id="a/") == []
        assert await stores.waiting.count(THING, {"colour": Prefix("r")}) == 4

    async def test_a_page_goes_on_where_the_last_one_ended(self, stores: Stores) -> None:
        await keep(stores.form("sync"), *(insert(id, Thing(size=5)) for id in ("b", "d", "f")))
        first = await stores.waiting.page(THING, {}, "size", False, "", 2)
        await keep(stores.form("sync"), *(insert(id, Thing(size=5)) for id in ("a", "c", "e")))
        second = await stores.waiting.page(THING, {}, "size", False, first.token, 9)
        assert [item.id for item in (*first.items, *second.items)] == ["b", "d", "e", "f"]

    async def test_a_token_of_another_query_is_refused(self, stores: Stores) -> None:
        await keep(stores.form("sync"), *(insert(str(n), Thing(size=n)) for n in range(3)))
        token = (await stores.waiting.page(THING, {"colour": "red"}, "size", False, "", 1)).token
        others: list[tuple[dict[str, Any], str, bool]] = [
            ({"colour": "red"}, "colour", False),
            ({"colour": "red"}, "size", True),
            ({"colour": "blue"}, "size", False),
            ({}, "size", False),
        ]
        for filters, order, descending in others:
            with pytest.raises(Invalid) as caught:
                await stores.waiting.page(THING, filters, order, descending, token, 1)
            assert (caught.value.reason, caught.value.field) == ("BAD_PAGE_TOKEN", "page_token")

    @pytest.mark.parametrize(
        "token",
        [
            "!",
            "x",
            "é",
            "AAAA",
            "NQ==",
            forged(),
            forged(1, "a"),
            forged("", 1, "a"),
            forged(None, None, None),
        ],
    )
    async def test_a_made_up_token_is_refused(self, stores: Stores, token: str) -> None:
        with pytest.raises(Invalid) as caught:
            await stores.waiting.page(THING, {}, "size", False, token, 1)
        assert caught.value.field == "page_token"

    async def test_a_token_carries_values_and_no_operators(self, stores: Stores) -> None:
        await keep(stores.form("sync"), *(insert(str(n), Thing(size=n)) for n in range(3)))
        token = (await stores.waiting.page(THING, {}, "size", False, "", 1)).token
        for value, id in [({"$gt": -1}, "0"), ([0], "0"), (0, {"$ne": ""}), (0, None)]:
            with pytest.raises(Invalid):
                await stores.waiting.page(THING, {}, "size", False, altered(token, value, id), 1)

    async def test_what_is_due_comes_smallest_first(self, stores: Stores) -> None:
        await keep(stores.form("sync"), *(insert(f"x{n}", Thing(at=f"2026-0{n}")) for n in (4, 2, 5, 1, 3)))
        due = await stores.waiting.not_after(THING, "at", "2026-03", 9)
        assert [item.state.at for item in due] == ["2026-01", "2026-02", "2026-03"]
        assert [item.id for item in await stores.waiting.not_after(THING, "at", "2026-05", 2)] == ["x1", "x2"]
        assert await stores.waiting.not_after(THING, "at", "2025", 9) == []

    async def test_the_outbox_is_published_in_order_of_aggregate_and_version(self, stores: Stores) -> None:
        rows = [row("e1", "lot/b", 2), row("e2", "lot/a", 10), row("e3", "lot/b", 1), row("e4", "lot/a", 9)]
        for one in rows:
            await keep(stores.form("sync"), outbox=(one,))
        waiting = await stores.waiting.unpublished(9)
        assert [r.id for r in waiting] == ["e4", "e2", "e3", "e1"]
        assert waiting[2] == rows[2], "bytes, key and headers as they were written"
        assert [r.id for r in await stores.waiting.unpublished(2)] == ["e4", "e2"]
        assert [r.id for r in await stores.waiting.unpublished(9, "lot/a")] == ["e3", "e1"]
        assert [r.id for r in await stores.waiting.unpublished(9, "lot/A")] == ["e4", "e2", "e3", "e1"]
        assert await stores.waiting.unpublished(9, "lot/b") == []

    async def test_published_rows_tell_where_they_stand_and_do_not_go_out_again(self, stores: Stores) -> None:
        await keep(stores.form("async"), outbox=(row("e1", seq=1), row("e2", seq=2), row("e3", seq=3)))
        stands = {"e1": Position("t", 0, 7), "e2": Position("u", 3, 2**40)}
        await stores.waiting.mark_published({**stands, "never": Position("t", 0, 0)})
        await stores.waiting.mark_published({})
        assert [r.id for r in await stores.waiting.unpublished(9)] == ["e3"]
        assert await stores.waiting.outbox_waiting() == 1
        assert await stores.waiting.positions_of(["e1", "e2", "e3", "never"]) == stands
        # Another relay has sent it again, and tells so later: who asked was told the first place.
        await stores.waiting.mark_published({"e1": Position("t", 0, 99)})
        assert await stores.waiting.positions_of(["e1"]) == {"e1": Position("t", 0, 7)}
        # A later delivery of the same cause names the row again: it was sent.
        await keep(stores.form("sync"), outbox=(row("e1", seq=1),))
        assert [r.id for r in await stores.waiting.unpublished(9)] == ["e3"]

    async def test_each_of_many_published_rows_tells_its_own_place(self, stores: Stores) -> None:
        ids = [f"e{n}" for n in range(450)]
        await keep(stores.form("async"), outbox=tuple(row(id, f"lot/{id}") for id in ids))
        stands = {id: Position("$t", n % 2, 7 * n) for n, id in enumerate(ids)}
        await stores.waiting.mark_published(stands)
        assert await stores.waiting.positions_of(ids) == stands
        assert await stores.waiting.outbox_waiting() == 0

    async def test_the_backlog_is_counted_and_tells_since_when(self, stores: Stores) -> None:
        assert await stores.waiting.backlog() == Backlog(0, None)
        before = wall_now()
        await keep(stores.form("sync"), outbox=(row("e1", seq=1),))
        first = (await stores.waiting.backlog()).oldest
        await keep(stores.form("async"), outbox=(row("e2", seq=2), row("e3", seq=3)))
        assert await stores.waiting.backlog() == Backlog(3, first)
        assert first is not None
        assert before - timedelta(seconds=1) <= first <= wall_now()
        await stores.waiting.mark_published({"e1": Position("t", 0, 7)})
        later = await stores.waiting.backlog()
        assert later.waiting == 2
        assert later.oldest is not None
        assert later.oldest >= first

    async def test_what_is_due_may_have_to_be_free_too(self, stores: Stores) -> None:
        things = {"a": ("2026-01", "b"), "b": ("2026-02", "z"), "c": ("2026-03", "a"), "d": ("2026-09", "a")}
        await keep(
            stores.form("sync"), *(insert(id, Thing(colour, at=at)) for id, (at, colour) in things.items())
        )
        free = await stores.waiting.not_after(THING, "at", "2026-05", 9, {"colour": "k"})
        assert [item.id for item in free] == ["a", "c"]
        assert [i.id for i in await stores.waiting.not_after(THING, "at", "2026-05", 1, {"colour": "k"})] == [
            "a"
        ]

    async def test_no_update_is_lost_among_transactions_at_once(self, stores: Stores) -> None:
        await keep(stores.form("async"), insert("n", Thing(size=0)))
        read = Get(THING, "n")

        async def add() -> None:
            async def work(txn: AsyncTransaction) -> None:
                found = (await txn.load([read]))[read][0]
                await asyncio.sleep(0)
                more = replace(found.state, size=found.state.size + 1)
                await txn.write(Plan((Write(THING, "n", found.version, found.version + 1, more),), ()))

            await stores.waiting.transact(work)

        await asyncio.gather(*(add() for _ in range(4)))
        assert await held(stores.form("sync"), "n") == (5, Thing(size=4))

    async def test_preparing_twice_is_harmless(self, stores: Stores) -> None:
        for _ in range(2):
            stores.blocking.prepare(KINDS)
            await stores.waiting.prepare(KINDS)
