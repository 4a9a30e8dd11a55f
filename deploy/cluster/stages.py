"""What the stand-in kubelets (kwok) do with pods: kwok's own stages, and what tests need beyond them.

No container runs: a pod becomes Ready because a stage says so. So that a chart's
bad days can be seen too, an image's tag decides:
- `...:broken` never becomes ready: an upgrade to it must roll back by itself. A pod that is not started again
  (a migration before the upgrade, with the same image) is not asked to be ready, and succeeds.
- `...:failing`, of a pod that is not started again, ends with exit code 1: a migration that fails.
Pods of Jobs succeed, and so do the pods of Helm's hooks that belong to no Job, else `helm test` would
wait for ever.
"""

import copy
from pathlib import Path
from typing import Any

import yaml

BROKEN, FAILING = ":broken", ":failing"

#: What the API server holds beside the nodes: the class that claims of volumes fall to.
STORAGE = "StorageClass"
#: Who makes volumes; every storage class that names it gets them.
PROVISIONER = "kwok.x-k8s.io/volume"
_ONE_CLASS = "self.spec.storageClassName == 'kwok-volume'"
#: kwok serves one storage class by its name. These notes are made by the controller manager (and by the stage
#: that makes volumes) for every class with the provisioner, so a class that does not exist gets no volume.
_NOTES = {
    "PersistentVolumeClaim": "volume.kubernetes.io/storage-provisioner",
    "PersistentVolume": "pv.kubernetes.io/provisioned-by",
}


def write(stages: Path, config: Path, storage: Path) -> None:
    """Read kwok's stage files, write kwok's --config and the storage class to apply."""
    found = [
        one for file in sorted(stages.glob("*.yaml")) for one in yaml.safe_load_all(file.read_text()) if one
    ]
    config.write_text(yaml.safe_dump_all(adapted([one for one in found if one["kind"] == "Stage"])))
    storage.write_text(yaml.safe_dump_all([one for one in found if one["kind"] == STORAGE]))


def adapted(stages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """kwok's stages with our conditions, and the two of ours; the arguments stay as they are."""
    named = {stage["metadata"]["name"]: copy.deepcopy(stage) for stage in stages}
    stays = ' and .spec.restartPolicy != "Never"'
    _conditions(named["pod-ready"]).append(_tagged(BROKEN, "NotIn", stays))
    for stage in named.values():
        _serve_every_class(stage)
    complete = named["pod-complete"]
    hook = _again(complete, "hook-complete", "Succeeded", 0)
    _conditions(hook)[:] = [
        *_running(),
        _condition(".spec.restartPolicy", "In", "Never"),
        {"key": '.metadata.annotations["helm.sh/hook"]', "operator": "Exists"},
        _tagged(FAILING, "NotIn"),
    ]
    failed = _again(complete, "pod-fail", "Failed", 1)
    _conditions(failed)[:] = [
        *_running(),
        _condition(".spec.restartPolicy", "In", "Never"),
        _tagged(FAILING, "In"),
    ]
    _conditions(complete).append(_tagged(FAILING, "NotIn"))
    return [*named.values(), hook, failed]


def _serve_every_class(stage: dict[str, Any]) -> None:
    note = _NOTES.get(stage["spec"].get("resourceRef", {}).get("kind", ""))
    for condition in _conditions(stage):
        if note and condition.get("cel", {}).get("expression") == _ONE_CLASS:
            condition["cel"]["expression"] = (
                f"has(self.metadata.annotations) && '{note}' in self.metadata.annotations && "
                f"self.metadata.annotations['{note}'] == '{PROVISIONER}'"
            )


def _again(complete: dict[str, Any], name: str, phase: str, exit_code: int) -> dict[str, Any]:
    stage = copy.deepcopy(complete)
    stage["metadata"]["name"] = name
    template = stage["spec"]["next"]["statusTemplate"]
    reason = "Completed" if phase == "Succeeded" else "Error"
    stage["spec"]["next"]["statusTemplate"] = (
        template.replace("phase: Succeeded", f"phase: {phase}")
        .replace("exitCode: 0", f"exitCode: {exit_code}")
        .replace("reason: Completed", f"reason: {reason}")
    )
    return stage


def _conditions(stage: dict[str, Any]) -> list[dict[str, Any]]:
    conditions: list[dict[str, Any]] = stage["spec"]["selector"]["matchExpressions"]
    return conditions


def _condition(key: str, operator: str, value: str) -> dict[str, Any]:
    return {"key": key, "operator": operator, "values": [value]}


def _running() -> list[dict[str, Any]]:
    deleted = {"key": ".metadata.deletionTimestamp", "operator": "DoesNotExist"}
    return [deleted, _condition(".status.phase", "In", "Running")]


def _tagged(tag: str, operator: str, more: str = "") -> dict[str, Any]:
    return _condition(f'([.spec.containers[].image | endswith("{tag}")] | any){more}', operator, "true")
