"""How a trained encoder is run: the compiled kernel where it knows every piece and the machine has it, else torch.

A precision is a promise about what comes out, not a way to compute:

    default  every text's vector (the mean of its states) has a cosine of 0.9999 or more to that of fp32
    exact    fp32 throughout
    fast     a mean cosine of 0.999, and 0.997 for the worst hundredth of texts

With the kernel a text's vector is the same, bit for bit, whatever stands beside it and however many threads there are.

Which products may be in bf16 or 8 bits is decided by measuring, on texts that come with bertsmith and were used for nothing
else, against fp32. That happens at the first use, never while a model is opened. For "default" it takes well under a second
for small models; for "fast" weights are rounded with care first (see `int8`), which takes seconds, and is kept in a cache.
"""

import hashlib
import json
import operator
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes
from torch import Tensor

from bertsmith import native
from bertsmith.doctor import choose_precision, threads
from bertsmith.encoder import Encoder
from bertsmith.engine import by_torch, int8
from bertsmith.engine.adopt import added, tell
from bertsmith.engine.plan import Codes, Kinds, Plan, Unsupported, best, build, plan
from bertsmith.files import write_atomic
from bertsmith.layout import Layout
from bertsmith.linear import tensors

Precision = Literal["default", "exact", "fast"]
PRECISIONS = get_args(Precision)
PROMISE = 0.9999  # cosine to fp32, of every text
FEW = 24  # probes for what is decided at every start
MARGIN = 0.5  # of what is left to 1, for texts that were not measured
FAST = 0.999, 0.997  # mean cosine, and that of the worst hundredth of texts
ROUNDING = 2  # raised when weights are rounded by other texts, so that those in the cache are made anew
VERSION = operator.attrgetter("_version")  # of a tensor: how often it was written to
POOLINGS = {"mean": native.MEAN, "first": native.FIRST}

Texts = Callable[[], list[list[int]]]
Batches = Iterable[tuple[Tensor, Layout]]


@dataclass
class _Ready:
    """What was made of one state of the weights."""

    weights: "_Watch"
    threads: int
    plan: Plan | None
    why: str  # the kernel is not used, or ""
    handles: dict[str, native.Handle]
    said: dict[str, str]  # what a precision became
    short: Encoder | None = None  # for torch in bf16, where that is what a precision became
    adopted: dict[str, int] = field(default_factory=dict)  # how many encoders each precision's handle also runs


