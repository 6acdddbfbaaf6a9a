"""Ways to tune a model, by name: functions that return a `Tuning`. What they share: the head always trains.

`bertsmith finetune MODEL FILE --method lora:rank=4`, or `finetune(model, table, tuning=lora(rank=4))`.
"""

import inspect
import json
import sys

from bertsmith.edit import edit
from bertsmith.graft import graft
from bertsmith.objective import objective
from bertsmith.optim import optim
from bertsmith.resize import resize
from bertsmith.select import select
from bertsmith.spec import Spec
from bertsmith.tuning import Tuning

HEAD = "objective.**"


def full() -> Tuning:
    """All weights. BERT, Devlin et al. 2018, arXiv:1810.04805, section 3.2."""
    return Tuning()


def head_only() -> Tuning:
    """The head on a frozen encoder."""
    return Tuning(select=[select("paths", train=[HEAD])], lr=1e-3)


def lora(rank: int = 8, alpha: float = 16.0, where: str = "**.mixer.[qv]") -> Tuning:
    """LoRA, Hu et al. 2021, arXiv:2106.09685: low-rank updates of queries and values."""
    return _edited("lora", where, edit("lora", rank=rank, alpha=alpha), 5e-4)


def adapters(size: int = 64) -> Tuning:
    """Bottleneck adapters, Houlsby et al. 2019, arXiv:1902.00751: after every mixer and feed-forward; norms train too."""
    change = {
        "how": "graft",
        "where": "layers.*.{mixer,ffn}",
        "name": "adapter",
        "spec": graft("bottleneck", size=size),
    }
    trained = ["**.grafts.adapter.**", "encoder.**.residual.norm.*", "encoder.**.norm.*", HEAD]
    return Tuning([change], [select("paths", train=trained)], lr=1e-3)


def prefix(length: int = 10, std: float = 0.02) -> Tuning:
    """Prefix tuning, Li & Liang 2021, arXiv:2101.00190: trained keys and values before the real ones, in every layer."""
    return _hung("prefix", "layers.*.mixer.core", graft("prefix", length=length, std=std), 5e-3)


def prompt(length: int = 20) -> Tuning:
    """Prompt tuning, Lester et al. 2021, arXiv:2104.08691: trained vectors before every text, at the input alone."""
    return _hung("prompt", "{,embedding.table}", graft("prompt", length=length), 5e-3)


def dora(rank: int = 8, alpha: float = 16.0, where: str = "**.mixer.[qv]") -> Tuning:
    """DoRA, Liu et al. 2024, arXiv:2402.09353: length and direction of a weight apart."""
    return _edited("dora", where, edit("dora", rank=rank, alpha=alpha), 5e-4)


def vera(rank: int = 256, where: str = "**.mixer.[qv]") -> Tuning:
    """VeRA, Kopiczko et al. 2023, arXiv:2310.11454: shared random matrices, two trained vectors a layer."""
    return _edited("vera", where, edit("vera", rank=rank), 5e-3)


def ia3() -> Tuning:
    """(IA)3, Liu et al. 2022, arXiv:2205.05638: factors on keys, values and what the feed-forward's last layer reads."""
    changes = [
        {"how": "edit", "where": "**.mixer.[kv]", "name": "ia3", "spec": edit("ia3")},
        {"how": "edit", "where": "**.ffn.down", "name": "ia3", "spec": edit("ia3", axis=1)},
    ]
    return Tuning(changes, [select("paths", train=["**.edits.ia3.**", HEAD])], lr=5e-3)


def unipelt(rank: int = 8, length: int = 10, size: int = 48) -> Tuning:
    """UniPELT, Mao et al. 2021, arXiv:2110.07577: LoRA, prefix and adapter, each behind a gate."""
    where = "layers.*{,.mixer,.mixer.q,.mixer.v,.mixer.core,.ffn}"
    return _hung("unipelt", where, graft("unipelt", rank=rank, length=length, size=size), 5e-4)


def parallel(size: int = 64) -> Tuning:
    """Parallel adapters, He et al. 2021, arXiv:2110.04366: beside the feed-forward."""
    return _hung("parallel", "layers.*.ffn", graft("parallel", size=size), 1e-3)


def pasta(cls: int = 101, sep: int = 102) -> Tuning:
    """PASTA, Yang et al. 2022, arXiv:2210.04382: vectors on [CLS] and [SEP], whose ids are the tokenizer's."""
    return _hung("pasta", "layers.*", graft("pasta", special=[cls, sep]), 1e-3)


def unipt(factor: int = 4) -> Tuning:
    """UniPT, Diao et al. 2023, arXiv:2308.14316: a light network beside the frozen one, nothing flows back through it."""
    return _hung("unipt", "", graft("unipt", factor=factor), 1e-3)


def input_space(size: int = 64) -> Tuning:
    """Tuning in the input space, Marullo et al. 2023, arXiv:2306.02947: the embeddings are transformed, all else frozen."""
    return _hung("input", "embedding", graft("bottleneck", size=size), 1e-3)


def dsee(rank: int = 16, count: int = 64) -> Tuning:
    """DSEE, Chen et al. 2021, arXiv:2111.00160: a low-rank and sparse update (without the mask on the weights)."""
    return _edited("dsee", "**.mixer.[qv]", edit("dsee", rank=rank, count=count), 2e-4)


