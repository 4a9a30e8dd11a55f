"""How patients are followed up: templates by product and deviation kind, each in versions.

A person of the site registers them. The most particular one holds: that for
the product and the kind before that for the product, that before the one for
the kind, and that before the one for everybody. Of a patient who received
several products the longest of the most particular ones holds. A plan keeps
the template and version with which it was opened.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from pharmaloop.clinical.v1 import events_pb2 as clinical

EVERY = "any"


@dataclass(frozen=True)
class Template:
    """What was registered under one id; `versions` are serialised FollowUpTemplate, the oldest first.
    `product` and `kind` are empty where it is for all."""

    template: str
    product: str = ""
    kind: str = ""
    first: int = 1
    versions: tuple[bytes, ...] = field(default_factory=tuple)

    @property
    def newest(self) -> clinical.FollowUpTemplate:
        return clinical.FollowUpTemplate.FromString(self.versions[-1])

    def version(self, version: int) -> clinical.FollowUpTemplate:
        return clinical.FollowUpTemplate.FromString(self.versions[version - self.first])


@dataclass(frozen=True)
class Asked:
    """Which template a plan was opened with, and how long it lasts."""

    template: str
    version: int
    hours: int


def template_id(product: str, kind: str) -> str:
    return f"{product or EVERY}:{kind or EVERY}"


#: For everybody, until a person registers another: one open question, eight hours.
DEFAULT = clinical.FollowUpTemplate(
    template=template_id("", ""),
    version=1,
    duration_hours=8,
    questions=[
        clinical.FollowUpQuestion(
            id="complaint",
            text=clinical.Wording(
                en="How have you felt since you took this medicine? "
                "Please tell us of any complaint, also a small one.",
                zh="服用此药后您感觉如何？如有任何不适，哪怕很轻微，也请告诉我们。",
            ),
            answer=clinical.ANSWER_KIND_WORDS,
        )
    ],
)


def built_in() -> Template:
    """The template for everybody as it is before anybody registers one."""
    return Template(DEFAULT.template, versions=(DEFAULT.SerializeToString(deterministic=True),))


def evolve(held: Template | None, event: object) -> Template:
    """The template after a version was registered."""
    assert isinstance(event, clinical.FollowUpTemplateRegistered)
    content = event.content
    held = held or Template(
        content.template, content.product, content.deviation_kind, first=content.version, versions=()
    )
    return replace(held, versions=(*held.versions, content.SerializeToString(deterministic=True)))


def held_as(held: Template | None, id: str) -> Template | None:
    """What holds under an id: that for everybody is there before anybody registers it."""
    return held or (built_in() if id == DEFAULT.template else None)


def registered(held: Template | None, wanted: clinical.FollowUpTemplate) -> clinical.FollowUpTemplate:
    """What is registered: a new version, or the newest where nothing is other than in it."""
    content = clinical.FollowUpTemplate()
    content.CopyFrom(wanted)
    content.template = template_id(wanted.product, wanted.deviation_kind)
    content.version = held.newest.version if held else 0
    if held is None or content != held.newest:
        content.version += 1
    return content


def chosen(templates: Iterable[Template], products: Sequence[str], kind: str) -> clinical.FollowUpTemplate:
    """The template that holds for a patient who received these products, in a run of this kind."""
    fitting = [t for t in templates if t.product in ("", *products) and t.kind in ("", kind)]
    newest = [(bool(t.product), bool(t.kind), t.newest) for t in fitting]
    return max(
        [(False, False, DEFAULT), *newest],
        key=lambda one: (one[0], one[1], one[2].duration_hours, one[2].template, one[2].version),
    )[2]


def asked(template: clinical.FollowUpTemplate) -> Asked:
    return Asked(template.template, template.version, template.duration_hours)
