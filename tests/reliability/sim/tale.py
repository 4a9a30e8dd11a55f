"""What research, a plant and three hospitals do of the transfer and the evidence loop in a world of a seed.

Drawn from a random stream of its own: what the story says of a seed (`story`)
stays as it was. This is the truth that these loops are judged by; it knows
nothing of how the platform works.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal, TypeAlias

from services.kit.ids import product_key, transfer_case
from tests.reliability.sim.process import OF_STUDIES, STUDY_SITES

PLANT, LINE, FERMENTER = "plant-2", "line-a", "plant-2/fermenter-1"
#: What the sets are of, and the two products of studies: research knows the first of these alone.
BROTH = product_key("maker", "item", "BROTH")
KNOWN, UNKNOWN = product_key("maker", "item", "TABLET"), product_key("maker", "item", "CAPSULE")

#: What becomes of a version at the plant. "concluded": advice is taken, a lot is made and tested; "kept":
#: the advice is refused, the recipe made all the same; "off": the lot is out of specification, and that
#: stands; "refused": no line fits; "unsigned": nobody decides; "withdrawn", "superseded", "cancelled": by
#: research, by a later version, by whoever gives the run up, when the transfer is in the state `at` and
#: people wait for it; "overtaken": research withdraws it whenever it likes, and nobody waits.
Fate: TypeAlias = Literal[
    "concluded", "kept", "off", "refused", "unsigned", "withdrawn", "superseded", "cancelled", "overtaken"
]
_FATES: tuple[Fate, ...] = (
    *("concluded", "concluded", "kept", "off", "refused", "unsigned"),
    *("withdrawn", "superseded", "superseded", "cancelled", "overtaken"),
)
_LAST: tuple[Fate, ...] = ("concluded", "kept", "refused", "withdrawn", "overtaken")
#: Where people stop.
_STOPS = ("proposed", "in_change_control", "effective")

#: What becomes of a study. "answered": taken up by the rule; "declined": a person declines the finding, whose
#: product research does not know; "contested": research learns of the product, one person takes the finding
#: up and another declines it; "refused": an owner says no; "stopped": the analyst ends it before everybody
#: has approved; "halted": the analyst ends it whenever it suits; "expired": an owner never answers.
StudyFate: TypeAlias = Literal["answered", "declined", "contested", "refused", "stopped", "halted", "expired"]
_STUDY_FATES: tuple[StudyFate, ...] = (
    *("answered", "answered", "answered", "declined", "contested"),
    *("refused", "stopped", "halted", "expired"),
)
#: Whose contributions an evaluator may value: "all" owners agree to it, "some" do not; "": nobody is asked.
Valuing: TypeAlias = Literal["", "some", "all"]
_VALUINGS: tuple[Valuing, ...] = ("", "some", "all", "all")


@dataclass(frozen=True)
class Version:
    """A version of a set; `at` is the state of the transfer in which somebody ends it, if anybody does."""

    number: int
    fate: Fate
    at: str = ""


@dataclass(frozen=True)
class Transfer:
    """A set for the plant, with its versions; a later one comes when the one before has met its fate."""

    set: str
    versions: tuple[Version, ...]

    @property
    def case(self) -> str:
        return transfer_case(self.set, PLANT)

    def lot(self, version: int) -> str:
        return f"{BROTH}/{self.set}-{version}"


@dataclass(frozen=True)
class Study:
    """A study of the three sites, and what becomes of it."""

    study: str
    fate: StudyFate
    valuing: Valuing

    def agrees(self, site: str) -> bool:
        """Does the owner of the site agree that its contribution is valued?"""
        return self.valuing == "all" or (self.valuing == "some" and site != STUDY_SITES[-1])

    @property
    def product(self) -> str:
        if self.fate == "contested":
            return product_key("maker", "item", f"NEW-{self.study}")
        return UNKNOWN if self.fate == "declined" else KNOWN


@dataclass(frozen=True)
class Tale:
    """The transfers and studies of a world."""

    transfers: tuple[Transfer, ...]
    studies: tuple[Study, ...]

    def has(self, process: str) -> bool:
        """Does the world need this service?"""
        return bool(self.studies) or process not in OF_STUDIES

    def version(self, lot: str) -> Version | None:
        """The version by whose recipe the lot is made."""
        made = {one.lot(version.number): version for one in self.transfers for version in one.versions}
        return made.get(lot)

    def stands(self, lot: str) -> bool:
        """Is what the laboratory finds of the lot out of specification for good?"""
        version = self.version(lot)
        return version is not None and version.fate == "off"


def tell(seed: int) -> Tale:
    """The tale of a seed."""
    rng = Random(f"loops/{seed}")
    transfers = tuple(_transfer(rng, number) for number in range(rng.randint(0, 2)))
    fates = [rng.choice(_STUDY_FATES) for _ in range(rng.randint(0, 2))]
    valuings = Random(f"valued/{seed}").choices(_VALUINGS, k=len(fates))
    studies = (Study(f"study-{n}", *drawn) for n, drawn in enumerate(zip(fates, valuings, strict=True)))
    return Tale(transfers, tuple(studies))


def _transfer(rng: Random, number: int) -> Transfer:
    first = _version(1, rng.choice(_FATES), rng)
    follows = {"superseded": 1.0, "withdrawn": 0.5, "refused": 0.5, "overtaken": 0.5}.get(first.fate, 0.0)
    later = (_version(2, rng.choice(_LAST), rng),) if rng.random() < follows else ()
    return Transfer(f"set-{number}", (first, *later))


def _version(number: int, fate: Fate, rng: Random) -> Version:
    stops = fate in ("withdrawn", "superseded", "cancelled")
    return Version(number, fate, rng.choice(_STOPS) if stops else "")
