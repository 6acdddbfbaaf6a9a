"""What tuning changed, alone: edits, grafts, weights that moved, head, labels and pooling, as a small directory.

`save` keeps every tensor that differs from the model that was tuned, whatever the method; `load` puts them onto it again.
Models that come of one base share its weights in memory, so that a task costs what its adapter costs: swapping is choosing
another one.
Bottleneck adapters kept per task: Houlsby et al. 2019, arXiv:1902.00751; biases alone: BitFit, arXiv:2106.10199.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from bertsmith.files import write_atomic
from bertsmith.kernels import undrawn
from bertsmith.linear import apply_changes, tensors
from bertsmith.model import Bundle, Model
from bertsmith.spec import from_plain, to_plain

FORMAT = 1
FILES = ("adapter.json", "adapter.safetensors")


def save(tuned: Model, base: Model, folder: Path | str) -> dict[str, Any]:
    """Write what differs between a tuned model and the one it came from.

    Returns {"tensors": how many are kept, "numbers": in them, "share": of all numbers of the tuned model}.

    Raises ValueError if the two are not of one shape: an adapter holds no resized encoder.
    """
    if tuned.spec != base.spec:
        raise ValueError("the tuned encoder is not of the base's shape (it was resized): save the whole model")
    before = {k: v for k, v in tensors(base.bundle).items() if k.startswith("encoder.")}
    now = tensors(tuned.bundle)
    own = {k: v.detach().cpu().contiguous() for k, v in now.items() if k not in before or not torch.equal(v, before[k])}
    about = {
        "format": FORMAT,
        "base": {"encoder": base.spec.to_dict(), "changes": to_plain(base.encoder.changes), "digest": digest(base)},
        "changes": to_plain(tuned.encoder.changes[len(base.encoder.changes) :]),
        "head": to_plain(tuned.head_spec),
        "task": to_plain(tuned.task),
        "labels": tuned.labels,
        "pooling": tuned.pooling,
        "max_length": tuned.max_length,
        "long": tuned.long,
        "report": tuned.report,
        "tensors": sorted(own),
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "adapter.safetensors", to_bytes(own, {"format": "pt"}))
    write_atomic(folder / "adapter.json", json.dumps(about, indent=1))
    kept, whole = (sum(v.numel() for v in x.values()) for x in (own, now))
    return {"tensors": len(own), "numbers": kept, "share": kept / whole}


def load(base: Model, folder: Path | str) -> Model:
    """The tuned model: the base's weights (shared, not copied) with what the adapter keeps. The base itself is not changed.

    Raises:
        FileNotFoundError: the folder holds no adapter. ValueError: a damaged file, or an adapter of another model.
            KeyError: a weight that neither the base nor the adapter has.
    """
    folder = Path(folder)
    about, own = _read(folder)
    wanted = about["base"]
    if wanted["encoder"] != base.spec.to_dict() or wanted["changes"] != to_plain(base.encoder.changes):
        raise ValueError(f"{folder} is an adapter of an encoder of another shape than this one")
    if wanted["digest"] != digest(base):
        raise ValueError(f"{folder} was tuned on other weights than these: open the model that it was tuned on")
    task, head_spec = from_plain(about["task"]), from_plain(about["head"])
    outputs = task.build(about["labels"]).outputs if task else len(about["labels"])
    with undrawn():
        encoder = base.spec.build()
        apply_changes(encoder, base.encoder.changes)
        apply_changes(encoder, from_plain(about["changes"]))
        bundle = Bundle(encoder, head_spec.build(encoder, outputs) if head_spec else None)
    shared = {k: v for k, v in tensors(base.bundle).items() if k.startswith("encoder.")}
    _place(bundle, {k: v.detach() for k, v in shared.items()} | own, folder)
    tuned = Model(base.spec, bundle, base.tokenizer, head_spec, task, about["labels"], about["pooling"],
                  about["max_length"], about["report"], base.origin)  # fmt: skip
    tuned.long = about["long"]
    return tuned.to(base.device)


def digest(model: Model) -> str:
    """What tells one encoder's weights from another's."""
    found = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(tensors(model.encoder).items()):
        found.update(name.encode() + tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if missing := [name for name in FILES if not (folder / name).is_file()]:
        raise FileNotFoundError(f"{folder} is not an adapter: it has no {' and no '.join(missing)}")
    try:
        about = json.loads((folder / "adapter.json").read_text(encoding="utf-8"))
        with safe_open(folder / "adapter.safetensors", "pt") as file:
            own = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    except (json.JSONDecodeError, UnicodeDecodeError, SafetensorError) as error:
        raise ValueError(f"{folder} is a damaged adapter: {error}; copy it again") from error
    if about["format"] > FORMAT:
        raise ValueError(
            f"{folder} has format {about['format']}; this bertsmith reads up to {FORMAT}: install a newer one"
        )
    if sorted(own) != about["tensors"]:
        raise ValueError(f"{folder} is a damaged adapter: its two files name different tensors")
    return about, own


def _place(bundle: Bundle, held: dict[str, Tensor], folder: Path) -> None:
    """Every tensor of the bundle becomes the held one of its name, without a copy."""
    have = tensors(bundle)
    missing, extra = sorted(have.keys() - held.keys()), sorted(held.keys() - have.keys())
    odd = [k for k, v in have.items() if k in held and held[k].shape != v.shape]
    if missing or extra or odd:
        raise KeyError(f"{folder} does not fit: missing {missing[:5]}, unexpected {extra[:5]}, other shapes {odd[:5]}")
    for name, tensor in have.items():
        tensor.data = held[name]
