"""New labelled texts out of labelled texts: a masked LM that reads the label fills in some of the tokens anew.

    [CLS] label x_1 ... [MASK] ... x_n [SEP],   x_i ~ p(. | label, the rest)^(1 / T) at a share of the places, all at once

Kumar, Choudhary & Cho 2020, Data Augmentation using Pre-trained Transformer Models, arXiv:2003.02245: the label as text
("prepend") or as a token of its own ("expand"); a seventh of the tokens is filled in anew, as in the authors' code. Beside it
stands what needs no model: words left out, and words that change places; Wei & Zou 2019, EDA, arXiv:1901.11196.

Differs from the paper: places are drawn without replacement and are never [SEP]; special tokens are never filled in; the last
weights are taken, where it takes those of the least loss on a validation set; with "expand" the head of the LM is kept. From
EDA, replacing by synonyms and inserting them are left out, which need WordNet.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer

from bertsmith.coding import Coder, Row
from bertsmith.data import data as datas
from bertsmith.data.table import write_rows
from bertsmith.draw import draw, numpy_rng
from bertsmith.evaluate import score_examples
from bertsmith.examples import Examples
from bertsmith.jieba import from_text, to_text
from bertsmith.linear import tensors
from bertsmith.masking import masking as maskings
from bertsmith.model import Model
from bertsmith.objective import objective as objectives
from bertsmith.optim import optim as optims
from bertsmith.pseudo import evaluating
from bertsmith.resize import resize as resizes
from bertsmith.schedule import schedule as schedules
from bertsmith.task import task as tasks
from bertsmith.tokenizer.roles import special_ids
from bertsmith.train import Run, Stage, train

GIVEN = "given"  # what `objective/conditional_lm` looks for on the layout


@dataclass(frozen=True)
class Writer:
    """A masked LM that was tuned on texts with their labels in front.

    Attributes:
        said: by name of a label, what stands in front of its texts.
    """

    model: Model
    said: dict[str, str]
    max_length: int

    def write(
        self, examples: Examples, count: int = 1, share: float = 1 / 7, temperature: float = 1.0, seed: int = 0
    ) -> Examples:
        """`count` new texts for each, with its label; the originals are not among them.

        Args:
            share: of a text's tokens that are filled in anew, one at least.
            temperature: T; below 1 likelier tokens, above 1 rarer ones.

        Texts come back as the tokenizer writes its tokens: lower case where it knows no other. What is drawn for an example
        depends on the seed, its number and that of the copy alone.
        """
        if count < 1 or not 0 < share <= 1 or temperature <= 0:
            raise ValueError(
                f"count is at least 1, share in (0, 1], temperature above 0; got {count}, {share}, {temperature}"
            )
        model, tokenizer = self.model, self.model.tokenizer
        rows = labelled_rows(tokenizer, examples, self.said, self.max_length)
        many = [row for row in rows for _ in range(count)]
        free = [_free(row) for row in many]
        never = sorted({*tokenizer.get_added_tokens_decoder(), *special_ids(tokenizer, ("mask",)).values()})
        mask, size = special_ids(tokenizer, ("mask",))["mask"], tokenizer.get_vocab_size()
        made = [""] * len(many)
        with evaluating(model):
            for index, token_BT, layout in model.batches(many):
                old_BT, chosen = token_BT.tolist(), {}
                for b, i in enumerate(index):
                    places = numpy_rng(seed, "places", i // count, i % count).permutation(free[i])
                    chosen[b] = np.sort(places[: max(1, round(share * len(free[i])))])
                    token_BT[b, torch.from_numpy(chosen[b])] = mask
                x_BTD = model.encoder(token_BT, layout)
                for b, i in enumerate(index):
                    ids = old_BT[b]
                    if len(free[i]):
                        h_ND = x_BTD[b, torch.from_numpy(chosen[b]).to(x_BTD.device)]
                        logits_NV = model.head.logits(h_ND, layout).float().cpu() / temperature
                        logits_NV[:, never], logits_NV[:, size:] = -torch.inf, -torch.inf
                        rng = torch.Generator().manual_seed(draw(seed, "fill", i // count, i % count))
                        new = torch.multinomial(logits_NV.softmax(-1), 1, generator=rng)[:, 0].tolist()
                        for place, token in zip(chosen[b].tolist(), new, strict=True):
                            ids[place] = token
                    made[i] = tokenizer.decode([ids[place] for place in free[i]], skip_special_tokens=False).strip()
        return Examples(made, None, [label for label in examples.label for _ in range(count)])


def learn(
    model: Model,
    examples: Examples,
    how: str = "prepend",
    epochs: int = 10,
    lr: float = 4e-5,
    batch: int = 8,
    max_length: int = 64,
    seed: int = 0,
    progress: bool = True,
) -> Writer:
    """Tune a copy of a masked LM on texts with their labels in front, which are never hidden.

    Args:
        how: "prepend", the label's name as text; "expand", a new token for each label.

    Raises ValueError for pairs, a model without a masked-LM head, or labels that are the same tokens as text.
    """
    if how not in ("prepend", "expand"):
        raise ValueError(f"no way {how!r} to say a label; there are: prepend, expand")
    if model.head is None or not model.head.speaks:
        raise ValueError("this model has no masked-LM head: open a pre-trained one (BertForMaskedLM)")
    names = tasks("single_label").build([]).names(examples.label)
    said, tokenizer = {name: name for name in names}, from_text(to_text(model.tokenizer))
    if how == "expand":
        said = {name: f"[={name}]" for name in names}
        # a space behind it belongs to it, so that the text begins as it would alone
        tokenizer.add_tokens([AddedToken(token, normalized=False, rstrip=True) for token in said.values()])
    _check_apart(tokenizer, said)
    vocab = model.spec.get("embedding.vocab")
    more = max(0, tokenizer.get_vocab_size() - vocab)
    ids = special_ids(tokenizer, ("mask",))
    plain = objectives(
        "masked_lm",
        masking=maskings("bert"),
        mask_id=ids["mask"],
        special=sorted(ids.values()),
        head=model.head_spec,
    )
    objective = objectives("conditional_lm", inner=plain)
    start = model.trained()
    head = {k: v for k, v in tensors(model.bundle).items() if k.startswith("head.")}
    start.tensors |= {f"objective.{k}": v.detach().float().cpu().clone() for k, v in head.items()}
    rows = labelled_rows(tokenizer, examples, said, min(max_length, model.max_length))
    with tempfile.TemporaryDirectory(prefix="bertsmith-") as folder:
        path = Path(folder) / "rows.safetensors"
        write_rows(path, rows, {})
        stage = Stage(
            objective,
            datas("table", path=str(path), rows=batch, seed=seed),
            budget=f"{epochs * -(-len(rows) // batch)}-steps",
            optim=optims("adamw", lr=lr),
            schedule=schedules("linear", warmup=0.1),
            resize=[resizes("tokens", count=more)] if more else [],
        )
        run = Run(model.spec, [stage], seed=seed, workers=0, save_seconds=3600.0)
        now = train(run, Path(folder) / "run", start=start, progress=progress)
    tuned = Model.of(now, objective, tokenizer)
    tuned.pooling, tuned.max_length = model.pooling, model.max_length
    return Writer(tuned, said, min(max_length, model.max_length))


def labelled_rows(tokenizer: Tokenizer, examples: Examples, said: dict[str, str], max_length: int) -> list[Row]:
    """A row for each text with its label in front, whose tokens have the mark "given".

    Raises ValueError for pairs, or a label that was not learnt.
    """
    if examples.pair is not None:
        raise ValueError("texts are written anew one by one; these are pairs")
    one = tasks("single_label").build([])
    fronts = []
    for label in examples.label:
        (name,) = one.names([label])
        if name not in said:
            raise ValueError(f"no label {name!r} was learnt; there are: {', '.join(said)}")
        fronts.append(said[name])
    texts = [f"{front} {text}" for front, text in zip(fronts, examples.text, strict=True)]
    rows = []
    for i, code in enumerate(Coder(tokenizer, max_length).encode(texts)):
        # by where a token begins: a space behind a label may belong to it
        inside = [
            start < len(fronts[i]) and not special
            for (start, _), special in zip(code.offsets, code.special_tokens_mask, strict=True)
        ]
        rows.append(Row(i, [code], {}, {GIVEN: torch.tensor(inside, dtype=torch.int64)}, code.special_tokens_mask))
    return rows


def _free(row: Row) -> list[int]:
    """The places of the text's own tokens."""
    return [
        p for p, (given, s) in enumerate(zip(row.marks[GIVEN].tolist(), row.note, strict=True)) if not given and not s
    ]


