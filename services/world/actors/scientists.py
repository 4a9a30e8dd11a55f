"""The developer's scientists: one drafts, another reviews, the head of development releases.

They register what they know, have a virtual trial run, and bring their process
to the plant version after version, each after the one before has told them what
its lot was. Some of what they write is wrong on purpose: research must refuse
it by the right rule, and so must the plant's twin.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from pharmaloop.loops.v1 import events_pb2 as events
from pharmaloop.loops.v1 import service_pb2 as loops
from pharmaloop.rnd.v1 import events_pb2 as rnd
from pharmaloop.rnd.v1 import parameter_set_pb2 as sets
from pharmaloop.rnd.v1 import service_pb2 as api
from services.kit.ids import transfer_case
from services.world.actors.desk import Desk
from services.world.plans import misfit_of, mistake_of
from services.world.platform_api import Refused
from services.world.recipes import MISTAKES, POINTS, content
from services.world.timing import LOOK_SECONDS
from services.world.treatment import INDICATION

TARGET = "VKORC1"
#: Molecules of the indication: id, name, structure as published, and the number of its product.
_MOLECULES = (
    ("dicoumarol", "dicoumarol", "O=C1Oc2ccccc2C(O)=C1CC1=C(O)c2ccccc2OC1=O"),
    ("warfarin", "warfarin", "CC(=O)CC(c1ccccc1)C1=C(O)c2ccccc2OC1=O"),
    ("phenprocoumon", "phenprocoumon", "CCC(c1ccccc1)C1=C(O)c2ccccc2OC1=O"),
    ("acenocoumarol", "acenocoumarol", "CC(=O)CC(c1ccc(cc1)[N+](=O)[O-])C1=C(O)c2ccccc2OC1=O"),
)
_TRIAL_SECONDS = 60.0
#: Patients of each arm, of one design after the other.
_PATIENTS = (60, 240)
_REVIEWED = "I have checked ranges, geometry and the trial, and find the set fit to be released."
_RELEASED = "I release this version to the plant."


@dataclass(frozen=True)
class Programme:
    """What is to be done: the set and its plant, so many versions of it, and a plant that cannot make it."""

    product: str
    set: str
    plant: str
    weak_plant: str
    versions: int

    @property
    def case(self) -> str:
        return transfer_case(self.set, self.plant)


class Scientists:
    """`drafter`, `reviewer` and `head` are three people's desks."""

    def __init__(self, drafter: Desk, reviewer: Desk, head: Desk, programme: Programme) -> None:
        self._drafter, self._reviewer, self._head = drafter, reviewer, head
        self._programme = programme
        #: What the platform let pass, or refused by another rule than it must.
        self.wrong: list[str] = []
        self.done = False

    async def work(self) -> None:
        """The whole programme, one thing after the other."""
        trial = await self._prepare()
        for mistake in MISTAKES:
            await self._err(mistake.name, mistake.spoiled(self._programme.product, trial), mistake.rule)
        await self._misfit(trial)
        for version in range(1, self._programme.versions + 1):
            await self._transfer(version, trial)
        self.done = True

    # -- what is known ----------------------------------------------------------

    async def _prepare(self) -> str:
        """Target, molecules, products and the virtual trial; answers the trial's id."""
        desk, research = self._drafter, self._drafter.platform.rnd
        target = api.RegisterTargetRequest(
            request_id=desk.request("target", TARGET),
            target=TARGET,
            name="vitamin K epoxide reductase complex subunit 1",
            provenance="Rost et al., Nature 2004;427:537",
        )
        await desk.call(research.RegisterTarget, target)
        for number, (molecule, name, smiles) in enumerate(_MOLECULES):
            registered = api.RegisterMoleculeRequest(
                request_id=desk.request("molecule", molecule),
                molecule=molecule,
                name=name,
                smiles=smiles,
                provenance="published structure",
                target=TARGET,
            )
            await desk.call(research.RegisterMolecule, registered)
            product = self._programme.product if number == 0 else f"{self._programme.product}-{molecule}"
            made = api.RegisterProductRequest(
                request_id=desk.request("product", product),
                product=product,
                name=name,
                molecule=molecule,
                target=TARGET,
                indication=INDICATION,
            )
            await desk.call(research.RegisterProduct, made)
        return await self._tried()

    async def _tried(self) -> str:
        """The first design is too small to show anything: it is given up for a larger one."""
        trial = rnd.TrialCompleted()
        for patients in _PATIENTS:
            trial = await self._try(patients)
            if trial.verdict == rnd.TRIAL_VERDICT_GO:
                break
        return trial.trial

    async def _try(self, patients: int) -> rnd.TrialCompleted:
        desk = self._drafter
        request = api.RunTrialRequest(
            request_id=desk.request("trial", str(patients)),
            product=self._programme.product,
            context_of_use="Does dosing by genotype keep more of the time in range than one dose for all?",
            design=api.VirtualTrialDesign(patients_each=patients),
            seed=desk.seed,
        )
        answer = await desk.call(desk.platform.rnd.RunTrial, request, _TRIAL_SECONDS)
        desk.say(f"virtual trial with {patients} patients an arm: {answer.trial.statement}")
        found: rnd.TrialCompleted = answer.trial
        return found

    # -- what is wrong ------------------------------------------------------------

    async def _err(self, name: str, spoiled: sets.ParameterSetContent, rule: str) -> None:
        try:
            await self._draft(mistake_of(self._programme.set, name), spoiled)
        except Refused as refusal:
            if refusal.reason == rule:
                self._drafter.say(f"a draft was refused: {name}: {rule}")
            else:
                self.wrong.append(f"the draft {name} was refused by {refusal.reason}, and not by {rule}")
            return
        self.wrong.append(f"the draft {name} was not refused ({rule})")

    async def _misfit(self, trial: str) -> None:
        """A good set, released to a plant whose vessel cannot do it: the plant's twin must say so."""
        name = misfit_of(self._programme.set)
        said = content(self._programme.product, trial, "The process, for the smaller plant.")
        version = await self._draft(name, said)
        await self._sign(name, version, [self._programme.weak_plant])

    # -- what is right --------------------------------------------------------------

    async def _transfer(self, number: int, trial: str) -> None:
        """A version, released to the plant; answers when its run of the loop is over."""
        programme = self._programme
        if self._head.progress.is_done(f"transfer:{number}"):
            return
        feed = POINTS[number % len(POINTS)]
        said = content(programme.product, trial, f"Version {number}: a feed of {feed} L/h.")
        next(one for one in said.parameters if one.parameter == "feed").set_point = feed
        version = await self._draft(programme.set, said, str(number))
        await self._sign(programme.set, version, [programme.plant])
        self._head.say(f"{programme.set} version {version} released to {programme.plant}")
        await self._closed(version)
        self._head.progress.finish(f"transfer:{number}")

    async def _draft(self, name: str, said: sets.ParameterSetContent, part: str = "") -> int:
        desk = self._drafter
        request = api.DraftParameterSetRequest(
            request_id=desk.request("draft", name, part), set=name, content=said
        )
        answer = await desk.call(desk.platform.rnd.DraftParameterSet, request)
        return int(answer.version)

    async def _sign(self, name: str, version: int, plants: Sequence[str]) -> None:
        review = api.ReviewParameterSetRequest(
            request_id=self._reviewer.request("review", name, str(version)),
            set=name,
            version=version,
            meaning=_REVIEWED,
        )
        await self._reviewer.call(self._reviewer.platform.rnd.ReviewParameterSet, review)
        release = api.ReleaseParameterSetRequest(
            request_id=self._head.request("release", name, str(version)),
            set=name,
            version=version,
            plants=plants,
            meaning=_RELEASED,
        )
        await self._head.call(self._head.platform.rnd.ReleaseParameterSet, release)

    async def _closed(self, version: int) -> None:
        """Wait for the run of the version to end."""
        desk = self._head
        request = loops.ListRunsRequest(loop="transfer", case=self._programme.case)
        while True:
            answer = await desk.call(desk.platform.loops.ListRuns, request)
            for run in answer.runs:
                if run.opened_transfer.version == version and run.state == loops.RUN_STATE_CLOSED:
                    self._ended(version, run)
                    return
            await asyncio.sleep(LOOK_SECONDS)

    def _ended(self, version: int, run: loops.Run) -> None:
        """Every version fits its plant: a run that ended otherwise than closed is a fault of the platform."""
        if run.closed.outcome == events.RUN_OUTCOME_CLOSED:
            self._head.say(f"transfer of version {version} closed after {run.seconds:.1f} s")
        else:
            how = events.RunOutcome.Name(run.closed.outcome).removeprefix("RUN_OUTCOME_").lower()
            self.wrong.append(f"the transfer of version {version} ended {how}, and had to be closed")
