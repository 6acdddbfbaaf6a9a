"""The loop: exact resume, checkpoints, bad numbers, budgets, precision, several processes."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from toy import held_elsewhere

from bertsmith import checkpoint
from bertsmith.corpus.prepare import prepare
from bertsmith.data import data
from bertsmith.hf.bert import bert_encoder
from bertsmith.masking import masking
from bertsmith.native import step as compiled
from bertsmith.objective import objective
from bertsmith.objective.masked_lm import MaskedLM
from bertsmith.optim import optim
from bertsmith.tokenizer.train import train_wordpiece
from bertsmith.train import Run, Stage, train


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Forty short documents of a made-up language in which words follow one another."""
    root = tmp_path_factory.mktemp("corpus")
    words, draw = ["ba", "be", "bi", "bo", "bu", "da", "de", "di", "do", "du"], random.Random(0)
    text = ""
    for _ in range(40):
        at = draw.randrange(10)
        text += " ".join(words[(at + i) % 10] for i in range(draw.randrange(20, 60))) + "\n\n"
    (root / "text.txt").write_text(text)
    train_wordpiece([root / "text.txt"], 60, root / "tokenizer")
    prepare([root / "text.txt"], root / "data", root / "tokenizer", 1)
    return root / "data"


def make(corpus: Path, budget: str = "12-steps", dropout: float = 0.1, **more) -> Run:
    vocab = json.loads((corpus / "manifest.json").read_text())["vocabulary"]
    stage = Stage(
        objective=objective("masked_lm", masking=masking("bert")),
        data=data("packed", path=str(corpus), length=32, rows=4),
        budget=budget,
        optim=optim("adamw", lr=3e-3),
    )
    settings = {"seed": 1, "precision": "fp32", "workers": 0, "save_steps": 5, "log_every": 1} | more
    return Run(encoder=bert_encoder(1, 16, 2, vocab, length=32, dropout=dropout), stages=[stage], **settings)


def same(a, b) -> bool:
    return all(torch.equal(a[k], b[k]) for k in a) and a.keys() == b.keys()


def lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_the_log_and_the_loss(corpus, tmp_path):
    train(make(corpus, "60-steps"), tmp_path, progress=False)
    log = lines(tmp_path)
    names = {
        "stage",
        "step",
        "progress",
        "lr",
        "loss",
        "grad_norm",
        "tokens",
        "padding",
        "tokens_per_s",
        "flops_per_s",
        "mfu",
    }
    assert names <= log[0].keys() and len(log) == 60 and log[-1]["progress"] == 1.0
    assert log[0]["precision"] == json.loads((tmp_path / "run.json").read_text())["precision"] == "fp32"
    assert log[-1]["loss"] < 0.85 * log[0]["loss"]  # what is left is the entropy of ten even words, ln 10


