"""What every store must do for read models: documents folded in bulk, makings of views kept apart."""

from __future__ import annotations

from typing import Any

import bson
import pytest

from services.kit.errors import Retryable
from services.kit.store.kinds import Doc, Get, Plan, Where, Write
from services.kit.store.protocol import Conflict, Transaction
from tests.suites.stores import NOTHING, OTHER, THING, Form, Stores, Thing, held, insert, keep, pages, row


class RowSuite:
    """Documents that are folded in bulk, of the synchronous form. Subclasses give the fixture `stores`."""

    def doc(self, id: str, size: int, version: int = 1, **more: Any) -> Doc:
        state = THING.to_doc(id, version, Thing(size=size, body=b"\x00\xff"))
        return bson.decode(bson.encode({**state, **more}))

    async def test_documents_are_read_as_they_were_put(self, stores: Stores) -> None:
        first, second = self.doc("a", 1, q={"/svc/x|y.z": 7, "$s": 2**40}), self.doc("b", 2)
        stores.blocking.transact(lambda txn: txn.put_docs(THING, [first, second], []))
        found = stores.blocking.transact(lambda txn: txn.docs(THING, ["a", "b", "none"]))
        assert found == {"a": first, "b": second}
        assert stores.blocking.transact(lambda txn: txn.docs(OTHER, ["a"])) == {}
        assert stores.blocking.transact(lambda txn: txn.docs(THING, [])) == {}
        assert await held(stores.form("async"), "a") == (1, Thing(size=1, body=b"\x00\xff"))

    async def test_new_and_known_documents_are_put_together(self, stores: Stores) -> None:
        await keep(stores.form("sync"), insert("a", Thing(size=1)), insert("c", Thing(size=3)))

        def work(txn: Transaction) -> None:
            assert set(txn.docs(THING, ["a", "b"])) == {"a"}
            txn.put_docs(THING, [self.doc("b", 2)], [self.doc("a", 10, 5)])
            txn.put_docs(OTHER, [], [])

        stores.blocking.transact(work)
        found = {id: await held(stores.form("sync"), id) for id in "abc"}
        sizes = {id: (one[0], one[1].size) for id, one in found.items() if one}
        assert sizes == {"a": (5, 10), "b": (1, 2), "c": (1, 3)}

    async def test_a_failed_transaction_puts_nothing(self, stores: Stores) -> None:
        await keep(stores.form("sync"), insert("a", Thing(size=1)))

        def work(txn: Transaction) -> None:
            txn.docs(THING, ["a", "b"])
            txn.put_docs(THING, [self.doc("b", 2)], [self.doc("a", 2)])
            raise LookupError("late")

        with pytest.raises(LookupError):
            stores.blocking.transact(work)
        assert await held(stores.form("sync"), "a") == (1, Thing(size=1))
        assert await held(stores.form("sync"), "b") is None

    @pytest.mark.parametrize("there", [True, False], ids=["changed", "made"])
    async def test_a_document_that_somebody_else_puts_meanwhile_is_not_lost(
        self, stores: Stores, there: bool
    ) -> None:
        # Two instances whose partitions meet in one row.
        if there:
            await keep(stores.form("sync"), insert("a", Thing(size=100)))
        tries: list[int] = []

        def add(txn: Transaction) -> None:
            found = txn.docs(THING, ["a"]).get("a")
            size, version = (found["s"]["size"], found["v"]) if found else (0, 0)
            tries.append(size)
            if len(tries) == 1:
                stores.blocking.transact(add)
            doc = self.doc("a", size + 1, version + 1)
            txn.put_docs(THING, *(([], [doc]) if found else ([doc], [])))

        stores.blocking.transact(add)
        begin = 100 if there else 0
        assert tries == [begin, begin, begin + 1]
        assert (await held(stores.form("sync"), "a") or (0, Thing()))[1].size == begin + 2

    async def test_documents_and_writes_of_one_transaction_stand_or_fall_together(
        self, stores: Stores
    ) -> None:
        await keep(stores.form("sync"), insert("mark", Thing(size=1)))

        def work(txn: Transaction) -> None:
            txn.put_docs(THING, [self.doc("a", 1)], [])
            txn.write(Plan((insert("b", Thing()),), ()))
            txn.write(Plan((Write(THING, "mark", 7, 8, Thing(size=2)),), ()))

        with pytest.raises(Retryable):
            stores.blocking.transact(work)
        assert await held(stores.form("sync"), "a") is None
        assert await held(stores.form("sync"), "b") is None

    async def test_a_transaction_of_several_plans_is_refused_whole(self, stores: Stores) -> None:
        # The second plan's state is changed after it was read: the first must not stay.
        await keep(stores.form("sync"), insert("mark", Thing(size=1)))
        tries: list[int] = []

        def work(txn: Transaction) -> None:
            found = txn.load([Get(THING, "mark")])[Get(THING, "mark")][0]
            tries.append(found.version)
            txn.write(Plan((insert(f"effect {len(tries)}", Thing()),), (row(f"e{len(tries)}"),)))
            if len(tries) == 1:
                theirs = Plan((Write(THING, "mark", 1, 2, Thing(size=9)),), ())
                stores.blocking.transact(lambda other: other.write(theirs))
            ours = Write(THING, "mark", found.version, found.version + 1, Thing(size=2))
            txn.write(Plan((ours,), ()))

        stores.blocking.transact(work)
        assert tries == [1, 2]
        assert await held(stores.form("sync"), "effect 1") is None
        assert [r.id for r in await stores.waiting.unpublished(9)] == ["e2"]

    async def test_a_change_between_two_plans_and_the_commit_leaves_nothing(self, stores: Stores) -> None:
        await keep(stores.form("sync"), insert("mark", Thing(size=1)))
        tries: list[int] = []

        def work(txn: Transaction) -> None:
            found = txn.load([Get(THING, "mark")])[Get(THING, "mark")][0]
            tries.append(found.version)
            txn.write(Plan((insert(f"effect {len(tries)}", Thing()),), ()))
            ours = Write(THING, "mark", found.version, found.version + 1, Thing(size=2))
            txn.write(Plan((ours,), ()))
            if len(tries) == 1:
                raise Conflict("somebody else was first")

        stores.blocking.transact(work)
        assert tries == [1, 1]
        assert await held(stores.form("sync"), "effect 1") is None
        assert await held(stores.form("sync"), "effect 2") is not None


