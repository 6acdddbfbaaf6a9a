"""A norm that has become y = x * s + c is written into the linear layers that read it: W' = W diag(s), b' = b + W c.

SLAB, Guo et al. 2024, arXiv:2405.11582: how its batch normalisation costs nothing in inference. Under pre-norm the norm is
gone (norm/none); where the stream itself reads the norm (post-norm, after the embedding, after the last layer) it becomes
norm/affine, which needs no statistics.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bertsmith.layout import Layout
from bertsmith.linear import load_tensors
from bertsmith.linear import tensors as named
from bertsmith.norm import Norm
from bertsmith.norm import norm as norms
from bertsmith.resize import Resize
from bertsmith.spec import Spec


class FoldNorm(Resize):
    """For trained models: what the optimiser knew of folded weights is forgotten."""

    paper = "arXiv:2405.11582"
    keeps_function = True
    needs = {"blocks.*.residual": {"kind": "residual/pre", "norm": {"kind": "norm/slab"}}}

    def __call__(
        self, spec: Spec, tensors: dict[str, Tensor], build: Callable[[Spec], nn.Module], role: str = "weight"
    ) -> tuple[Spec, dict[str, Tensor]]:
        if "blocks" not in spec.args or spec.args["share"]:
            raise ValueError("resize/fold_norm folds the norms of an encoder/stack that shares nothing")
        model: Any = build(spec)
        if role == "weight":
            load_tensors(model, tensors)
        new, blocks = dict(tensors), list(spec.args["blocks"])
        gone, changed = self._fold_layers(model.encoder, blocks, new, role)
        smaller = _replace_all(spec.replace("blocks", blocks))
        if smaller == spec:
            raise ValueError("resize/fold_norm: no norm of this encoder can be folded; norm/slab can")
        for path, piece in model.encoder.named_modules():
            if isinstance(piece, Norm) and _folds(piece) and f"encoder.{path}." not in gone:
                gone.add(f"encoder.{path}.")
                if role == "weight":
                    new[f"encoder.{path}.weight"], new[f"encoder.{path}.bias"] = _affine(piece, path)
                changed |= {f"encoder.{path}.weight", f"encoder.{path}.bias"}
        with torch.device("meta"):
            there = named(build(smaller))
        if role == "weight":  # outer biases that come with the inner ones
            new |= {k: torch.zeros(v.shape) for k, v in there.items() if k not in new and k.endswith(".bias")}
        kept = {k: v for k, v in new.items() if k in there or not any(k.startswith(path) for path in gone)}
        if role != "weight":
            return smaller, {k: torch.zeros_like(v) if k in changed else v for k, v in kept.items()}
        self._check(model, build(smaller), kept)
        return smaller, kept

    @torch.no_grad()
    def _check(self, old: Any, new: Any, tensors: dict[str, Tensor]) -> None:
        """A layer may read its norm in ways that it does not say; a few tokens show it."""
        load_tensors(new, tensors)
        token_BT = torch.arange(min(16, len(old.encoder.embedding.table.weight)))[None]
        want, got = (m.eval().encoder(token_BT, Layout.padded(torch.ones_like(token_BT))) for m in (old, new))
        if not (got - want).norm() <= 1e-3 * want.norm():
            raise ValueError("this encoder reads its norms in other places than its layers say: they cannot be folded")

    def _fold_layers(
        self, encoder: Any, blocks: list[Spec], new: dict[str, Tensor], role: str
    ) -> tuple[set[str], set[str]]:
        """Writes into `blocks` and `new`; (what begins the names of tensors that are gone, the weights that changed)."""
        gone: set[str] = set()
        changed: set[str] = set()
        for i, layer in enumerate(encoder.layers):
            for residual, pieces in layer.feeds.items():
                shows = layer.get_submodule(residual).shows
                if not shows or not _folds(piece := layer.get_submodule(f"{residual}.{shows}")):
                    continue
                gone.add(f"encoder.layers.{i}.{residual}.{shows}.")
                # a block may have a setting for each residual, or one for all
                said = residual if blocks[i % len(blocks)].args.get(residual) else "residual"
                blocks[i % len(blocks)] = blocks[i % len(blocks)].replace(f"{said}.{shows}", norms("none"))
                for name in pieces:
                    reader, path = layer.get_submodule(name), f"encoder.layers.{i}.{name}"
                    if not reader.reads:
                        raise ValueError(
                            f"{path} does not say which of its layers read its input: nothing can be folded into it"
                        )
                    changed |= {f"{path}.{r}.weight" for r in reader.reads} | {f"{path}.{r}.bias" for r in reader.reads}
                    if any(reader.get_submodule(r).bias is None for r in reader.reads):
                        one = blocks[i % len(blocks)]
                        for setting in {"bias", "key_bias"} & set(one.get(name).args):
                            one = one.replace(f"{name}.{setting}", True)
                        blocks[i % len(blocks)] = one
                    for r in reader.reads if role == "weight" else ():
                        linear, (scale_D, shift_D) = reader.get_submodule(r), _affine(piece, residual)
                        if linear.weight.shape[1] != len(scale_D):
                            raise ValueError(f"{path}.{r} reads its input in groups: nothing can be folded into it")
                        bias = 0 if linear.bias is None else linear.bias.detach()
                        new[f"{path}.{r}.weight"] = linear.weight.detach() * scale_D
                        new[f"{path}.{r}.bias"] = bias + linear.weight.detach() @ shift_D
        return gone, changed


def _folds(piece: Any) -> bool:
    return type(piece).affine is not Norm.affine


def _affine(piece: Norm, path: str) -> tuple[Tensor, Tensor]:
    found = piece.affine()
    if found is None:
        raise ValueError(f"the norm at {path} still normalises each token: train until its fade has ended, then fold")
    return found[0].detach(), found[1].detach()


def _replace_all(value: Any) -> Any:
    """The same with norm/affine in place of every norm that folds."""
    if isinstance(value, list):
        return [_replace_all(v) for v in value]
    if not isinstance(value, Spec):
        return value
    if value.slot is norms and value.slot.load(value.kind).affine is not Norm.affine:
        return norms("affine")
    return value.slot(value.kind, **{k: _replace_all(v) for k, v in value.args.items()})
