"""Settings on the command line: `key.sub=value` on top of what a file says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from mimstocr.errors import ConfigError


def apply_overrides(raw: Mapping[str, Any], overrides: Iterable[str], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """`raw` with each text `key.sub=value` set; values are read as YAML. See `apply_settings`.

    Raises ConfigError on text without `=`, a value that is not YAML, or a path into a plain value.
    """
    settings = []
    for text in overrides:
        path, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"expected a setting as key.sub=value, got {text!r}")
        try:
            settings.append((path.strip(), yaml.safe_load(value) if value.strip() else None))
        except yaml.YAMLError:
            raise ConfigError(f"{path}: cannot read the value {value!r}; quote it if it is text") from None
    return apply_settings(raw, settings, defaults)


def apply_settings(
    raw: Mapping[str, Any], settings: Iterable[tuple[str, Any]], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """`raw` with each setting of a dotted path set; `raw` stays as it is.

    One that reaches into a part that `raw` does not name starts from that part of `defaults`, so that
    `backbone.hidden_size: 32` keeps the default kind; one into a component's bare name keeps that name.
    Raises ConfigError on an empty key, a path into a plain value, or a part that is set after a setting in it.
    """
    result = dict(raw)
    seen: list[str] = []
    for path, value in settings:
        keys = path.split(".")
        if lost := next((earlier for earlier in seen if earlier.startswith(f"{path}.")), None):
            raise ConfigError(f"{path} after {lost} would undo it; put {path} first")
        seen.append(path)
        if not all(keys):
            raise ConfigError(f"expected a setting as key.sub=value, got {path!r}")
        _set(result, keys, value, defaults)
    return result


def _set(here: dict[str, Any], keys: list[str], value: Any, defaults: Mapping[str, Any]) -> None:
    for depth, key in enumerate(keys[:-1]):
        inner = here.get(key)
        if isinstance(inner, str):
            inner = {"kind": inner}
        elif inner is None:
            inner = _part(defaults, keys[: depth + 1])
        elif not isinstance(inner, dict):
            raise ConfigError(
                f"{'.'.join(keys)}: {'.'.join(keys[: depth + 1])} is {inner!r} and has no settings inside"
            )
        here[key] = dict(inner)
        here = here[key]
    here[keys[-1]] = value


def _part(tree: Mapping[str, Any], keys: list[str]) -> dict[str, Any]:
    part: Any = tree
    for key in keys:
        part = part.get(key) if isinstance(part, Mapping) else None
    return dict(part) if isinstance(part, Mapping) else {}
