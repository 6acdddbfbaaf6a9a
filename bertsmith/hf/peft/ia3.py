"""IA3: edit/ia3. A layer of feedforward_modules has a row of factors, one for each input, another one a column."""

import re

from bertsmith.edit import edit as edits
from bertsmith.hf import Config
from bertsmith.hf.peft.method import OF_LAYERS, Held, OfLayers, Part
from bertsmith.hf.peft.stock import Layer
from bertsmith.spec import Spec


class IA3(OfLayers):
    """`peft` scales what a layer gives with its bias, as `edit/ia3` does."""

    type = "IA3"
    kinds = ("edit/ia3",)
    settings = f"{OF_LAYERS} feedforward_modules"
    unread = "init_ia3_weights"
    names = ("ia3_l",)

    def specs(self, config: Config, layers: list[Layer], held: Held) -> list[Spec]:
        said = config.get("feedforward_modules") or []
        if isinstance(said, str):
            return [edits("ia3", axis=int(re.fullmatch(said, layer.name) is not None)) for layer in layers]
        return [edits("ia3", axis=int(layer.name.endswith(tuple(said)))) for layer in layers]  # no dot needed, in peft

    def said(self, layers: list[Layer], specs: list[Spec]) -> tuple[Config, Held]:
        inputs = [layer.name for layer, spec in zip(layers, specs, strict=True) if spec.args["axis"] == 1]
        return {"feedforward_modules": sorted(inputs)}, {}

    def parts(self, spec: Spec, layer: Layer) -> dict[str, Part]:
        axis = 1 - spec.args["axis"]  # the one that has a single place
        if layer.table:
            raise ValueError(f"peft's IA3 does not edit a table of embeddings, {layer.name}")
        return {"ia3_l": Part("scale", axis == 1, (lambda x: x.squeeze(axis), lambda x: x.unsqueeze(axis)))}
