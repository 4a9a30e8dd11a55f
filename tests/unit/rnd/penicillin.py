"""A parameter set of a fermentation, and research that has drafted it."""

from __future__ import annotations

from typing import Any

from pharmaloop.rnd.v1 import parameter_set_pb2 as content
from pharmaloop.rnd.v1 import service_pb2 as api
from tests.unit.rnd.memory import Plant, Research

PRODUCT = "maker-1/item/penicillin"
SET = "penicillin-fermentation"


def limits(low: float | None, high: float | None, unit: str) -> content.Range:
    return content.Range(low=low, high=high, unit=unit)


def says(**changes: Any) -> content.ParameterSetContent:
    """A content that breaks no rule, with other values in some of its fields."""
    vessel = content.Vessel(
        volume_m3=0.15,
        liquid_m3=0.1,
        tank_diameter_m=0.45,
        impeller_diameter_m=0.15,
        blade_width_m=0.03,
        impellers=2,
        power_number=5.0,
        stirrer_min_per_s=1.0,
        stirrer_max_per_s=12.0,
        power_max_w=2000.0,
        gas_max_m3_per_s=0.005,
        kla_calibration=1.0,
    )
    given: dict[str, Any] = {
        "product": PRODUCT,
        "targets": [content.QualityTarget(attribute="titre", target="at least 1.2 g/L at the end")],
        "attributes": [content.QualityAttribute(attribute="titre", limits=limits(1.2, None, "g/L"))],
        "parameters": [
            content.ProcessParameter(
                parameter="feed_rate",
                set_point=0.042,
                normal=limits(0.040, 0.044, "L/h"),
                proven=limits(35, 50, "mL/h"),
            ),
            content.ProcessParameter(
                parameter="temperature",
                set_point=298.0,
                normal=limits(297.5, 298.5, "K"),
                proven=limits(295.0, 300.0, "K"),
            ),
        ],
        "design_space": content.DesignSpace(
            approval="CN-2026-1",
            bounds=[content.LinearBound(coefficients={"feed_rate": 1000.0, "temperature": 1.0}, most=345.0)],
        ),
        "process": content.DevelopedProcess(
            model="pensim-reduced",
            vessel=vessel,
            stirrer_per_s=5.0,
            gas_m3_per_s=0.0014,
            criterion=content.SCALE_UP_CRITERION_KLA,
            duration_h=400.0,
        ),
        "statement": "First process for the pilot plant.",
    }
    return content.ParameterSetContent(**{**given, **changes})


def known(research: Research, *plants: Plant) -> None:
    """The product is registered, and the plants have published their keys."""
    research.call(
        "RegisterProduct",
        api.RegisterProductRequest(product=PRODUCT, name="Penicillin G", indication="infection"),
    )
    for plant in plants:
        research.tell(plant.published())


def draft(research: Research, said: content.ParameterSetContent, actor: str = "ada", set: str = SET) -> Any:
    return research.call("DraftParameterSet", api.DraftParameterSetRequest(set=set, content=said), actor)


def review(research: Research, version: int = 1, actor: str = "ben") -> Any:
    request = api.ReviewParameterSetRequest(set=SET, version=version, meaning="I have read it.")
    return research.call("ReviewParameterSet", request, actor)


def release(research: Research, *plants: str, version: int = 1, actor: str = "cy", id: str = "") -> Any:
    request = api.ReleaseParameterSetRequest(
        request_id=id, set=SET, version=version, plants=plants, meaning="For use."
    )
    return research.call("ReleaseParameterSet", request, actor)


def withdraw(research: Research, version: int = 1, actor: str = "cy") -> Any:
    request = api.WithdrawParameterSetRequest(
        set=SET, version=version, reason="A range was wrong.", meaning="I take it back"
    )
    return research.call("WithdrawParameterSet", request, actor)


def released(research: Research, *plants: Plant, said: content.ParameterSetContent | None = None) -> None:
    """The first version is drafted, reviewed and released."""
    known(research, *plants)
    draft(research, said or says())
    review(research)
    release(research, *(plant.name for plant in plants))
