"""Every word gets the tag that it most often has in training: what a tagger must beat.

Charniak et al. 1993, Equations for part-of-speech tagging (AAAI), section 2: nine of ten parts of speech are right so. A word
that was not seen is looked up in small letters, then gets the tag that words seen once most often have. No library is needed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np

from bertsmith.baseline import Baseline
from bertsmith.examples import Examples
from bertsmith.frozen import Frozen
from bertsmith.tags import disjoint, snap, to_spans, to_tags
from bertsmith.task import Task
from bertsmith.wordrows import words_of


class WordTags(Baseline):
    paper = "Charniak et al. 1993, Equations for part-of-speech tagging"
    serves = ("spans",)

    def __init__(self, task: Task, frozen: Frozen | None) -> None:
        super().__init__(task, frozen)
        self.tag: dict[str, str] = {}
        self.rest = "O"  # of a word that was not seen

    def learn(self, train: Examples, y: Any, valid: Examples | None, weight_N: np.ndarray | None) -> None:
        seen: defaultdict[str, Counter[str]] = defaultdict(Counter)
        words = words_of(train.text, train.pair)
        for text, spans, here in zip(train.text, y, words, strict=True):
            whole = [span for span in snap(spans, here) if span is not None]
            for word, tag in zip(here, to_tags(disjoint(whole)[0], here, self.task.scheme), strict=True):
                seen[text[word.start : word.end]][tag] += 1
        small: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for word_text, counts in seen.items():
            small[word_text.lower()] += counts
        once = Counter(next(iter(counts)) for counts in seen.values() if counts.total() == 1)
        self.tag = {word_text: _commonest(counts) for word_text, counts in (small | seen).items()}
        self.rest = _commonest(once or sum(seen.values(), Counter()))

    def answer(self, examples: Examples) -> tuple[Any, np.ndarray]:
        found = []
        for text, words in zip(examples.text, words_of(examples.text, examples.pair), strict=True):
            told = [text[word.start : word.end] for word in words]
            tags = [self.tag.get(one, self.tag.get(one.lower(), self.rest)) for one in told]
            found.append(to_spans(tags, words, self.task.scheme))
        return found, np.zeros((len(examples), 0))


def _commonest(counts: Counter[str]) -> str:
    """The first of equals by name, so that no order of examples counts."""
    return max(sorted(counts), key=lambda tag: counts[tag], default="O")