class Engine:
    """Runs one encoder in evaluation. The encoder stays as it is; its weights are packed when they are first needed.

    Args:
        longest: tokens of a text at the most.
        probes: ids of some texts, asked for when it is measured what a precision may be.
        examples: batches of other texts, from which 8-bit weights learn what to keep.
    """

    def __init__(self, encoder: Encoder, longest: int, probes: Texts, examples: Callable[[], Batches]):
        self.encoder, self.longest, self.probes, self.examples = encoder, longest, probes, examples
        self._ready: _Ready | None = None

    def about(self, precision: str = "default") -> dict[str, str]:
        """{"runtime", "precision": what it became, "why": the reason where the kernel is not used}."""
        ready = self._prepare(precision)
        runtime = "torch" if ready.why else f"kernel ({native.sets()[0].name})"
        return {"runtime": runtime, "precision": ready.said[precision], "why": ready.why}

    def states(
        self, token_BT: Tensor, layout: Layout, precision: str = "default", adopted_B: np.ndarray | None = None
    ) -> Tensor:
        """x_BTD, float32: what the encoder gives in evaluation. Padding is 0 where the kernel runs.

        adopted_B: for each row the number of an adopted encoder that is to run it (see `adopt`), -1 for this one.
        """
        ready = self._prepare(precision)
        if ready.short is not None and ready.said[precision] == "bf16":
            return by_torch.states(ready.short, token_BT, layout)
        if ready.plan is None or not _plain(layout, ready.plan.longest):
            if adopted_B is not None:
                raise ValueError("texts of adopted encoders run in the kernel alone, which does not know this layout")
            return self.encoder(token_BT, layout)
        real_BT = layout.real_BT
        first = (layout.position_BT == 0)[real_BT].numpy()
        starts = np.append(np.flatnonzero(first), len(first)).astype(np.int32)
        ids = token_BT[real_BT].numpy().astype(np.int32)
        types = None if layout.type_BT is None else layout.type_BT[real_BT].numpy().astype(np.int32)
        whose = None if adopted_B is None else adopted_B[real_BT.nonzero()[:, 0].numpy()[first]]
        found = torch.from_numpy(self._run(ready, precision, ids, starts, native.STATES, types, whose))
        if layout.whole and len(found) == real_BT.numel():
            return found.view(*real_BT.shape, -1)
        out = torch.zeros(*real_BT.shape, found.shape[1])
        out[real_BT] = found
        return out

    def pooled(
        self,
        ids: np.ndarray,
        starts: np.ndarray,
        pooling: str,
        precision: str = "default",
        types: np.ndarray | None = None,
        unit: bool = False,
        adopted: np.ndarray | None = None,
    ) -> np.ndarray | None:
        """float32 [texts, D] of texts that lie one after the other; None where the kernel does not run them so.

        Args:
            ids: int32 [tokens]; starts: int32 [texts + 1]; types: int32 [tokens], or None for all 0.
            unit: whether every vector is made one long; one of zeros stays one.
            adopted: for each text the number of an adopted encoder, -1 for this one; None: this one for all.
        """
        if pooling not in POOLINGS or (ready := self._prepare(precision)).why:
            return None
        return self._run(ready, precision, ids, starts, POOLINGS[pooling] | native.UNIT * unit, types, adopted)

    def adopt(self, other: "Engine", precision: str = "default") -> int:
        """Run texts of another encoder here, too, in one batch with those of this one; the number that they are known by.

        It differs from this one by what is of low rank in its products (see `engine.adopt`), as most adapters do. Its weights
        are read now: adopt it again when they have changed, and when those of this one have.

        Raises Unsupported, saying by what else it differs, or why this encoder is not run by the kernel.
        """
        ready, isa = self._prepare(precision), native.sets()[0] if native.sets() else None
        said = ready.said[precision]
        if ready.plan is None or isa is None or ready.why:
            raise Unsupported(ready.why)
        if said.startswith("int8"):
            raise Unsupported("8-bit weights, which are fitted to each encoder")
        made = plan(other.encoder, ready.plan.longest)
        number, handle = ready.adopted.get(precision, 0), ready.handles[precision]
        tell(handle, number, native.BF16 if said == "bf16" else native.FP32, added(ready.plan, made, isa.lanes))
        ready.adopted[precision] = number + 1
        if texts := other._texts(made.longest)[:FEW]:
            exact = build(made, isa, lambda layer, name: native.FP32)
            worst = float(_cosine(_means(exact, texts), _means(handle, texts, number)).min())
            if worst < 1 - MARGIN * (1 - PROMISE):
                raise Unsupported(f"a cosine of {worst:.6f} to its own vectors in fp32 when it is run by its base")
        return number

    def _run(
        self,
        ready: _Ready,
        precision: str,
        ids: np.ndarray,
        starts: np.ndarray,
        pooling: int,
        types: np.ndarray | None,
        adopted: np.ndarray | None = None,
    ) -> np.ndarray:
        if adopted is not None and (there := ready.adopted.get(precision, 0)) <= adopted.max(initial=-1):
            raise IndexError(
                f"no adopted encoder {adopted.max()}; there are {there} since the weights were last changed"
            )
        return ready.handles[precision].run(ids, starts, ready.threads, pooling, types, adopted)

    def _prepare(self, precision: str) -> _Ready:
        check_precision(precision)
        if self._ready is None or not self._ready.weights.same():
            self._ready = self._begin()
        if precision not in self._ready.said:
            (self._choose if self._ready.why else self._make)(self._ready, precision)
        return self._ready

    def _texts(self, longest: int) -> list[list[int]]:
        """The probes, cut to what the encoder has places for."""
        return [ids[:longest] for ids in self.probes() if ids]

    @torch.inference_mode()
    def _begin(self) -> _Ready:
        why, made = native.why_not(), None
        if not why and any(t.device.type != "cpu" for t in self.encoder.parameters()):
            why = "the weights are not on the CPU"
        if not why:
            try:
                made = plan(self.encoder, self.longest)
            except Unsupported as error:
                why = f"the kernel does not have {error}"
        return _Ready(_Watch(self.encoder), threads(), made, why, {}, {})

    @torch.inference_mode()
    def _choose(self, ready: _Ready, precision: str) -> None:
        """bf16 or fp32 for torch: what it does to the probes decides."""
        ready.said[precision] = "fp32"
        here = all(t.device.type == "cpu" for t in self.encoder.parameters())
        texts = self._texts(self.longest)[:FEW]
        if precision == "exact" or not here or not texts or choose_precision() != "bf16":
            return
        short = ready.short or by_torch.shortened(self.encoder)
        try:
            found = _cosine(by_torch.means(self.encoder, texts, False), by_torch.means(short, texts, True))
        except RuntimeError as error:  # torch has not every function in bf16
            ready.said[precision] += f" (in bf16: {str(error).splitlines()[0]})"
            return
        if _keeps(found, texts) if precision == "fast" else found.min() >= 1 - MARGIN * (1 - PROMISE):
            ready.said[precision], ready.short = "bf16", short
        else:
            ready.said[precision] += f" (bf16 has a cosine of {found.min():.6f} on texts of ours)"

    @torch.inference_mode()
    def _make(self, ready: _Ready, precision: str) -> None:
        """Pack the weights as the precision wants them; what that does to the probes decides whether it may be."""
        assert ready.plan is not None
        isa = native.sets()[0]
        exact = ready.handles.get("exact") or build(ready.plan, isa, lambda layer, name: native.FP32)
        handle, said = exact, "fp32"
        if precision == "default" and best(isa) == native.BF16:
            trial, worst = build(ready.plan, isa, lambda layer, name: native.BF16), 1.0
            if texts := self._texts(ready.plan.longest)[:FEW]:
                worst = float(_cosine(_means(exact, texts), _means(trial, texts)).min())
            if worst >= 1 - MARGIN * (1 - PROMISE):
                handle, said = trial, "bf16"
            else:
                said = f"fp32 (bf16 has a cosine of {worst:.6f} on texts of ours)"
        if precision == "fast":
            handle, said = self._round(ready.plan, isa, exact, self.examples, read=True)
        ready.handles[precision], ready.said[precision] = handle, said

    def calibrate(self, examples: Batches) -> str:
        """Round the weights to 8 bits for texts like these, for "fast" now and, through the cache, from now on.

        Returns what "fast" became. Raises ValueError, saying why, where the kernel does not run this encoder.
        """
        ready = self._prepare("exact")
        if ready.why or ready.plan is None:
            raise ValueError(f"8-bit weights are for the compiled kernel, which is not used here: {ready.why}")
        given = self._round(ready.plan, native.sets()[0], ready.handles["exact"], lambda: examples, read=False)
        ready.handles["fast"], ready.said["fast"] = given
        return given[1]

    def _round(
        self, made: Plan, isa: native.Isa, exact: native.Handle, examples: Callable[[], Batches], read: bool
    ) -> tuple[native.Handle, str]:
        """The encoder with as many products in 8 bits as the promise allows, and what was done."""
        path = cache() / f"int8-{isa.name}-{_digest(self.encoder, made.longest)}.safetensors"
        held = load_rounded(path) if read and path.exists() else None
        if held is None:
            codes = int8.calibrate(made, isa.lanes, int8.listen(self.encoder, examples()))
            kept = self._sensitive(made, isa, exact, codes)
            path.parent.mkdir(parents=True, exist_ok=True)
            save_rounded(path, codes, kept)
        else:
            codes, kept = held
        handle = build(made, isa, _kinds(kept, best(isa)), codes)
        finer = "bf16" if best(isa) == native.BF16 else "fp32"
        return handle, "int8" + f", {len(kept)} of {len(codes)} products in {finer}" * bool(kept)

    def _sensitive(self, made: Plan, isa: native.Isa, exact: native.Handle, codes: Codes) -> frozenset[tuple[int, str]]:
        """The products that stay finer than 8 bits: none, or those that lose most alone, as few as keep the promise."""
        texts = self._texts(made.longest)
        want = _means(exact, texts)

        def loss(kept: frozenset[tuple[int, str]]) -> np.ndarray:
            return 1 - _cosine(want, _means(build(made, isa, _kinds(kept, best(isa)), codes), texts))

        def keeps(count: int) -> bool:
            return _keeps(1 - loss(frozenset(order[:count])), texts)

        everything, order = frozenset(codes), list(codes)
        if not texts or keeps(0):
            return frozenset()
        alone = {place: loss(everything - {place}).mean() for place in codes}
        order.sort(key=lambda place: -alone[place])
        low, high = 0, len(order)  # the fewest that keep it, by halves
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if keeps(middle) else (middle, high)
        return frozenset(order[:high])


