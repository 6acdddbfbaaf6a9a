"""Every way to tune with every kind of task, the common ones with every family: gradients where they belong, nowhere else."""

import functools

import pytest
import torch
from golden.make import tokenizer as toy_tokenizer
from test_families import FIRST, batch, ours, reference

from bertsmith import kernels
from bertsmith.coding import Coder
from bertsmith.data import data
from bertsmith.data.table import write_rows
from bertsmith.edit import edit as edits
from bertsmith.graft import graft as grafts
from bertsmith.hf.bert import bert_encoder
from bertsmith.labelled.spans import Span
from bertsmith.learner import build
from bertsmith.linear import edit, graft
from bertsmith.objective import objective
from bertsmith.recipes import tuning as recipes
from bertsmith.task import task

VOCAB = 60
TEXTS = ["w7 w9 w30", "w8 w5", "w30 w31 w9 w6"]
# kind -> (second texts, labels of the three texts)
ASKED = {
    "single_label": (None, ["a", "b", "a"]),
    "multi_label": (None, [["a"], [], ["a", "b"]]),
    "hierarchy": (None, ["a > b", "a", "c"]),
    "ordinal": (None, [1, 3, 2]),
    "regression": (None, [0.5, 1.5, 2.0]),
    "regressions": (None, [[0.5, 1.0], [1.5, None], [2.0, 0.0]]),
    "multiple_choice": ([["w5", "w6"], ["w7", "w8", "w9"], ["w5 w6", "w7"]], [1, 2, 0]),
    "tagging": (None, [[Span(6, 9, "X")], [], [Span(0, 7, "Y")]]),
    "extractive_qa": (["w5 w6 w7", "w8", "w9 w5"], [[("w6", 3)], [], [("w9", 0)]]),
}
SAID = {"pasta": "pasta:cls=2,sep=3", "unfreezing": "unfreezing:depth=2"}


@functools.cache
def asked(kind, folder):
    """(objective, a batch) of a kind of task."""
    pairs, raw = ASKED[kind]
    blank = task(kind).build([])
    spec = task(kind)
    for name, value in blank.settled(raw).items():
        spec = spec.replace(name, value)
    labels = blank.names(raw)
    one = spec.build(labels)
    rows = one.rows(Coder(toy_tokenizer(VOCAB), 32), TEXTS, pairs, raw)
    write_rows(folder / kind, rows, one.fields)
    source = data("table", path=str(folder / kind), rows=8).build()
    return objective("supervised", head=one.head(), task=spec, labels=labels), source.make(source.plan())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("rows")


@pytest.mark.parametrize("kind", sorted(ASKED))
@pytest.mark.parametrize("how", recipes.names())
def test_every_way_with_every_task(how, kind, folder):
    """A finite loss; what is selected gets gradients, apart from what no path leads to, and nothing else does."""
    tuning = recipes.named(SAID.get(how, how))
    plain, one = asked(kind, folder)
    learner = build(bert_encoder(2, 32, 2, VOCAB, length=64), tuning.changes, tuning.around(plain), 0).train()
    chosen = tuning.select[0].build()
    names = [n for n, p in learner.named_parameters() if chosen(n, p)]
    for n, p in learner.named_parameters():
        p.requires_grad_(n in names)
    with kernels.seeded(0, "test"):
        loss = learner.objective(learner.encoder, one)["loss"]
        loss.backward()
    assert torch.isfinite(loss)
    moved = {n for n, p in learner.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert moved <= set(names)
    own = [n for n in names if ".edits." in n or ".grafts." in n]
    assert any(n.startswith("objective.head") for n in moved)
    assert not own or any(n in moved for n in own), "nothing of the method moves"
    assert tuning.partial == (len(names) < len(list(learner.parameters())))


CHANGES = {
    "lora": (edit, "layers.**{.q,.v,.qkv,.up}", edits("lora", rank=2)),
    "prefix": (graft, "layers.**.core", grafts("prefix", length=2)),
    "bottleneck": (graft, "layers.*", grafts("bottleneck", size=4)),
}


@pytest.mark.parametrize("case", FIRST)
@pytest.mark.parametrize("name", CHANGES)
def test_the_common_changes_with_every_family(case, name, tmp_path):
    """Hung onto the family's encoder they change nothing (LoRA, adapters) or the states (a prefix), and get gradients.

    A piece that cannot be changed so says it.
    """
    bundle, _, _ = ours(reference(case).eval(), case, tmp_path)
    _, token_BT, layout = batch(case)
    encoder = bundle.encoder.requires_grad_(False)
    with torch.no_grad():
        before = encoder(token_BT, layout)
    how, where, spec = CHANGES[name]
    try:
        assert how(encoder, where, spec, "new")
        after = encoder(token_BT, layout)
    except ValueError as error:
        pytest.skip(f"refused: {error}")  # by the piece itself, with its reason
    real = layout.real_BT
    assert torch.allclose(after[real], before[real], atol=1e-5) == (name != "prefix")
    after[real].square().sum().backward()
    new = {n: p for n, p in encoder.named_parameters() if ".new." in n}
    assert new and any(p.grad is not None and p.grad.abs().max() > 0 for p in new.values())
    assert all(p.grad is None for n, p in encoder.named_parameters() if n not in new)
