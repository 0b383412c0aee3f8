"""Every way a scenario may name its model, turned into a ModelShape."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dwdp_lab.scenario.errors import ScenarioError, nearest
from dwdp_lab.scenario.hf_config import shape_fields
from dwdp_lab.scenario.model_shape import ModelShape
from dwdp_lab.scenario.refusal import refusal
from dwdp_lab.scenario.shipped import shipped


def read_model(value: object) -> ModelShape:
    """The model that `value` names or describes.

    - the name of a preset in data/models/, such as `tiny`
    - the path of a Hugging Face config.json, or of a folder that holds one
    - such a config as a mapping (it has `model_type`, `architectures`, `hidden_size` or `num_hidden_layers`)
    - `{"preset": NAME, ...}` or `{"config": PATH or mapping, ...}` with ModelShape fields to change,
      nested ones too: `{"preset": "tiny", "layers": 60, "attention": {"heads": 8}}`
    - the fields of a ModelShape

    Raises ScenarioError (field `model` or one below it).
    """
    if isinstance(value, ModelShape):
        return value
    if not isinstance(value, Mapping):
        return _shape(_base(value, "model"))
    sources = [name for name in ("preset", "config") if name in value]
    if len(sources) > 1:
        raise ScenarioError("model", dict(value), "takes preset or config, not both", "leave one out")
    if sources:
        changes = {name: inner for name, inner in value.items() if name != sources[0]}
        named = value[sources[0]]
        base = _preset(named, "model.preset") if sources == ["preset"] else _base(named, "model.config")
        return _shape(_changed(base, changes))
    if is_hugging_face(value):
        return _shape(shape_fields(value, _given_name(value)))
    return _shape(dict(value))


def _base(value: object, field: str) -> dict[str, Any]:
    """ModelShape fields of a preset, a file, a folder or a Hugging Face config."""
    if isinstance(value, Mapping):
        return shape_fields(value, _given_name(value))
    if isinstance(value, str) and value in shipped("models", ".json"):
        return _preset(value, field)
    if not isinstance(value, str | Path):
        raise ScenarioError(field, value, _forms())
    # os.path answers no where Path raises: a home that is not there, a name that is too long
    path = Path(os.path.expanduser(value))
    if os.path.isdir(path):
        path = path / "config.json"
    if not os.path.isfile(path):
        raise ScenarioError(
            field,
            str(value),
            f"no such preset or file; {_forms()}",
            _where_to_find(str(value)),
        )
    return shape_fields(_read(path, field), path.parent.name if path.name == "config.json" else path.stem)


def _where_to_find(name: str) -> str:
    """What to do about a name that is neither a preset nor here: it may be a repository of the Hugging Face Hub."""
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not name.endswith(".json"):
        return f"if it is a repository of the Hugging Face Hub: `hf download {name} config.json --local-dir .` first"
    return nearest(name, shipped("models", ".json"))


def _preset(name: object, field: str) -> dict[str, Any]:
    known = shipped("models", ".json")
    if not isinstance(name, str) or name not in known:
        raise ScenarioError(field, name, f"presets are {', '.join(known)}", nearest(str(name), known))
    return shape_fields(_read_preset(known[name]), name)


@lru_cache
def _read_preset(path: Path) -> Mapping[str, Any]:
    return _read(path, "model.preset")


def _read(path: Path, field: str) -> Mapping[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ScenarioError(field, str(path), f"cannot be read as JSON: {error}") from None
    if not isinstance(config, dict):
        raise ScenarioError(field, str(path), "needs a JSON object, as in a Hugging Face config.json")
    return config


def is_hugging_face(fields: Mapping[str, Any]) -> bool:
    """A config of theirs; one that was cut down by hand may have lost its type, but not the names of its sizes."""
    return any(name in fields for name in ("model_type", "architectures", "hidden_size", "num_hidden_layers"))


def _given_name(config: Mapping[str, Any]) -> str:
    name = config.get("_name_or_path") or config.get("model_type") or "custom"
    return str(name).rstrip("/").rsplit("/", 1)[-1]


def _changed(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes` on top, mapping by mapping; attention of another kind replaces the whole."""
    merged = dict(base)
    for name, new in changes.items():
        old = merged.get(name)
        same_kind = (
            isinstance(old, Mapping)
            and isinstance(new, Mapping)
            and new.get("kind", old.get("kind")) == old.get("kind")
        )
        merged[name] = _changed(old, new) if same_kind else new  # type: ignore[arg-type]
    return merged


def _shape(fields: Mapping[str, Any]) -> ModelShape:
    try:
        return ModelShape.model_validate(fields)
    except ValidationError as error:
        raise refusal(error, ModelShape, fields, prefix="model") from None


def _forms() -> str:
    return (
        f"give a preset ({', '.join(shipped('models', '.json'))}), the path of a Hugging Face config.json, "
        "or a mapping of fields"
    )