def _check_apart(tokenizer: Tokenizer, said: dict[str, str]) -> None:
    """Raise ValueError where two labels cannot be told apart by their tokens."""
    seen: dict[tuple[int, ...], str] = {}
    for name, front in said.items():
        ids = tuple(tokenizer.encode(front, add_special_tokens=False).ids)
        if ids in seen:
            raise ValueError(
                f"the labels {seen[ids]!r} and {name!r} are the same tokens for this tokenizer: how='expand' gives each its own"
            )
        seen[ids] = name


def eda(examples: Examples, count: int = 1, share: float = 0.1, seed: int = 0) -> Examples:
    """`count` new texts for each by EDA's random deletion and random swap, in turn; words are what spaces part.

    Args:
        share: the probability with which a word is left out, and the share of the words that are swapped (one pair at least).
    """
    made = []
    for i, text in enumerate(examples.text):
        for copy in range(count):
            words, rng = text.split(), numpy_rng(seed, "eda", i, copy)
            made.append(" ".join(swapped(words, share, rng) if copy % 2 else deleted(words, share, rng)))
    pair = None if examples.pair is None else [p for p in examples.pair for _ in range(count)]
    return Examples(made, pair, [label for label in examples.label for _ in range(count)])


def deleted(words: list[str], share: float, rng: np.random.Generator) -> list[str]:
    """Each word is left out with a probability of `share`; one stays at least."""
    stays = rng.random(len(words)) >= share
    if words and not stays.any():
        stays[rng.integers(len(words))] = True
    return [word for word, stay in zip(words, stays, strict=True) if stay]


