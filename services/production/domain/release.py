"""What came of research for the plants: releases, whether they still stand, and what lots taught it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pharmaloop.rnd.v1 import events_pb2 as rnd


@dataclass(frozen=True)
class Release:
    """A version that was released to a plant; `released` keeps its ParameterSetReleased as it was.

    `run` is the run of the transfer loop, empty until it is opened. `over` says why the version is over,
    empty while it stands.
    """

    released: bytes
    plant: str
    run: str = ""
    over: str = ""

    def message(self) -> rnd.ParameterSetReleased:
        return rnd.ParameterSetReleased.FromString(self.released)


def released(held: Release | None, event: rnd.ParameterSetReleased) -> Release:
    return held or Release(event.SerializeToString(deterministic=True), event.plant)


def opened(held: Release, run: str) -> Release:
    return replace(held, run=run)


def superseded(held: Release, event: rnd.ParameterSetSuperseded) -> Release:
    return held if held.over else replace(held, over=f"version {event.by_version} took its place")


def withdrawn(held: Release, event: rnd.ParameterSetWithdrawn) -> Release:
    """Said also of one that is over: a version that was superseded may still be worked by."""
    return replace(held, over=f"withdrawn by {event.actor}: {event.reason}")


def cancelled(held: Release, actor: str, reason: str) -> Release:
    """A person ended the run of the loop: nobody waits for the version any more."""
    return held if held.over else replace(held, over=f"its run was ended by {actor}: {reason}")


@dataclass(frozen=True)
class Calibration:
    """What a plant's lots of a product were off their prediction; keeps the newest PredictionCalibrated."""

    calibrated: bytes

    def by_attribute(self) -> dict[str, rnd.AttributeCalibration]:
        told = rnd.PredictionCalibrated.FromString(self.calibrated)
        return {one.attribute: one for one in told.attributes}
