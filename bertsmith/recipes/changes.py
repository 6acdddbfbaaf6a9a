"""BERT base with one thing changed: the smallest meaningful change of each of these papers, everything else alike.

So that methods are compared at equal compute: give them one `--budget`, and the same data and seed.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from bertsmith.act import act
from bertsmith.block import block
from bertsmith.core import core
from bertsmith.encoder import encoder
from bertsmith.ffn import ffn
from bertsmith.init import init
from bertsmith.mixer import mixer
from bertsmith.norm import norm
from bertsmith.objective import objective
from bertsmith.position import position
from bertsmith.recipes.bert import bert_base
from bertsmith.residual import residual
from bertsmith.spec import Spec
from bertsmith.train import Run


def _with(path: Path | str, budget: str, seed: int, changes: dict[str, Any]) -> Run:
    run = bert_base(path, budget, seed)
    spec = run.encoder
    for where, value in changes.items():
        spec = spec.replace(where, value)
    return replace(run, encoder=spec)


def _of(run: Run, where: str) -> Any:
    return run.encoder.get(where)


def bert_base__rational(path: Path | str, budget: str = "125000-steps", seed: int = 0) -> Run:
    """GELU becomes a learned rational function, one a layer.  Fang et al. 2022, arXiv:2208.14111."""
    return _with(path, budget, seed, {"blocks.*.ffn.act": act("rational")})


def bert_base__slab__pre(path: Path | str, budget: str = "125000-steps", seed: int = 0) -> Run:
    """Pre-norm whose norms fade to batch norms that `resize/fold_norm` takes away.  Guo et al. 2024, arXiv:2405.11582."""
    pre = residual("pre", norm=norm("slab"), dropout=0.1)
    return _with(path, budget, seed, {"blocks.*.residual": pre, "norm": norm("slab")})


def bert_base__bigs(path: Path | str, budget: str = "125000-steps", seed: int = 0) -> Run:
    """A gated state space in both directions instead of attention.  Wang et al. 2022, arXiv:2212.10544."""
    one = block("single", mixer=mixer("bigs"), residual=residual("pre", norm=norm("layer")))
    return _with(path, budget, seed, {"blocks": [one], "norm": norm("layer"), "embedding.position": position("none")})


def bert_base__parallel(path: Path | str, budget: str = "125000-steps", seed: int = 0) -> Run:
    """Attention and feed-forward read the same input, side by side.  Sonkar & Baraniuk 2023, arXiv:2305.13297."""
    old = _of(bert_base(path, budget, seed), "blocks.0").args
    one = block("parallel", mixer=old["mixer"], ffn=old["ffn"], residual=old["residual"])
    return _with(path, budget, seed, {"blocks": [one]})


def bert_base__smoe_dropout(path: Path | str, budget: str = "125000-steps", seed: int = 0) -> Run:
    """Experts behind a fixed random router, ever more of them during training.  Chen et al. 2023, arXiv:2303.01610."""
    return _with(path, budget, seed, {"blocks.*.ffn": ffn("smoe_dropout", expert=ffn("mlp", hidden=768), experts=4)})


def bert_base__moe(path: Path | str, budget: str = "125000-steps", seed: int = 0) -> Run:
    """Every other feed-forward is eight experts of which a token sees two.  Artetxe et al. 2021, arXiv:2112.10684."""
    one = _of(bert_base(path, budget, seed), "blocks.0")
    routed = one.replace("ffn", ffn("moe", expert=one.get("ffn"), experts=8, top=2))
    return _with(path, budget, seed, {"blocks": [one, routed]})


def bert_base__clipped_softmax(path: Path | str, budget: str = "125000-steps", seed: int = 0) -> Run:
    """Attention that can give exactly nothing, so that int8 loses less.  Bondarenko et al. 2023, arXiv:2306.12929."""
    return _with(path, budget, seed, {"blocks.*.mixer.core": core("clipped_softmax")})


def bert_base__gated_attention(path: Path | str, budget: str = "125000-steps", seed: int = 0) -> Run:
    """Each head is multiplied with a gate that sees the token.  Bondarenko et al. 2023, arXiv:2306.12929."""
    return _with(path, budget, seed, {"blocks.*.mixer": mixer("gated_attention", dropout=0.1)})


def bert_base__linear(path: Path | str, budget: str = "125000-steps", seed: int = 0) -> Run:
    """Attention of linear cost by a feature map.  Katharopoulos et al. 2020, arXiv:2006.16236."""
    return _with(path, budget, seed, {"blocks.*.mixer": mixer("attention", core=core("linear"))})


def bert_base__windowed(path: Path | str, budget: str = "125000-steps", seed: int = 0) -> Run:
    """Attention to the neighbours only, in linear cost.  TKL, Hofstätter et al. 2020, arXiv:2005.04908."""
    return _with(path, budget, seed, {"blocks.*.mixer.core": core("windowed", window=64)})


def bert_base__luna(path: Path | str, budget: str = "125000-steps", seed: int = 0) -> Run:
    """Attention through a short side sequence that layers carry along.  Ma et al. 2021, arXiv:2106.01540."""
    one = _of(bert_base(path, budget, seed), "blocks.0")
    first, later = (one.replace("mixer", mixer("luna", length=n, dropout=0.1)) for n in (16, 0))
    return _with(path, budget, seed, {"blocks": [first, *[later] * 11]})


def bert_base__ponet(path: Path | str, budget: str = "125000-steps", seed: int = 0) -> Run:
    """Pooling over document, segment and neighbours instead of attention.  Tan et al. 2021, arXiv:2110.02442."""
    return _with(path, budget, seed, {"blocks.*.mixer": mixer("ponet")})


def bert_base__fourier(path: Path | str, budget: str = "125000-steps", seed: int = 0) -> Run:
    """A Fourier transform instead of attention.  FNet, Lee-Thorp et al. 2021, arXiv:2105.03824."""
    return _with(path, budget, seed, {"blocks.*.mixer": mixer("fourier")})


def bert_base__conv_attention(path: Path | str, budget: str = "125000-steps", seed: int = 0) -> Run:
    """Half of the heads become convolutions.  ConvBERT, Jiang et al. 2020, arXiv:2008.02496."""
    return _with(path, budget, seed, {"blocks.*.mixer": mixer("conv_attention", dropout=0.1)})


def bert_base__shared(path: Path | str, budget: str = "125000-steps", seed: int = 0) -> Run:
    """One layer's weights for all, and tables of 128.  ALBERT, Lan et al. 2019, arXiv:1909.11942."""
    return _with(path, budget, seed, {"share": ["layers.*"], "embedding.width": 128})


