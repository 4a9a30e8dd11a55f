"""What may happen to a parameter set, and who may sign it.

Whoever drafted a version does not review it, and whoever reviewed it does not
release it: two people have looked at what a plant works by.
"""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import Message

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as events
from services.refusals import Absent, Malformed, Refusal
from services.rnd.domain.catalogue import Product
from services.rnd.domain.errors import named
from services.rnd.domain.parameter_sets.model import Asked, ParameterSet, Version
from services.sayings import saying


def decide_draft(held: ParameterSet | None, asked: events.ParameterSetDrafted) -> list[Message]:
    """A set's next version. Another product is another set; what says nothing new is no version."""
    if held is not None:
        if asked.product != held.product:
            said = f"the set is of product {held.product!r}; draft that, or name another set"
            raise Refusal("WRONG_PRODUCT", said, "content.product")
        newest = held.newest
        if not asked.changes and not newest.withdrawn:
            said = f"version {newest.version} says the same; change something, or go on with that version"
            raise Refusal("UNCHANGED", said, "content")
    return [asked]


def decide_review(held: ParameterSet | None, asked: events.ParameterSetReviewed) -> list[Message]:
    """A second person signs the draft."""
    found = _in(held, asked.version, ("draft",), "reviewed")
    named(asked.meaning, "meaning")
    if asked.actor == found.drafter:
        said = f"{asked.actor} drafted this version; a second person reviews it"
        raise Refusal("SAME_PERSON", said, "version")
    return [asked]


def decide_release(
    held: ParameterSet | None, releases: Sequence[events.ParameterSetReleased]
) -> list[Message]:
    """One release for each plant; a version that the plant had before is superseded with it: the plant goes
    on by that until the later one is effective there.

    `releases` are of one version and by one person; each gets its reviewer here.
    """
    if not releases:
        raise Malformed("REQUIRED", "name the plants that the version is for", "plants")
    first = releases[0]
    found = _in(held, first.version, ("reviewed", "released"), "released")
    assert held is not None, "refused before"
    named(first.meaning, "meaning")
    if first.actor == found.reviewer:
        said = f"{first.actor} reviewed this version; another person releases it"
        raise Refusal("SAME_PERSON", said, "version")
    decided: list[Message] = []
    for number, asked in enumerate(releases):
        now = held.at(asked.plant)
        _check_plant(found, asked.plant, held.latest(asked.plant), f"plants[{number}]")
        if asked.plant in {one.plant for one in releases[:number]}:
            raise Malformed("DUPLICATE_PLANT", f"{asked.plant!r} is named twice", f"plants[{number}]")
        asked.reviewer = found.reviewer
        decided.append(asked)
        if now:
            decided.append(
                events.ParameterSetSuperseded(
                    set=held.set, version=now, plant=asked.plant, by_version=found.version
                )
            )
    return decided


def _check_plant(found: Version, plant: str, latest: int, field: str) -> None:
    """A plant goes on to later versions: also one that was withdrawn is not followed by an earlier one."""
    if latest == found.version:
        said = f"version {latest} is released to {plant!r} already; leave it out"
        raise Refusal("ALREADY_RELEASED", said, field)
    if latest > found.version:
        said = f"{plant!r} had version {latest}, which is later; draft what this one says as a new version"
        raise Refusal("LATER_VERSION", said, field)


def decide_withdraw(
    held: ParameterSet | None, version: int, actor: str, reason: str
) -> list[events.ParameterSetWithdrawn]:
    """Every plant that ever had the version hears of it: one to which a later version went may work by it
    until that is effective there. A version that was never released is withdrawn once."""
    found = _in(held, version, ("draft", "reviewed", "released", "superseded"), "withdrawn")
    assert held is not None, "refused before"
    named(reason, "reason")
    plants = [one.plant for one in found.releases] or [""]
    return [
        events.ParameterSetWithdrawn(set=held.set, version=version, plant=plant, actor=actor, reason=reason)
        for plant in plants
    ]


def decide_request_review(
    held: ParameterSet, changed: production.ProcessLimitChanged
) -> list[events.ReviewRequested]:
    """A corrective action set a limit: each version that a plant works by is looked at, once."""
    before, after = changed.limit_before, changed.limit_after
    moved = (
        f"changed the limit of {changed.tag} from {before:.2f} to {after:.2f}"
        if after != before
        else f"left the limit of {changed.tag} at {after:.2f}"
    )
    said = (
        f"corrective action {changed.capa} {moved} residual standard deviations; "
        f"look at its ranges, and draft a new version where they do not fit"
    )
    versions = dict.fromkeys(version.version for version, _ in held.standing())
    return [
        events.ReviewRequested(
            set=held.set,
            version=version,
            reason=said,
            capa=changed.capa,
            parameter=changed.tag,
            reason_sayings=[_moved(changed), saying("LOOK_AT_RANGES")],
        )
        for version in versions
        if Asked(version, changed.capa, changed.tag) not in held.asked
    ]


def _moved(changed: production.ProcessLimitChanged) -> common.Saying:
    before, after = round(changed.limit_before, 2), round(changed.limit_after, 2)
    if changed.limit_after == changed.limit_before:
        return saying("CAPA_LEFT_LIMIT", capa=changed.capa, tag=changed.tag, limit=after)
    return saying("CAPA_CHANGED_LIMIT", capa=changed.capa, tag=changed.tag, before=before, after=after)


def _in(held: ParameterSet | None, version: int, states: tuple[str, ...], to: str) -> Version:
    """The version, which must be in one of the states to become `to`."""
    if held is None:
        said = "no such parameter set; list them with ListParameterSets, or draft it"
        raise Absent("UNKNOWN_SET", said, "set")
    found = held.find(version)
    if found is None:
        said = f"the set has versions 1 to {held.newest.version}; name one of them"
        raise Absent("UNKNOWN_VERSION", said, "version")
    if found.state not in states:
        said = f"a version that is {found.state} cannot become {to}; it must be {' or '.join(states)}"
        raise Refusal("ILLEGAL_TRANSITION", said, "version")
    return found


def check_product(held: Product | None, product: str) -> None:
    """A set is of a product that research knows."""
    if held is None:
        said = f"no product {product!r} is registered; register it with RegisterProduct first"
        raise Absent("UNKNOWN_PRODUCT", said, "content.product")
