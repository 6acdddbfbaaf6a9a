"""Budgets: read, written back, measured."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertsmith.budget import Budget


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("30m", 1800, "seconds"),
        ("2h", 7200, "seconds"),
        ("90s", 90, "seconds"),
        ("1.5d", 129600, "seconds"),
        ("2e9-tokens", 2e9, "tokens"),
        ("10000-steps", 10000, "steps"),
        ("1-step", 1, "steps"),
        (" 1e15-FLOPS ", 1e15, "flops"),
        ("12.5-seconds", 12.5, "seconds"),
    ],
)
def test_parse(text, amount, unit):
    assert Budget.parse(text) == Budget(amount, unit)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "say for example 30m"),
        ("soon", "cannot read the budget 'soon'"),
        ("30", "cannot read"),
        ("-5-steps", "cannot read"),
        ("5-parsecs", "no unit 'parsecs'; there are: s, m, h"),
        ("0-steps", "above zero"),
        ("1.5-steps", "whole number"),
        ("1e999-tokens", "above zero"),
    ],
)
def test_errors_say_what_to_write(text, says):
    with pytest.raises(ValueError, match=says):
        Budget.parse(text)


@given(st.floats(1e-3, 1e18), st.sampled_from(["tokens", "flops", "seconds"]))
def test_round_trip(amount, unit):
    budget = Budget(amount, unit)
    assert Budget.parse(str(budget)) == budget


@given(st.integers(1, 10**12))
def test_round_trip_steps(steps):
    assert Budget.parse(str(Budget(steps, "steps"))) == Budget(steps, "steps")


def test_progress():
    budget = Budget(10, "steps")
    assert [budget.progress(spent) for spent in (0, 5, 10, 11)] == [0.0, 0.5, 1.0, 1.0]
    assert budget.progress({"steps": 5, "tokens": 1e9}) == 0.5


def test_unknown_unit():
    with pytest.raises(ValueError, match="no budget unit 'epochs'; there are: steps, tokens"):
        Budget(1, "epochs")  # type: ignore[arg-type]
