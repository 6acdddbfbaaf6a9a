"""LORA: edit/lora, and edit/dora where it says use_dora. Tables of embeddings have names of their own, and are turned."""

from collections import Counter

import torch

from bertsmith.edit import edit as edits
from bertsmith.hf import TRANSPOSED, Config
from bertsmith.hf.peft.method import OF_LAYERS, SAME, Change, Held, OfLayers, Part
from bertsmith.hf.peft.stock import Layer
from bertsmith.hf.peft.targets import by_pattern
from bertsmith.spec import Spec

A_B, LENGTH = ("lora_A.weight", "lora_B.weight"), "lora_magnitude_vector"
TABLE = ("lora_embedding_B", "lora_embedding_A")  # what are our a and b
STARTS = (True, False, "gaussian", "eva", "orthogonal", "mica")  # those that leave the base weights alone


class LORA(OfLayers):
    """A tensor of lengths is one for each row of a layer's weight, and for each column of a table's."""

    type = "LORA"
    kinds = ("edit/lora", "edit/dora")
    settings = f"{OF_LAYERS} bias r lora_alpha rank_pattern alpha_pattern use_rslora use_dora init_lora_weights"
    unread = "lora_dropout megatron_core qalora_group_size eva_config loftq_config corda_config lora_ga_config"
    names = (*A_B, *TABLE, LENGTH)

    def specs(self, config: Config, layers: list[Layer], held: Held) -> list[Spec]:
        if (start := config.get("init_lora_weights", True)) not in STARTS:
            raise ValueError(f"init_lora_weights {start!r} is not supported: it changes the base weights")
        made = []
        for layer in layers:
            rank = int(by_pattern(config.get("rank_pattern"), layer.name, config.get("r", 8)))
            alpha = float(by_pattern(config.get("alpha_pattern"), layer.name, config.get("lora_alpha", 8)))
            alpha *= rank**0.5 if config.get("use_rslora") else 1.0
            dora = edits("dora", rank=rank, alpha=alpha, axis=0 if layer.table else 1)
            made.append(dora if config.get("use_dora") else edits("lora", rank=rank, alpha=alpha))
        return made

    def parts(self, spec: Spec, layer: Layer) -> dict[str, Part]:
        if spec.kind == "dora" and spec.args["axis"] != (0 if layer.table else 1):
            raise ValueError(f"{layer.name}: peft's DoRA has axis 1 in layers and 0 in tables, here it is not so")
        turn, (a, b) = (TRANSPOSED, TABLE) if layer.table else (SAME, A_B)
        found = {a: Part("a", rows=False, turn=turn), b: Part("b", rows=True, turn=turn)}
        return found | ({LENGTH: Part("m", rows=not layer.table)} if spec.kind == "dora" else {})

    def merge(self, changes: list[Change]) -> list[Change]:
        """One A if those of ours are equal, else a block of its rows for each of ours that says something."""
        spec, first = changes[0]
        if all(other == spec and torch.equal(held["a"], first["a"]) for other, held in changes):
            return changes
        says = [bool(held["b"].any()) for _, held in changes]
        a, blocks = [], []
        for (one, held), said in zip(changes, says, strict=True):
            a.append(held["a"] if said or not any(says) else held["a"][:0])
            blocks.append(held["b"][:, : len(a[-1])] * (_scale(one) / _scale(spec)))
        wide = torch.cat(a)
        b = torch.block_diag(*blocks).split([len(block) for block in blocks])
        spec = spec.replace("rank", len(wide)).replace("alpha", _scale(spec) * len(wide))
        return [(spec, held | {"a": wide, "b": rows}) for (_, held), rows in zip(changes, b, strict=True)]

    def said(self, layers: list[Layer], specs: list[Spec]) -> tuple[Config, Held]:
        ranks = {layer.name: spec.args["rank"] for layer, spec in zip(layers, specs, strict=True)}
        alphas = {layer.name: _number(spec.args["alpha"]) for layer, spec in zip(layers, specs, strict=True)}
        r, alpha = (Counter(x.values()).most_common(1)[0][0] for x in (ranks, alphas))
        config = {"r": r, "lora_alpha": alpha, "bias": "none", "use_dora": specs[0].kind == "dora"}
        config["rank_pattern"] = {k: v for k, v in ranks.items() if v != r}
        config["alpha_pattern"] = {k: v for k, v in alphas.items() if v != alpha}
        return config, {}


def _scale(spec: Spec) -> float:
    return spec.args["alpha"] / spec.args["rank"]


def _number(x: float) -> float:
    return int(x) if x == int(x) else x
