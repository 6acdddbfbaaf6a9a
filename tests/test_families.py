"""Every family equal to `transformers`: outputs, losses, every gradient, seeded dropout, weights and config there and back.

A family is tested because there is a file for it in tests/families; its cases say what is peculiar to it.
"""

import importlib
import json
import pkgutil
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import families
import pytest
import torch
import torch.nn.functional as F
from families import LABELS, VOCAB, cases
from golden.make import tokenizer
from safetensors.torch import load_file
from toy import states

import bertsmith
from bertsmith import hf
from bertsmith.align import find_words
from bertsmith.engine import by_torch
from bertsmith.layout import Layout
from bertsmith.linear import load_tensors, tensors
from bertsmith.model import Bundle, Model
from bertsmith.spec import Spec, from_plain
from bertsmith.tags import to_spans
from bertsmith.task import task as tasks

transformers = pytest.importorskip("transformers")
CLOSE = {"rtol": 1e-4, "atol": 2e-6}  # float32, a few hundred additions in another order
GRADIENT = {"rtol": 1e-3, "atol": 1e-5}  # the same, backwards; sums over all tokens of a batch

MODULES = {m.name: importlib.import_module(f"families.{m.name}") for m in pkgutil.iter_modules(families.__path__)}
ALL = [c for m in MODULES.values() for c in m.CASES]
BARE = [c for c in ALL if c.stock.endswith("Model")]
FIRST = [pytest.param(c, id=str(c)) for c in BARE]
# of a family's forms the first one, where a test takes a second for each; the slow tests have all
LEADS = [next(c for c in m.CASES if c in BARE) for m in MODULES.values()]


def config_of(case, dropout=0.0):
    fields = case.sizes | {name: dropout * (1 + i / 4) for i, name in enumerate(case.dropouts)} | case.fields
    config = getattr(transformers, case.config)(**fields)
    config._attn_implementation = "eager"
    return config


def reference(case, dropout=0.0):
    torch.manual_seed(0)
    model = getattr(transformers, case.stock)(config_of(case, dropout))
    g = torch.Generator().manual_seed(1)
    for p in model.parameters():  # biases and norms away from 0 and 1, or their places could be exchanged unseen
        p.data += 0.05 * torch.randn(p.shape, generator=g)
    if case.prepare is not None:
        case.prepare(model)
    return model


def ours(theirs, case, folder):
    """(our bundle, encoder spec, head spec) of what they save."""
    theirs.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    spec, head, held = hf.read(config, load_file(folder / "model.safetensors"))
    encoder = spec.build()
    bundle = Bundle(encoder, head.build(encoder, LABELS) if head else None)
    load_tensors(bundle, held)
    return bundle.train(theirs.training), spec, head


class Opened(NamedTuple):
    theirs: Any
    folder: Path  # what they save
    bundle: Bundle
    spec: Spec
    head: Spec | None


@pytest.fixture(scope="session")
def opened(tmp_path_factory):
    """case -> the reference and our bundle of what it saves, in evaluation: made once, and left as they are."""
    made = {}

    def get(case):
        if id(case) not in made:
            theirs, folder = reference(case).eval(), tmp_path_factory.mktemp("theirs")
            made[id(case)] = Opened(theirs, folder, *ours(theirs, case, folder))
        return made[id(case)]

    return get


