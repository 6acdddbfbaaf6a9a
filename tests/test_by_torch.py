"""Encoders that torch runs with products in bf16: pieces of every kind run, and the promise decides."""

import numpy as np
import pytest
import torch
from golden.make import tokenizer
from test_compose import COMBINATIONS, assemble
from toy import both, build

from bertsmith import engine as engines
from bertsmith.engine import by_torch
from bertsmith.hf.bert import bert_encoder
from bertsmith.mixer import mixer
from bertsmith.model import Bundle, Model

EVERY_FOURTH = COMBINATIONS[1::4]
TEXTS = ["w1 w2 w3", "w7", "w9 w9 w4 w30 w31 w2"]


@pytest.mark.parametrize("choice", EVERY_FOURTH, ids=[str(i) for i in range(len(EVERY_FOURTH))])
def test_any_pieces_run(choice):
    """How near they come is shown with families: toys without norms have states that grow from layer to layer."""
    try:
        encoder = build(assemble(choice))
    except ValueError:
        pytest.skip("these pieces refuse each other")
    token_BT, layout = both()[0]
    with torch.inference_mode():
        got = by_torch.states(by_torch.shortened(encoder), token_BT, layout)[layout.real_BT]
    assert got.dtype == torch.float32 and bool(got.isfinite().all())


@pytest.fixture
def model(monkeypatch):
    """A model with a mixer that the kernel does not know, on a processor that multiplies bf16."""
    monkeypatch.setattr(engines, "choose_precision", lambda: "bf16")
    torch.manual_seed(0)
    spec = bert_encoder(2, 32, 2, 60, length=64).replace("blocks.*.mixer", mixer("fourier"))
    return Model(spec, Bundle(spec.build().eval(), None), tokenizer(60), max_length=64)


def cosines(a_ND, b_ND):
    return (a_ND * b_ND).sum(1) / np.linalg.norm(a_ND, axis=1) / np.linalg.norm(b_ND, axis=1)


def test_the_promise_is_kept_in_bf16(model):
    assert model.engine.about() == {"runtime": "torch", "precision": "bf16", "why": model.engine.about()["why"]}
    assert model.engine.about("exact")["precision"] == "fp32" and "mixer/Fourier" in model.engine.about()["why"]
    exact = model.encode(TEXTS, precision="exact")
    assert not np.array_equal(model.encode(TEXTS), exact)
    assert cosines(model.encode(TEXTS), exact).min() >= 0.9999
    assert cosines(model.encode(TEXTS, precision="fast"), exact).mean() >= 0.999


def test_or_it_becomes_fp32(model, monkeypatch):
    monkeypatch.setattr(by_torch, "states", lambda encoder, token_BT, layout: torch.randn(*token_BT.shape, 32))
    assert model.engine.about()["precision"].startswith("fp32 (bf16 has a cosine of")
    assert np.array_equal(model.encode(TEXTS), model.encode(TEXTS, precision="exact"))


def test_a_piece_that_has_no_bf16_form_stays_in_fp32(model, monkeypatch):
    def refuse(encoder, token_BT, layout):
        raise RuntimeError("\"odd\" not implemented for 'BFloat16'\nand more")

    monkeypatch.setattr(by_torch, "states", refuse)
    assert model.engine.about()["precision"] == "fp32 (in bf16: \"odd\" not implemented for 'BFloat16')"
    assert np.array_equal(model.encode(TEXTS), model.encode(TEXTS, precision="exact"))


def test_changed_weights_are_seen(model):
    before = model.encode(TEXTS)
    with torch.no_grad():
        model.encoder.layers[0].ffn.up.weight += torch.linspace(0, 1, 32)
    assert np.abs(model.encode(TEXTS) - before).max() > 1e-3