def swapped(words: list[str], share: float, rng: np.random.Generator) -> list[str]:
    """Two words change places, round(share * words) times, once at least."""
    words = list(words)
    for _ in range(max(1, round(share * len(words))) if len(words) > 1 else 0):
        a, b = rng.choice(len(words), 2, replace=False)
        words[a], words[b] = words[b], words[a]
    return words


def diversity(originals: list[str], new: list[str], longest: int = 3) -> dict[str, float]:
    """How varied new texts are; words are what spaces part.

    Returns:
        "ratio_n": n-grams that differ, by all n-grams of the new texts (type-token ratio); "new_n": of those that differ, the
        share that no original has; n = 1 ... longest. "changed": the share of texts that are no original.
    """
    found: dict[str, float] = {}
    for n in range(1, longest + 1):
        old, all_new = ([g for text in texts for g in _grams(text.split(), n)] for texts in (originals, new))
        types = set(all_new)
        found[f"ratio_{n}"] = len(types) / max(1, len(all_new))
        found[f"new_{n}"] = len(types - set(old)) / max(1, len(types))
    known = {" ".join(text.split()) for text in originals}
    return found | {"changed": sum(" ".join(text.split()) not in known for text in new) / max(1, len(new))}


def _grams(words: list[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def preserved(classifier: Model, examples: Examples, max_length: int = 128) -> float:
    """The share of texts that a classifier, trained on real ones, gives the label that they were written for.

    Raises ValueError for a model that was not tuned to tell one label of a text.
    """
    if classifier.task is None or classifier.task.kind != "single_label":
        raise ValueError("labels are compared by a model that was fine-tuned to give one label (task single_label)")
    value = score_examples(classifier, classifier.task.build(classifier.labels), examples, max_length).value()[
        "accuracy"
    ]
    assert value is not None
    return value


def together(*parts: Examples) -> Examples:
    """Examples one behind another: the originals and what was made of them. Raises ValueError where only some are pairs."""
    if len({part.pair is None for part in parts}) > 1:
        raise ValueError("some of these examples are pairs, some are not")
    pairs = [p for part in parts for p in part.pair or []]
    return Examples(
        [text for part in parts for text in part.text],
        pairs or None,
        [label for part in parts for label in part.label],
    )