def batch(case, padding=True):
    """(what the reference is given, ids, our layout): rows of several lengths, or full rows."""
    g = torch.Generator().manual_seed(0)
    T = case.length
    token_BT = torch.randint(5, VOCAB, (3, T), generator=g)
    lengths = [T, max(2, 2 * T // 3), max(2, T // 3)] if padding and not case.reads_padding else [T] * 3
    keep_BT = (torch.arange(T) < torch.tensor(lengths)[:, None]).long()
    type_BT = torch.randint(0, 2, (3, T), generator=g) * keep_BT
    given = {"input_ids": token_BT * keep_BT + (1 - keep_BT), "attention_mask": keep_BT}
    if case.types:
        given["token_type_ids"] = type_BT
    more, extra = case.inputs(g, token_BT, keep_BT) if case.inputs else ({}, {})
    given |= more
    layout = Layout.padded(keep_BT, given.get("token_type_ids"))
    layout.extra.update(extra)
    if case.stock.endswith("ForMultipleChoice"):  # the rows are the choices of one question
        given = {name: x[None] for name, x in given.items()}
    return given, token_BT * keep_BT + (1 - keep_BT), layout


@pytest.mark.parametrize("case", FIRST)
def test_products_in_bf16_come_out_near(case, opened):
    encoder = opened(case).bundle.encoder
    _, token_BT, layout = batch(case)
    with torch.inference_mode():
        want = encoder(token_BT, layout)[layout.real_BT].flatten()
        got = by_torch.states(by_torch.shortened(encoder), token_BT, layout)[layout.real_BT].flatten()
    assert not torch.equal(got, want) and F.cosine_similarity(got, want, 0) > 0.999


def asked(case, bundle, layout):
    """(labels for the reference, what our task makes of our logits) of the same questions; ({}, None) where there are none."""
    kind = bundle.head and type(bundle.head).__module__.rpartition(".")[2]
    if kind in (None, "vector") or case.pairs is not None or case.stock.endswith("ForPreTraining"):
        return {}, None
    if kind == "linear":
        one, target = tasks("single_label").build(["0", "1", "2"]), torch.tensor([0, 2, 1])
        return {"labels": target}, lambda y: one.loss(*one.ask(y, {"target": target}))
    if kind == "choice":
        one, target = tasks("multiple_choice").build([]), torch.tensor([1])
        three = Layout.of(torch.tensor([[1, 2, 3]]), torch.zeros(1, 3, dtype=torch.long))
        return {"labels": target}, lambda y: one.loss(*one.ask(y, {"layout": three, "target": target}))
    if kind.endswith("span"):
        if not layout.real_BT.all():  # over which the softmax of the reference goes
            return {}, None
        one, target = tasks("extractive_qa").build([]), torch.tensor([[8, 9], [0, 0], [7, 10]])
        places = {"start_positions": target[:, 0], "end_positions": target[:, 1]}
        return places, lambda y: one.loss(*one.ask(y, {"layout": layout, "target": target}))
    target = torch.full(layout.segment_BT.shape, -100)
    target[0, 3], target[1, 2], target[2, 1] = (0, 2, 1) if kind == "token" else (9, 30, 17)
    if kind == "token":
        one = tasks("tagging", scheme="io").build(["A", "B"])
        return {"labels": target}, lambda y: one.loss(*one.ask(y, {"target": target}))
    return {"labels": target}, lambda y: F.cross_entropy(y.flatten(0, 1), target.flatten())


def pairs(case, theirs, bundle, padding=True):
    """[(theirs, ours)] of one pass: logits, and the loss of both where there is one."""
    given, token_BT, layout = batch(case, padding)
    labels, loss = asked(case, bundle, layout)
    torch.manual_seed(7)
    out, real = theirs(**given, **labels), layout.real_BT
    torch.manual_seed(7)
    x_BTD = bundle.encoder(token_BT, layout)
    if case.pairs is not None:
        return case.pairs(out, bundle, x_BTD, layout, real)
    kind = bundle.head and type(bundle.head).__module__.rpartition(".")[2]
    if kind is None or kind == "vector":
        found = [(out.last_hidden_state[real], x_BTD[real])]
        return found + ([(out.pooler_output, bundle.head(x_BTD, layout))] if kind else [])
    y = bundle.head(x_BTD, layout)
    if kind == "bert_pretraining":
        first = out["prediction_logits"] if "prediction_logits" in out else out["logits"]
        follows = bundle.head.follows(x_BTD, layout)
        return [(first[real], y[real]), (out.seq_relationship_logits, follows)]
    if kind.endswith("span"):
        found = [(out.start_logits[real], y[real][:, 0]), (out.end_logits[real], y[real][:, 1])]
    else:
        found = [(out.logits[real], y[real]) if y.dim() == 3 else (out.logits.view_as(y), y)]
    return found + ([(out.loss, loss(y))] if loss else [])


def saved_gradients(theirs, folder):
    """Name in their file -> a tensor whose .grad is the gradient of what has that name."""
    assert all(p.grad is not None for p in theirs.parameters())
    for p in theirs.parameters():
        p.data = p.grad
    theirs.save_pretrained(folder)
    named = {n: torch.zeros_like(x) for n, x in load_file(folder / "model.safetensors").items()}
    for n, x in load_file(folder / "model.safetensors").items():
        named[n].grad = x
    return named


def usual(case):
    """Whether rows are padded in the test that is not slow: but for questions, whose losses differ there."""
    return "QuestionAnswering" not in case.stock


@pytest.mark.parametrize("case, padding", [
    pytest.param(c, p, id=f"{c}-{'padded' if p else 'full'}", marks=[] if p is usual(c) or c in BARE else pytest.mark.slow)
    for c in ALL for p in (True, False)
])  # fmt: skip
def test_outputs_and_every_gradient(case, padding, tmp_path):
    theirs = reference(case).train()
    bundle, _, _ = ours(theirs, case, tmp_path)
    found = pairs(case, theirs, bundle, padding)
    g = torch.Generator().manual_seed(1)
    total_a = total_b = torch.zeros(())
    for a, b in found:
        torch.testing.assert_close(b, a, **CLOSE)
        weight = torch.randn(a.shape, generator=g)
        total_a, total_b = total_a + (a * weight).sum(), total_b + (b * weight).sum()
    total_a.backward()
    total_b.backward()
    config = json.loads((tmp_path / "config.json").read_text())
    saved = load_file(tmp_path / "model.safetensors")
    named = dict(theirs.named_parameters(remove_duplicate=False))
    if case.renamed:  # what is saved of a model whose weights are the gradients
        saved = named = saved_gradients(theirs, tmp_path / "gradients")
    want = hf.read(config, {n: p.grad for n, p in named.items() if n in saved and p.grad is not None})[2]
    grads = {k: v.grad for k, v in tensors(bundle).items() if v.grad is not None}
    silent = {n for n, p in named.items() if n in saved and p.grad is None}
    assert all(any(u in n for u in (*case.unused, "pooler.")) for n in silent), silent
    assert set(want) <= set(grads) and all(not grads[k].abs().max() > 0 for k in set(grads) - set(want))
    for k, v in want.items():
        torch.testing.assert_close(grads[k], v, **GRADIENT, msg=lambda m, k=k: f"{k}: {m}")


@pytest.mark.parametrize("case", [pytest.param(c, id=str(c), marks=[] if c in BARE else pytest.mark.slow) for c in ALL])
def test_seeded_dropout(case, tmp_path):
    if case.dropout_differs:
        pytest.skip(case.dropout_differs)
    theirs = reference(case, dropout=0.2).train()
    bundle, _, _ = ours(theirs, case, tmp_path)
    found = pairs(case, theirs, bundle)
    for a, b in found:
        torch.testing.assert_close(b, a, **CLOSE)
    assert not torch.allclose(found[0][0], pairs(case, theirs.eval(), bundle)[0][0])


@pytest.mark.parametrize("case, remembers", [
    pytest.param(c, r, id=f"{c}-{'same' if r else 'computed'}", marks=pytest.mark.slow if r and c not in LEADS else [])
    for c in ALL for r in (True, False)
])  # fmt: skip
def test_weights_and_config_there_and_back(case, remembers, opened, tmp_path):
    """Bit for bit; "computed": the config is made of our spec alone and opens in `transformers` with the same outputs."""
    theirs, folder, bundle, spec, head = opened(case)
    before = json.loads((folder / "config.json").read_text())
    labels = [f"LABEL_{i}" for i in range(LABELS)] if head and head.kind in ("linear", "token") else []
    words = tokenizer(VOCAB, pad=before.get("pad_token_id") or 0)
    model = Model(spec, bundle, words, head, labels=labels, origin=before if remembers else None)
    model.save(tmp_path / "ours", stock=before["model_type"])
    a, b = (load_file(d / "model.safetensors") for d in (folder, tmp_path / "ours"))
    unused = hf.family_of(before).unused
    assert b.keys() <= a.keys() and all(any(u in k for u in (*unused, "pooler.")) for k in a.keys() - b.keys())
    assert all(torch.equal(a[k], b[k]) for k in b)
    after = json.loads((tmp_path / "ours/config.json").read_text())
    if remembers:
        assert {k: v for k, v in after.items() if k in before and k != "pad_token_id"} == {
            k: v for k, v in before.items() if k != "pad_token_id"
        }
    again, info = getattr(transformers, case.stock).from_pretrained(
        tmp_path / "ours", output_loading_info=True, num_labels=theirs.config.num_labels, attn_implementation="eager"
    )
    assert not info["unexpected_keys"] and not {k for k in info["missing_keys"] if not any(u in k for u in unused)}
    if case.prepare is not None:
        case.prepare(again)
    given, _, layout = batch(case)
    x, y = (m.eval()(**given)[0] for m in (theirs, again))
    torch.testing.assert_close(x, y, rtol=0, atol=1e-6)
    back = bertsmith.load(tmp_path / "ours")
    assert back.spec == spec and back.head_spec == head


@pytest.mark.parametrize("case", FIRST)
def test_packed_equals_padded(case, opened):
    bundle = opened(case).bundle
    if not case.packs:
        assert any(vars(type(m)).get("crosses") for m in bundle.modules()), "it must say that it crosses documents"
        return
    _, token_BT, pad = batch(case)
    lengths = pad.real_BT.sum(1).tolist()
    flat = lambda x: torch.cat([x[i, :n] for i, n in enumerate(lengths)])[None]  # noqa: E731
    segment = torch.cat([torch.full((n,), i + 1) for i, n in enumerate(lengths)])[None]
    pack = Layout.of(segment, flat(pad.position_BT), None if pad.type_BT is None else flat(pad.type_BT))
    pack.extra.update({k: flat(x) for k, x in pad.extra.items()})
    with torch.no_grad():
        x, y = bundle.encoder(token_BT, pad), bundle.encoder(flat(token_BT), pack)
    torch.testing.assert_close(states(y, pack), states(x, pad), **CLOSE)


class _Whole(torch.nn.Module):
    def __init__(self, encoder, extra):
        super().__init__()
        self.encoder, self.names = encoder, list(extra)

    def forward(self, token_BT, keep_BT, *extra):
        layout = Layout.padded(keep_BT)
        layout.extra.update(zip(self.names, extra, strict=True))
        return self.encoder(token_BT, layout)


@pytest.mark.parametrize(
    "case", [pytest.param(c, id=str(c), marks=[] if c in LEADS else pytest.mark.slow) for c in BARE]
)
def test_compiles_whole(case, opened):
    if case.no_compile:
        pytest.skip(case.no_compile)
    _, token_BT, layout = batch(case)
    whole = _Whole(opened(case).bundle.encoder, layout.extra)
    given = (token_BT, layout.real_BT.long(), *layout.extra.values())
    torch._dynamo.reset()
    with torch.no_grad():
        got, want = torch.compile(whole, fullgraph=True, backend="eager")(*given), whole(*given)
    torch.testing.assert_close(got[layout.real_BT], want[layout.real_BT], **CLOSE)  # padding may hold anything


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="inductor needs a C++ compiler")
@pytest.mark.parametrize("case", [c for c in BARE if c.stock in ("BertModel", "ModernBertModel")], ids=str)
def test_inductor_gives_the_same(case, opened):
    _, token_BT, layout = batch(case)
    whole, given = _Whole(opened(case).bundle.encoder, {}), (token_BT, layout.real_BT.long())
    torch._dynamo.reset()
    with torch.no_grad():
        got, want = torch.compile(whole, fullgraph=True)(*given), whole(*given)
    torch.testing.assert_close(got[layout.real_BT], want[layout.real_BT], rtol=1e-4, atol=1e-5)  # fused, other sums


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, id=str(c), marks=[] if c in LEADS and not c.slow_export else pytest.mark.slow) for c in BARE],
)
def test_is_exported_with_batch_and_length_open(case, opened):
    if case.no_export:
        pytest.skip(case.no_export)
    _, token_BT, layout = batch(case)
    whole = _Whole(opened(case).bundle.encoder, layout.extra)
    given = (token_BT, layout.real_BT.long(), *layout.extra.values())
    rows, length = torch.export.Dim("rows", min=1, max=64), torch.export.Dim("length", min=2, max=32)
    shape = {0: rows, 1: length}
    shapes = (shape, shape, *([tuple(shape for _ in layout.extra)] if layout.extra else []))
    program = torch.export.export(whole, given, dynamic_shapes=shapes).module()
    fewer = tuple(x[:2, : case.length - 3] for x in given)
    with torch.no_grad():
        got, want = (x[fewer[1].bool()] for x in (program(*fewer), whole(*fewer)))
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "config, fields, says", [x for m in MODULES.values() for x in m.REFUSED], ids=lambda x: x if type(x) is str else ""
)
def test_what_we_do_not_have_is_refused_by_name(config, fields, says):
    made = getattr(transformers, config)().to_dict() | {"architectures": None} | fields
    with pytest.raises(ValueError, match=says):
        hf.read(made, {})


