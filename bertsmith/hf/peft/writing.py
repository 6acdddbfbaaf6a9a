"""From a model to a directory of `peft`'s."""

from pathlib import Path

import torch
from torch import Tensor

from bertsmith import hf
from bertsmith.encoder import Encoder
from bertsmith.head import Head
from bertsmith.hf import Config
from bertsmith.hf.peft.files import METHODS, write_files
from bertsmith.hf.peft.method import Changes, Method, OfLayers
from bertsmith.hf.peft.stock import TASKS, Holder, StockClass, find_class
from bertsmith.linear import Edited, fits, grafts_of, tensors


@torch.no_grad()
def write(model: Holder, folder: Path | str, base: str = "", head: bool = True, biases: bool = False) -> None:
    """Write the edits or grafts of a model, and its head, as an adapter that `peft` opens on the stock class.

    The base's weights are not written. If more than edits, grafts and head was trained, `biases` keeps the encoder's
    biases; for all else, bake the edits and save the model.

    Args:
        base: the name or path of the model that was tuned, for adapter_config.json.
        head: whether the head goes with it (`modules_to_save`). A masked-LM head cannot: it is the base's.
        biases: write all biases of the encoder, too (LORA and VERA).

    Raises:
        ValueError, naming what the format cannot hold.
    """
    encoder = model.encoder
    top: Head | None = model.bundle.head
    method = _method(encoder)
    stock = _class_for(model, method, head)
    if head and top is not None and top.speaks:
        raise ValueError("the masked-LM head is the base's and cannot go with an adapter: say head=False")
    keeps = [one.type for one in METHODS.values() if "bias" in one.settings.split()]
    if biases and method.type not in keeps:
        raise ValueError(f"{method.type} keeps no biases in peft's format; {' and '.join(keeps)} do")
    changes = _changes(encoder)
    method.refuse(stock, top, changes)
    config: Config = {"peft_type": method.type, "inference_mode": True}
    config |= {"base_model_name_or_path": base or model.origin.get("_name_or_path") or None} | _for_class(stock)
    settings, made = method.write(changes, stock, model)
    config |= settings
    if biases:
        config["bias"] = "all"
        made |= _biases(stock, changes, encoder)
    own = {f"head.{k}": v for k, v in tensors(top).items()} if head and top is not None else {}
    saved = hf.write(stock.config, own)
    config["modules_to_save"] = sorted({k.removeprefix(stock.family.prefix).partition(".")[0] for k in saved}) or None
    made |= saved
    write_files(Path(folder), config, {k if k in method.shared else method.above + k: v for k, v in made.items()})


def _method(encoder: Encoder) -> Method:
    """Their method, of which all is that hangs on an encoder."""
    kinds = {f"{c['how']}/{c['spec'].kind}" for c in encoder.changes}
    known = {ours: method for method in METHODS.values() for ours in method.kinds}
    if not kinds:
        raise ValueError("there is nothing to write: the encoder has no edits and no grafts")
    if "graft/prefix" in kinds:
        raise ValueError(
            "peft's prefix moves tokens up by its length, graft/prefix does not: tune graft/p_tuning instead"
        )
    if odd := sorted(kinds - known.keys()):
        raise ValueError(f"peft's format does not hold {', '.join(odd)}; it holds: {', '.join(known)}")
    if len(kinds) > 1:
        raise ValueError(
            f"an adapter of peft is of one method, here are {', '.join(sorted(kinds))}: bake or drop all but one"
        )
    return known[next(iter(kinds))]


def _class_for(model: Holder, method: Method, head: bool) -> StockClass:
    """The stock class that an adapter of this model is for; the bare one if its head does not go with it."""
    top: Head | None = model.bundle.head
    # a masked-LM class has no task_type, and where there is none, peft does not put a prompt before texts
    stays = top is not None and top.speaks and isinstance(method, OfLayers)
    made = find_class(model, model.head_spec if head or stays else None)
    if made is None and (top is None or not tensors(top)):
        made = find_class(model, None)
    if made is None:
        raise ValueError(
            "no stock class holds this encoder with this head, so peft has no names for its layers: where the head takes the "
            "mean of a text, tune with pool='bert' (--pool bert)"
        )
    return StockClass(made)


def _for_class(stock: StockClass) -> Config:
    """The settings that name a class."""
    task = next((task for task, ending in TASKS.items() if ending == stock.ending), None)
    if task is not None:
        return {"task_type": task}
    library = stock.config["model_type"].replace("-", "_")
    library = f"transformers.models.{library}.modeling_{library}"
    return {"task_type": None, "auto_mapping": {"base_model_class": stock.title, "parent_library": library}}


def _changes(encoder: Encoder) -> Changes:
    """All that hangs on an encoder."""
    found: Changes = {}
    for path, host in encoder.named_modules():
        hung = {"edit": host.edits if isinstance(host, Edited) else {}, "graft": grafts_of(host)}
        for how, name, new in [(how, *one) for how, some in hung.items() for one in some.items()]:
            if path in found:
                raise ValueError(
                    f"{path} has the {how}s {', '.join(hung[how])}; peft holds one: bake or drop the others first"
                )
            known = [c for c in encoder.changes if (c["how"], c["name"]) == (how, name) and fits(path, c["where"])]
            found[path] = known[0]["spec"], tensors(new)
    return found


def _biases(stock: StockClass, changes: Changes, encoder: Encoder) -> dict[str, Tensor]:
    """All biases of the encoder; that of a changed layer stands below what `peft` makes of the layer."""
    ours = {f"encoder.{k}": v for k, v in tensors(encoder).items() if k.endswith(".bias") and ".edits." not in k}
    held = {}
    for name, tensor in hf.write(stock.config, ours).items():
        layer, _, leaf = name.rpartition(".")
        same = changes.keys().isdisjoint(stock.layers.get(layer, ()))
        held[name if same else f"{layer}.base_layer.{leaf}"] = tensor
    return held
