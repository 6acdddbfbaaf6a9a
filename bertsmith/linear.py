"""The weights, and the two ways to change them in place.

An *edit* maps a layer's (W, b) to (W, b): LoRA, masks, fake quantisation. It hangs at `host.edits.<name>`.
A *graft* changes what a module computes: adapters, prefixes, ablation. It hangs at `host.grafts.<name>`.
Neither moves what it changes: class, path and keys of the host stay.
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bertsmith import kernels
from bertsmith.spec import Spec


class Edited(nn.Module):
    """A weight that takes edits. Read it through `edited()`, never through `.weight`."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self) -> None:
        super().__init__()
        self.edits = nn.ModuleDict()

    def edited(self) -> tuple[Tensor, Tensor | None]:
        """(W, b) with every edit applied, in the order in which they were added."""
        weight, bias = self.weight, self.bias
        for one in self.edits.values():
            weight, bias = one(weight, bias)
        return weight, bias


class Linear(Edited):
    """y = x W' + b; weight [out, in]."""

    def __init__(self, dim_in: int, dim_out: int, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim_out, dim_in))
        self.bias = nn.Parameter(torch.zeros(dim_out)) if bias else None
        kernels.start(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, *self.edited())


class GroupedLinear(Linear):
    """`groups` linear layers side by side, each from its part of x to its part of y; weight [out, in / groups].

    A convolution of width 1 in groups: SqueezeBERT, Iandola et al. 2020, arXiv:2006.11316.
    """

    def __init__(self, dim_in: int, dim_out: int, groups: int, bias: bool = True):
        if dim_in % groups or dim_out % groups:
            raise ValueError(
                f"a layer from {dim_in} to {dim_out} has no {groups} groups: both must be multiples of them"
            )
        super().__init__(dim_in // groups, dim_out, bias)
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.edited()
        biases = [None] * self.groups if bias is None else bias.chunk(self.groups)
        parts = zip(x.chunk(self.groups, -1), weight.chunk(self.groups), biases, strict=True)
        return torch.cat([F.linear(*part) for part in parts], -1)  # quicker than one product with an axis of groups


class UnitLinear(Linear):
    """A layer without bias whose weight has norm 1, as it is read: of every row, an output's (axis 1), or of every column, an
    input's (axis 0). nGPT, Loshchilov et al. 2024, arXiv:2410.01131, section 2.3."""

    def __init__(self, dim_in: int, dim_out: int, axis: int):
        super().__init__(dim_in, dim_out, bias=False)
        self.axis = axis

    def edited(self) -> tuple[Tensor, Tensor | None]:
        weight, bias = super().edited()
        return F.normalize(weight, dim=self.axis), bias


class Embedding(Edited):
    """Rows of a table, by number; weight [rows, dim]."""

    def __init__(self, rows: int, dim: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(rows, dim)), None
        kernels.start(self.weight)

    def forward(self, index: Tensor) -> Tensor:
        return F.embedding(index, self.edited()[0])


class Dropout(nn.Module):
    """Inverted dropout (Srivastava et al. 2014): off in evaluation, a function of the step's seed in training."""

    def __init__(self, p: float = 0.0):
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"a dropout rate lies in [0, 1), not {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return kernels.dropout(x, self.p, self.training)


class Edit(nn.Module):
    """Base of the `edit` room: forward(weight, bias) -> (weight, bias). See `bertsmith.edit`."""

    paper = ""
    starts_as_identity = True

    def __init__(self, weight: Tensor):
        super().__init__()

    def forward(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        raise NotImplementedError


class Graft(nn.Module):
    """Base of the `graft` room: forward(inner, *inputs) -> output, where inner is the module as it was.

    Attributes:
        where: the pattern at which the paper hangs it.
        places: how many places of a text's longest row it takes for itself.
    """

    paper = ""
    where = "layers.*.{mixer,ffn}"
    starts_as_identity = True
    places: int = 0

    def __init__(self, host: nn.Module, path: str, dim: int, heads: int):
        super().__init__()

    def forward(self, inner: Callable[..., Tensor], *inputs: Any) -> Tensor:
        raise NotImplementedError


class Changeable(nn.Module):
    """A root of edits and grafts: it remembers what was done to it, so that it can be described, saved and rebuilt.

    changes: [{"how": "edit" | "graft", "where": pattern, "name": ..., "spec": Spec}], in order.
    """

    dim: int
    heads: int

    def __init__(self) -> None:
        super().__init__()
        self.changes: list[dict[str, Any]] = []


def fits(path: str, pattern: str) -> bool:
    """Whether a dotted path matches: `*` stays inside one name, `**` crosses dots, `{a,b}` and `[qv]` as usual."""
    signs = {"**": ".*", "*": "[^.]*", ".": r"\.", "{": "(?:", "}": ")", ",": "|"}
    found: list[str] = re.findall(r"\*\*|.", pattern)
    rule = "".join(signs.get(t, t) for t in found)
    return re.fullmatch(rule, path) is not None


def matching(model: nn.Module, where: str, kind: type[nn.Module] = nn.Module) -> list[tuple[str, Any]]:
    """[(path, module)] of every module of a kind whose path matches. Raises ValueError, with nearby paths, if none."""
    found = [(path, m) for path, m in model.named_modules() if isinstance(m, kind)]
    hits = [(path, m) for path, m in found if fits(path, where)]
    if not hits:
        some = ", ".join(path for path, _ in found if path)[:600]
        raise ValueError(f"no {kind.__name__} matches {where!r} (** crosses dots, * does not); there are: {some}")
    return hits


def edit(model: Changeable, where: str, spec: Spec, name: str = "") -> list[str]:
    """Add one edit to every Linear and Embedding whose path matches, and return the paths.

    `edit(encoder, "**.mixer.[qv]", edits("lora", rank=8))`. The name (the kind, if not given) tells two apart.
    """
    name = name or spec.kind
    hits = matching(model, where, Edited)
    if taken := [path for path, host in hits if name in host.edits]:
        raise ValueError(f"{taken[0]} has an edit named {name!r} already; give this one another name")
    built = [spec.build(host.weight) for _, host in hits]  # all before any is hung up: a refusal changes nothing
    for (_, host), new in zip(hits, built, strict=True):
        host.edits[name] = new.to(host.weight).train(host.training)
    model.changes.append({"how": "edit", "where": where, "name": name, "spec": spec})
    return [path for path, _ in hits]


@torch.no_grad()
def bake(model: Changeable, names: set[str] | None = None) -> None:
    """Write edits of some names (all, if None) into the weights and drop them; the outputs do not change.

    Raises ValueError, before anything is changed, if a bias would be lost, or an edit that stays comes before one that
    is baked (their order would change).
    """
    hosts = [(path, host) for path, host in model.named_modules() if isinstance(host, Edited)]
    names = {name for _, host in hosts for name in host.edits} if names is None else names
    new = {}
    for path, host in hosts:
        if not names & set(host.edits):
            continue
        order = [name in names for name in host.edits]
        if order != sorted(order, reverse=True):
            raise ValueError(
                f"{path}: the edits {', '.join(host.edits)} lie so that {', '.join(names)} are not the first"
            )
        weight, bias = host.weight, host.bias
        for name in [n for n in host.edits if n in names]:
            weight, bias = host.edits[name](weight, bias)
        if bias is not None and host.bias is None:
            raise ValueError(f"{path} has no bias, but its edits {', '.join(host.edits)} make one: keep them")
        new[host] = weight, bias
    for host, (weight, bias) in new.items():
        host.weight.copy_(weight)
        if bias is not None:
            host.bias.copy_(bias)
    _forget_edits(model, names)


def unedit(model: Changeable, name: str) -> None:
    """Take every edit of a name off again, leaving the weights as they are. Raises ValueError if there is none."""
    names = {c["name"] for c in model.changes if c["how"] == "edit"}
    if name not in names:
        raise ValueError(f"no edit is named {name!r}; there are: {', '.join(sorted(names)) or 'none'}")
    _forget_edits(model, {name})


def _forget_edits(model: Changeable, names: set[str]) -> None:
    for host in [m for m in model.modules() if isinstance(m, Edited)]:
        for name in names & set(host.edits):
            del host.edits[name]
    model.changes = [c for c in model.changes if c["how"] != "edit" or c["name"] not in names]


def graft(model: Changeable, where: str, spec: Spec, name: str = "") -> list[str]:
    """Hang one graft at every module whose path matches, and return the paths. See `ungraft` for the way back."""
    name = name or spec.kind
    hits = matching(model, where)
    if taken := [path for path, host in hits if name in grafts_of(host)]:
        raise ValueError(f"{taken[0]} has a graft named {name!r} already; give this one another name")
    like = next(model.parameters())
    built = [spec.build(host, path, model.dim, model.heads) for path, host in hits]
    for (_, host), new in zip(hits, built, strict=True):
        if "grafts" not in host._modules:
            host.add_module("grafts", nn.ModuleDict())
            host.forward = partial(_through_grafts, host)
        grafts_of(host)[name] = new.to(device=like.device, dtype=like.dtype).train(host.training)
    model.changes.append({"how": "graft", "where": where, "name": name, "spec": spec})
    return [path for path, _ in hits]


def ungraft(model: Changeable, name: str) -> None:
    """Take every graft of a name off again. Raises ValueError, listing the names, if there is none."""
    names = {c["name"] for c in model.changes if c["how"] == "graft"}
    if name not in names:
        raise ValueError(f"no graft is named {name!r}; there are: {', '.join(sorted(names)) or 'none'}")
    for host in list(model.modules()):
        if name in grafts_of(host):
            del grafts_of(host)[name]
            if not grafts_of(host):
                del host._modules["grafts"], host.__dict__["forward"]
    model.changes = [c for c in model.changes if (c["how"], c["name"]) != ("graft", name)]


def grafts_of(host: nn.Module) -> Any:
    """The grafts of a module by name; an empty dict where there are none."""
    found = host._modules.get("grafts")
    return {} if found is None else found  # not `or`: an empty ModuleDict is false


def places_taken(model: nn.Module) -> int:
    """How many tokens a row has less room for than the encoder's table of positions says."""
    return sum(m.places for m in model.modules() if isinstance(m, Graft))


def _through_grafts(host: nn.Module, *inputs: Any) -> Tensor:
    f: Any = partial(type(host).forward, host)
    for one in grafts_of(host).values():
        f = partial(one, f)
    return f(*inputs)


def apply_changes(model: Changeable, changes: list[dict[str, Any]]) -> None:
    """Do again what a description says was done: the edits and grafts of `model.changes`, as saved."""
    verbs = {"edit": edit, "graft": graft}
    for c in changes:
        verbs[c["how"]](model, c["where"], c["spec"], c["name"])


def leave(model: Changeable, changes: list[dict[str, Any]], how: str) -> None:
    """What becomes of changes when training ends: "keep", "bake" (edits, into the weights) or "drop"; ValueError else."""
    if how not in ("keep", "bake", "drop"):
        raise ValueError(f"leave is keep, bake or drop, not {how!r}")
    names = {what: {c["name"] for c in changes if c["how"] == what} for what in ("edit", "graft")}
    if how == "bake":
        bake(model, names["edit"])
    if how == "drop":
        for name in names["edit"]:
            unedit(model, name)
        for name in names["graft"]:
            ungraft(model, name)


def share(model: nn.Module, *where: str) -> None:
    """Every module or parameter whose path matches becomes the first one that does (ALBERT, shared positions)."""
    for pattern in where:
        named = [*model.named_modules(remove_duplicate=False), *model.named_parameters(remove_duplicate=False)]
        hits = [path for path, _ in named if path and fits(path, pattern)]
        if not hits:
            raise ValueError(f"share: nothing matches {pattern!r}")
        owner, _, leaf = hits[0].rpartition(".")
        first = getattr(model.get_submodule(owner), leaf)
        for path in hits[1:]:
            owner, _, leaf = path.rpartition(".")
            setattr(model.get_submodule(owner), leaf, first)


def tensors(model: nn.Module) -> dict[str, Tensor]:
    """Every stored tensor, once, under its first name: parameters and persistent buffers."""
    once = {n for n, _ in model.named_parameters()} | {n for n, _ in model.named_buffers()}
    return {k: v for k, v in model.state_dict(keep_vars=True).items() if k in once}


@torch.no_grad()
def load_tensors(model: nn.Module, new: dict[str, Tensor], what: str = "checkpoint") -> None:
    """Copy tensors in, strictly both ways: raises KeyError naming what is missing, too many or of another shape."""
    have = tensors(model)
    missing, extra = sorted(have.keys() - new.keys()), sorted(new.keys() - have.keys())
    odd = [
        f"{k} {list(new[k].shape)} for {list(v.shape)}" for k, v in have.items() if k in new and new[k].shape != v.shape
    ]
    if missing or extra or odd:
        raise KeyError(
            f"the {what} does not fit the model: missing {missing[:5]}, unexpected {extra[:5]}, shapes {odd[:5]}"
        )
    for name, tensor in have.items():
        tensor.copy_(new[name])
