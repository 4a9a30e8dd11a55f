"""The OperationsService of every service: dead letters, and views made anew."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToJson

from pharmaloop.common.v1 import operations_pb2 as api
from pharmaloop.common.v1 import operations_pb2_grpc as api_grpc
from services.kit.bus.protocol import Record
from services.kit.contracts import contract
from services.kit.envelope import from_record
from services.kit.errors import Poison
from services.kit.log import get_logger
from services.kit.operations import Choice, DeadLetters
from services.kit.rpc.api import Api
from services.kit.rpc.context import caller
from services.kit.rpc.status import timestamp
from services.kit.runners.letters import DISCARDED, DONE, LETTERS, OPEN, REDRIVE, Letter
from services.kit.runners.makings import Progress
from services.kit.store.kinds import Stored

if TYPE_CHECKING:
    from services.kit.app import App

_log = get_logger("kit.operations")
_STATES = {
    OPEN: api.DEAD_LETTER_STATE_OPEN,
    REDRIVE: api.DEAD_LETTER_STATE_REDRIVE,
    DONE: api.DEAD_LETTER_STATE_DONE,
    DISCARDED: api.DEAD_LETTER_STATE_DISCARDED,
}
_NAMES = {number: name for name, number in _STATES.items()}


class OperationsServicer(Api, api_grpc.OperationsServiceServicer):
    def __init__(self, app: App) -> None:
        super().__init__(app)
        runners = {runner.name for runner in app.makings.runners}
        self._letters = DeadLetters(app.store, runners, {f"{app.spec.name}.{one}" for one in app.spec.loops})

    # -- dead letters -----------------------------------------------------

    async def ListDeadLetters(
        self, request: api.ListDeadLettersRequest, context: Any
    ) -> api.ListDeadLettersResponse:
        wanted, state = request.filter, _NAMES.get(request.filter.state, "")
        if wanted.letters:
            choice = _choice(wanted)
            named = await self._letters.named(wanted.letters)
            found = [one for one in named if choice.takes(one) and state in ("", one.state.state)]
            return api.ListDeadLettersResponse(letters=map(_letter, found))
        filters = {"runner": wanted.runner, "reason": wanted.reason, "state": state}
        page = await self.page(request, LETTERS, filters if state else {**filters, "waits": True}, "at")
        return api.ListDeadLettersResponse(letters=map(_letter, page.items), next_page_token=page.token)

    async def GetDeadLetter(
        self, request: api.GetDeadLetterRequest, context: Any
    ) -> api.GetDeadLetterResponse:
        found = await self._letters.get(request.letter)
        record = found.state.record.record
        value = record.value or b""
        return api.GetDeadLetterResponse(
            letter=_letter(found),
            headers={name: text.decode(errors="replace") for name, text in record.headers},
            event_json=_json(record),
            value_bytes=len(value),
            value_sha256=hashlib.sha256(value).hexdigest(),
        )

    async def RedriveDeadLetters(
        self, request: api.RedriveDeadLettersRequest, context: Any
    ) -> api.RedriveDeadLettersResponse:
        count = await self._letters.redrive(_choice(request.filter), caller().actor)
        _log.info("letters to be processed again", letters=count, actor=caller().actor)
        return api.RedriveDeadLettersResponse(letters=count)

    async def DiscardDeadLetters(
        self, request: api.DiscardDeadLettersRequest, context: Any
    ) -> api.DiscardDeadLettersResponse:
        count = await self._letters.discard(_choice(request.filter), caller().actor, request.reason)
        _log.warning("letters discarded", letters=count, actor=caller().actor, reason=request.reason)
        return api.DiscardDeadLettersResponse(letters=count)

    # -- views --------------------------------------------------------------

    async def ListViews(self, request: api.ListViewsRequest, context: Any) -> api.ListViewsResponse:
        return api.ListViewsResponse(views=[await self._view(name) for name in self.app.makings.views()])

    async def RebuildView(self, request: api.RebuildViewRequest, context: Any) -> api.RebuildViewResponse:
        await self.app.makings.rebuild(request.view, caller().actor)
        return api.RebuildViewResponse(view=await self._view(request.view))

    async def CancelRebuild(
        self, request: api.CancelRebuildRequest, context: Any
    ) -> api.CancelRebuildResponse:
        await self.app.makings.cancel(request.view)
        return api.CancelRebuildResponse(view=await self._view(request.view))

    async def _view(self, name: str) -> api.View:
        return _view(await self.app.makings.progress(name))


def _choice(wanted: api.DeadLetterFilter) -> Choice:
    return Choice(tuple(wanted.letters), wanted.runner, wanted.reason)


def _letter(found: Stored[Letter]) -> api.DeadLetter:
    letter, record = found.state, found.state.record
    result = api.DeadLetter(
        letter=found.id,
        runner=letter.runner,
        state=_STATES[letter.state],
        reason=letter.reason,
        description=letter.description,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=(record.key or b"").decode(errors="replace"),
        event_type=dict(record.headers).get("ce_type", b"").decode(errors="replace"),
        attempts=letter.attempts,
        at=timestamp(datetime.fromisoformat(letter.at)),
        judged_by=letter.judged_by,
        judged_why=letter.judged_why,
    )
    if letter.judged_at:
        result.judged_at.CopyFrom(timestamp(datetime.fromisoformat(letter.judged_at)))
    return result


def _json(record: Record) -> str:
    """The event as JSON; empty where it cannot be read."""
    try:
        return MessageToJson(from_record(contract(), record).message)
    except Poison:
        return ""


def _view(progress: Progress) -> api.View:
    return api.View(
        view=progress.runner,
        live=progress.live,
        building=progress.building,
        phase=progress.phase,
        done=progress.done,
        total=progress.total,
        state=progress.state,
        detail=progress.detail,
    )


def add_operations(app: App, server: Any) -> None:
    api_grpc.add_OperationsServiceServicer_to_server(OperationsServicer(app), server)
