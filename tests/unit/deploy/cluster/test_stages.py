"""What the stand-in kubelets are told: kwok's stages, with the bad days that tests need."""

from typing import Any

from deploy.cluster import stages


def stage(name: str, status: str = "") -> dict[str, Any]:
    spec = {"selector": {"matchExpressions": []}, "next": {"statusTemplate": status}}
    return {"kind": "Stage", "metadata": {"name": name}, "spec": spec}


COMPLETE = "exitCode: 0\nreason: Completed\nphase: Succeeded\n"
GIVEN = [stage("pod-ready"), stage("pod-complete", COMPLETE), stage("pod-delete")]


def conditions(name: str) -> list[dict[str, Any]]:
    found = {one["metadata"]["name"]: one for one in stages.adapted(GIVEN)}
    listed: list[dict[str, Any]] = found[name]["spec"]["selector"]["matchExpressions"]
    return listed


def test_broken_images_never_get_ready() -> None:
    (only,) = conditions("pod-ready")
    assert ":broken" in only["key"]
    assert (only["operator"], only["values"]) == ("NotIn", ["true"])


def test_a_pod_ends_well_or_badly_but_never_both() -> None:
    for name, operator in (("pod-complete", "NotIn"), ("hook-complete", "NotIn"), ("pod-fail", "In")):
        tagged = [one for one in conditions(name) if ":failing" in one["key"]]
        assert [one["operator"] for one in tagged] == [operator], name


def test_a_failed_pod_says_so_everywhere() -> None:
    found = {one["metadata"]["name"]: one["spec"]["next"] for one in stages.adapted(GIVEN)}
    assert found["pod-fail"]["statusTemplate"] == "exitCode: 1\nreason: Error\nphase: Failed\n"
    assert found["hook-complete"]["statusTemplate"] == COMPLETE


def test_what_was_given_stays_as_it_was() -> None:
    stages.adapted(GIVEN)
    assert all(one["spec"]["selector"]["matchExpressions"] == [] for one in GIVEN)
