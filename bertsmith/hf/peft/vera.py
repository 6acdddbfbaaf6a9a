"""VERA: edit/vera, whose pair of matrices comes of a seed; what a file has of it must be what the seed gives here."""

import torch

from bertsmith.edit import edit as edits
from bertsmith.edit.vera import pair
from bertsmith.hf import Config
from bertsmith.hf.peft.method import CONFIG, OF_LAYERS, Held, OfLayers, Part
from bertsmith.hf.peft.stock import Layer
from bertsmith.spec import Spec

PAIR = ("base_model.vera_A", "base_model.vera_B")


class VERA(OfLayers):
    """All layers read one pair, as large as the largest of them."""

    type = "VERA"
    kinds = ("edit/vera",)
    settings = f"{OF_LAYERS} bias r projection_prng_key save_projection d_initial"
    unread = "vera_dropout init_weights"
    names = ("vera_lambda_b", "vera_lambda_d")
    shared = PAIR

    def specs(self, config: Config, layers: list[Layer], held: Held) -> list[Spec]:
        seed, start = int(config.get("projection_prng_key") or 0), float(config.get("d_initial", 0.1))
        rank, (dim_in, dim_out) = int(config.get("r", 256)), _largest(layers)
        found = [held.pop(name) for name in PAIR if name in held]
        if len(found) < 2 and (found or config.get("save_projection", True)):
            raise KeyError(f"{CONFIG} says that vera_A and vera_B are in the file, and they are not")
        if found:
            dim_in, dim_out = found[0].shape[-1], len(found[1])
            made = zip(pair(seed, rank, dim_in, dim_out), found, strict=True)
            if not all(torch.equal(x.to(y.dtype), y) for x, y in made):
                raise ValueError(f"vera_A and vera_B are not what projection_prng_key {seed} gives here, as ours are")
        return [edits("vera", rank=rank, seed=seed, start=start, dim_in=dim_in, dim_out=dim_out)] * len(layers)

    def parts(self, spec: Spec, layer: Layer) -> dict[str, Part]:
        if layer.table or not layer.same:
            raise ValueError(f"VERA on {layer.name} is not supported: it is no layer here with its rows in that order")
        return {"vera_lambda_b": Part("b", rows=True), "vera_lambda_d": Part("d", rows=False)}

    def said(self, layers: list[Layer], specs: list[Spec]) -> tuple[Config, Held]:
        args, (dim_in, dim_out) = specs[0].args, _largest(layers)
        seed, rank = args["seed"], args["rank"]
        for layer, spec in zip(layers, specs, strict=True):
            outputs, inputs = layer.hosts[0].weight.shape
            wide = spec.args["dim_in"] or inputs, spec.args["dim_out"] or outputs
            if (spec.args["seed"], spec.args["rank"], *wide) != (seed, rank, dim_in, dim_out):
                raise ValueError(
                    f"in peft all layers read one pair as large as the largest of them: say dim_in={dim_in}, "
                    f"dim_out={dim_out} (and one seed and rank) for all"
                )
        config = {"r": rank, "projection_prng_key": seed, "d_initial": args["start"], "save_projection": True}
        return config | {"bias": "none"}, dict(zip(PAIR, pair(seed, rank, dim_in, dim_out), strict=True))


def _largest(layers: list[Layer]) -> tuple[int, int]:
    """(inputs, outputs) that hold those of every layer."""
    shapes = [host.weight.shape for layer in layers for host in layer.hosts]
    return max(inputs for _, inputs in shapes), max(outputs for outputs, _ in shapes)
