"""A trained encoder as its users see it: open, use, save."""

import copy
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save as to_bytes
from tokenizers import Tokenizer
from torch import Tensor, nn

from bertsmith import hf
from bertsmith.checkpoint import Trained
from bertsmith.encoder import Encoder
from bertsmith.files import write_atomic
from bertsmith.head import Head
from bertsmith.hf import hub
from bertsmith.layout import Layout
from bertsmith.learner import build
from bertsmith.linear import apply_changes, load_tensors, tensors
from bertsmith.pool import pool as pools
from bertsmith.spec import Spec, from_plain, to_plain
from bertsmith.tokenizer.load import load_tokenizer
from bertsmith.tokenizer.roles import shown, special_ids

FORMAT = 1
BATCH_TOKENS = 8192  # places in a batch of inference, padding included
POOLING = {"mean": "pooling_mode_mean_tokens", "first": "pooling_mode_cls_token"}


@dataclass(frozen=True)
class Guess:
    """A token for a mask, with its probability in [0, 1]."""

    token: str
    probability: float


@dataclass(frozen=True)
class Filled:
    """A text with its masks filled by the likeliest tokens; `guesses[m]` are the best for mask m, best first."""

    text: str
    guesses: list[list[Guess]]


@dataclass(frozen=True)
class Prediction:
    """An answer, and the score of every label (a probability each; a number for regression has none)."""

    label: Any
    scores: dict[str, float] = field(default_factory=dict)


class Bundle(nn.Module):
    """Encoder and head under one root, so that a table both read is one tensor."""

    def __init__(self, encoder: Encoder, head: Head | None):
        super().__init__()
        self.encoder, self.head = encoder, head


