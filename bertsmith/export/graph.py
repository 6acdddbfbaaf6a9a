"""A model as one graph from ids to named outputs: encoder, pooling and head, with batch and length left open.

B rows, T tokens, C documents, D width; every row is a document here.
"""

import warnings
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bertsmith.layout import Layout
from bertsmith.model import Model
from bertsmith.pool import pool as pools
from bertsmith.tokenizer.roles import special_ids

Batch = dict[str, Tensor]  # by name of the input, int64 [B, T]
SHAPES = ((1, 1), (1, 2), (2, 7), (3, 33), (2, 160), (1, 512))  # rows and tokens, of which no more than the model reads
TRACED = 3  # which of them is traced
AXES = ("batch", "length")


class Graph(nn.Module):
    """(input_ids, attention_mask, token_type_ids where the model has types) -> outputs by name.

    "logits" of a head. Without one, or with one that makes a vector: "embedding" [B, D], pooled as the model says,
    "last_hidden_state" [B, T, D] and, of such a head, "pooler_output".
    """

    def __init__(self, model: Model, normalize: bool):
        super().__init__()
        self.encoder, self.head, self.normalize = model.encoder, model.head, normalize
        self.answers = model.head is not None and not makes_vector(model)
        self.pool = pools(model.pooling).build(model.encoder.dim)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Batch:
        layout = Layout.padded(attention_mask, token_type_ids)
        return self.top(self.encoder(input_ids, layout), layout)

    def top(self, x_BTD: Tensor, layout: Layout) -> dict[str, Tensor]:
        """The outputs for the states of the encoder."""
        if self.answers:
            return {"logits": self.head(x_BTD, layout)}
        y_CD = self.pool(x_BTD, layout)
        found = {"embedding": F.normalize(y_CD, dim=-1) if self.normalize else y_CD, "last_hidden_state": x_BTD}
        return found if self.head is None else found | {"pooler_output": self.head(x_BTD, layout)}

    @property
    def outputs(self) -> list[str]:
        if self.answers:
            return ["logits"]
        return ["embedding", "last_hidden_state", *(["pooler_output"] if self.head is not None else [])]

    @property
    def by_token(self) -> set[str]:
        """The outputs with a row for each token; what they hold at padding says nothing."""
        return {"logits"} if self.answers and self.head.each == "token" else {"last_hidden_state"}


@dataclass(frozen=True)
class Asked:
    """What shall leave.

    Attributes:
        model: its edits are in the weights, where they can be. graph: of the same.
        batches: what the graph is compared on; rows have padding where there are several.
    """

    model: Model
    graph: Graph
    batches: list[Batch]

    @property
    def inputs(self) -> list[str]:
        return list(self.batches[0])

    @property
    def outputs(self) -> list[str]:
        return self.graph.outputs


def makes_vector(model: Model) -> bool:
    """Whether its head is a pool and no answer (the pooler of a bare BertModel)."""
    return model.head_spec is not None and model.head_spec.kind == "vector"


def batches(model: Model) -> list[Batch]:
    """Random ids, the same at every call; from the second row on every row is shorter than the one before."""
    rng = torch.Generator().manual_seed(0)
    pad, vocab = special_ids(model.tokenizer, ("pad",))["pad"], model.tokenizer.get_vocab_size()
    made = []
    for rows, length in SHAPES:
        T = min(length, model.max_length)
        place_T, length_B = torch.arange(T), (T - (T + 3) // 4 * torch.arange(rows)).clamp(min=1)
        keep_BT = (place_T < length_B[:, None]).long()
        token_BT = torch.randint(vocab - 1, (rows, T), generator=rng)
        token_BT = torch.where(keep_BT > 0, token_BT + (token_BT >= pad), pad)  # never padding inside a text
        type_BT = keep_BT * (place_T >= length_B[:, None] // 2).long()
        made.append({"input_ids": token_BT, "attention_mask": keep_BT, "token_type_ids": type_BT})
    if not reads_types(model, made[TRACED]):
        made = [{name: x for name, x in one.items() if name != "token_type_ids"} for one in made]
    return made


@torch.no_grad()
def reads_types(model: Model, batch: Batch) -> bool:
    """Whether its outputs depend on token types, asked of the model: tables, attention and heads may read them."""
    graph = Graph(model, normalize=False)
    try:
        with_types = graph(**batch)
    except IndexError:  # a table of one type
        return False
    without = graph(batch["input_ids"], batch["attention_mask"])
    return any(not torch.equal(with_types[name], x) for name, x in without.items())


@torch.no_grad()
def trace(asked: Asked) -> torch.export.ExportedProgram:
    """The graph in torch's intermediate form; inputs and outputs keep their names, both axes are open."""
    given = tuple(asked.batches[TRACED].values())
    open_axes = {0: torch.export.Dim(AXES[0], min=1), 1: torch.export.Dim(AXES[1], min=1, max=asked.model.max_length)}
    with warnings.catch_warnings():  # of torch's own deprecations
        warnings.simplefilter("ignore", FutureWarning)
        return torch.export.export(asked.graph, given, dynamic_shapes=(open_axes,) * len(given))


def trace_basic(asked: Asked) -> torch.export.ExportedProgram:
    """The same in torch's basic operators: converters do not know all others (index_add, DeBERTa's attention)."""
    table = torch.export.default_decompositions()
    table.update({torch.ops.aten.where.self: _choose, torch.ops.aten.sum.dim_IntList: _add_up})
    return trace(asked).run_decompositions(table)


def _choose(may: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """ONNX Runtime chooses between numbers, and not between truth values (BigBird, Longformer)."""
    return (may & a) | (~may & b) if a.dtype == torch.bool else NotImplemented


def _add_up(x: Tensor, dim: list[int] | None, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> Tensor:
    """OpenVINO adds up numbers, and not truth values (Nystromformer)."""
    return torch.sum(x.long(), dim, keepdim, dtype=dtype) if x.dtype == torch.bool else NotImplemented