def check_precision(said: str) -> Precision:
    """The same. ValueError, listing them, for an unknown one."""
    if said not in PRECISIONS:
        raise ValueError(f"no precision {said!r}; there are: {', '.join(PRECISIONS)}")
    return said  # type: ignore[return-value]


def cache() -> Path:
    """Where what was worked out about a model stays: $BERTSMITH_CACHE, or the user's cache folder."""
    said = os.environ.get("BERTSMITH_CACHE")
    return Path(said) if said else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "bertsmith"


def save_rounded(path: Path, codes: Codes, kept: frozenset[tuple[int, str]]) -> None:
    """Codes, scales and smoothing of every product, and which of them stay finer."""
    held: dict[str, np.ndarray] = {}
    for (layer, name), (code, scale, smooth) in codes.items():
        held |= {f"{layer}.{name}.code": code, f"{layer}.{name}.scale": scale}
        held |= {} if smooth is None else {f"{layer}.{name}.smooth": smooth}
    write_atomic(path, to_bytes(held, {"kept": json.dumps(sorted(kept))}))


def load_rounded(path: Path) -> tuple[Codes, frozenset[tuple[int, str]]] | None:
    """What `save_rounded` wrote, or None if the file is damaged, so that it is made again."""
    try:
        with safe_open(path, "numpy") as file:
            held = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            kept = json.loads((file.metadata() or {})["kept"])
    except (SafetensorError, KeyError, ValueError, OSError):
        return None
    places = {key.rpartition(".")[0] for key in held}
    made: Codes = {}
    for place in places:
        layer, name = place.split(".")
        made[int(layer), name] = held[f"{place}.code"], held[f"{place}.scale"], held.get(f"{place}.smooth")
    return made, frozenset((layer, name) for layer, name in kept)