class MakingSuite:
    """Makings of a view, in both forms. Subclasses give the fixture `stores`."""

    async def test_makings_of_a_kind_are_kept_apart(self, form: Form, stores: Stores) -> None:
        second = THING.pinned(2)
        await keep(form, insert("a", Thing(size=1)), insert("a", Thing(size=2), second))
        await keep(form, insert("b", Thing(size=2), second))
        assert await held(form, "a") == (1, Thing(size=1))
        assert await held(form, "a", THING.pinned(1)) == (1, Thing(size=1))
        assert await held(form, "a", second) == (1, Thing(size=2))
        assert await held(form, "b") is None
        assert await stores.waiting.count(second, {}) == 2
        loaded = await form.run([Get(second, "b"), Where(second, "colour", "red")], lambda _: NOTHING)
        assert [item.id for item in loaded[Get(second, "b")]] == ["b"]
        assert sorted(item.id for item in loaded[Where(second, "colour", "red")]) == ["a", "b"]

    async def test_reads_of_two_makings_at_once_are_told_apart(self, form: Form) -> None:
        second = THING.pinned(2)
        await keep(form, insert("a", Thing(size=1)), insert("a", Thing(size=2), second))
        one, two = Get(THING.pinned(1), "a"), Get(second, "a")
        loaded = await form.run([one, two], lambda _: NOTHING)
        assert [loaded[read][0].state.size for read in (one, two)] == [1, 2]

    async def test_the_live_making_answers_who_names_none(self, form: Form, stores: Stores) -> None:
        second = THING.pinned(2)
        await keep(form, insert("a", Thing(size=1)), insert("a", Thing(size=2, at="x"), second))
        for names in (stores.blocking.names, stores.waiting.names):
            names.live[THING.name] = 2
        assert await held(form, "a") == (1, Thing(size=2, at="x"))
        assert await held(form, "a", THING.pinned(1)) == (1, Thing(size=1))
        found = await stores.waiting.get(THING, "a")
        assert found is not None
        assert found.state.size == 2
        page = (await pages(stores.waiting, {}, "at", False, 5))[0]
        for items in (
            await stores.waiting.where(THING, "colour", "red"),
            page.items,
            await stores.waiting.not_after(THING, "at", "y", 9),
        ):
            assert [item.state.size for item in items] == [2]
        assert set(stores.blocking.transact(lambda txn: txn.docs(THING, ["a"]))) == {"a"}
        await keep(form, insert("c", Thing(size=3)))
        assert await held(form, "c", second) == (1, Thing(size=3))
        assert await held(form, "a", OTHER) is None, "another kind has a live making of its own"

    async def test_a_making_is_forgotten_whole_and_alone(self, form: Form, stores: Stores) -> None:
        makings = [THING, THING.pinned(2), THING.pinned(3), OTHER]
        await keep(form, *(insert("a", Thing(), kind) for kind in makings))
        await stores.waiting.forget(THING.pinned(2))
        await stores.waiting.forget(THING.pinned(2))
        await stores.waiting.forget(THING.pinned(9))
        kept = [await held(form, "a", kind) is not None for kind in makings]
        assert kept == [True, False, True, True]
        await keep(form, insert("a", Thing(size=7), THING.pinned(2)))
        assert await held(form, "a", THING.pinned(2)) == (1, Thing(size=7))

    async def test_states_are_forgotten_by_the_beginning_of_their_id(
        self, form: Form, stores: Stores
    ) -> None:
        gone = ["r|1|a", "r|1|", "r|1|药", "r|1|\U0010fffe"]
        left = ["r|10|a", "r|1", "R|1|a", "r.1|a", "rr|1|a", "q|r|1|a"]
        await keep(form, *(insert(id, Thing()) for id in gone + left), insert("r|1|a", Thing(), OTHER))
        await stores.waiting.forget_ids(THING, "r|1|")
        assert [id for id in gone + left if await held(form, id) is not None] == left
        assert await held(form, "r|1|a", OTHER) is not None
        await stores.waiting.forget_ids(THING, "nobody|")
