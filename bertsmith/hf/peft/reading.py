"""From a directory of `peft`'s to a model."""

import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bertsmith import hf
from bertsmith.encoder import Encoder
from bertsmith.head import Head
from bertsmith.hf import Config
from bertsmith.hf.peft.files import method_of, read_files
from bertsmith.hf.peft.method import CONFIG, Changes
from bertsmith.hf.peft.stock import TASKS, Holder, StockClass, find_class
from bertsmith.kernels import undrawn
from bertsmith.linear import Edited, edit, graft, grafts_of, leave, load_tensors, matching, places_taken, tensors
from bertsmith.spec import Spec
from bertsmith.task import task as tasks


@torch.no_grad()
def read(folder: Path | str, model: Holder, name: str = "") -> list[str]:
    """Hang what a directory holds on a model, in place, and return the paths it hangs at.

    A classifier or another head that it holds becomes the model's. Nothing stays random: what the directory's settings
    promise must be in its tensors, and all its tensors must have a place.

    Args:
        model: a `Model` of the base that the adapter was trained on; its weights are not checked, since no file says them.
        name: of the edits or grafts; the kind ("lora") where it is "".

    Raises:
        FileNotFoundError: there is no adapter. ValueError: it is damaged, or says what we do not have. KeyError: tensors
            are missing, too many, or of another shape. The model is as it was after each of these.
    """
    config, held = read_files(Path(folder))
    method = method_of(config)
    stock = _class_of(config, model)
    # where biases are saved, those of a saved module are there three times: the base's, and its own under two names
    held = {k: v for k, v in held.items() if not re.search(r"\.(original_module|modules_to_save)\.", k)}
    own = {re.sub(r"\.base_layer(?=\.)", "", k.removeprefix(method.above)): v for k, v in held.items()}
    changes = method.read(config, own, stock, model)
    if lost := sorted(own.keys() - stock.rows.keys()):
        raise KeyError(f"tensors with no place in {method.type} of {stock.title}, as {CONFIG} says it: {lost[:5]}")
    ours = hf.read(stock.config, own)[2] if own else {}
    head_spec, head = _head(stock, model, ours)
    method.refuse(stock, head, changes)
    have = {f"encoder.{k}": v for k, v in tensors(model.encoder).items()}
    have |= {f"head.{k}": v for k, v in tensors(head).items()} if head is not None else {}
    _check_promises(config, stock, changes, have.keys() - ours.keys())
    if odd := [k for k, v in ours.items() if k not in have or have[k].shape != v.shape]:
        raise KeyError(f"tensors that do not fit the model: {[f'{k} {list(ours[k].shape)}' for k in odd[:5]]}")
    _hang(changes, name, model.encoder)
    # nothing below fails
    for k, v in ours.items():
        have[k].copy_(v)
    if head is not model.bundle.head:
        _stand(model, head_spec, head)
    _leave_room(model)
    return list(changes)


def _class_of(config: Config, model: Holder) -> StockClass:
    """The stock class that an adapter is for, in the family of the model."""
    made = find_class(model, model.head_spec) or find_class(model, None)
    if made is None:
        raise ValueError("no stock class holds this encoder, so peft's names mean nothing to it")
    start, said = hf.family_of(made).types[made["model_type"]], config.get("task_type")
    if said is not None:
        if said not in TASKS:
            raise ValueError(f"task_type {said!r} is not supported; there are: {', '.join(TASKS)}")
        made = made | {"architectures": [start + TASKS[said]]}
    elif title := (config.get("auto_mapping") or {}).get("base_model_class"):
        if not title.startswith(start):
            raise ValueError(f"the adapter is for {title}, and this model is of {made['model_type']} ({start}...)")
        made = made | {"architectures": [title]}
    return StockClass(made)


def _head(stock: StockClass, model: Holder, ours: dict[str, Tensor]) -> tuple[Spec | None, Head | None]:
    """The head of the class that an adapter is for: the model's own if it is that, else built and filled."""
    spec, own = stock.family.stocks[stock.ending].head(stock.config), model.bundle.head
    rows = ours.get("head.out.weight")
    if stock.bare or (model.head_spec == spec and (rows is None or rows.shape == own.out.weight.shape)):
        return model.head_spec, own
    if spec is None or stock.ending not in TASKS.values():
        raise ValueError(f"the adapter is for {stock.title}: open its base as that class")
    if rows is None:
        raise KeyError(f"the adapter is for {stock.title}, but its head is neither in the file nor in this model")
    with undrawn():
        head: Head = spec.build(model.encoder, len(rows))
    held = {k.removeprefix("head."): v for k, v in ours.items() if k.startswith("head.")}
    pool = spec.args.get("pool")
    if model.head_spec is not None and pool is not None and model.head_spec.args.get("pool") == pool:
        held = {f"pool.{k}": v.detach() for k, v in tensors(own.pool).items()} | held
    load_tensors(head, held, "head in the file (what it lacks, open the base with, or train with modules_to_save)")
    like = next(model.encoder.parameters())
    return spec, head.to(device=like.device, dtype=like.dtype).eval()


