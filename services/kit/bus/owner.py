"""Whose topics these are: the installation that made them, beside the register of its contract.

Two installations on one Kafka would share topics and consumer groups: each
would take records from the other and fold them with keys that it has not.
From outside they look like two pods of one. So the topic migration writes a
name down, and refuses topics that bear another's. Who tells no name, as a run
on one machine does, neither claims nor is refused.
"""

from __future__ import annotations

import json

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.kit.bus.register import newest, write
from services.kit.errors import Integrity
from services.kit.settings import PREFIX, KafkaSettings

_KEY = b"owner"


class InstallationSettings(BaseSettings):
    """Who runs the migration."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    installation: str = Field(
        default="", description="name of the installation that owns the topics; none is compared if empty"
    )
    take_over: str = Field(
        default="", description="name of the installation, gone for good, whose topics this one takes over"
    )


def allow(owner: str, claim: InstallationSettings) -> bool:
    """Whether the claim is to be written down. Integrity where the topics are somebody else's."""
    mine = claim.installation
    if not mine or owner == mine:
        return False
    if owner and owner != claim.take_over:
        raise Integrity(
            f"the topics of this Kafka belong to the installation {owner}, and this is {mine}: two would "
            "share topics and consumer groups. Give this one a Kafka and a MongoDB of its own; or, if that "
            "one is gone for good and this one goes on with its data, take over "
            f"(PHARMALOOP_TAKE_OVER={owner}, in Helm migration.takeOver={owner})"
        )
    return True


def read_owner(settings: KafkaSettings) -> str:
    """The name that stands; empty where nobody has claimed the topics."""
    raw = newest(settings, _KEY)
    return str(json.loads(raw)["installation"]) if raw else ""


def refuse_another(settings: KafkaSettings, claim: InstallationSettings) -> None:
    """Integrity where the topics are another installation's."""
    if claim.installation:
        allow(read_owner(settings), claim)


def claim_topics(settings: KafkaSettings, claim: InstallationSettings) -> None:
    """Write the name down, where it does not stand; read again, for another may have been as quick."""
    if claim.installation and allow(read_owner(settings), claim):
        write(settings, _KEY, json.dumps({"installation": claim.installation}).encode())
        allow(read_owner(settings), claim)
