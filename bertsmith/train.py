"""One loop, read from top to bottom: a Run is a value, and what it does is a function of that value alone.

Every draw is a function of (seed, stage, step, micro-batch, rank), so there is no random state to keep: a run killed
at any moment goes on from its newest checkpoint to bit-identical weights (budgets in steps, tokens and FLOPs).
"""

import json
import math
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bertsmith import checkpoint, kernels, tap
from bertsmith.budget import Budget
from bertsmith.checkpoint import Trained
from bertsmith.cost import step_flops
from bertsmith.data.loader import batches
from bertsmith.doctor import choose_precision, matmul_rate, threads
from bertsmith.draw import draw
from bertsmith.files import write_atomic
from bertsmith.layout import Layout
from bertsmith.learner import Learner, Masters, build
from bertsmith.linear import apply_changes, bake, load_tensors, tensors, ungraft
from bertsmith.objective import Batch
from bertsmith.optim import Optim
from bertsmith.optim import optim as optims
from bertsmith.parallel import World
from bertsmith.progress import Bar, Log, Meter
from bertsmith.schedule import schedule as schedules
from bertsmith.select import select as selects
from bertsmith.spec import Spec, to_plain


@dataclass
class Stage:
    """A part of a run. Changes are edits and grafts: [{"how": "edit", "where": pattern, "name": str, "spec": Spec}]."""

    objective: Spec
    data: Spec
    budget: str = "1000-steps"
    optim: Spec = field(default_factory=lambda: optims("adamw"))
    schedule: Spec = field(default_factory=lambda: schedules("linear"))
    select: Spec = field(default_factory=lambda: selects("paths"))
    resize: list[Spec] = field(default_factory=list)
    changes: list[dict[str, Any]] = field(default_factory=list)
    leave: str = "keep"  # its changes, at its end: "keep", "bake" (edits into the weights) or "drop" (grafts)
    keep_moments: bool = True
    accumulate: int = 1  # micro-batches a step, over all processes
    clip: float = 1.0


@dataclass
class Run:
    """Everything that a run is; saved, resolved, as OUT/run.json. The fields after `precision` change no weight."""

    encoder: Spec
    stages: list[Stage]
    seed: int = 0
    precision: str = "auto"  # "bf16" (with fp32 masters), "fp32", or "auto": what the processor does well
    workers: int = 1
    log_every: int = 20
    save_seconds: float = 120.0
    save_steps: int = 0  # also every so many steps; 0: by time only


def train(run: Run, out: Path | str, start: Trained | None = None, progress: bool = True) -> Trained:
    """Do a run, or go on with it: the same call again continues at the newest checkpoint in `out`.

    Args:
        start: the encoder to begin with (its spec replaces `run.encoder`); fresh weights if None.

    Returns:
        what was trained, in fp32; `build` and `load_tensors` make modules of it, `bertsmith.load(out)` a Model.

    Raises:
        ValueError: `out` holds another run, or a setting is off.
        FloatingPointError: a bad number, naming step and module; the last good checkpoint is kept.
    """
    out, world = Path(out), World.join()
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
    plain = {k: to_plain(v) for k, v in vars(run).items()} | {"stages": [to_plain(vars(s)) for s in run.stages]}
    path = out / "run.json"
    if world.rank == 0:
        out.mkdir(parents=True, exist_ok=True)
        checkpoint.clean(out)
        if path.exists():
            old, tells = json.loads(path.read_text()), ("encoder", "stages", "seed")
            if odd := [k for k in tells if old[k] != json.loads(json.dumps(plain[k]))]:
                raise ValueError(f"{out} holds another run (its {', '.join(odd)} differ): use another folder, or remove it")
        else:
            resolved = choose_precision() if run.precision == "auto" else run.precision
            write_atomic(path, json.dumps(plain | {"precision": resolved}, indent=1))
    world.wait()
    return json.loads(path.read_text())["precision"]


