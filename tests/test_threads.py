"""Two threads with two models give what each gives alone: losses that are said, dropout, and the weights at the end."""

import sys
import threading

import pytest
import torch
from toy import corrupted, encoder_spec, example, language

from bertsmith import kernels, tap
from bertsmith.edit import edit
from bertsmith.graft import graft
from bertsmith.learner import build


def spec():
    with_dropout = encoder_spec("ffn", "moe").replace("blocks.*.residual.dropout", 0.2)
    return with_dropout.replace("blocks.*.mixer.dropout", 0.2)


@pytest.fixture
def hasty():
    """Threads take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def train(learner, seed, steps=6):
    """[(loss, balance loss heard)] of some steps, and the weights after them."""
    optimiser, line = torch.optim.SGD(learner.parameters(), lr=0.1), []
    for step in range(steps):
        with kernels.seeded(seed, step), tap.heard() as extra:
            batch = corrupted(learner.objective, language(8, seed + step), step)
            loss = learner.objective(learner.encoder, batch)["loss"] + sum(extra.values())
            loss.backward()
        line.append((loss.item(), extra["balance"].item()))
        optimiser.step()
        optimiser.zero_grad()
    return line, {k: v.detach().clone() for k, v in learner.state_dict().items()}


def together(*jobs):
    """Results of functions that run at once, each begun when all are ready."""
    results, gate = [None] * len(jobs), threading.Barrier(len(jobs))

    def work(i):
        gate.wait()
        results[i] = jobs[i]()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(jobs))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return results


def test_two_threads_train_two_models_as_if_alone(hasty):
    objective = example("objective", "masked_lm")

    def job(seed):
        return lambda: train(build(spec(), [], objective, seed).train(), seed)

    alone = [job(seed)() for seed in (0, 100)]
    assert alone[0][0] != alone[1][0]
    both = together(job(0), job(100))
    for (line, weights), (line_too, weights_too) in zip(alone, both, strict=True):
        assert line == line_too
        assert all(torch.equal(weights[k], weights_too[k]) for k in weights)


def test_a_thread_does_not_hear_another(hasty):
    x = torch.ones((), requires_grad=True)

    def speak(name):
        with tap.heard() as extra:
            for _ in range(2000):
                tap.say(name, x)
        return {k: v.item() for k, v in extra.items()}

    assert together(lambda: speak("a"), lambda: speak("b")) == [{"a": 2000.0}, {"b": 2000.0}]


def test_a_thread_does_not_take_anothers_kernel_or_bits(hasty):
    def look(form, seed):
        seen = set()
        with kernels.forced(form), kernels.seeded(seed):
            for _ in range(500):
                seen.add((kernels._force.get(), id(kernels._bits.get())))
        return seen

    one, two = together(lambda: look("eager", 0), lambda: look("sdpa", 1))
    assert len(one) == len(two) == 1 and one != two


def test_weights_drawn_in_one_thread_do_not_depend_on_another(hasty):
    """Building in two threads at once, with what later stages change: no weight comes from the one generator of torch."""
    objective = example("objective", "masked_lm")
    changes = [
        {"how": "edit", "where": "layers.*.mixer.*", "spec": edit("lora"), "name": "lora"},
        {"how": "graft", "where": "layers.*.mixer", "spec": graft("bottleneck", size=4), "name": "adapter"},
        {"how": "graft", "where": "layers.*.mixer.core", "spec": graft("prefix", length=2), "name": "prefix"},
    ]

    def job(seed):
        return lambda: build(spec(), changes, objective, seed).state_dict()

    alone, both = [job(0)(), job(1)()], together(job(0), job(1))
    for one, two in zip(alone, both, strict=True):
        assert all(torch.equal(one[k], two[k]) for k in one)


def test_structure_is_drawn_from_the_threads_own_generator(hasty):
    def draw(seed):
        drawn = []
        for step in range(300):
            with kernels.seeded(seed, step, "structure"):
                kernels.dropout(torch.ones(64), 0.5, True)
                drawn.append(torch.rand(4, generator=kernels.generator()))
        return torch.stack(drawn)

    alone, both = [draw(0), draw(1)], together(lambda: draw(0), lambda: draw(1))
    assert all(torch.equal(a, b) for a, b in zip(alone, both, strict=True)) and not torch.equal(*alone)
    assert kernels.generator() is None