def _check_promises(config: Config, stock: StockClass, changes: Changes, left: set[str]) -> None:
    """Raise KeyError where settings name tensors that are not in the file; `left`: ours that it does not have."""
    saved, bias = tuple(config.get("modules_to_save") or ()), config.get("bias", "none")
    if bias not in ("none", "all", f"{config['peft_type'].lower()}_only"):
        raise ValueError(f"bias {bias!r} is not supported; there are: none, all, {config['peft_type'].lower()}_only")
    missing = []
    for row, (ours, _) in stock.rows.items():
        module, _, leaf = row.rpartition(".")
        above = [row[:i] for i, sign in enumerate(row) if sign == "."]
        changed = not changes.keys().isdisjoint(stock.layers.get(module, ()))
        trained = leaf == "bias" and ours[0].startswith("encoder.") and (bias == "all" or (bias != "none" and changed))
        if left.issuperset(ours) and (trained or any(path.endswith(saved) for path in above)):
            missing.append(row)
    if missing:
        raise KeyError(f"modules_to_save or bias names tensors that the file does not have: {sorted(missing)[:5]}")


def _hang(changes: Changes, name: str, encoder: Encoder) -> None:
    """Hang changes up and fill them: all of them, or none where that raises."""
    before, (first, _) = len(encoder.changes), next(iter(changes.values()))
    how, name = first.slot.name, name or first.kind
    if name in {c["name"] for c in encoder.changes if c["how"] == how}:
        raise ValueError(f"the encoder has an {how} named {name!r} already; give this one another name")
    groups: dict[str, tuple[Spec, list[str]]] = {}
    for path, (spec, _) in changes.items():
        groups.setdefault(json.dumps(spec.to_dict()), (spec, []))[1].append(path)
    try:
        for spec, paths in groups.values():
            if how == "edit":
                edit(encoder, _where(encoder, paths), spec, name)
            else:
                graft(encoder, spec.slot.load(spec.kind).where, spec, name)
        for path, (_, held) in changes.items():
            host: Any = encoder.get_submodule(path)
            new = host.edits[name] if how == "edit" else grafts_of(host)[name]
            load_tensors(new, held, f"adapter of {path or 'the encoder'}")
    except BaseException:
        leave(encoder, encoder.changes[before:], "drop")
        raise


def _where(encoder: Encoder, paths: list[str]) -> str:
    """A pattern that hits these paths and no others, short where one says it for all layers."""
    for names in (sorted({re.sub(r"(?<=\.)\d+(?=\.)", "*", p) for p in paths}), paths):
        where = names[0] if len(names) == 1 else "{" + ",".join(names) + "}"
        if {path for path, _ in matching(encoder, where, Edited)} == set(paths):
            return where
    raise AssertionError("a path matches itself")


def _stand(model: Holder, spec: Spec | None, head: Any) -> None:
    """A new head, with the names of labels that the base's config has for it, if it has."""
    model.bundle.head, model.head_spec, model.task, model.labels = head, spec, None, []
    if spec is None or spec.kind not in ("linear", "token"):
        return
    outputs = len(tensors(head)["out.weight"])
    names = [label for _, label in sorted((int(k), v) for k, v in (model.origin.get("id2label") or {}).items())]
    model.labels = names if len(names) == outputs else [f"LABEL_{i}" for i in range(outputs)]
    if spec.kind == "linear":
        kinds = {"regression": "regression", "multi_label_classification": "multi_label"}
        kinds["single_label_classification"] = "single_label"
        guess = "regression" if outputs == 1 else "single_label"
        model.task = tasks(kinds.get(model.origin.get("problem_type") or "", guess))


def _leave_room(model: Holder) -> None:
    """Texts are shorter by all that stands before them, where there is a table of positions."""
    taken, embedding = places_taken(model.encoder), model.spec.args.get("embedding")
    position = None if embedding is None else embedding.args.get("position")
    if taken and position is not None and "length" in position.args:
        longest = position.args["length"] - position.args.get("offset", 0) - taken
        model.max_length = min(model.max_length, longest)
