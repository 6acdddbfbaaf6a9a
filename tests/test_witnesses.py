"""LoRA, prefix tuning and BitFit equal to `peft` on the same weights; and each through the loop, killed and resumed."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toy import documents, padded, wake

from bertsmith import checkpoint, hf
from bertsmith.checkpoint import Trained
from bertsmith.corpus.prepare import prepare
from bertsmith.data import data
from bertsmith.edit import edit as edits
from bertsmith.ffn import ffn
from bertsmith.graft import graft as grafts
from bertsmith.hf import bert
from bertsmith.linear import bake, edit, graft, load_tensors
from bertsmith.masking import masking
from bertsmith.model import Model, load
from bertsmith.objective import objective
from bertsmith.objective.masked_lm import MaskedLM
from bertsmith.optim import optim
from bertsmith.resize import resize
from bertsmith.run import Run, Stage
from bertsmith.select import select as selects
from bertsmith.tokenizer.load import load_tokenizer
from bertsmith.tokenizer.train import train_wordpiece
from bertsmith.train import train

transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")
CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # float32, the same sums in another order
DEPTH, DIM, HEADS, PREFIX = 3, 32, 4, 5


def pair():
    """(transformers' BertModel, our encoder) with the same random weights, biases and norms away from 0 and 1."""
    config = transformers.BertConfig(
        vocab_size=60, hidden_size=DIM, num_hidden_layers=DEPTH, num_attention_heads=HEADS, intermediate_size=48,
        max_position_embeddings=40, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        attn_implementation="eager")  # fmt: skip
    theirs = wake(transformers.BertModel(config, add_pooling_layer=False).eval())
    spec, _, held = hf.read(config.to_dict(), theirs.state_dict())
    ours = spec.build().eval()
    load_tensors(ours, {k.removeprefix("encoder."): v for k, v in held.items()})
    return theirs, ours


def batch():
    token, layout = padded(documents((11, 7, 9)))
    return (
        token,
        layout,
        {"input_ids": token, "attention_mask": layout.real_BT.long(), "token_type_ids": layout.type_BT},
    )


def backward(x, y, real):
    """The same loss of both, through real tokens only."""
    weight = torch.randn(x.shape, generator=torch.Generator().manual_seed(3)) * real[..., None]
    (x * weight).sum().backward()
    (y * weight).sum().backward()


def assert_near(mine, theirs):
    """Gradients: sums of some hundred float32 products in another order."""
    assert theirs.norm() > 1e-2
    assert (mine - theirs).norm() < 1e-5 * theirs.norm()


@pytest.mark.parametrize("init", ["kaiming", "gaussian"])
def test_lora_is_pefts(init):
    theirs, ours = pair()
    more = {"init_lora_weights": "gaussian"} if init == "gaussian" else {}
    config = peft.LoraConfig(r=4, lora_alpha=12, target_modules=["query", "value", "word_embeddings"], **more)
    wrapped = peft.get_peft_model(theirs, config).eval()
    spec = edits("lora", rank=4, alpha=12.0, init=init)
    edit(ours, "layers.*.mixer.[qv]", spec)
    edit(ours, "embedding.table", spec)
    hosts = []
    for i, layer in enumerate(ours.layers):
        reference = theirs.encoder.layer[i].attention.self
        hosts += [(layer.mixer.q, reference.query), (layer.mixer.v, reference.value)]
    start = {who: torch.cat([h.flatten() for h in who]).std() for who in (
        tuple(o.edits["lora"].a for o, _ in hosts), tuple(t.lora_A["default"].weight for _, t in hosts))}  # fmt: skip
    mine, reference = start.values()
    assert abs(mine / reference - 1) < 0.1 and not any(o.edits["lora"].b.any() for o, _ in hosts)
    wake(wrapped, "lora_")
    table, ours_table = theirs.embeddings.word_embeddings, ours.embedding.table.edits["lora"]
    with torch.no_grad():
        for o, t in hosts:
            o.edits["lora"].a.copy_(t.lora_A["default"].weight)
            o.edits["lora"].b.copy_(t.lora_B["default"].weight)
        ours_table.b.copy_(table.lora_embedding_A["default"].T)
        ours_table.a.copy_(table.lora_embedding_B["default"].T)
    token, layout, inputs = batch()
    x, y = ours(token, layout), wrapped(**inputs).last_hidden_state
    torch.testing.assert_close(x[layout.real_BT], y[layout.real_BT], **CLOSE)
    backward(x, y, layout.real_BT)
    for o, t in hosts:
        assert_near(o.edits["lora"].a.grad, t.lora_A["default"].weight.grad)
        assert_near(o.edits["lora"].b.grad, t.lora_B["default"].weight.grad)
    assert_near(ours_table.b.grad, table.lora_embedding_A["default"].grad.T)
    assert_near(ours_table.a.grad, table.lora_embedding_B["default"].grad.T)
    bake(ours)
    merged = wrapped.merge_and_unload()
    for i, layer in enumerate(ours.layers):
        torch.testing.assert_close(layer.mixer.q.weight, merged.encoder.layer[i].attention.self.query.weight)
    torch.testing.assert_close(ours.embedding.table.weight, merged.embeddings.word_embeddings.weight)


def test_prefix_is_pefts():
    theirs, ours = pair()
    config = peft.PrefixTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=PREFIX)
    wrapped = peft.get_peft_model(theirs, config).eval()
    graft(ours, "layers.*.mixer.core", grafts("prefix", length=PREFIX))
    table = wrapped.prompt_encoder["default"].embedding.weight
    with torch.no_grad():
        held = table.view(PREFIX, 2 * DEPTH, HEADS, DIM // HEADS).permute(1, 2, 0, 3)
        for i, layer in enumerate(ours.layers):
            layer.mixer.core.grafts["prefix"].k.copy_(held[2 * i])
            layer.mixer.core.grafts["prefix"].v.copy_(held[2 * i + 1])
    token, layout, inputs = batch()
    # there, a prefix moves all positions up by its length, and token types are not read
    layout = replace(layout, type_BT=None)
    del inputs["token_type_ids"]
    x = ours(token, replace(layout, position_BT=layout.position_BT + PREFIX))
    y = wrapped(**inputs).last_hidden_state
    torch.testing.assert_close(x[layout.real_BT], y[layout.real_BT], **CLOSE)
    backward(x, y, layout.real_BT)
    got = [
        g for layer in ours.layers for g in (layer.mixer.core.grafts["prefix"].k, layer.mixer.core.grafts["prefix"].v)
    ]
    got = torch.stack([p.grad for p in got]).permute(2, 0, 1, 3).reshape(PREFIX, -1)
    assert_near(got, table.grad)


def test_bitfit_trains_what_peft_trains_with_bias_all():
    theirs, ours = pair()
    wrapped = peft.get_peft_model(theirs, peft.LoraConfig(r=1, target_modules=["query"], bias="all")).eval()
    token, layout, inputs = batch()
    x, y = ours(token, layout), wrapped(**inputs).last_hidden_state
    torch.testing.assert_close(x[layout.real_BT], y[layout.real_BT], **CLOSE)
    backward(x, y, layout.real_BT)
    grads = {n.removeprefix("base_model.model.").replace(".base_layer", ""): p.grad
             for n, p in wrapped.named_parameters() if p.requires_grad and "lora_" not in n}  # fmt: skip
    _, _, want = hf.read(theirs.config.to_dict(), grads)
    select = selects("bitfit").build()
    mine = {f"encoder.{n}": p for n, p in ours.named_parameters() if select(f"encoder.{n}", p)}
    assert mine.keys() == want.keys() and len(mine) == 1 + 8 * DEPTH
    for name, p in mine.items():
        if name.endswith("mixer.k.bias"):  # a softmax does not see it: rounding alone
            assert p.grad.abs().max() < 1e-3 and want[name].abs().max() < 1e-3
        else:
            assert_near(p.grad, want[name])


# ---- through the loop


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Thirty short documents of a made-up language in which words follow one another."""
    root, words = tmp_path_factory.mktemp("corpus"), ["ba", "be", "bi", "bo", "bu", "da", "de", "di"]
    lines = [" ".join(words[(at + i) % 8] for i in range(20 + at)) for at in range(30)]
    (root / "text.txt").write_text("\n\n".join(lines))
    train_wordpiece([root / "text.txt"], 50, root / "tokenizer")
    prepare([root / "text.txt"], root / "data", root / "tokenizer", 0)
    return root / "data"


def make(corpus: Path, steps: int = 4) -> Run:
    """Pre-training of a mixture of experts, stacking, LoRA baked, prefix dropped, BitFit beside a kept LoRA, R-Drop."""
    vocab = json.loads((corpus / "manifest.json").read_text())["vocabulary"]
    encoder = bert.bert_encoder(1, 16, 2, vocab, length=32, dropout=0.1)
    encoder = encoder.replace("blocks.*.ffn", ffn("moe", expert=ffn("glu", hidden=12), experts=3))
    plain = objective("masked_lm", masking=masking("bert"))
    common = {"data": data("packed", path=str(corpus), length=32, rows=4), "budget": f"{steps}-steps"}
    common |= {"optim": optim("adamw", lr=3e-3)}
    lora = {"how": "edit", "where": "**.mixer.[qv]", "name": "lora", "spec": edits("lora", rank=2)}
    prefix = {"how": "graft", "where": "**.mixer.core", "name": "prefix", "spec": grafts("prefix", length=3)}
    only = lambda what: selects("paths", train=[f"encoder.**.{what}.**", "objective.**"])  # noqa: E731
    stages = [
        Stage(plain, **common),
        Stage(plain, resize=[resize("stack")], **common),
        Stage(plain, changes=[lora], select=only("edits"), leave="bake", **common),
        Stage(plain, changes=[prefix], select=only("grafts"), leave="drop", **common),
        Stage(plain, changes=[lora], select=selects("bitfit"), **common),
        Stage(objective("rdrop", inner=plain), **common),
    ]
    return Run(encoder, stages, seed=1, precision="fp32", workers=0, save_steps=3, log_every=1)


def stumbling(at: set[int], how) -> None:
    """From here on, the forward passes with these numbers (counted from 1 over all stages) do `how` instead."""
    predict, calls = MaskedLM.predict, 0

    def stumble(self, encoder, batch):
        nonlocal calls
        calls += 1
        return how() if calls in at else predict(self, encoder, batch)

    MaskedLM.predict = stumble


def stop():
    raise KeyboardInterrupt


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def lines(out: Path) -> list[tuple]:
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [(x["stage"], x["step"], x["loss"], x["grad_norm"]) for x in log]


def assert_same(one: Trained, two: Trained) -> None:
    assert one.encoder == two.encoder and one.changes == two.changes
    for a, b in ((one.tensors, two.tensors), (one.moments, two.moments)):
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory) -> tuple[Path, Trained]:
    """The run that nothing interrupts."""
    out = tmp_path_factory.mktemp("whole")
    return out, train(make(corpus), out, progress=False)


def test_witnesses_interrupted_end_as_if_never_interrupted(corpus, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(MaskedLM, "predict", MaskedLM.predict)  # put back at the end
    # in every stage, before its first checkpoint or after it
    moments = {2, 8, 12, 16, 22, 25, 31, 33, 36}
    stumbling(moments, stop)
    for _ in moments:
        with pytest.raises(KeyboardInterrupt):
            train(make(corpus), tmp_path, progress=False)
    again = train(make(corpus), tmp_path, progress=False)
    assert_same(whole[1], again)
    assert lines(whole[0]) == lines(tmp_path)
    assert {stage for stage, *_ in lines(tmp_path)} == set(range(6))


def test_witnesses_left_what_their_stages_say(whole):
    _, end = whole
    assert end.encoder.args["depth"] == 2
    assert [(c["how"], c["name"]) for c in end.changes] == [("edit", "lora")]
    names = set(end.tensors)
    assert any(".edits.lora." in n for n in names) and not any("prefix" in n for n in names)
    assert "encoder.layers.1.ffn.experts.2.down.weight" in names and "objective.head.dense.weight" in names


def test_a_run_with_changes_is_saved_and_loaded(corpus, whole, tmp_path):
    out, end = whole
    held, complaints = checkpoint.newest(out)
    assert not complaints
    assert_same(held, end)
    tokenizer = load_tokenizer(corpus)
    model = Model.of(end, make(corpus).stages[-1].objective, tokenizer)
    model.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    token, layout = padded(documents((9, 5)))
    token = token.clamp(max=json.loads((corpus / "manifest.json").read_text())["vocabulary"] - 1)
    with torch.no_grad():
        x, y = model.encoder.eval()(token, layout), loaded.encoder.eval()(token, layout)
    assert torch.equal(x, y) and [c["name"] for c in loaded.encoder.changes] == ["lora"]
    assert model.fill("ba be [MASK] bo") == loaded.fill("ba be [MASK] bo")


def test_only_what_a_stage_selects_moves(corpus, tmp_path):
    """A LoRA stage alone, kept: every weight of the encoder but the edits is what it was."""
    run = make(corpus)
    run.stages = [run.stages[0], replace(run.stages[2], leave="keep")]
    end = train(run, tmp_path, progress=False)
    run.stages = run.stages[:1]
    start = train(run, tmp_path / "first", progress=False)
    still = {k for k in start.tensors if k.startswith("encoder.")}
    assert all(torch.equal(start.tensors[k], end.tensors[k]) for k in still)
    edited = [k for k in end.tensors if ".edits.lora.b" in k]
    assert edited and all(end.tensors[k].any() for k in edited)


def child(corpus: str, out: str, at: int) -> None:
    """What a process does that is to be killed in the middle of its forward pass number `at`."""
    stumbling({at}, kill)
    train(make(Path(corpus)), Path(out), progress=False)


@pytest.mark.slow
def test_witnesses_killed_by_sigkill_end_as_if_never_killed(corpus, whole, tmp_path):
    """While stacking (stage 1), in the LoRA stage (2), and with a LoRA kept (4 and 5)."""
    here = Path(__file__).parent
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(here.parent), str(here)])}
    for at in (7, 5, 10, 12):  # counted anew in each process; a stage begins with a pass that measures
        command = f"import test_witnesses as w; w.child({str(corpus)!r}, {str(tmp_path)!r}, {at})"
        assert subprocess.run([sys.executable, "-c", command], env=env).returncode == -signal.SIGKILL
    held, _ = checkpoint.newest(tmp_path)
    assert held.stage >= 3
    assert_same(whole[1], train(make(corpus), tmp_path, progress=False))
    assert lines(whole[0]) == lines(tmp_path)
