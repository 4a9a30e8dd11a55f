"""Which queue or partition carries a message: who tells whom, by event type.

A queue is named "taker<teller"; the copies of the loops' router, which change
nothing, are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf.message import Message

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.traceability.v1 import events_pb2 as traceability
from tests.model import messages
from tests.model.configurations import Configuration

#: From a message and the site that tells it to the queues that carry it.
Route = Callable[[Any, str], list[str]]


class Routes:
    """The queues of one configuration."""

    def __init__(self, configuration: Configuration) -> None:
        self._sites = configuration.sites
        self._logs = tuple(configuration.logs)
        self._dispensed = configuration.dispensed
        names = ["fold<loops", "owner<trace", "loops<owner"]
        for site in self._sites:
            names += [f"{site}<trace", f"{site}<announced", f"{site}<own", f"{site}<loops", f"loops<{site}"]
        self.queues = (*names, "loops<trace")
        self.queue = {name: number for number, name in enumerate(self.queues)}
        announced = [f"{site}<announced" for site in self._sites]
        closed = ["fold<loops", *(f"{site}<loops" for site in self._sites)]
        self._routes: Mapping[type[Message], Route] = {
            traceability.ExposureOpened: lambda said, _: [f"{said.site}<trace"],
            traceability.ExposureEntriesJoined: lambda said, _: [f"{said.site}<trace"],
            traceability.ExposureAnnounced: lambda said, _: ["loops<trace", *announced],
            traceability.ExposureSealed: lambda said, _: ["loops<trace"],
            traceability.ExposureExtended: lambda said, _: ["loops<trace"],
            traceability.ExposureAfterSeal: lambda said, _: ["loops<trace"],
            traceability.LotImplicated: lambda said, _: ["owner<trace"],
            production.LotImplicationAnswered: lambda said, _: ["loops<owner"],
            clinical.ExposureReceived: lambda said, site: [f"loops<{site}"],
            clinical.PlansOpened: lambda said, site: [f"loops<{site}"],
            clinical.NoticesSummarised: lambda said, site: [f"loops<{site}"] * configuration.closing,
            clinical.FollowUpSummarised: lambda said, site: [f"loops<{site}"] * configuration.closing,
            clinical.DifferenceExplained: lambda said, site: [f"{site}<own"],
            loops.SafetyRunOpened: lambda said, _: ["fold<loops"],
            loops.SealRequested: lambda said, _: ["fold<loops"],
            loops.LoopClosed: lambda said, _: closed,
        }

    def places(self, message: int, site: int) -> tuple[int, ...]:
        """The queues' numbers; a partition of facts as -1 - its number. `site` is who tells, or -1."""
        said: Any = messages.message(message)
        if isinstance(said, (traceability.DispenseRecorded, traceability.DispenseCorrected)):
            return (-1 - self._logs.index(self._dispensed[said.lot]),)
        route = self._routes.get(type(said))
        teller = self._sites[site] if site >= 0 else ""
        return tuple(self.queue[name] for name in route(said, teller)) if route else ()