def _keeps(cosines: np.ndarray, texts: list[list[int]]) -> bool:
    """What "fast" promises, of all texts and of the longest ones alone."""
    longest = sorted(range(len(texts)), key=lambda i: -len(texts[i]))[: -(-len(texts) // 24)]
    return all(some.mean() >= FAST[0] and np.quantile(some, 0.01) >= FAST[1] for some in (cosines, cosines[longest]))


def _kinds(kept: frozenset[tuple[int, str]], finer: int) -> Kinds:
    return lambda layer, name: finer if (layer, name) in kept else native.INT8


def _digest(encoder: Encoder, longest: int) -> str:
    """What tells these weights from others."""
    found = hashlib.blake2b(f"{int8.SMOOTH} {ROUNDING} {longest}".encode(), digest_size=12)
    for name, tensor in sorted(tensors(encoder).items()):
        found.update(name.encode() + tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


class _Watch:
    """Whether a weight or a piece has changed since: where each lies, how often it was written to, and what is in what.

    It is asked before every call, so that it must cost nearly nothing: of a text alone the kernel takes a millisecond.
    """

    def __init__(self, encoder: Encoder):
        dicts = [held for m in encoder.modules() for held in (m._modules, m._parameters, m._buffers)]
        self.tensors = [t for d in dicts for t in d.values() if isinstance(t, Tensor)]
        self.counting = [t for t in self.tensors if not t.is_inference()]
        inside = (t._cdata + i for t in self.tensors for i in range(0, 256, 64))  # of what a tensor is in C++
        data = (t.untyped_storage()._cdata for t in self.tensors)
        self.held = native.Held(dicts, [*map(id, self.tensors), *inside, *data])
        self.places, self.versions = self._state()

    def _state(self) -> tuple[list[int], list[int]]:
        return list(map(Tensor.data_ptr, self.tensors)), list(map(VERSION, self.counting))

    def same(self) -> bool:
        return self.held.same() and self._state() == (self.places, self.versions)


def _plain(layout: Layout, longest: int) -> bool:
    """Whether the kernel knows all that a batch's layout says to an encoder. No piece that it has reads `extra`: what
    stands there is for heads (which token begins a word)."""
    odd = layout.see_BTT is not None or layout.segment_BT.device.type != "cpu"
    return not odd and (not layout.position_BT.numel() or int(layout.position_BT.max()) < longest)


def _means(handle: native.Handle, texts: list[list[int]], adopted: int = -1) -> np.ndarray:
    starts = np.cumsum([0, *map(len, texts)]).astype(np.int32)
    whose = np.full(len(texts), adopted, np.int32)
    return handle.run(np.concatenate(texts).astype(np.int32), starts, threads(), native.MEAN, adapters=whose)


def _cosine(a_ND: np.ndarray, b_ND: np.ndarray) -> np.ndarray:
    a_ND, b_ND = a_ND.astype(np.float64), b_ND.astype(np.float64)
    scale = np.linalg.norm(a_ND, axis=1) * np.linalg.norm(b_ND, axis=1)
    return (a_ND * b_ND).sum(1) / np.maximum(scale, 1e-30)
