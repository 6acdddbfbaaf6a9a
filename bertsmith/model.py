"""A trained encoder as its users see it: open, use, save."""

import copy
import json
import lzma
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save as to_bytes
from tokenizers import Encoding, Tokenizer
from torch import Tensor, nn

from bertsmith import hf
from bertsmith.checkpoint import Trained
from bertsmith.coding import Coder, Flat, OnLong, Row, batches, by_row
from bertsmith.doctor import threads
from bertsmith.encoder import Encoder
from bertsmith.engine import Engine, Precision
from bertsmith.files import write_atomic
from bertsmith.head import Head
from bertsmith.hf import hub
from bertsmith.jieba import from_text, to_text
from bertsmith.kernels import undrawn
from bertsmith.layout import Layout
from bertsmith.learner import build
from bertsmith.linear import apply_changes, load_tensors, places_taken, tensors
from bertsmith.pool import pool as pools
from bertsmith.spec import Spec, from_plain, to_plain
from bertsmith.tags import parse, tag_names
from bertsmith.task import Prediction, Task
from bertsmith.task import task as tasks
from bertsmith.tokenizer.load import load_tokenizer
from bertsmith.tokenizer.roles import shown, special_ids

FORMAT = 1
ASSETS = Path(__file__).parent / "assets"
PROBES, EXAMPLES = 300, 1000  # texts in the box that the engine measures by, and that 8-bit weights are fitted to
SLICE, FEW = 4096, 64  # texts that are tokenized at once; fewer are not worth asking for a second thread
BATCH_TOKENS = 8192  # places in a batch of inference, padding included
TASKS = {"span": "extractive_qa", "context_span": "extractive_qa", "choice": "multiple_choice"}  # of stock heads
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
        said_pooling: the pooling that it says that it was trained with, as directories of sentence-transformers do; "" else.
        max_length: tokens in a text at the most, [CLS] and [SEP] counted; no more than the encoder has places for.
        long: what is done with longer texts: "head", "tail", "head+tail" or "pieces" (see `coding.Coder`).
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
        self.labels, self.pooling, self.cut = labels or [], pooling, 0
        self.max_length = min(max_length, _longest(spec))
        self.report: dict[str, Any] = report or {}
        self.origin: dict[str, Any] = origin or {}
        self.long, self.said_pooling = "head", ""
        self.tokenizer = from_text(to_text(tokenizer))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self._engine: Engine | None = None

    @classmethod
    def of(cls, now: Trained, objective: Spec, tokenizer: Tokenizer, task: Spec | None = None,
           labels: list[str] | None = None) -> "Model":  # fmt: skip
        """What a run has trained: its encoder, and the head that its objective ships."""
        learner = build(now.encoder, now.changes, objective, 0, known=now.tensors)
        load_tensors(learner, now.tensors)
        shipped = learner.objective
        bundle = Bundle(learner.encoder, shipped.head)
        longest = _longest(now.encoder) - places_taken(learner.encoder)
        return cls(now.encoder, bundle, tokenizer, shipped.head_spec, task, labels, max_length=longest)

    @property
    def encoder(self) -> Encoder:
        return self.bundle.encoder

    @property
    def head(self) -> Any:
        return self.bundle.head

    @property
    def engine(self) -> Engine:
        """What runs the encoder for texts of up to max_length tokens."""
        if self._engine is None or self._engine.longest != self.max_length:
            self._engine = Engine(self.encoder, self.max_length, self._probes, self._examples)
        return self._engine

    def run_by(self, engine: Engine) -> None:
        """Have the encoder run by this engine from now on: one that runs others beside it."""
        self._engine = engine

    def _probes(self) -> list[list[int]]:
        """Ids of texts in the box, of many lengths, by which the engine sees what a precision does."""
        return [code.ids for code in self.coder().encode(_texts_in_the_box("heldout", PROBES))]

    def _examples(self) -> Iterator[tuple[Tensor, Layout]]:
        for _, token_BT, layout in self.tokens(_texts_in_the_box("corpus", EXAMPLES)):
            yield token_BT, layout

    def calibrate_int8(self, texts: Sequence[str]) -> str:
        """Fit the 8-bit weights of precision="fast" to texts of one's own: a thousand of them, like those to come.

        They stay in the user's cache, for these weights. Returns what "fast" became. Raises ValueError where the compiled
        encoder does not run this model.
        """
        return self.engine.calibrate((token_BT, layout) for _, token_BT, layout in self.tokens(texts))

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

    def coder(self, max_length: int = 0, on_long: OnLong = "truncate") -> Coder:
        """Its tokenizer, for texts of up to max_length tokens (default, and at the most: the model's)."""
        apart = self.head is not None and self.head.apart
        return Coder(self.tokenizer, min(max_length or self.max_length, self.max_length), on_long, self.long, apart)

    def batches(self, rows: Sequence[Row]) -> Iterator[tuple[list[int], Tensor, Layout]]:
        """Batches of alike lengths within a budget of places: (numbers of the rows, token_BT, layout)."""
        for index, token_BT, layout in batches(rows, special_ids(self.tokenizer, ("pad",))["pad"], BATCH_TOKENS):
            yield index, token_BT.to(self.device), layout.to(self.device)

    def tokens(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        max_length: int = 0,
        on_long: OnLong = "truncate",
    ) -> Iterator[tuple[list[int], Tensor, Layout]]:
        """Batches of texts, or of pairs, each a row of its own: (numbers of the texts, token_BT, layout).

        Raises ValueError if on_long is "error" and a text is longer than max_length (default: the model's).
        """
        coder = self.coder(max_length, on_long)
        coded = [[code] for code in coder.encode(texts)] if pairs is None else coder.documents(texts, pairs)
        rows = [Row(i, codes) for i, codes in enumerate(coded)]
        self.cut = coder.cut
        yield from self.batches(rows)

    @torch.inference_mode()
    def hidden(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """The last states x_BTD of ids_BT, for those who tokenize themselves."""
        keep = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        return self.encoder(input_ids.to(self.device), Layout.padded(keep, token_type_ids).to(self.device))

    def usual_head(self, aim: Task, pool: str = "") -> Spec:
        """The head that a task takes on this encoder where none is named; `pool` says how it makes one vector of a text.

        BERT's pooler, which reads a text's first state, is for encoders that were trained to put something there. On others a
        head takes the mean, or what they say that they were trained with (Sentence-BERT, Reimers & Gurevych 2019,
        arXiv:1908.10084, section 3).

        Raises ValueError for a pool that there is not, or with a head that takes none.
        """
        head, usual = aim.head(), pools("bert")
        where = _pools(head)
        if pool and not where:
            raise ValueError(f"the head of this task, {head.kind}, reads every token and takes no pool ({pool!r})")
        if not pool and not self.said_pooling and self.head_spec and self.head_spec.args.get("pool") == usual:
            return head
        for path in where:
            if pool or head.get(path) == usual:
                head = head.replace(path, pools(pool or self.said_pooling or "mean"))
        return head

    def encode(self, texts: str | Sequence[str], pooling: str = "", max_length: int = 0, normalize: bool = False,
               on_long: OnLong = "truncate", precision: Precision = "default") -> np.ndarray:  # fmt: skip
        """float32 [N, D], in the order given; [D] for one text. pooling: "mean" or "first" (default: the model's).

        precision: what is promised of the vectors: "default", a cosine of 0.9999 to fp32; "exact", fp32 (see `engine`).
        """
        alone, rows = _rows(texts)
        coder = self.coder(max_length, on_long)

        def vectors(some: list[str]) -> np.ndarray:
            flat = coder.flat(some, threads() if len(some) >= FEW else 1)
            return self.pooled(flat, pooling or self.pooling, precision, normalize)

        if len(rows) <= SLICE:
            out = vectors(rows)
        else:
            out = np.empty((len(rows), self.encoder.dim), np.float32)
            for begin in range(0, len(rows), SLICE):
                out[begin : begin + SLICE] = vectors(rows[begin : begin + SLICE])
        self.cut = coder.cut
        return out[0] if alone else out

    def pooled(
        self, texts: Flat, pooling: str, precision: Precision = "default", normalize: bool = False
    ) -> np.ndarray:
        """float32 [N, D] of texts that are tokenized, none longer than the model reads."""
        found = self.engine.pooled(texts.ids, texts.starts, pooling, precision, texts.types, normalize)
        if found is not None:
            return found
        found = self._pooled_by_torch(texts, pooling, precision)
        return unit(found) if normalize else found

    @torch.inference_mode()
    def _pooled_by_torch(self, texts: Flat, pooling: str, precision: Precision) -> np.ndarray:
        method = pools(pooling).build(self.encoder.dim)
        out = np.zeros((len(texts), self.encoder.dim), np.float32)
        for index, token_BT, layout in texts.batches(special_ids(self.tokenizer, ("pad",))["pad"], BATCH_TOKENS):
            token_BT, layout = token_BT.to(self.device), layout.to(self.device)
            out[index] = method(self.engine.states(token_BT, layout, precision), layout).float().cpu().numpy()
        return out

    @overload
    def fill(self, texts: str, top: int = 5, precision: Precision = "default") -> Filled: ...
    @overload
    def fill(self, texts: Sequence[str], top: int = 5, precision: Precision = "default") -> list[Filled]: ...
    def fill(self, texts: str | Sequence[str], top: int = 5, precision: Precision = "default") -> Filled | list[Filled]:
        """The likeliest tokens for every mask ([MASK]; <mask> in RoBERTa's vocabularies).

        Raises ValueError without a masked-LM head, or without a mask.
        """
        alone, rows = _rows(texts)
        coder = self.coder()
        found = self.filled(rows, coder.encode(rows), top, precision)
        self.cut = coder.cut
        return found[0] if alone else found

    @torch.inference_mode()
    def filled(
        self, texts: Sequence[str], codes: Sequence[Encoding], top: int = 5, precision: Precision = "default"
    ) -> list[Filled]:
        """`fill` of texts that are tokenized, none longer than the model reads."""
        if self.head is None or not self.head.speaks:
            raise ValueError(
                "this model has no masked-LM head, so it cannot fill: open a pre-trained one (BertForMaskedLM)"
            )
        mask_id = special_ids(self.tokenizer, ("mask",))["mask"]
        mask = self.tokenizer.id_to_token(mask_id) or ""
        found: dict[int, Filled] = {}
        for index, token_BT, layout in self.batches([Row(i, [code]) for i, code in enumerate(codes)]):
            x_BTD = self.engine.states(token_BT, layout, precision)
            for row, i in enumerate(index):
                places = (token_BT[row] == mask_id).nonzero()[:, 0]
                if not len(places):
                    raise ValueError(f"text {i} has no {mask} (or it was cut off): {texts[i]!r:.80}")
                best = self.head.logits(x_BTD[row, places], layout).float().softmax(-1).topk(top)
                guesses = [
                    [Guess(shown(self.tokenizer, t), p) for t, p in zip(ids, ps, strict=True)]
                    for ids, ps in zip(best.indices.tolist(), best.values.tolist(), strict=True)
                ]
                text = texts[i]
                for g in guesses:
                    text = text.replace(mask, g[0].token, 1)
                found[i] = Filled(text, guesses)
        return [found[i] for i in range(len(texts))]

    @torch.inference_mode()
    def logits(self, texts: Sequence[str], pairs: Sequence[str] | None = None, max_length: int = 0,
               on_long: OnLong = "truncate",
               precision: Precision = "default") -> Iterator[tuple[list[int], Tensor]]:  # fmt: skip
        """Batches of (numbers of the texts, logits), in no promised order."""
        if self.head is None:
            raise ValueError("this model has no head: fine-tune it first (bertsmith finetune MODEL FILE)")
        for index, token_BT, layout in self.tokens(texts, pairs, max_length, on_long):
            yield index, self.head(self.engine.states(token_BT, layout, precision), layout).float().cpu()

    @torch.inference_mode()
    def parts(
        self, task: Task, rows: Sequence[Row], precision: Precision = "default"
    ) -> Iterator[tuple[int, list[Any]]]:
        """(number of the example, what the task keeps of each of its rows), an example as soon as all its rows are read.

        Raises ValueError if there is no head.
        """
        of: dict[int, list[int]] = {}
        for number, row in enumerate(rows):
            of.setdefault(row.example, []).append(number)
        kept: dict[int, Any] = {}
        for index, token_BT, layout in self.batches(rows):
            now = [rows[i] for i in index]
            parts = self.read(task, now, self.engine.states(token_BT, layout, precision), layout)
            for i, row, part in zip(index, now, parts, strict=True):
                kept[i] = part
                if all(n in kept for n in of[row.example]):
                    yield row.example, [kept.pop(n) for n in of[row.example]]

    def read(self, task: Task, rows: Sequence[Row], x_BTD: Tensor, layout: Layout) -> list[Any]:
        """What the task keeps of each row of a batch, of its states. Raises ValueError if there is no head."""
        if self.head is None:
            raise ValueError("this model has no head: fine-tune it first (bertsmith finetune MODEL FILE)")
        logits = self.head(x_BTD, layout).float().cpu()
        return [task.part(one, row) for one, row in zip(by_row(logits, rows, self.head.each), rows, strict=True)]

    def predict(self, texts: str | Sequence[str], pairs: Any = None, on_long: OnLong = "truncate",
                precision: Precision = "default") -> Prediction | list[Prediction]:  # fmt: skip
        """One Prediction for one text, a list for a list. Raises ValueError if the model was not fine-tuned.

        Args:
            pairs: the second text of each, where the task is about two; for one text, its own.
        """
        if self.task is None:
            raise ValueError(
                "this model was not fine-tuned for a task: bertsmith.finetune(model, table) makes one that was"
            )
        alone, given = _rows(texts)
        seconds = None if pairs is None else [pairs] if alone else list(pairs)
        task, coder = self.task.build(self.labels), self.coder(0, on_long)
        rows = task.rows(coder, given, seconds, None)
        self.cut = coder.cut
        found = dict(self.parts(task, rows, precision))
        answers = task.answers([found[i] for i in range(len(given))]) if given else []
        return answers[0] if alone else answers

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
            "long": self.long,
            "report": self.report,
        }
        write_atomic(folder / "tokenizer.json", to_text(self.tokenizer, pretty=True))
        if config:
            config |= _labels_of(self.labels, self.task)
            held = hf.write(config, held)
            for name, text in _stock_files(self, config).items():
                (folder / name).parent.mkdir(exist_ok=True)
                write_atomic(folder / name, json.dumps(text, indent=1))
        write_atomic(folder / "model.safetensors", to_bytes(held, {"format": "pt"}))
        write_atomic(folder / "bertsmith.json", json.dumps(about, indent=1))


