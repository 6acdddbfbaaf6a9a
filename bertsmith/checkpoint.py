"""A run's checkpoints: written whole or not at all, verified when read, the newest good one found.

OUT/checkpoints/00-00001200/state.json           description, counters, data state, digests of the two below
                            model.safetensors    fp32 masters and persistent buffers
                            moments.safetensors  what the optimiser keeps, step counts too
"""

import hashlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from bertsmith.files import atomic_dir, sweep
from bertsmith.spec import Spec, from_plain, to_plain

KEEP = 2


@dataclass
class Trained:
    """A run at one moment, complete: what it has trained, what it has used up, where its data stand."""

    encoder: Spec
    changes: list[dict[str, Any]]  # edits and grafts on the encoder
    tensors: dict[str, Tensor]  # encoder.* and objective.*, fp32
    moments: dict[str, Tensor] = field(default_factory=dict)  # "<tensor>/<what>"
    stage: int = -1
    done: bool = True  # the stage has ended
    step: int = 0  # optimiser steps of the stage, and what they cost:
    tokens: float = 0.0
    flops: float = 0.0
    seconds: float = 0.0
    data: dict[str, Any] | None = None  # state of the loader after the last batch used
    log: int = 0  # length of the log in bytes

    @property
    def spent(self) -> dict[str, float]:
        """What the stage has used, by unit of budget."""
        return {"steps": self.step, "tokens": self.tokens, "flops": self.flops, "seconds": self.seconds}


def save(out: Path, now: Trained) -> None:
    """Write a checkpoint named by stage and step, then remove all but the newest KEEP."""
    folder = out / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: to_plain(v) for k, v in vars(now).items() if k not in ("tensors", "moments")}
    with atomic_dir(folder / f"{now.stage:02d}-{now.step:08d}") as new:
        digests = {}
        for name, tensors in (("model", now.tensors), ("moments", now.moments)):
            save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, new / f"{name}.safetensors")
            digests[name] = _digest(new / f"{name}.safetensors")
        (new / "state.json").write_text(json.dumps(state | {"digests": digests}))
    for old in _names(folder)[:-KEEP]:
        shutil.rmtree(folder / old, ignore_errors=True)


def newest(out: Path) -> tuple[Trained | None, list[str]]:
    """(the newest whole checkpoint or None, complaints about damaged ones that were passed over).

    Raises RuntimeError if there are some and all are damaged.
    """
    folder = out / "checkpoints"
    complaints = []
    for name in reversed(_names(folder)):
        try:
            return _read(folder / name), complaints
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            complaints.append(f"checkpoint {name} cannot be used ({error}); going back to the one before")
    if complaints:
        raise RuntimeError(f"every checkpoint in {folder} is damaged, start anew elsewhere: {'; '.join(complaints)}")
    return None, []


def clean(out: Path) -> None:
    """Remove what interrupted writers left."""
    sweep(out / "checkpoints")


def _read(path: Path) -> Trained:
    state = json.loads((path / "state.json").read_text())
    for part, digest in state.pop("digests").items():
        if _digest(path / f"{part}.safetensors") != digest:
            raise ValueError(f"{part}.safetensors is damaged")
    described = {"encoder": Spec.from_dict(state.pop("encoder")), "changes": from_plain(state.pop("changes"))}
    model, moments = (load_file(path / f"{part}.safetensors") for part in ("model", "moments"))
    return Trained(**described, tensors=model, moments=moments, **state)


def _names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.glob("*") if p.is_dir() and p.name.replace("-", "").isdigit())


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()
