"""Checkpoints: tensors and a JSON header in one file, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mimstocr.errors import RunError

FORMAT = 1


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors by name and a JSON header. An older file at `path` stays whole until the new one is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file(
        {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()},
        partial,
        metadata={"header": json.dumps({"format": FORMAT, **header})},
    )
    partial.replace(path)


def load_checkpoint(path: Path, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors, on `device`, and the header.

    Raises RunError when the file is missing, is not a whole checkpoint, or has a format of another version.
    """
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            header = json.loads((file.metadata() or {})["header"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except FileNotFoundError:
        raise RunError(f"no checkpoint at {path}; the run has not trained yet, start it with `mimstocr run`") from None
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise RunError(
            f"{path} is not a whole checkpoint of mimstocr ({error}); remove it and resume or run again"
        ) from None
    if header["format"] != FORMAT:
        raise RunError(
            f"{path} has checkpoint format {header['format']}, this version reads {FORMAT}; "
            "use the version that wrote it"
        )
    return tensors, header


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
