"""One loop, read from top to bottom: a Run is a value, and what it does is a function of that value alone.

Every draw is a function of (seed, stage, step, micro-batch, rank), so there is no random state to keep: a run killed
at any moment goes on from its newest checkpoint to bit-identical weights (budgets in steps, tokens and FLOPs).
"""

import json
import math
import time
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bertsmith import checkpoint, fused, kernels
from bertsmith.budget import Budget
from bertsmith.checkpoint import Trained
from bertsmith.cost import step_flops
from bertsmith.diagnose import bad_number
from bertsmith.differences import differences
from bertsmith.doctor import choose_precision, matmul_rate, threads
from bertsmith.draw import draw
from bertsmith.encoder import Encoder
from bertsmith.files import alone, write_atomic
from bertsmith.layout import Layout
from bertsmith.learner import Learner, Masters, build
from bertsmith.linear import apply_changes, leave, load_tensors, tensors
from bertsmith.loader import batches
from bertsmith.objective import Batch, Objective
from bertsmith.optim import Optim
from bertsmith.parallel import World
from bertsmith.progress import Bar, Log, Meter
from bertsmith.resize import resized
from bertsmith.run import Run, Stage


def train(run: Run, out: Path | str, start: Trained | None = None, progress: bool = True) -> Trained:
    """Do a run, or go on with it: the same call again continues at the newest checkpoint in `out`.

    Args:
        start: the encoder to begin with (its spec replaces `run.encoder`); fresh weights if None.

    Returns:
        what was trained, in fp32; `build` and `load_tensors` make modules of it, `bertsmith.load(out)` a Model.

    Raises:
        ValueError: `out` holds another run, another process trains into it, or a setting is off.
        FloatingPointError: a bad number, naming step and module; the last good checkpoint is kept.
    """
    out, world = Path(out), World.join()
    out.mkdir(parents=True, exist_ok=True)
    with alone(out / ".lock") if world.rank == 0 else nullcontext():
        return _train(run, out, start, world, progress)