def bert_base__disentangled(path: Path | str, budget: str = "125000-steps", seed: int = 0) -> Run:
    """Content and place scored apart, absolute places in the mask decoder only.  He et al. 2020, arXiv:2006.03654."""
    places = position("disentangled", span=512, buckets=256, shared=True, norm=norm("layer"), dropout=0.1)
    tied = ["**.mixer.position.table", "**.mixer.position.norm"]
    changes = {"embedding.position": position("none"), "blocks.*.mixer.position": places, "share": tied}
    run = _with(path, budget, seed, changes)
    old = run.stages[0].objective.args
    decoder = objective("enhanced_mask_decoder", **{k: old[k] for k in ("masking", "mask_id", "special")})
    return replace(run, stages=[replace(run.stages[0], objective=decoder)])


def bert_base__memory(path: Path | str, budget: str = "125000-steps", seed: int = 0) -> Run:
    """Rows read in segments of 128, with ten memory vectors carried along.  RMT, Bulatov et al. 2023, arXiv:2304.11062."""
    run = bert_base(path, budget, seed)
    stage = replace(run.stages[0], data=run.stages[0].data.replace("length", 512).replace("rows", 8))
    return replace(run, encoder=encoder("memory", inner=run.encoder, length=128, memory=10), stages=[stage])


def bert_base__deepnorm(path: Path | str, budget: str = "125000-steps", seed: int = 0) -> Run:
    """Post-norm with a longer stream and a smaller start, for great depth.  Wang et al. 2022, arXiv:2203.00555."""
    changes: dict[str, Spec] = {"init": init("deepnorm")}
    changes["blocks.*.residual"] = residual("deepnorm", norm=norm("layer", eps=1e-12), dropout=0.1)
    return _with(path, budget, seed, changes)
