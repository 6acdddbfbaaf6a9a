"""Adapters, from the `peft` library and to it."""

from pathlib import Path
from typing import Annotated

import typer

from bertsmith.commands.shared import AdapterPath, AsJson, ModelPath, open_model, tell


def adapter_import(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="The model that the adapter was trained on, ours or Hugging Face's.")
    ],
    folder: Annotated[Path, typer.Argument(metavar="ADAPTER", help="A directory that `peft` wrote.")],
    out: Annotated[
        Path, typer.Option(help="Folder for the adapter in our format: `predict MODEL FILE --adapter OUT`.")
    ],
    labels: Annotated[
        str | None, typer.Option(help="Names of the labels, in order, where MODEL has none: a,b,c.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read an adapter of the `peft` library: LoRA, DoRA, (IA)3, VeRA, prefix or prompt tuning, with its classifier."""
    from bertsmith import adapter as adapters
    from bertsmith.hf import peft
    from bertsmith.model import load

    base, tuned = load(model), load(model)
    paths = peft.read(folder, tuned)
    if labels is not None:
        names = labels.split(",")
        if len(names) != len(tuned.labels):
            raise ValueError(f"--labels names {len(names)} labels; the adapter's head has {len(tuned.labels)}")
        tuned.labels = names
    found = adapters.save(tuned, base, out) | {"out": str(out), "paths": paths}
    tell(found, as_json, f"{found['numbers']:,} numbers on {len(paths)} parts of the encoder, in {out}")


def adapter_export(
    model: ModelPath,
    out: Annotated[Path, typer.Option(help="Folder for adapter_config.json and adapter_model.safetensors.")],
    adapter: AdapterPath = None,
    base: Annotated[str, typer.Option(help="What the file calls the model that was tuned: a name, or a path.")] = "",
    head: Annotated[bool, typer.Option("--head/--no-head", help="Whether the head goes with it.")] = True,
    biases: Annotated[bool, typer.Option("--biases", help="The encoder's biases, too (LoRA and VeRA).")] = False,
    as_json: AsJson = False,
) -> None:
    """Write what tuning added to a model as an adapter of the `peft` library, which opens it on the stock class."""
    from bertsmith.hf import peft

    peft.write(open_model(model, adapter), out, base, head, biases)
    tell({"out": str(out)}, as_json, f"an adapter for peft in {out}")