@pytest.mark.parametrize(
    "name, path, value, says", [(n, *x) for n, m in MODULES.items() for x in m.CANNOT_HOLD], ids=lambda x: str(x)[:30]
)
def test_what_the_other_format_cannot_hold_is_refused_by_name(name, path, value, says):
    case = MODULES[name].CASES[0]
    config = config_of(case).to_dict()
    spec = hf.family_of(config).spec(config)
    with pytest.raises(ValueError, match=says):
        hf.to_stock(spec.replace(path, from_plain(value)), None, config["model_type"])


@pytest.mark.parametrize("ending", ["ForTokenClassification", "ForMultipleChoice", "ForQuestionAnswering"])
def test_a_stock_directory_opens_with_its_task(ending, tmp_path):
    """What it says is read off the logits of the reference; saved again, the stock class opens it as it was."""
    fields = {"id2label": dict(enumerate(["O", "I-A", "I-B"]))} if "Token" in ending else {}
    (case,) = cases("Bert", ending, fields=fields)
    theirs, words = reference(case).eval(), tokenizer(VOCAB)
    theirs.save_pretrained(tmp_path / "theirs")
    words.save(str(tmp_path / "theirs/tokenizer.json"))
    model = bertsmith.load(tmp_path / "theirs")
    first, second = "w7", "w9 w8 w20 w11"

    def logits(*code):
        ids, types = (torch.tensor([getattr(c, name) for c in code]) for name in ("ids", "type_ids"))
        shape = (1, *ids.shape) if "Choice" in ending else ids.shape
        return theirs(input_ids=ids.view(shape), token_type_ids=types.view(shape))

    with torch.no_grad():
        if "Token" in ending:
            (tag_T,) = logits(words.encode(second)).logits.argmax(-1).tolist()
            spans = to_spans([["O", "I-A", "I-B"][t] for t in tag_T[1:-1]], find_words(second), "io")
            assert spans and model.predict(second, precision="exact").label == spans
        elif "Choice" in ending:
            some = ["w9 w8", "w4 w5"]
            want = logits(*(words.encode(first, one) for one in some)).logits[0].softmax(-1)
            found = model.predict(first, some, precision="exact")
            assert found.label == int(want.argmax()) and list(found.scores.values()) == pytest.approx(want.tolist())
        else:
            out = logits(words.encode(first, second))
            start, end = out.start_logits[0], out.end_logits[0]
            best = max((float(start[i] + end[j]), i, j) for i in range(3, 7) for j in range(i, 7))
            found = model.predict(first, second, precision="exact")
            assert found.label.text == " ".join(second.split()[best[1] - 3 : best[2] - 2])
            assert found.scores["answer"] == pytest.approx(best[0], abs=1e-6)
            assert found.scores["no answer"] == pytest.approx(float(start[0] + end[0]), abs=1e-6)
    model.save(tmp_path / "ours")
    again = getattr(transformers, case.stock).from_pretrained(tmp_path / "ours")
    assert again.config.problem_type is None
    named = again.state_dict()
    assert all(torch.equal(x, named[name]) for name, x in theirs.state_dict().items() if "pooler" not in name)