def _enter(run: Run, now: Trained) -> Trained:
    """The next stage's beginning: resize, build what is new, keep what goes on."""
    stage, seed = run.stages[now.stage + 1], draw(run.seed, "stage", now.stage + 1)
    same = now.stage >= 0 and run.stages[now.stage].objective == stage.objective
    spec, kept = now.encoder, now.tensors
    moments = now.moments if stage.keep_moments else {}
    for change in stage.resize:
        if now.changes:
            raise ValueError("edits and grafts must be baked or dropped before a resize: set `leave` in the stage before")
        method, old = change.build(), run.stages[max(now.stage, 0)].objective
        spec, kept, moments = _resize(method, spec, kept, moments, lambda s, o=old: build(s, [], o, seed))
    learner = build(spec, now.changes, stage.objective, seed)
    fresh = tensors(learner)
    load_tensors(learner, {k: kept.get(k, v) if same or k.startswith("encoder.") else v for k, v in fresh.items()})
    if kept and (lost := {k for k in kept if k.startswith("encoder.")} ^ {k for k in fresh if k.startswith("encoder.")}):
        raise KeyError(f"the weights to start from do not fit the encoder: {sorted(lost)[:5]}")
    apply_changes(learner.encoder, stage.changes)
    changes, new = learner.encoder.changes, {k: v.detach() for k, v in tensors(learner).items()}
    moments = {k: v for k, v in moments.items() if k.rpartition("/")[0] in new}
    return Trained(spec, changes, new, moments, now.stage + 1, done=False, log=now.log)


def _resize(method: Any, spec: Spec, kept: dict, moments: dict, make: Any) -> tuple[Spec, dict, dict]:
    """Weights and optimiser state through one map; a tensor that is new takes the step count of the furthest."""
    larger, weights = method(spec, kept, make, "weight")
    state: dict[str, Tensor] = {}
    for what, role in (("exp_avg", "gradient"), ("exp_avg_sq", "square")):
        part = {k.rpartition("/")[0]: v for k, v in moments.items() if k.endswith("/" + what)}
        state |= {f"{k}/{what}": v for k, v in (method(spec, part, make, role)[1] if part else {}).items()}
    steps = {k: v for k, v in moments.items() if k.endswith("/step")}
    names = {k.rpartition("/")[0] for k in state}
    return larger, weights, state | {f"{n}/step": steps.get(f"{n}/step", max(steps.values())) for n in names}


