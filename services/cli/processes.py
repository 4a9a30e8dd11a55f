"""Names of runners, views and letters where a service runs as several processes, one a hospital.

The process of a site calls its runner `clinical.exposure`, as every other one
does. Here it is called `clinical.hospital-b.exposure`, after the process; what
has no site in its name is of the process that is called by the service alone.
"""

from __future__ import annotations

_SERVICE, _SITE, _RUNNER = range(3)


def process_of(name: str) -> str:
    """The process of a runner, a view or a letter."""
    parts = _parts(name)
    return ".".join(parts[:_RUNNER]) if len(parts) > _RUNNER else parts[_SERVICE]


def service_of(process: str) -> str:
    """The service that a process is one of."""
    return process.partition(".")[0]


def own(name: str) -> str:
    """What its process calls it itself."""
    parts = _parts(name)
    return name if len(parts) <= _RUNNER else ".".join([parts[_SERVICE], *parts[_RUNNER:]]) + _rest(name)


def known_as(process: str, name: str) -> str:
    """What it is called here, from what its process calls it."""
    service, _, site = process.partition(".")
    return f"{service}.{site}{name.removeprefix(service)}" if site else name


def _parts(name: str) -> list[str]:
    return name.partition("|")[0].split(".")


def _rest(name: str) -> str:
    """A letter's topic, partition and offset."""
    place = name.find("|")
    return name[place:] if place >= 0 else ""
