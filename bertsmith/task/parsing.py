"""Dependency trees over words: which word each depends on, and how. Universal Dependencies and its kin.

    L = mean cross-entropy of the heads + mean cross-entropy of the relations at the true heads

The first token of a word stands for it, the first token of the text for the root. What is said is the best tree by the sum of
log p(head), and at each of its heads the likeliest relation. Dozat & Manning 2016, arXiv:1611.01734; on BERT in the evaluations
of SciBERT, Beltagy et al. 2019, arXiv:1903.10676, and of BERTu, Micallef et al. 2022, arXiv:2205.10517.

B rows of the batch, T places, N words that are asked, R relations.
"""

from collections import Counter
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from bertsmith.chain import NEVER
from bertsmith.coding import Coder, Row
from bertsmith.head import head as heads
from bertsmith.metric import metric
from bertsmith.scores import Scores
from bertsmith.spec import Spec
from bertsmith.task import Prediction, Task
from bertsmith.trees import best_tree
from bertsmith.wordrows import first_tokens, word_windows, words_of

ROOT = "root"  # the relation of what depends on nothing, where there is one of this name


class Parsing(Task):
    """A raw label is a tree: of each word (number of its head from 1, 0 for the root, None for "not asked"; relation). The
    words are the second text of an example, as spans.

    Texts longer than a row are cut: words beyond it are said to depend on the word before. So are words that the tokenizer
    keeps nothing of; words that share a place ("du" for "de le") get the head of the first.

    Args:
        skip: relations whose words are not scored (["punct"]).
        subtypes: "nsubj:pass" is scored as another relation than "nsubj".
    """

    floor = "las"
    paper = "arXiv:1611.01734"
    fields: ClassVar[dict[str, str]] = {"head": "token", "relation": "token"}

    def __init__(self, labels: list[str], *, skip: list[str] = [], subtypes: bool = True) -> None:  # noqa: B006
        super().__init__(labels)
        self.skip, self.subtypes = skip, subtypes

    def head(self) -> Spec:
        return heads("biaffine")

    def names(self, raw: list[Any]) -> list[str]:
        return sorted({relation for one in raw for head, relation in tree_of(one) if head is not None})

    def rows(self, coder: Coder, texts: list[str], pairs: list[Any] | None, raw: list[Any] | None) -> list[Row]:
        words = words_of(texts, pairs)
        found = []
        for i, aligned, codes in word_windows(coder, texts, words, 0):
            read = coder.one_window(i, codes, 0)
            token = {w: t for t, w in enumerate(aligned.begins[0]) if w >= 0}
            # of each given word the token that stands for it, if it is in the row
            at = [token.get(w) for w in aligned.of]
            target = {} if raw is None else self._targets(raw[i], at, len(read), i)
            found.append(Row(i, [read], target, {"first": first_tokens(aligned, 0)}, at))
        return found

    def _targets(self, raw: Any, at: list[int | None], size: int, text: int) -> dict[str, Tensor]:
        tree = tree_of(raw)
        if len(tree) != len(at):
            raise ValueError(
                f"text {text} has {len(at)} words, but its tree {len(tree)}: give the words beside the text"
            )
        head_T, relation_T = torch.full((size,), -100), torch.full((size,), -100)
        for (head, relation), token in zip(tree, at, strict=True):
            if head is None or token is None or head_T[token] >= 0:
                continue
            if not 0 <= head <= len(at):
                raise ValueError(f"text {text}: head {head} is no word of the {len(at)} that it has")
            if relation not in self.labels:
                raise ValueError(f"no relation {relation!r}; there are: {', '.join(map(repr, self.labels))}")
            to = 0 if head == 0 else at[head - 1]
            if to is not None and to != token:  # its head was not cut off, and is not at its own place
                head_T[token], relation_T[token] = to, self.labels.index(relation)
        return {"head": head_T, "relation": relation_T}

    def ask(self, logits: Tensor, batch: dict[str, Any]) -> tuple[Any, Any]:
        layout, head_BT = batch["layout"], batch["head"].long()
        self._check(logits)
        row_N, token_N = (head_BT >= 0).nonzero().T
        # the places of a document in its row count from its first token
        start_N = token_N - layout.position_BT[row_N, token_N]
        head_N = head_BT[row_N, token_N] + start_N
        may_BT = (layout.extra["first"] > 0) | (layout.position_BT == 0)
        arc_NT = logits[row_N, token_N, :, 0]
        here_NT = may_BT[row_N] & (torch.arange(arc_NT.shape[1], device=arc_NT.device) != token_N[:, None])
        asked = {"head": torch.where(here_NT, arc_NT, NEVER), "relation": logits[row_N, token_N, head_N, 1:]}
        return asked, {"head": head_N, "relation": batch["relation"].long()[row_N, token_N]}

    def _check(self, logits: Tensor) -> None:
        if logits.dim() != 4 or logits.shape[-1] != 1 + len(self.labels):
            raise ValueError(
                f"task/parsing needs a head that scores each two tokens, one number for the arc and {len(self.labels)} for "
                f"its relation, such as head/biaffine; it was given {list(logits.shape)}"
            )

    def loss(self, logits: Any, target: Any) -> Tensor:
        each = [F.cross_entropy(logits[what].float(), target[what], reduction="sum") for what in ("head", "relation")]
        return (each[0] + each[1]) / max(1, len(target["head"]))

    def kl(self, one: Any, two: Any, target: Any) -> Tensor:
        return super().kl(one["head"], two["head"], target["head"]) + super().kl(
            one["relation"], two["relation"], target["relation"]
        )

    def part(self, logits: Tensor, row: Row) -> list[tuple[int, str]]:
        """The tree of one text."""
        at: list[int | None] = row.note
        self._check(logits[None])
        number: dict[int, int] = {}  # of tokens: the first word that they stand for, from 1
        for word, token in enumerate(at, 1):
            if token is not None:
                number.setdefault(token, word)
        tokens = [0, *number]
        score_NNK = logits[tokens][:, tokens].float()
        arc_NN = score_NNK[..., 0].masked_fill(torch.eye(len(tokens), dtype=torch.bool), NEVER).log_softmax(-1)
        tree = best_tree(arc_NN.numpy())
        relation_NNR = score_NNK[..., 1:].clone()
        if ROOT in self.labels:  # at the root and nowhere else
            root_R = torch.arange(len(self.labels)) == self.labels.index(ROOT)
            relation_NNR[:, 0] = relation_NNR[:, 0].masked_fill(~root_R, -torch.inf)
            if len(self.labels) > 1:
                relation_NNR[:, 1:] = relation_NNR[:, 1:].masked_fill(root_R, -torch.inf)
        word = [0, *number.values()]
        said = {
            token: (word[head], self.labels[int(relation_NNR[n, head].argmax())])
            for n, (token, head) in enumerate(zip(number, tree, strict=True), 1)
        }
        return [said[t] if t is not None else (i, "") for i, t in enumerate(at)]

    def answers(self, parts: list[list[Any]]) -> list[Prediction]:
        return [Prediction(tree) for (tree,) in parts]

    def read(self, parts: list[list[Any]]) -> list[Any]:
        return [relative(tree) for (tree,) in parts]

    def truth(self, raw: list[Any]) -> list[Any]:
        return [relative(tree_of(one)) for one in raw]

    def constant(self, raw: list[Any], count: int) -> list[Any]:
        """Every word depends in the commonest way on the word that lies as far away as heads in this way mostly do."""
        found = Counter(pair for one in self.truth(raw) for pair in one if pair[0] is not None)
        return [[pair for pair, _ in found.most_common(1)]] * count

    def metrics(self) -> Scores:
        settings: dict[str, Any] = {"subtypes": self.subtypes, "skip": self.skip}
        made = {name: metric("uas_las", labelled=name == "las", **settings) for name in ("las", "uas")}
        return Scores({name: metric("words", inner=spec).build(0) for name, spec in made.items()})


def tree_of(raw: Any) -> list[tuple[int | None, str]]:
    """A tree as it may be written. ValueError for what is none."""
    try:
        return [(None if head is None else int(head), str(relation)) for head, relation in raw]
    except (TypeError, ValueError):
        raise ValueError(f"a tree is (number of the head, relation) for each word; got {raw!r:.80}") from None


def relative(tree: list[tuple[int | None, str]]) -> list[tuple[int | None, str]]:
    """How far away each head is, 0 for the root: so one answer can be said of words anywhere."""
    return [(head and head - own, relation) for own, (head, relation) in enumerate(tree, 1)]