@pytest.mark.parametrize("budget", ["12-steps", "1400-tokens", "2e8-flops"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_interrupted_is_as_never_interrupted(corpus, tmp_path, monkeypatch, budget, precision):
    whole = train(make(corpus, budget, precision=precision), tmp_path / "whole", progress=False)
    assert whole.step > 7
    calls, forward = 0, MaskedLM.forward

    def stumble(self, encoder, batch):
        nonlocal calls
        calls += 1
        if calls in (3, 9):  # before the first checkpoint, and after one
            raise KeyboardInterrupt
        return forward(self, encoder, batch)

    monkeypatch.setattr(MaskedLM, "forward", stumble)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train(make(corpus, budget, precision=precision), tmp_path / "cut", progress=False)
    again = train(make(corpus, budget, precision=precision), tmp_path / "cut", progress=False)
    assert calls > 9 and same(whole.tensors, again.tensors) and same(whole.moments, again.moments)
    assert [x["loss"] for x in lines(tmp_path / "whole")] == [x["loss"] for x in lines(tmp_path / "cut")]


def test_a_finished_run_does_nothing_more(corpus, tmp_path):
    first = train(make(corpus), tmp_path, progress=False)
    stamp = (tmp_path / "log.jsonl").read_text()
    assert same(first.tensors, train(make(corpus), tmp_path, progress=False).tensors)
    assert (tmp_path / "log.jsonl").read_text() == stamp


def test_another_run_is_refused(corpus, tmp_path):
    train(make(corpus), tmp_path, progress=False)
    with pytest.raises(ValueError, match="another run .seed was 1, is 2"):
        train(make(corpus, seed=2), tmp_path, progress=False)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_recomputation_changes_no_bit(corpus, tmp_path, precision):
    kept, less = (
        train(make(corpus, precision=precision, recompute=on), tmp_path / str(on), progress=False)
        for on in (False, True)
    )
    assert same(kept.tensors, less.tensors)
    said = lines(tmp_path / "True")[0]["activation_bytes"]
    assert min(said["recomputed"], said["kept"]) > 0


def test_one_process_trains_into_a_folder_at_a_time(corpus, tmp_path):
    with held_elsewhere(tmp_path / ".lock") as other:
        with pytest.raises(ValueError, match="another process is at work in .*; wait for it, stop it, or say another"):
            train(make(corpus), tmp_path, progress=False)
        other.kill()
        other.wait()
        train(make(corpus), tmp_path, progress=False)  # what was killed holds nothing
    assert not (tmp_path / ".lock").exists()


def test_a_damaged_checkpoint_is_passed_over(corpus, tmp_path):
    whole = train(make(corpus), tmp_path / "a", progress=False)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    newest = sorted((tmp_path / "b/checkpoints").iterdir())[-1] / "model.safetensors"
    newest.write_bytes(newest.read_bytes()[:-3] + b"abc")
    again = train(make(corpus), tmp_path / "b", progress=False)
    assert same(whole.tensors, again.tensors)
    assert any("damaged" in x.get("warning", "") for x in lines(tmp_path / "b"))
    for folder in (tmp_path / "b/checkpoints").iterdir():
        (folder / "state.json").write_text("{")
    with pytest.raises(RuntimeError, match="every checkpoint"):
        train(make(corpus), tmp_path / "b", progress=False)


def test_a_full_disk_loses_nothing(corpus, tmp_path, monkeypatch):
    """Writing fails in the middle of the second checkpoint: the first is whole, and the run goes on from it."""
    whole = train(make(corpus), tmp_path / "a", progress=False)
    real, count = checkpoint.save_file, 0

    def full(held, path):
        nonlocal count
        count += 1
        if count == 4:
            Path(path).write_bytes(b"half")
            raise OSError(28, "No space left on device")
        real(held, path)

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="No space"):
        train(make(corpus), tmp_path / "b", progress=False)
    assert [p.name for p in (tmp_path / "b/checkpoints").iterdir()] == ["00-00000005"]
    assert same(whole.tensors, train(make(corpus), tmp_path / "b", progress=False).tensors)


def test_a_bad_number_names_step_and_module(corpus, tmp_path, monkeypatch):
    from bertsmith.ffn.mlp import MLP

    forward, calls = MLP.forward, 0

    def poison(self, x_BTD, layout):
        nonlocal calls
        calls += 1  # the first is the measuring of activations
        return forward(self, x_BTD, layout) * (float("nan") if calls > 8 else 1)

    monkeypatch.setattr(MLP, "forward", poison)
    with pytest.raises(FloatingPointError, match=r"step 8 of stage 0, first in encoder\.layers\.0\.ffn\."):
        train(make(corpus), tmp_path, progress=False)
    assert checkpoint.newest(tmp_path)[0].step == 5


def test_bf16_copies_follow_fp32_masters(corpus, tmp_path):
    out = [train(make(corpus, "60-steps", precision=p), tmp_path / p, progress=False) for p in ("fp32", "bf16")]
    assert all(v.dtype == torch.float32 for v in out[1].tensors.values())
    ends = [sum(x["loss"] for x in lines(tmp_path / p)[-10:]) / 10 for p in ("fp32", "bf16")]
    assert abs(ends[0] - ends[1]) < 0.1


def test_accumulation_is_a_larger_batch(corpus, tmp_path):
    """Two micro-batches of 4 rows a step: the gradients' mean, so the losses of a step are means of two."""
    one, two = make(corpus, "4-steps"), make(corpus, "2-steps")
    two.stages[0].accumulate = 2
    train(one, tmp_path / "one", progress=False)
    train(two, tmp_path / "two", progress=False)
    a, b = lines(tmp_path / "one"), lines(tmp_path / "two")
    assert b[0]["tokens"] == a[0]["tokens"] + a[1]["tokens"]


SCRIPT = """
import sys, json
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_train import make
from bertsmith.train import train
run = make(Path({corpus!r}), {budget!r}, **json.loads({more!r}))
run.stages[0].accumulate = {accumulate}
train(run, {out!r}, progress=False)
"""


def script(tmp_path: Path, corpus: Path, out: Path, budget: str, accumulate: int = 1, **more) -> Path:
    path = tmp_path / f"{out.name}.py"
    tests = str(Path(__file__).parent)
    path.write_text(
        SCRIPT.format(
            tests=tests, corpus=str(corpus), budget=budget, out=str(out), more=json.dumps(more), accumulate=accumulate
        )
    )
    return path


@pytest.mark.slow
def test_twenty_kills(corpus, tmp_path):
    """SIGKILL at 20 random moments, with 2 loader workers; at least 3 of them inside the writing of a checkpoint."""
    more = {"workers": 2, "save_steps": 3}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, script(tmp_path, corpus, whole, "1500-steps", **more)], check=True, env=env)
    path, draw, kills, inside = script(tmp_path, corpus, cut, "1500-steps", **more), random.Random(3), 0, 0
    while kills < 20:
        process = subprocess.Popen([sys.executable, path], env=env)
        log, start = cut / "log.jsonl", time.monotonic()
        while not log.exists():
            time.sleep(0.01)
        wait_for_writing = inside < 3 or draw.random() < 0.2
        until = time.monotonic() + 3 + draw.random()
        while process.poll() is None and time.monotonic() < until + 5:
            if wait_for_writing and time.monotonic() > until and list((cut / "checkpoints").glob("*.partial")):
                break
            if not wait_for_writing and time.monotonic() > until:
                break
        assert process.poll() is None, f"the run ended after {kills} kills, {time.monotonic() - start:.0f} s"
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        inside += bool(list((cut / "checkpoints").glob("*.partial")))
    assert inside >= 3
    subprocess.run([sys.executable, path], check=True, env=env)
    ends = [sorted((out / "checkpoints").iterdir())[-1] for out in (whole, cut)]
    for part in ("model", "moments"):
        assert same(*(load_file(e / f"{part}.safetensors") for e in ends))