def _advance(run: Run, now: Trained, precision: str, out: Path, world: World, log: Log, bar: Bar) -> Trained:
    """Train a stage to the end of its budget."""
    stage, device = run.stages[now.stage], torch.device("cuda" if torch.cuda.is_available() else "cpu")
    budget, plan = Budget.parse(stage.budget), stage.schedule.build()
    if stage.accumulate % world.size:
        raise ValueError(f"accumulate={stage.accumulate} is not a multiple of the {world.size} processes")
    learner = build(now.encoder, now.changes, stage.objective, draw(run.seed, "stage", now.stage))
    load_tensors(learner, now.tensors)
    learner, select = learner.to(device).train(), stage.select.build()
    masters = Masters(learner, precision)
    names = [n for n, p in masters.fp32.items() if select(n, p)]
    for n, p in masters.live.items():
        p.requires_grad_(n in names)
    if not names:
        raise ValueError("nothing would train: no parameter is selected")
    optimiser = stage.optim.build({n: masters.fp32[n] for n in names})
    optimiser.load({k: v.to(device) for k, v in now.moments.items() if k.rpartition("/")[0] in names})
    source = stage.data.build()
    if now.data is not None:
        source.load(now.data)
    feed = batches(source, learner.objective.corruption(), run.seed, run.workers, world.rank, world.size)
    encoder, objective, peak = learner.encoder, learner.objective, matmul_rate(precision)
    since, saved, meter = time.monotonic(), time.monotonic(), Meter()
    while (done := budget.progress(now.spent)) < 1.0:
        micro = [_to(next(feed), device) for _ in range(stage.accumulate // world.size)]
        with kernels.seeded(run.seed, now.stage, now.step, "structure"):
            for module in learner.modules():
                if isinstance(module, tap.Stepped):
                    module.step(done)

        def closure() -> float:
            total = 0.0
            for i, batch in enumerate(micro):
                with kernels.seeded(run.seed, now.stage, now.step, i, world.rank), tap.heard() as extra:
                    loss = objective(encoder, batch)["loss"] + sum(extra.values())
                    (loss / len(micro)).backward()
                    total += loss.item() / len(micro)
            world.mean_(masters.gradients(names))
            grads = [g for n in names if (g := masters.fp32[n].grad) is not None]
            meter.norm = float(nn.utils.clip_grad_norm_([masters.fp32[n] for n in names], stage.clip or math.inf))
            if not math.isfinite(total + (meter.norm if grads else 0.0)):
                raise FloatingPointError(_where(run, learner, micro, now, world))
            return total

        loss = optimiser.step(closure, plan.factor(done))
        masters.write(names)
        for p in masters.fp32.values():
            p.grad = None
        clock = time.monotonic()
        real, slots = (sum(f(b) for b in micro) * world.size for f in (_real, lambda b: b["token"].numel()))
        flops = sum(step_flops(encoder, objective, b) for b in micro) * world.size
        now = replace(now, step=now.step + 1, tokens=now.tokens + real, flops=now.flops + flops,
                      seconds=now.seconds + clock - since, data=micro[-1]["state"])  # fmt: skip
        meter.add(loss, real, slots, flops, clock - since)
        since, over = clock, budget.progress(now.spent) >= 1.0
        if now.step % run.log_every == 0 or over:
            line = meter.line(peak * world.size)
            log.say({"stage": now.stage, "step": now.step, "progress": budget.progress(now.spent),
                     "lr": optimiser.torch.param_groups[0]["lr"], "all_tokens": now.tokens, **line})  # fmt: skip
            note = f"loss {line['loss']:.3f}  {line['tokens_per_s']:,.0f} tokens/s"
            bar.move(budget.progress(now.spent), f"stage {now.stage + 1}/{len(run.stages)}", note)
        due = run.save_steps and now.step % run.save_steps == 0
        if world.rank == 0 and not over and (due or clock - saved > run.save_seconds):
            checkpoint.save(out, _gather(now, learner, masters, optimiser, log))
            saved = time.monotonic()
    feed.close()
    now = _leave(stage, _gather(now, learner, masters, optimiser, log), run)
    if world.rank == 0:
        checkpoint.save(out, now)
    world.wait()
    return now


def _gather(now: Trained, learner: Learner, masters: Masters, optimiser: Optim, log: Log) -> Trained:
    held = tensors(learner) | masters.fp32
    return replace(now, tensors={k: held[k].detach() for k in tensors(learner)}, moments=optimiser.state(), log=log.length)


def _leave(stage: Stage, now: Trained, run: Run) -> Trained:
    """The end of a stage: every piece takes its last step, and its changes are kept, baked or dropped."""
    if stage.leave not in ("keep", "bake", "drop"):
        raise ValueError(f"leave is keep, bake or drop, not {stage.leave!r}")
    learner = build(now.encoder, now.changes, stage.objective, draw(run.seed, "stage", now.stage))
    load_tensors(learner, now.tensors)
    for module in learner.modules():
        if isinstance(module, tap.Stepped):
            module.step(1.0)
    if stage.leave == "bake":
        bake(learner.encoder)
    for change in list(learner.encoder.changes) if stage.leave == "drop" else ():
        if change["how"] == "graft":
            ungraft(learner.encoder, change["name"])
    left = {k: v.detach() for k, v in tensors(learner).items()}
    moments = {k: v for k, v in now.moments.items() if k.rpartition("/")[0] in left}
    return replace(now, changes=learner.encoder.changes, tensors=left, moments=moments, done=True)


def _where(run: Run, learner: Learner, micro: list[Batch], now: Trained, world: World) -> str:
    """The message that names the first module with a bad number, found by going through the batch once more."""
    bad: list[str] = []

    def look(path: str, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor) and not bool(output.isfinite().all()):
            bad.append(path)

    for i, batch in enumerate(micro):
        with torch.no_grad(), kernels.seeded(run.seed, now.stage, now.step, i, world.rank), tap.see(learner, "**", look):
            learner.objective(learner.encoder, batch)
    weights = [n for n, p in learner.named_parameters() if not bool(p.isfinite().all())]
    place = f"first in the weight {weights[0]}" if weights else f"first in {bad[0]}" if bad else "in the gradient only"
    return (
        f"a bad number (NaN or infinity) at step {now.step + 1} of stage {now.stage}, {place}. The last good checkpoint is "
        f"kept. Lower the learning rate, clip harder, or use precision='fp32'"
    )


def _to(batch: Batch, device: torch.device) -> Batch:
    return {k: v.to(device) if isinstance(v, Tensor | Layout) else v for k, v in batch.items()}


def _real(batch: Batch) -> int:
    return int(batch["layout"].real_BT.sum())