def unit(vector_ND: np.ndarray) -> np.ndarray:
    """Every vector one long; a vector of zeros stays one."""
    return vector_ND / np.maximum(np.linalg.norm(vector_ND, axis=1, keepdims=True), 1e-12)


def _texts_in_the_box(name: str, count: int) -> list[str]:
    """Pieces of the books that come with bertsmith: of 20 to 240 characters, and every 24th longer than most encoders read."""
    lines = lzma.decompress((ASSETS / f"{name}.txt.xz").read_bytes()).decode().splitlines()
    lines = [line for line in lines if len(line) > 60]
    return [
        " ".join(lines[i : i + 12]) if i % 24 == 23 else line[: 20 * (1 + i % 12)]
        for i, line in enumerate(lines[:count])
    ]


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
        elif (found := tagging_of(labels)) is not None:
            task, labels = found
    else:
        labels = []
        task = tasks(TASKS[head_spec.kind]) if head_spec is not None and head_spec.kind in TASKS else None
    outputs = task.build(labels).outputs if task else len(labels)
    model = _assemble(spec, [], head_spec, held, load_tokenizer(folder), task, labels, outputs)
    model.said_pooling, model.origin = _pooling(folder), config
    model.pooling = model.said_pooling or "mean"
    model.max_length = _max_length(folder, spec, config)
    return model


