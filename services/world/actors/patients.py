"""The patients: each sees only their own plans, and answers from their own body.

Most answer by themselves, some when they were reminded once or twice, some
never. The post room sorts plans and reminders by person; nothing else is
shared between them.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from datetime import timedelta

from pharmaloop.clinical.v1 import service_pb2 as api
from services.world.actors.asking import answers_to
from services.world.actors.desk import Desk
from services.world.entities import Body
from services.world.ids import moment
from services.world.platform_api import Refused
from services.world.timing import rest

LOOK_SECONDS = 1.0
EARLIEST, LATEST = timedelta(minutes=30), timedelta(hours=4)
#: Who had to be reminded answers soon, before the follow-up ends.
_SOON = timedelta(minutes=10), timedelta(minutes=40)
_CLOSED = "PLAN_CLOSED"
_WELL = ("I feel as always.", "Nothing to report.", "No complaints, thank you.")
_UNWELL = (
    "My skin itches where the patch was.",
    "I have been dizzy since last week.",
    "I feel sick at times.",
)


class Patient:
    """One person. `body` is theirs alone; `give_blood` is how to have it taken for a plan, test by test."""

    def __init__(
        self, body: Body, desk: Desk, site: str, give_blood: Callable[[str, str, Sequence[str]], None]
    ) -> None:
        self._body = body
        self._desk = desk
        self._site = site
        self._give_blood = give_blood

    async def receive(self, view: api.PlanView) -> None:
        """Answer in one's own time, after as many reminders as it takes, or never: question by question,
        where there are several."""
        if not self._body.answers or len(view.reminded) != self._body.reminders:
            return
        draw = random.Random(f"{self._desk.seed}/{self._body.pseudonym}/{view.plan.plan}")
        earliest, latest = _SOON if self._body.reminders else (EARLIEST, LATEST)
        await self._desk.sleep(earliest + (latest - earliest) * draw.random())
        if self._body.gives_blood and view.template.labs:
            self._give_blood(view.plan.plan, self._body.pseudonym, [lab.code for lab in view.template.labs])
        await self._answer(view, draw)

    async def _answer(self, view: api.PlanView, draw: random.Random) -> None:
        plan, questions = view.plan, view.template.questions
        request = api.RecordResponseRequest(
            request_id=self._desk.request("response", plan.plan),
            site=self._site,
            plan=plan.plan,
            pseudonym=self._body.pseudonym,
            at=moment(self._desk.clock.now()),
        )
        words = draw.choice(_UNWELL if self._body.complaint else _WELL)
        if len(questions) > 1:
            request.answers.extend(answers_to(questions, self._body.complaint, words))
        else:
            request.affected, request.words = self._body.complaint, words
        try:
            await self._desk.call(self._desk.platform.clinical_at(self._site).RecordResponse, request)
        except Refused as refusal:
            if refusal.reason != _CLOSED:  # what they received turned out to need no answer
                self._desk.say(f"patient: {refusal}")


class PostRoom:
    """Brings each patient their plans, and each reminder, once."""

    def __init__(
        self,
        desk: Desk,
        site: str,
        bodies: Sequence[Body],
        give_blood: Callable[[str, str, Sequence[str]], None],
    ) -> None:
        self._desk = desk
        self._site = site
        self._patients = {body.pseudonym: Patient(body, desk, site, give_blood) for body in bodies}
        #: Plans, with how many reminders of them.
        self._delivered: dict[str, int] = {}

    async def run(self) -> None:
        async with asyncio.TaskGroup() as answers:
            while True:
                began = time.monotonic()
                for view in await self._news():
                    self._delivered[view.plan.plan] = len(view.reminded)
                    if patient := self._patients.get(view.plan.pseudonym):
                        answers.create_task(patient.receive(view))
                await rest(began, LOOK_SECONDS)

    async def _news(self) -> list[api.PlanView]:
        desk, clinical = self._desk, self._desk.platform.clinical_at(self._site)
        request = api.ListPlansRequest(site=self._site, only_open=True)
        return [
            view
            async for page in desk.platform.pages(clinical.ListPlans, request, desk.actor)
            for view in page.plans
            if self._delivered.get(view.plan.plan, -1) < len(view.reminded) and not view.draft
        ]
