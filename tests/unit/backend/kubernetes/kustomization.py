"""Renders the few features of kustomize that our manifests use, where there is no kustomize; refuses all others."""

from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import yaml

KNOWN = {"apiVersion", "kind", "resources", "images"}


def rendered(folder: Path) -> list[dict[str, Any]]:
    """All objects of a kustomization; each caller's own."""
    return deepcopy(_rendered(folder))


@cache
def _rendered(folder: Path) -> list[dict[str, Any]]:
    content = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert set(content) <= KNOWN, f"{folder}: {set(content) - KNOWN}: not known here: kustomize would be needed"
    objects: list[dict[str, Any]] = []
    for name in content["resources"]:
        path = folder / name
        objects += rendered(path) if path.is_dir() else [item for item in yaml.safe_load_all(path.read_text()) if item]
    for image in content.get("images", ()):
        _replace(objects, image)
    return objects


def containers(item: dict[str, Any]) -> list[dict[str, Any]]:
    """The containers of an object that has a pod template, or of a pod."""
    template = item.get("spec", {}).get("template", item)
    spec = template.get("spec", {})
    return [*spec.get("initContainers", ()), *spec.get("containers", ())] if isinstance(spec, dict) else []


def _replace(objects: list[dict[str, Any]], image: dict[str, str]) -> None:
    for container in (one for item in objects for one in containers(item)):
        name = container["image"].partition("@")[0]
        name = name.rpartition(":")[0] if ":" in name.rpartition("/")[2] else name
        if name == image["name"]:
            new = image.get("newName", name)
            container["image"] = f"{new}@{image['digest']}" if "digest" in image else f"{new}:{image['newTag']}"