def _train(run: Run, out: Path, start: Trained | None, world: World, progress: bool) -> Trained:
    torch.set_num_threads(max(1, threads() // world.size))
    kernels.keep_memory()
    precision = _settle(run, out, world)
    found, complaints = checkpoint.newest(out)
    now = found or start or Trained(run.encoder, [], {})
    log = Log(out / "log.jsonl", now.log, world.rank == 0)
    for text in complaints:
        log.say({"warning": text})
    with Bar(progress and world.rank == 0) as bar:
        while not now.done or now.stage + 1 < len(run.stages):
            now = _enter(run, now) if now.done else now
            now = _advance(run, now, precision, out, world, log, bar)
    return now


def _settle(run: Run, out: Path, world: World) -> str:
    """Write OUT/run.json, or check that it is this run's; the precision in use."""
    plain = run.to_dict()
    path = out / "run.json"
    if world.rank == 0:
        checkpoint.clean(out)
        if path.exists():
            old, tells = json.loads(path.read_text()), ("encoder", "stages", "seed")
            if odd := differences(old, json.loads(json.dumps({k: plain[k] for k in tells}))):
                raise ValueError(f"{out} holds another run ({'; '.join(odd[:3])}): use another folder")
        else:
            resolved = choose_precision() if run.precision == "auto" else run.precision
            write_atomic(path, json.dumps(plain | {"precision": resolved}, indent=1))
    world.wait()
    return json.loads(path.read_text())["precision"]


def _enter(run: Run, now: Trained) -> Trained:
    """The next stage's beginning: resize, build what is new, keep what goes on."""
    stage, seed = run.stages[now.stage + 1], draw(run.seed, "stage", now.stage + 1)
    same = now.stage < 0 or run.stages[now.stage].objective == stage.objective
    spec, kept = now.encoder, now.tensors
    moments = now.moments if stage.keep_moments else {}
    for change in stage.resize:
        if now.changes:
            raise ValueError("bake or drop edits and grafts before a resize: set `leave` in the stage before")
        method, old = change.build(), run.stages[max(now.stage, 0)].objective
        spec, kept, moments = resized(method, spec, kept, moments, lambda s, o=old: build(s, [], o, seed))
    known = {k: v for k, v in kept.items() if same or k.startswith("encoder.")}
    learner = build(spec, now.changes, stage.objective, seed, known)
    fresh = tensors(learner)
    load_tensors(learner, {k: known.get(k, v) for k, v in fresh.items()})
    there, here = ({k for k in x if k.startswith("encoder.")} for x in (kept, fresh))
    if kept and (lost := there ^ here):
        raise KeyError(f"the weights to start from do not fit the encoder: {sorted(lost)[:5]}")
    with kernels.seeded(seed, "changes"):
        apply_changes(learner.encoder, stage.changes)
    changes, new = learner.encoder.changes, {k: v.detach() for k, v in tensors(learner).items()}
    moments = {k: v for k, v in moments.items() if k.rpartition("/")[0] in new}
    return Trained(spec, changes, new, moments, now.stage + 1, done=False, log=now.log)


def _advance(run: Run, now: Trained, precision: str, out: Path, world: World, log: Log, bar: Bar) -> Trained:
    """Train a stage to the end of its budget."""
    stage, device = run.stages[now.stage], torch.device("cuda" if torch.cuda.is_available() else "cpu")
    budget, plan = Budget.parse(stage.budget), stage.schedule.build()
    if stage.accumulate % world.size:
        raise ValueError(f"accumulate={stage.accumulate} is not a multiple of the {world.size} processes")
    learner = build(now.encoder, now.changes, stage.objective, draw(run.seed, "stage", now.stage), known=now.tensors)
    load_tensors(learner, now.tensors)
    learner, select = learner.to(device).train(), stage.select.build()
    masters = Masters(learner, precision)
    once: dict[str, Any] = {"precision": precision}
    if precision == "bf16" and device.type == "cpu":
        once |= fused.about(learner.encoder.layers, learner.encoder.embedding)
    names = [n for n, p in masters.fp32.items() if select(n, p)]
    for n, p in masters.live.items():
        p.requires_grad_(n in names)
    if not names:
        raise ValueError("nothing would train: no parameter is selected")
    optimiser = stage.optim.build({n: masters.fp32[n] for n in names})
    if precision == "bf16" and world.size == 1:
        optimiser.pair({n: masters.live[n] for n in names})
    optimiser.load({k: v.to(device) for k, v in now.moments.items() if k.rpartition("/")[0] in names})
    source = stage.data.build()
    if now.data is not None:
        source.load(now.data)
    feed = batches(source, learner.objective.corruption(), run.seed, run.workers, world.rank, world.size)
    encoder, objective, peak = learner.encoder, learner.objective, matmul_rate(precision)
    since, saved, meter = time.monotonic(), time.monotonic(), Meter()
    said: dict[str, int] = {}
    while (done := budget.progress(now.spent)) < 1.0:
        micro = [_to(next(feed), device) for _ in range(stage.accumulate // world.size)]
        if not said:
            said = _activations(run, now, learner, micro[0], done, world.rank)
            once["activation_bytes"] = said
            if not now.stage:
                bar.say("activations of a micro-batch: {kept:,} bytes, {recomputed:,} with recompute".format(**said))
        with kernels.seeded(run.seed, now.stage, now.step, "structure"):
            learner.begin_step(done)
        gradients = partial(_gradients, run, now, learner, masters, optimiser, names, micro, world, meter)
        loss = optimiser.step(gradients, plan.factor(done))
        masters.write(names, optimiser)
        took, since = time.monotonic() - since, time.monotonic()
        local = [loss, took, *map(float, map(sum, zip(*(_size(encoder, objective, b) for b in micro), strict=True)))]
        loss, took, real, slots, flops = world.sum(local)
        loss, took = loss / world.size, took / world.size
        spent = {"tokens": now.tokens + real, "flops": now.flops + flops, "seconds": now.seconds + took}
        now = replace(now, step=now.step + 1, data=micro[-1]["state"], **spent)
        meter.add(loss, real, slots, flops, took)
        over = budget.progress(now.spent) >= 1.0
        if now.step % run.log_every == 0 or over:
            line = meter.line(peak * world.size)
            log.say({"stage": now.stage, "step": now.step, "progress": budget.progress(now.spent),
                     "lr": optimiser.rate(), "all_tokens": now.tokens, **line, **once})  # fmt: skip
            once = {}
            note = f"loss {line['loss']:.3f}  {line['tokens_per_s']:,.0f} tokens/s"
            bar.move(budget.progress(now.spent), f"stage {now.stage + 1}/{len(run.stages)}", note)
        due = run.save_steps and now.step % run.save_steps == 0
        if world.rank == 0 and not over and (due or time.monotonic() - saved > run.save_seconds):
            checkpoint.save(out, _gather(now, learner, masters, optimiser, log))
            saved = time.monotonic()
    feed.close()
    now = _leave(stage, _gather(now, learner, masters, optimiser, log), run)
    if world.rank == 0:
        checkpoint.save(out, now)
    world.wait()
    return now


def _gradients(
    run: Run,
    now: Trained,
    learner: Learner,
    masters: Masters,
    optimiser: Optim,
    names: list[str],
    micro: list[Batch],
    world: World,
    meter: Meter,
) -> float:
    """Set the masters' gradients to the mean over micro-batches and ranks, clipped; the mean loss of this rank."""
    total, clip = 0.0, run.stages[now.stage].clip
    for i, batch in enumerate(micro):
        with kernels.seeded(run.seed, now.stage, now.step, i, world.rank), kernels.recomputing(run.recompute):
            loss = learner.loss(batch)
            (loss / len(micro)).backward()
            total += loss.item() / len(micro)
    meter.norm = masters.clip(names, clip or math.inf, optimiser, world.mean_)
    if not math.isfinite(total + meter.norm):
        raise FloatingPointError(bad_number(learner, micro, now, run.seed, world.rank))
    return total


def _activations(run: Run, now: Trained, learner: Learner, batch: Batch, done: float, rank: int) -> dict[str, int]:
    """Bytes that the forward pass of a micro-batch keeps for the backward one, without and with `recompute`."""

    def forward() -> Tensor:
        with kernels.seeded(run.seed, now.stage, now.step, "structure"):
            learner.begin_step(done)
        with kernels.seeded(run.seed, now.stage, now.step, 0, rank):
            return learner.loss(batch)

    kept = fused.measured(learner, forward)
    return {"kept": kept.whole, "recomputed": kept.recomputed}


def _gather(now: Trained, learner: Learner, masters: Masters, optimiser: Optim, log: Log) -> Trained:
    held = tensors(learner) | masters.fp32
    kept = {k: held[k].detach() for k in tensors(learner)}
    return replace(now, tensors=kept, moments=optimiser.state(), log=log.length)


def _leave(stage: Stage, now: Trained, run: Run) -> Trained:
    """The end of a stage: every piece takes its last step, and its changes are kept, baked or dropped."""
    learner = build(now.encoder, now.changes, stage.objective, draw(run.seed, "stage", now.stage), known=now.tensors)
    load_tensors(learner, now.tensors)
    learner.begin_step(1.0)
    leave(learner.encoder, stage.changes, stage.leave)
    left = {k: v.detach() for k, v in tensors(learner).items()}
    moments = {k: v for k, v in now.moments.items() if k.rpartition("/")[0] in left}
    return replace(now, changes=learner.encoder.changes, tensors=left, moments=moments, done=True)


def _to(batch: Batch, device: torch.device) -> Batch:
    return {k: v.to(device) if isinstance(v, Tensor | Layout) else v for k, v in batch.items()}


def _size(encoder: Encoder, objective: Objective, batch: Batch) -> tuple[float, float, float]:
    """(tokens, places, FLOPs) of a batch."""
    return float(batch["layout"].real_BT.sum()), batch["token"].numel(), step_flops(encoder, objective, batch)