def bert_task(config: dict[str, Any], outputs: int) -> Spec:
    """The task of a stock classifier, from its `problem_type`."""
    kinds = {"regression": "regression", "single_label_classification": "single_label",
             "multi_label_classification": "multi_label"}  # fmt: skip
    guess = "regression" if outputs == 1 else "single_label"
    return Spec.from_dict({"kind": f"task/{kinds.get(config.get('problem_type') or '', guess)}"})


def tagging_of(names: list[str]) -> tuple[Spec, list[str]] | None:
    """The task of a stock token classifier and its labels, from the names of its tags; None if these are no tags."""
    scheme = next((s for s in ("bio", "bilou", "io", "word") if _are_tags(names, s)), None)
    if scheme is None:
        return None
    labels = list(dict.fromkeys(label for name in names if (label := parse(name, scheme)[1])))
    said = [] if tag_names(labels, scheme) == names else names
    return tasks("tagging", scheme=scheme, tags=said), labels


def _pools(head: Spec) -> list[str]:
    """Where in a head, and in heads inside it, a pool stands."""
    inner = [f"heads.{name}.{path}" for name, one in head.args.get("heads", {}).items() for path in _pools(one)]
    return [*(["pool"] if "pool" in head.args else []), *inner]


def _are_tags(names: list[str], scheme: str) -> bool:
    """Whether they are tags of a scheme over some labels."""
    try:
        labels = {label for name in names if (label := parse(name, scheme)[1])}
    except ValueError:
        return False
    return bool(labels) and set(names) <= set(tag_names(labels, scheme))


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
    model.long = about.get("long", "head")
    model.origin = config
    return model