class Model:
    """An encoder with its tokenizer and, if it has one, its head.

    Attributes:
        encoder: called (token_BT, layout) -> x_BTD.
        head: what stands on it, or None; head_spec, task, labels describe it.
        pooling: how `encode` makes one vector of a text: "mean" or "first".
        max_length: tokens in a text at the most, [CLS] and [SEP] counted.
        cut: how many texts were cut by the last call.
        report: what `finetune` measured, plain JSON.
        origin: the config.json that it was opened from, if it had one.
    """

    def __init__(
        self,
        spec: Spec,
        bundle: Bundle,
        tokenizer: Tokenizer,
        head_spec: Spec | None = None,
        task: Spec | None = None,
        labels: list[str] | None = None,
        pooling: str = "mean",
        max_length: int = 512,
        report: dict[str, Any] | None = None,
        origin: dict[str, Any] | None = None,
    ):
        self.spec, self.bundle, self.head_spec, self.task = spec, bundle.eval(), head_spec, task
        self.labels, self.pooling, self.max_length, self.cut = labels or [], pooling, max_length, 0
        self.report: dict[str, Any] = report or {}
        self.origin: dict[str, Any] = origin or {}
        self.tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()

    @classmethod
    def of(cls, now: Trained, objective: Spec, tokenizer: Tokenizer, task: Spec | None = None,
           labels: list[str] | None = None) -> "Model":  # fmt: skip
        """What a run has trained: its encoder, and the head that its objective ships."""
        learner = build(now.encoder, now.changes, objective, 0)
        load_tensors(learner, now.tensors)
        shipped = learner.objective
        bundle = Bundle(learner.encoder, shipped.head)
        return cls(now.encoder, bundle, tokenizer, shipped.head_spec, task, labels, max_length=_longest(now.encoder))

    @property
    def encoder(self) -> Encoder:
        return self.bundle.encoder

    @property
    def head(self) -> Any:
        return self.bundle.head

    @property
    def device(self) -> torch.device:
        """Where the weights lie, and where texts are sent."""
        return next(self.encoder.parameters()).device

    def to(self, device: torch.device | str) -> "Model":
        """Move the weights, "cuda" for one; the model itself is returned."""
        self.bundle.to(device)
        return self

    def trained(self) -> Trained:
        """A copy of the encoder as a value that a run can start from."""
        held = {f"encoder.{k}": v.detach().float().cpu().clone() for k, v in tensors(self.encoder).items()}
        return Trained(self.spec, copy.copy(self.encoder.changes), held)

    def tokens(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        max_length: int = 0,
        on_long: Literal["truncate", "error"] = "truncate",
    ) -> Iterator[tuple[list[int], Tensor, Layout]]:
        """Batches of alike lengths within a budget of places: (numbers of the texts, token_BT, layout).

        Raises ValueError if on_long is "error" and a text is longer than max_length (default: the model's).
        """
        most = min(max_length or self.max_length, self.max_length)
        rows = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        coded = self.tokenizer.encode_batch(rows)
        long = [i for i, e in enumerate(coded) if len(e) > most]
        self.cut = len(long)
        if long and on_long == "error":
            raise ValueError(
                f"text {long[0]} has {len(coded[long[0]])} tokens, more than {most}: cut it, or on_long='truncate'"
            )
        if long:
            shorter = Tokenizer.from_str(self.tokenizer.to_str())
            shorter.enable_truncation(most)
            for i, e in zip(long, shorter.encode_batch([rows[i] for i in long]), strict=True):
                coded[i] = e
        order = sorted(range(len(coded)), key=lambda i: len(coded[i]))
        pad = special_ids(self.tokenizer, ("pad",))["pad"]
        while order:
            take = 1
            while take < len(order) and (take + 1) * len(coded[order[take]]) <= BATCH_TOKENS:
                take += 1
            now, order = order[:take], order[take:]
            longest = max(1, max(len(coded[i]) for i in now))
            type_BT, keep_BT = (torch.zeros(take, longest, dtype=torch.long) for _ in range(2))
            token_BT = torch.full((take, longest), pad)
            for row, i in enumerate(now):
                n = len(coded[i])
                token_BT[row, :n], type_BT[row, :n] = torch.tensor(coded[i].ids), torch.tensor(coded[i].type_ids)
                keep_BT[row, :n] = 1
            whole = all(len(coded[i]) == longest for i in now)
            yield now, token_BT.to(self.device), Layout.padded(keep_BT, type_BT, whole).to(self.device)

    @torch.inference_mode()
    def hidden(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """The last states x_BTD of ids_BT, for those who tokenize themselves."""
        keep = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        return self.encoder(input_ids.to(self.device), Layout.padded(keep, token_type_ids).to(self.device))

    @torch.inference_mode()
    def encode(self, texts: str | Sequence[str], pooling: str = "", max_length: int = 0, normalize: bool = False,
               on_long: Literal["truncate", "error"] = "truncate") -> np.ndarray:  # fmt: skip
        """float32 [N, D], in the order given; [D] for one text. pooling: "mean" or "first" (default: the model's)."""
        alone, rows = _rows(texts)
        method = pools(pooling or self.pooling).build(self.encoder.dim)
        out = np.zeros((len(rows), self.encoder.dim), dtype=np.float32)
        for index, token_BT, layout in self.tokens(rows, None, max_length, on_long):
            out[index] = method(self.encoder(token_BT, layout), layout).float().cpu().numpy()
        if normalize:
            out /= np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12)
        return out[0] if alone else out

    @overload
    def fill(self, texts: str, top: int = 5) -> Filled: ...
    @overload
    def fill(self, texts: Sequence[str], top: int = 5) -> list[Filled]: ...
    @torch.inference_mode()
    def fill(self, texts: str | Sequence[str], top: int = 5) -> Filled | list[Filled]:
        """The likeliest tokens for every mask ([MASK]; <mask> in RoBERTa's vocabularies).

        Raises ValueError without a masked-LM head, or without a mask.
        """
        if self.head is None or not self.head.speaks:
            raise ValueError(
                "this model has no masked-LM head, so it cannot fill: open a pre-trained one (BertForMaskedLM)"
            )
        alone, rows = _rows(texts)
        mask_id = special_ids(self.tokenizer, ("mask",))["mask"]
        mask = self.tokenizer.id_to_token(mask_id) or ""
        found: dict[int, Filled] = {}
        for index, token_BT, layout in self.tokens(rows):
            x_BTD = self.encoder(token_BT, layout)
            for row, i in enumerate(index):
                places = (token_BT[row] == mask_id).nonzero()[:, 0]
                if not len(places):
                    raise ValueError(f"text {i} has no {mask} (or it was cut off): {rows[i]!r:.80}")
                best = self.head.logits(x_BTD[row, places], layout).float().softmax(-1).topk(top)
                guesses = [
                    [Guess(shown(self.tokenizer, t), p) for t, p in zip(ids, ps, strict=True)]
                    for ids, ps in zip(best.indices.tolist(), best.values.tolist(), strict=True)
                ]
                text = rows[i]
                for g in guesses:
                    text = text.replace(mask, g[0].token, 1)
                found[i] = Filled(text, guesses)
        return found[0] if alone else [found[i] for i in range(len(rows))]

    @torch.inference_mode()
    def logits(self, texts: Sequence[str], pairs: Sequence[str] | None = None, max_length: int = 0,
               on_long: Literal["truncate", "error"] = "truncate") -> Iterator[tuple[list[int], Tensor]]:  # fmt: skip
        """Batches of (numbers of the texts, logits), in no promised order."""
        if self.head is None:
            raise ValueError("this model has no head: fine-tune it first (bertsmith finetune MODEL FILE)")
        for index, token_BT, layout in self.tokens(texts, pairs, max_length, on_long):
            yield index, self.head(self.encoder(token_BT, layout), layout).float().cpu()

    def predict(self, texts: str | Sequence[str], pairs: str | Sequence[str] | None = None,
                on_long: Literal["truncate", "error"] = "truncate") -> Prediction | list[Prediction]:  # fmt: skip
        """One Prediction for one text, a list for a list. Raises ValueError if the model was not fine-tuned."""
        if self.task is None:
            raise ValueError(
                "this model was not fine-tuned for a task: bertsmith.finetune(model, table) makes one that was"
            )
        alone, rows = _rows(texts)
        seconds = None if pairs is None else _rows(pairs)[1]
        task, found = self.task.build(self.labels), {}
        for index, logits in self.logits(rows, seconds, on_long=on_long):
            score_NL = task.probabilities(logits)
            for i, label, row in zip(index, task.decode(logits), score_NL, strict=True):
                found[i] = Prediction(label, dict(zip(self.labels, map(float, row), strict=False)))
        return found[0] if alone else [found[i] for i in range(len(rows))]

    def save(self, folder: Path | str, stock: str = "") -> None:
        """Write a directory that `load` opens and, where a stock class exists, `transformers` and `sentence-transformers`.

        Every file is written whole or not at all, bertsmith.json last.

        Args:
            stock: the model_type that it shall be for others ("roberta"); "": that which it came from, or any that fits.

        Raises:
            ValueError: `stock` was asked for and cannot hold this model; it names what does not fit.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        held = {k: v.detach().cpu().contiguous() for k, v in tensors(self.bundle).items()}
        if stock and self.encoder.changes:
            raise ValueError(f"a stock {stock} holds no edits and grafts: bake them first, or save without stock=")
        pad = special_ids(self.tokenizer, ("pad",))["pad"]
        config = hf.to_stock(self.spec, self.head_spec, stock, self.origin, pad) if stock else None
        if not stock and not self.encoder.changes:
            config = hf.find_stock(self.spec, self.head_spec, self.origin, pad)
        about = {
            "format": FORMAT,
            "names": "transformers" if config else "bertsmith",
            "encoder": self.spec.to_dict(),
            "changes": to_plain(self.encoder.changes),
            "head": to_plain(self.head_spec),
            "task": to_plain(self.task),
            "labels": self.labels,
            "pooling": self.pooling,
            "max_length": self.max_length,
            "report": self.report,
        }
        write_atomic(folder / "tokenizer.json", self.tokenizer.to_str(pretty=True))
        if config:
            config |= _labels_of(self.labels, self.task)
            held = hf.write(config, held)
            for name, text in _stock_files(self, config).items():
                (folder / name).parent.mkdir(exist_ok=True)
                write_atomic(folder / name, json.dumps(text, indent=1))
        write_atomic(folder / "model.safetensors", to_bytes(held, {"format": "pt"}))
        write_atomic(folder / "bertsmith.json", json.dumps(about, indent=1))


def load(source: str | Path, revision: str = "") -> Model:
    """Open a directory, ours or Hugging Face's, or "org/name" from the hub's local cache (see `hf.hub`).

    Raises:
        FileNotFoundError: nothing is there. ValueError: it is there and cannot be opened, and why; pickled weights are
            never read. KeyError: tensors are missing, too many, or of another shape.
    """
    if str(source) == "small":
        raise FileNotFoundError(
            "no encoder ships with bertsmith yet: pre-train one (bertsmith pretrain), or open a directory"
        )
    folder = hub.find(source, revision)
    if (folder / "bertsmith.json").exists():
        return _load_ours(folder)
    if not (folder / "config.json").exists():
        raise ValueError(f"{folder} has neither bertsmith.json nor config.json: it is not a model's directory")
    config = json.loads((folder / "config.json").read_text())
    hf.family_of(config)  # a type that we do not open is said before its weights are looked for
    spec, head_spec, held = hf.read(config, _weights(folder))
    names = [v for _, v in sorted(((int(k), v) for k, v in (config.get("id2label") or {}).items()))]
    labels, task = names, None
    if head_spec is not None and head_spec.kind in ("linear", "token"):
        count = len(held["head.out.bias"])
        labels = names if len(names) == count else [f"LABEL_{i}" for i in range(count)]
        if head_spec.kind == "linear":
            task = bert_task(config, count)
    else:
        labels = []
    model = _assemble(spec, [], head_spec, held, load_tokenizer(folder), task, labels, max(len(labels), 0))
    model.pooling, model.origin = _pooling(folder), config
    model.max_length = _max_length(folder, spec)
    return model


def bert_task(config: dict[str, Any], outputs: int) -> Spec:
    """The task of a stock classifier, from its `problem_type`."""
    kinds = {"regression": "regression", "single_label_classification": "single_label",
             "multi_label_classification": "multi_label"}  # fmt: skip
    guess = "regression" if outputs == 1 else "single_label"
    return Spec.from_dict({"kind": f"task/{kinds.get(config.get('problem_type') or '', guess)}"})


def _load_ours(folder: Path) -> Model:
    about = json.loads((folder / "bertsmith.json").read_text())
    if about["format"] > FORMAT:
        raise ValueError(
            f"{folder} has format {about['format']}; this bertsmith reads up to {FORMAT}: install a newer one"
        )
    spec, changes, head_spec, task = (from_plain(about[k]) for k in ("encoder", "changes", "head", "task"))
    held = _weights(folder)
    config: dict[str, Any] = {}
    if about["names"] == "transformers":
        config = json.loads((folder / "config.json").read_text())
        held = hf.read(config, held)[2]
    outputs = task.build(about["labels"]).outputs if task else len(about["labels"])
    model = _assemble(spec, changes, head_spec, held, load_tokenizer(folder), task, about["labels"], outputs)
    model.pooling, model.max_length, model.report = about["pooling"], about["max_length"], about["report"]
    model.origin = config
    return model


def _assemble(spec: Spec, changes: list, head_spec: Spec | None, held: dict[str, Tensor], tokenizer: Tokenizer,
              task: Spec | None, labels: list[str], outputs: int) -> Model:  # fmt: skip
    encoder = spec.build()
    apply_changes(encoder, changes)
    bundle = Bundle(encoder, head_spec.build(encoder, outputs) if head_spec else None)
    load_tensors(bundle, held)
    return Model(spec, bundle, tokenizer, head_spec, task, labels, max_length=_longest(spec))


def _weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a directory's safetensors files; never a pickle."""
    index = folder / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.exists():
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    if not all((folder / n).exists() for n in names):
        if list(folder.glob("*.bin")):
            raise ValueError(
                f"{folder} has pickled weights only, which can run code when opened. Convert them where you trust them: "
                f'python -c "from transformers import AutoModel as A; '
                f"A.from_pretrained('{folder}').save_pretrained('{folder}-safe')\""
            )
        raise FileNotFoundError(f"{folder} has no {', '.join(n for n in names if not (folder / n).exists())}")
    held = {}
    for name in names:
        with safe_open(folder / name, "pt") as file:
            held |= {k: file.get_tensor(k).float() if file.get_tensor(k).is_floating_point() else file.get_tensor(k)
                     for k in file.keys()}  # fmt: skip # noqa: SIM118
    return held