@pytest.mark.slow
def test_two_processes_are_as_one(corpus, tmp_path):
    """torchrun with two processes, dropout 0: the loss curve of one with the same global batch, to rounding."""
    one, two = tmp_path / "one", tmp_path / "two"
    runs = [
        [sys.executable, script(tmp_path, corpus, one, "10-steps", 2, dropout=0.0)],
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29533",
         script(tmp_path, corpus, two, "10-steps", 2, dropout=0.0)],
    ]  # fmt: skip
    for command in runs:
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    a, b = ([x["loss"] for x in lines(out)] for out in (one, two))
    assert a == pytest.approx(b, rel=1e-4)


@pytest.mark.skipif(bool(compiled.why_not()), reason=compiled.why_not())
@pytest.mark.parametrize(
    "made",
    [optim("adamw", lr=0.01, weight_decay=0.1), optim("layerwise", inner=optim("adamw", weight_decay=0.1), lr=0.01)],
)
def test_the_compiled_adamw_takes_the_steps_of_torchs(made):
    """The same masters, moments and counts, from gradients in bf16; rows without a gradient only decay."""
    g = torch.Generator().manual_seed(0)
    shapes = {"encoder.embedding.table": (200, 30), "encoder.layers.0.weight": (64, 48), "bias": (77,), "one": (1,)}
    start = {n: torch.randn(s, generator=g) for n, s in shapes.items()}
    ours, theirs = (made.build({n: p.clone() for n, p in start.items()}) for _ in range(2))
    copies = {n: p.bfloat16() for n, p in start.items()}
    assert ours.pair(copies)
    for turn in range(4):
        for n, shape in shapes.items():
            grad = torch.randn(shape, generator=g).bfloat16()
            if n.endswith("table"):
                grad[torch.arange(200) % 40 != turn] = 0
            copies[n].grad, theirs.params[n].grad = grad, grad.float()
        if turn == 2:  # a run that was interrupted: what it kept goes into an optimiser that has seen nothing
            held = {n: v.clone() for n, v in ours.state().items()}
            ours = made.build(ours.params)
            assert ours.pair(copies)
            ours.load(held)
        norms = []
        ours.step(lambda: norms.append(ours.clip(1.5)) or 0.0, 0.5)  # noqa: B023
        clip = torch.nn.utils.clip_grad_norm_
        theirs.step(lambda: norms.append(float(clip(theirs.params.values(), 1.5))) or 0.0, 0.5)  # noqa: B023
        assert norms[0] == pytest.approx(norms[1], rel=1e-5)
    for n in shapes:
        torch.testing.assert_close(ours.params[n], theirs.params[n], rtol=1e-5, atol=1e-6)
        assert torch.equal(copies[n], ours.params[n].bfloat16())
    for name, value in theirs.state().items():
        torch.testing.assert_close(ours.state()[name], value, rtol=1e-4, atol=1e-7)
    copies["bias"].grad = None  # what has no gradient stays as it is, as with torch
    before = ours.params["bias"].clone()
    ours.step(lambda: ours.clip(1.0), 1.0)
    assert torch.equal(ours.params["bias"], before) and ours.state()["bias/step"] == 4
