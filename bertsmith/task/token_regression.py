"""Several numbers for each word: how long a reader looks at it, how hard it is, how loud it is said.

A linear layer on the first token of each word, squared error on standardised targets (`task/regressions`). RoBERTa on
eye-tracking data, Li & Rudzicz 2021, arXiv:2104.07244; mean absolute error and R2 for each number as in Madhavan et
al. 2021, arXiv:2110.04475.

B rows of the batch, T places, N words that are asked, K numbers.
"""

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from bertsmith.align import Aligned
from bertsmith.coding import Coder, Row
from bertsmith.head import head as heads
from bertsmith.metric import metric
from bertsmith.scores import Scores
from bertsmith.spec import Spec
from bertsmith.task import Prediction, Task
from bertsmith.task import task as tasks
from bertsmith.wordrows import first_tokens, word_windows, words_of


class TokenRegression(Task):
    """A raw label is, of each word, a list of K numbers (None: not known), or one number where K is 1. The words are the
    second text of an example, as spans. Texts longer than a row are cut into windows.

    A word that the tokenizer keeps nothing of is said to have the mean of the training words.

    Args:
        targets: names of the numbers; "value_1", ... where none are given.
        mean, scale: of each of the training targets.
        stride: tokens that neighbouring windows share.
    """

    floor = "rmse"
    paper = "arXiv:2104.07244"
    fields: ClassVar[dict[str, str]] = {"target": "token"}

    def __init__(
        self,
        labels: list[str],
        *,
        targets: list[str] = [],  # noqa: B006
        mean: list[float] = [],  # noqa: B006
        scale: list[float] = [],  # noqa: B006
        stride: int = 32,
    ) -> None:
        super().__init__(labels)
        self.targets, self.stride = targets, stride
        self.numbers = tasks("regressions", mean=mean, scale=scale).build(labels)

    def head(self) -> Spec:
        return heads("token")

    def names(self, raw: list[Any]) -> list[str]:
        found = self.numbers.names([x for one in raw for x in numbers(one)])
        if self.targets and len(self.targets) != len(found):
            raise ValueError(f"task/token_regression: {len(found)} numbers a word, but targets={self.targets}")
        return self.targets or found

    def settled(self, raw: list[Any]) -> dict[str, Any]:
        return self.numbers.settled([x for one in raw for x in numbers(one)])

    def rows(self, coder: Coder, texts: list[str], pairs: list[Any] | None, raw: list[Any] | None) -> list[Row]:
        found, words = [], words_of(texts, pairs)
        for i, aligned, codes in word_windows(coder, texts, words, self.stride):
            value_WK = None if raw is None else self._values(raw[i], aligned, i)
            for r, code in enumerate(codes):
                marks, target = {"first": first_tokens(aligned, r)}, {}
                if value_WK is not None:
                    target_TK = torch.full((len(code), len(self.labels)), torch.nan)
                    at = [t for t, w in enumerate(aligned.begins[r]) if w >= 0]
                    target_TK[at] = value_WK[[aligned.begins[r][t] for t in at]]
                    target = {"target": target_TK}
                found.append(Row(i, [code], target, marks, (aligned, r)))
        return found

    def _values(self, raw: Any, aligned: Aligned, text: int) -> Tensor:
        """The numbers of each word that is among the tokens; those of the first of the words that share a place."""
        given = numbers(raw)
        if len(given) != len(aligned.of):
            raise ValueError(
                f"text {text} has {len(aligned.of)} words, but numbers for {len(given)}: give the words beside the text"
            )
        value_WK = torch.full((len(aligned.words), len(self.labels)), torch.nan)
        for number in reversed(range(len(given))):
            if aligned.of[number] >= 0:
                if len(given[number]) != len(self.labels):
                    raise ValueError(f"text {text}: {len(given[number])} numbers for a word, not {len(self.labels)}")
                value_WK[aligned.of[number]] = self.numbers.encode([given[number]])[0]
        return value_WK

    def ask(self, logits: Tensor, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        target_BTK = batch["target"]
        asked_BT = (batch["layout"].extra["first"] > 0) & ~target_BTK.isnan().all(-1)
        return logits[asked_BT], target_BTK[asked_BT]

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return self.numbers.loss(logits, target)

    def kl(self, one: Tensor, two: Tensor, target: Tensor) -> Tensor:
        return self.numbers.kl(one, two, target)

    def part(self, logits: Tensor, row: Row) -> tuple[Aligned, np.ndarray]:
        """(words of the text, the numbers at each token of the window)."""
        return row.note[0], self.numbers.predicted(logits)

    def answers(self, parts: list[list[Any]]) -> list[Prediction]:
        one = len(self.labels) == 1
        return [Prediction((found[:, 0] if one else found).tolist()) for found in self.read(parts)]

    def read(self, parts: list[list[Any]]) -> list[np.ndarray]:
        found = []
        for windows in parts:
            aligned: Aligned = windows[0][0]
            mean_K = self.numbers.predicted(torch.zeros(1, len(self.labels)))[0]
            value_WK = aligned.gather([value_TK for _, value_TK in windows])
            found.append(np.array([value_WK[w] if w >= 0 else mean_K for w in aligned.of]).reshape(-1, len(mean_K)))
        return found

    def truth(self, raw: list[Any]) -> list[np.ndarray]:
        K = len(self.labels)
        return [self.numbers.true(self.numbers.encode(numbers(one))).reshape(-1, K) for one in raw]

    def constant(self, raw: list[Any], count: int) -> list[np.ndarray]:
        return [np.nanmean(np.concatenate(self.truth(raw)), 0, keepdims=True)] * count

    def metrics(self) -> Scores:
        """Means over the numbers, then each by itself: "mae", ..., "mae_nFix"."""
        K = len(self.labels)
        made = {name: metric("words", inner=metric("columns", inner=metric(name))) for name in ("rmse", "mae", "r2")}
        for k, label in enumerate(self.labels if K > 1 else []):
            made |= {f"{name}_{label}": metric("words", inner=metric(name), column=k) for name in ("mae", "r2")}
        return Scores({name: spec.build(K) for name, spec in made.items()})


def numbers(raw: Any) -> list[list[Any]]:
    """The numbers of each word. ValueError for what is no list."""
    if isinstance(raw, str) or not isinstance(raw, list | tuple | np.ndarray):
        raise ValueError(
            f"a list of numbers, or of lists of numbers, for each word of a text is wanted; got {raw!r:.80}"
        )
    return [list(x) if isinstance(x, list | tuple | np.ndarray) else [x] for x in raw]