def sift(weight: float = 5.0) -> Tuning:
    """All weights, with SiFT, He et al. 2020, arXiv:2006.03654: moved embeddings must not change what is said."""
    return Tuning(around=lambda inner: objective("sift", inner=inner, weight=weight))


def smart(weight: float = 1.0, mu: float = 1.0) -> Tuning:
    """All weights, with SMART, Jiang et al. 2019, arXiv:1911.03437: smooth predictions, small steps."""
    return Tuning(around=lambda inner: objective("smart", inner=inner, weight=weight, mu=mu))


def freelb(steps: int = 3) -> Tuning:
    """All weights, with FreeLB, Zhu et al. 2019, arXiv:1909.11764: gradients along an adversary's way."""
    return Tuning(around=lambda inner: objective("freelb", inner=inner, steps=steps))


def mixout(p: float = 0.7) -> Tuning:
    """All weights, with Mixout, Lee et al. 2019, arXiv:1909.11299."""
    where = "layers.**{.q,.k,.v,.out,.up,.down}"
    change = {"how": "edit", "where": where, "name": "mixout", "spec": edit("mixout", p=p)}
    return Tuning([change], leave="drop")


def hype(scale: float = 1e-3) -> Tuning:
    """All weights, with HyPe, Yuan et al. 2022, arXiv:2212.08853: noise on what enters each layer."""
    change = {"how": "graft", "where": "layers.*", "name": "hype", "spec": graft("hype", scale=scale)}
    return Tuning([change], leave="drop")


def layerwise(decay: float = 0.95) -> Tuning:
    """All weights, lower layers slower: Sun et al. 2019, arXiv:1905.05583."""
    return Tuning(optim=optim("layerwise", inner=optim("adamw"), decay=decay))


def reinit(layers: int = 1) -> Tuning:
    """All weights, the top layers started anew: Zhang et al. 2020, arXiv:2006.05987."""
    return Tuning(resize=[resize("reinit_top", layers=layers)])


def attention_only() -> Tuning:
    """Attention alone: Touvron et al. 2022, arXiv:2203.09795."""
    return Tuning(select=[select("paths", train=["encoder.**.mixer.**", HEAD])])


def frozen_transformer() -> Tuning:
    """Norms, embedding and head: Frozen Pretrained Transformer, Lu et al. 2021, arXiv:2103.05247."""
    return Tuning(select=[select("paths", train=["encoder.**norm.*", "encoder.embedding.**", HEAD])], lr=1e-3)


def unfreezing(depth: int = 12) -> Tuning:
    """ULMFiT, Howard & Ruder 2018, arXiv:1801.06146: a layer more each epoch from the top, then all; lower ones slower."""
    down = range(depth - 1, -1, -1)
    steps = [select("paths", train=[*(f"encoder.layers.{i}.**" for i in range(n, depth)), HEAD]) for n in down]
    return Tuning(select=[*steps, select("paths")], optim=optim("layerwise", inner=optim("adamw"), decay=1 / 2.6))


def bitfit() -> Tuning:
    """BitFit, Ben Zaken et al. 2021, arXiv:2106.10199: biases alone."""
    return Tuning(select=[select("bitfit")], lr=1e-3)


def rdrop(alpha: float = 1.0) -> Tuning:
    """All weights, with R-Drop, Liang et al. 2021, arXiv:2106.14448."""
    return Tuning(around=lambda inner: objective("rdrop", inner=inner, alpha=alpha))


def _hung(name: str, where: str, spec: Spec, lr: float) -> Tuning:
    change = {"how": "graft", "where": where, "name": name, "spec": spec}
    return Tuning([change], [select("paths", train=[f"**.grafts.{name}.**", HEAD])], lr=lr)


def _edited(name: str, where: str, spec: Spec, lr: float) -> Tuning:
    change = {"how": "edit", "where": where, "name": name, "spec": spec}
    return Tuning([change], [select("paths", train=[f"**.edits.{name}.**", HEAD])], lr=lr)


def names() -> list[str]:
    """What `named` knows."""
    here = vars(sys.modules[__name__]).items()
    made = {n for n, f in here if inspect.isfunction(f) and f.__annotations__.get("return") is Tuning}
    return sorted(n for n in made if n != "named" and not n.startswith("_"))


def named(said: str) -> Tuning:
    """The tuning that a name means, with settings: "lora", "lora:rank=4,alpha=8".

    Raises ValueError, listing what there is, for a name or a setting that is not known.
    """
    name, _, given = said.partition(":")
    if name not in names():
        raise ValueError(f"no way to tune {name!r}; there are: {', '.join(names())}")
    make = vars(sys.modules[__name__])[name]
    settings = inspect.signature(make).parameters
    chosen = {}
    for part in filter(None, given.split(",")):
        key, sign, value = part.partition("=")
        if not sign or key not in settings:
            raise ValueError(f"{name} has no setting {part!r}; say KEY=VALUE of: {', '.join(settings) or 'none'}")
        try:
            chosen[key] = json.loads(value)
        except json.JSONDecodeError:
            chosen[key] = value
    bound = inspect.signature(make).bind(**chosen)
    bound.apply_defaults()
    try:
        return make(*bound.args)
    except TypeError as error:
        raise ValueError(f"{said}: {error}") from None
