"""The templates that a site holds, in the version by which somebody was asked."""

from __future__ import annotations

from pharmaloop.clinical.v1 import events_pb2 as clinical
from services.clinical.domain.templates import DEFAULT, Template
from services.clinical.views import TEMPLATES
from services.kit.store.protocol import AsyncStore


async def held(store: AsyncStore, site: str, template: str) -> Template | None:
    stored = await store.get(TEMPLATES, f"{template}|{site}")
    return stored.state if stored else None


async def asked_by(store: AsyncStore, site: str, template: str, version: int) -> clinical.FollowUpTemplate:
    """A version of a template that a plan was opened with."""
    if (template, version) == (DEFAULT.template, DEFAULT.version):
        return DEFAULT
    found = await held(store, site, template)
    assert found is not None
    return found.version(version)