def _stock_files(model: Model, config: dict[str, Any]) -> dict[str, Any]:
    """What `transformers` and `sentence-transformers` read beside the weights."""
    special = {f"{what}_token": model.tokenizer.id_to_token(i) for what, i in special_ids(model.tokenizer, ()).items()}
    types = model.spec.args["embedding"].args.get("types", 2)
    inputs = ["input_ids", *(["token_type_ids"] if types > 1 else []), "attention_mask"]
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": model.max_length,
        "model_input_names": inputs,
    }
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    return {
        "config.json": config,
        "tokenizer_config.json": about | special,
        "special_tokens_map.json": special,
        "sentence_bert_config.json": {"max_seq_length": model.max_length, "do_lower_case": False},
        "modules.json": [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(modules)
        ],  # fmt: skip
        "1_Pooling/config.json": {"word_embedding_dimension": model.encoder.dim}
        | {theirs: ours == model.pooling for ours, theirs in POOLING.items()},
    }


def _labels_of(labels: list[str], task: Spec | None) -> dict[str, Any]:
    kinds = {"single_label": "single_label_classification", "multi_label": "multi_label_classification"}
    if task is None:
        return {}
    names = labels or ["LABEL_0"]
    about = {"id2label": {str(i): n for i, n in enumerate(names)}, "label2id": {n: i for i, n in enumerate(names)}}
    return about | {"problem_type": kinds.get(task.kind, "regression")}


def _pooling(folder: Path) -> str:
    path = folder / "1_Pooling" / "config.json"
    said = json.loads(path.read_text()) if path.exists() else {}
    return next((ours for ours, theirs in POOLING.items() if said.get(theirs)), "mean")


def _max_length(folder: Path, spec: Spec) -> int:
    path = folder / "sentence_bert_config.json"
    said = json.loads(path.read_text()).get("max_seq_length") if path.exists() else None
    return int(min(said or math.inf, _longest(spec)))


def _longest(spec: Spec) -> int:
    """Tokens of the longest text: the rows of the table of positions, or 8192; an encoder that cuts rows has no end."""
    if "embedding" not in spec.args:
        return 2**24
    position = spec.args["embedding"].args.get("position")
    place = {} if position is None else position.args
    return int(place.get("length", 8192) - place.get("offset", 0))


def _rows(texts: str | Sequence[str]) -> tuple[bool, list[str]]:
    return (True, [texts]) if isinstance(texts, str) else (False, list(texts))
