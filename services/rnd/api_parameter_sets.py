"""The gRPC face of parameter sets: checks what a draft says, seals, submits, opens."""

from __future__ import annotations

import asyncio
from typing import Any

from pharmaloop.rnd.v1 import events_pb2 as events
from pharmaloop.rnd.v1 import service_pb2 as api
from pharmaloop.rnd.v1.parameter_set_pb2 import ParameterSetContent
from services.kit.errors import Invalid, Unknown
from services.kit.ids import check_product
from services.kit.rpc.context import caller
from services.kit.rpc.states import stored
from services.kit.units import conversion
from services.rnd import answers, contents
from services.rnd.api_base import RndBase
from services.rnd.domain.parameter_sets import checks
from services.rnd.domain.parameter_sets.diff import Difference, differences
from services.rnd.domain.parameter_sets.model import ParameterSet
from services.rnd.domain.parameter_sets.rows import VersionRow, row_id
from services.rnd.domain.plants import PlantKey
from services.rnd.views import PARAMETER_SETS, PLANT_KEYS, VERSIONS

_LONGEST_ID = 100


class ParameterSetsApi(RndBase):
    async def DraftParameterSet(
        self, request: api.DraftParameterSetRequest, context: Any
    ) -> api.DraftParameterSetResponse:
        _check_id(request.set)
        request.content.ClearField("salt")
        held = await self._set(request.set)
        before = await self._content(held.newest.content) if held else None
        check_content(request.content, before)
        changes = differences(before, request.content) if before else ()
        plain = contents.plain(request.content)
        asked = events.ParameterSetDrafted(
            set=request.set,
            version=held.newest.version + 1 if held else 1,
            product=request.content.product,
            content=await asyncio.to_thread(contents.seal, self.app.sealer, request.set, plain),
            content_hash=contents.hash_of(plain),
            trial=request.content.trial,
            changes=[one.path for one in changes],
            actor=caller().actor,
        )
        return await self.submit(request, "DraftParameterSet", asked, api.DraftParameterSetResponse)

    async def ReviewParameterSet(
        self, request: api.ReviewParameterSetRequest, context: Any
    ) -> api.ReviewParameterSetResponse:
        return await self.decide("ReviewParameterSet", request, api.ReviewParameterSetResponse)

    async def ReleaseParameterSet(
        self, request: api.ReleaseParameterSetRequest, context: Any
    ) -> api.ReleaseParameterSetResponse:
        """Open what is kept and seal it to each plant; what may be released is decided after."""
        if not request.plants:
            raise Invalid("REQUIRED", "name the plants that the version is for", "plants")
        keys = [await self._key(plant, number) for number, plant in enumerate(request.plants)]
        held = await self._set(request.set)
        found = held.find(request.version) if held else None
        if held is None or found is None:
            said = "no such version of a parameter set; list them with ListParameterSets"
            raise Unknown("UNKNOWN_VERSION", said, "version" if held else "set")
        plain = await asyncio.to_thread(contents.open_sealed, self.app.sealer, found.content)
        asked = api.SealedReleases()
        for key in keys:
            payload = contents.seal_to(key, request.set, request.version, plain)
            asked.releases.add(
                set=request.set,
                version=request.version,
                product=held.product,
                plant=key.plant,
                payload=payload,
                payload_hash=contents.hash_of(payload.ciphertext),
                content_hash=found.content_hash,
                actor=caller().actor,
                meaning=request.meaning,
                trial=found.trial,
                purpose=request.purpose,
            )
        return await self.submit(request, "ReleaseParameterSet", asked, api.ReleaseParameterSetResponse)

    async def WithdrawParameterSet(
        self, request: api.WithdrawParameterSetRequest, context: Any
    ) -> api.WithdrawParameterSetResponse:
        return await self.decide("WithdrawParameterSet", request, api.WithdrawParameterSetResponse)

    async def ListParameterSets(
        self, request: api.ListParameterSetsRequest, context: Any
    ) -> api.ListParameterSetsResponse:
        await self.reach(request)
        state = stored(answers.SET_STATES, request.state)
        filters = {"product": request.product, "set": request.set, "state": state}
        page = await self.page(request, VERSIONS, filters, "at", descending=not request.oldest_first)
        shown = [answers.version(item.state) for item in page.items]
        return api.ListParameterSetsResponse(versions=shown, next_page_token=page.token)

    async def GetParameterSet(
        self, request: api.GetParameterSetRequest, context: Any
    ) -> api.GetParameterSetResponse:
        await self.reach(request)
        row = await self._row(request.set, request.version)
        content = await self._content(row.content)
        return api.GetParameterSetResponse(version=answers.version(row), content=content)

    async def GetParameterSetDiff(
        self, request: api.GetParameterSetDiffRequest, context: Any
    ) -> api.GetParameterSetDiffResponse:
        await self.reach(request)
        later = await self._row(request.set, request.to_version, "to_version")
        earlier = await self._row(request.set, request.from_version or later.version - 1, "from_version")
        before, after = await self._content(earlier.content), await self._content(later.content)
        return api.GetParameterSetDiffResponse(
            from_version=earlier.version,
            to_version=later.version,
            differences=[_difference(one) for one in differences(before, after)],
        )

    # -- what is stored ------------------------------------------------------------

    async def _set(self, set: str) -> ParameterSet | None:
        found = await self.app.store.get(PARAMETER_SETS, set)
        return found.state if found else None

    async def _key(self, plant: str, number: int) -> PlantKey:
        found = await self.app.store.get(PLANT_KEYS, plant)
        if found is None:
            said = f"the plant {plant!r} has published no key; start its production service, which does"
            raise Unknown("UNKNOWN_PLANT", said, f"plants[{number}]")
        return found.state

    async def _row(self, set: str, version: int, field: str = "version") -> VersionRow:
        """The row of a version; of the newest where 0 is asked for."""
        if not version:
            rows: list[VersionRow] = [item.state for item in await self.app.store.where(VERSIONS, "set", set)]
            if not rows:
                said = "no such parameter set; list them with ListParameterSets, or draft it"
                raise Unknown("UNKNOWN_SET", said, "set")
            return max(rows, key=lambda row: row.version)
        found = await self.app.store.get(VERSIONS, row_id(set, version))
        if found is None:
            said = f"the set has no version {version}; list them with ListParameterSets"
            raise Unknown("UNKNOWN_VERSION", said, field)
        return found.state

    async def _content(self, sealed: bytes) -> ParameterSetContent:
        plain = await asyncio.to_thread(contents.open_sealed, self.app.sealer, sealed)
        return contents.said(plain)


def check_content(content: ParameterSetContent, before: ParameterSetContent | None) -> None:
    """Invalid with every reason for which the content is none."""
    found = [Invalid(*_told(one)) for one in checks.violations(content, conversion, before)]
    if content.product:
        try:
            check_product(content.product, "content.product")
        except Invalid as error:
            found.insert(0, error)
    if found:
        first, *others = found
        raise Invalid(first.reason, first.description, first.field, tuple(others))


def _told(violation: checks.Violation) -> tuple[str, str, str]:
    return violation.rule, violation.statement, f"content.{violation.field}"


def _check_id(set: str) -> None:
    # A bar joins set and version in ids.
    if not set or len(set) > _LONGEST_ID or not set.isprintable() or set != set.strip() or "|" in set:
        said = f"name the set with at most {_LONGEST_ID} printable characters, without '|'"
        raise Invalid("MALFORMED", said, "set")


def _difference(one: Difference) -> api.ParameterSetDifference:
    return api.ParameterSetDifference(path=one.path, before=one.before, after=one.after)
