"""Labels in a tree, written as paths ("science > physics > optics"): a sigmoid a node, and an answer that keeps to the tree.

A label asks for all nodes on its path. The answer goes down from the root as long as a child's probability is above the
threshold, so that no node is said without its parent: hierarchical tagging as in TagRec, V et al. 2021, arXiv:2107.10649, and
K-12BERT, Goel et al. 2022, arXiv:2205.12335.

hierarchical F1: micro F1 over the sets of nodes with their ancestors, Kiritchenko et al. 2006.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bertsmith import divergence
from bertsmith.metric import metric
from bertsmith.scores import Scores
from bertsmith.task import Task


class Hierarchy(Task):
    """Targets float32_NL, L nodes. A raw label is one path, or a list of paths (or one string with `|` between them).

    separator: stands between the nodes of a path. threshold: a node is said if its probability is above it.
    """

    floor = "micro_f1"
    may_be_empty = True
    fewest = 2
    paper = "arXiv:2205.12335"

    def __init__(self, labels: list[str], *, separator: str = ">", threshold: float = 0.5) -> None:
        super().__init__(labels)
        if not separator or separator == "|" or not 0 < threshold < 1:
            raise ValueError(
                f"task/hierarchy needs a separator other than | and a threshold between 0 and 1; got {separator!r}, {threshold}"
            )
        self.separator, self.threshold = separator, threshold
        self.number = {name: i for i, name in enumerate(labels)}
        self.parent = [
            self.number.get(self.nodes(name)[-2], -1) if len(self.nodes(name)) > 1 else -1 for name in labels
        ]

    def nodes(self, path: str) -> list[str]:
        """The node and its ancestors, the root first, each written as a path: "a", "a > b"."""
        parts = [part.strip() for part in path.split(self.separator)]
        return [f" {self.separator} ".join(parts[: i + 1]) for i in range(len(parts))]

    def paths(self, raw: Any) -> set[str]:
        """All nodes that one raw label asks for."""
        given = raw if isinstance(raw, list | tuple) else str(raw or "").split("|")
        return {node for path in given if str(path).strip() for node in self.nodes(str(path))}

    def names(self, raw: list[Any]) -> list[str]:
        return sorted({node for x in raw for node in self.paths(x)})

    def encode(self, raw: list[Any]) -> Tensor:
        sets = [self.paths(x) for x in raw]
        if unknown := sorted({node for nodes in sets for node in nodes} - set(self.number)):
            raise ValueError(f"no node {', '.join(map(repr, unknown[:5]))}; there are: {', '.join(self.labels[:20])}")
        target_NL = torch.zeros(len(raw), len(self.labels))
        for row, nodes in enumerate(sets):
            target_NL[row, [self.number[node] for node in nodes]] = 1.0
        return target_NL

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits.float(), target)

    def kl(self, one: Tensor, two: Tensor, target: Tensor) -> Tensor:
        return divergence.coins(one, two, target)

    def decode(self, logits: Tensor) -> list[list[str]]:
        """The nodes that are said and have no child that is said: full paths."""
        found = []
        for said in self.predicted(logits):
            above = {self.parent[i] for i in np.flatnonzero(said)}
            found.append([self.labels[i] for i in np.flatnonzero(said) if i not in above])
        return found

    def probabilities(self, logits: Tensor) -> np.ndarray:
        """Of a node: the least of those on its path."""
        p_NL = logits.float().sigmoid().cpu().numpy().copy()
        for i in sorted(range(len(self.labels)), key=lambda i: len(self.nodes(self.labels[i]))):
            if self.parent[i] >= 0:
                p_NL[:, i] = np.minimum(p_NL[:, i], p_NL[:, self.parent[i]])
        return p_NL

    def predicted(self, logits: Tensor) -> np.ndarray:
        return self.probabilities(logits) > self.threshold

    def true(self, target: Tensor) -> np.ndarray:
        return (target > 0.5).cpu().numpy()

    def metrics(self) -> Scores:
        names = ("micro_f1", "macro_f1", "accuracy")
        return Scores({name: metric(name).build(len(self.labels)) for name in names})
