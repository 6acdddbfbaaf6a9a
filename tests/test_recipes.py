"""Every shipped recipe runs: two steps of its own encoder, objective, optimiser and schedule, shrunk."""

import dataclasses
from pathlib import Path

import pytest

from bertsmith.corpus.prepare import prepare
from bertsmith.methods import all_recipes
from bertsmith.spec import Spec
from bertsmith.tokenizer.train import train_wordpiece
from bertsmith.train import train

# sizes by the names that settings have; what divides something is kept by choosing powers of two
SIZES = {
    "dim": 32,
    "heads": 4,
    "depth": 2,
    "hidden": 48,
    "width": 16,
    "rows": 2,
    "head_dim": 0,
    "own_heads": 0,
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Some documents of a made-up language."""
    root, words = tmp_path_factory.mktemp("corpus"), ["ba", "be", "bi", "bo", "bu", "da", "de", "di"]
    lines = [" ".join(words[(at + i) % 8] for i in range(20 + at)) for at in range(30)]
    (root / "text.txt").write_text("\n\n".join(lines))
    train_wordpiece([root / "text.txt"], 50, root / "tokenizer")
    prepare([root / "text.txt"], root / "data", root / "tokenizer", 0)
    return root / "data"


def shrunk(value):
    """A copy in which every setting that is a size is small; layers beyond the second repeat the first two."""
    if isinstance(value, list):
        return [shrunk(v) for v in value]
    if not isinstance(value, Spec):
        return value
    made = {}
    for name, old in value.args.items():
        small = -(-old // 16) if name == "length" and type(old) is int else SIZES.get(name)
        made[name] = small if small is not None and isinstance(old, int) and old > small else shrunk(old)
    if "offset" in made:  # positions that are never read
        made["length"] += made["offset"]
    return value.slot(value.kind, **made)


@pytest.mark.parametrize("name", sorted(all_recipes()))
def test_two_steps_of_every_recipe(name, corpus, tmp_path):
    run = all_recipes()[name](corpus)
    assert (all_recipes()[name].__doc__ or "").strip(), f"{name} says what it is"
    stages = [
        dataclasses.replace(
            stage, data=shrunk(stage.data), objective=shrunk(stage.objective), budget="2-steps", accumulate=1
        )
        for stage in run.stages
    ]
    small = dataclasses.replace(run, encoder=shrunk(run.encoder), stages=stages, workers=0, precision="fp32")
    trained = train(small, tmp_path / "run", progress=False)
    assert all(bool(x.isfinite().all()) for x in trained.tensors.values())
    kinds = {spec.kind for spec in [run.encoder, *run.encoder.args.get("blocks", [])]}
    assert kinds <= {spec.kind for spec in [trained.encoder, *trained.encoder.args.get("blocks", [])]}
