"""Curves of several runs in one picture, along what was spent."""

import builtins
import json

import pytest

from bertsmith.history import points
from bertsmith.plot import plot

LINE = {"stage": 0, "lr": 1e-3, "tokens": 100, "seconds": 36.0, "flops_per_s": 5e9}


@pytest.fixture
def runs(tmp_path):
    for name, start in (("one", 9.0), ("two", 7.0)):
        (tmp_path / name).mkdir()
        log = [json.dumps(LINE | {"step": step, "loss": start / step}) for step in (10, 20, 30)]
        (tmp_path / name / "log.jsonl").write_text("\n".join([*log, '{"warning": "a remark"}', '{"step": 40, "lo']))
    return tmp_path


def test_a_curve_runs_along_what_was_spent():
    log = [LINE | {"step": step, "stage": stage, "loss": 1.0} for stage in (0, 1) for step in (10, 20)]
    assert [x for x, _ in points(log, "loss")] == [10, 20, 30, 40]  # a second stage goes on where the first ended
    assert [x for x, _ in points(log, "loss", "tokens")] == [100, 200, 300, 400]
    assert [x for x, _ in points(log, "loss", "hours")] == pytest.approx([0.01, 0.02, 0.03, 0.04])
    assert [x for x, _ in points(log, "loss", "flops")] == pytest.approx([1.8e11, 3.6e11, 5.4e11, 7.2e11])
    many = [LINE | {"step": step, "loss": float(step)} for step in range(1, 1201)]
    assert points(many, "loss")[:2] == [(2.0, 1.5), (4.0, 3.5)] and len(points(many, "loss")) == 600


def test_a_picture_has_every_run_and_says_along_what(runs):
    picture = plot([runs / "one", runs / "two"], runs / "curves.svg", x="tokens").read_text()
    assert all(f">{said}<" in picture for said in ("one", "two", "tokens", "loss"))
    assert plot([runs / "one", runs / "one"], runs / "c.pdf", "lr", "hours", True).read_bytes()[:5] == b"%PDF-"
    assert sorted(p.name for p in runs.iterdir()) == ["c.pdf", "curves.svg", "one", "two"]


def test_errors_name_the_thing(runs, monkeypatch):
    for asked, says in (
        ({"y": "los"}, r"no number 'los'; it has flops_per_s, loss, lr, seconds"),
        ({"x": "days"}, "one of steps, tokens, hours, flops, not 'days'"),
        ({"out": runs / "a.doc"}, r"must end in one of .*\.pdf.*\.svg"),
        ({"out": runs / "a"}, "must end in one of"),
    ):
        with pytest.raises(ValueError, match=says):
            plot(**{"runs": [runs / "one"], "out": runs / "a.svg", **asked})
    with pytest.raises(FileNotFoundError, match="no run in .*nowhere"):
        plot([runs / "nowhere"], runs / "a.svg")
    (runs / "two/log.jsonl").write_text('{"step": 5, "loss": 1.0, "tokens": 3}\n')
    with pytest.raises(ValueError, match="two/log.jsonl: no 'seconds' at step 5"):
        plot([runs / "two"], runs / "a.svg", x="hours")
    real = builtins.__import__

    def absent(name, *rest, **more):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ImportError, match=r"pip install 'bertsmith\[plot\]'"):
        plot([runs / "one"], runs / "a.svg")
    assert not (runs / "a.svg").exists()