def _assemble(spec: Spec, changes: list, head_spec: Spec | None, held: dict[str, Tensor], tokenizer: Tokenizer,
              task: Spec | None, labels: list[str], outputs: int) -> Model:  # fmt: skip
    with undrawn():
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
    one = task.build(labels)
    names = one.output_names or [f"LABEL_{i}" for i in range(one.outputs)]
    about = {"id2label": {str(i): n for i, n in enumerate(names)}, "label2id": {n: i for i, n in enumerate(names)}}
    return about | ({"problem_type": kinds.get(task.kind, "regression")} if one.head().kind == "linear" else {})


def _pooling(folder: Path) -> str:
    """What a directory of sentence-transformers says; "" elsewhere."""
    path = folder / "1_Pooling" / "config.json"
    said = json.loads(path.read_text()) if path.exists() else {}
    return next((ours for ours, theirs in POOLING.items() if said.get(theirs)), "")


def _max_length(folder: Path, spec: Spec, config: dict[str, Any]) -> int:
    """Tokens of the longest text. Encoders without a table of places (RoFormer) have their class's `max_position_embeddings`,
    beyond which other libraries cannot read what was made with them."""
    path = folder / "sentence_bert_config.json"
    said = json.loads(path.read_text()).get("max_seq_length") if path.exists() else None
    return int(min(said or math.inf, config.get("max_position_embeddings") or math.inf, _longest(spec)))


def _longest(spec: Spec) -> int:
    """Tokens of the longest text: the rows of the table of positions, or 8192; an encoder that cuts rows has no end."""
    if "embedding" not in spec.args:
        return 2**24
    position = spec.args["embedding"].args.get("position")
    place = {} if position is None else position.args
    return int(place.get("length", 8192) - place.get("offset", 0))


def _rows(texts: str | Sequence[str]) -> tuple[bool, list[str]]:
    """(whether it is one text alone, the texts). TypeError, naming the first that is none, which is often a gap in a table."""
    rows = [texts] if isinstance(texts, str) else list(texts)
    for i, text in enumerate(rows):
        if not isinstance(text, str):
            raise TypeError(
                f"text {i} is {text!r:.60}, of type {type(text).__name__}, not a string: leave it out or make it one"
            )
    return isinstance(texts, str), rows
