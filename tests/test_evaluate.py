"""Evaluation: pseudo-log-likelihoods equal the definition, BLiMP counts as published, every model is asked the same."""

import io
import json
import math
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from bertsmith.evaluate import blimp, evaluate, masked_lm, pseudo_log_likelihood, pseudo_perplexity
from bertsmith.head import head
from bertsmith.hf.bert import bert_encoder
from bertsmith.layout import Layout
from bertsmith.model import Bundle, Model
from bertsmith.norm import norm
from bertsmith.pseudo import perplexity
from bertsmith.tokenizer.load import load_tokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "dog", "dogs", "barks", "bark", "a", "b", "c", "d"]


@pytest.fixture
def model(tmp_path) -> Model:
    """A masked LM with random weights, dropout on in training."""
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    torch.manual_seed(0)
    spec = bert_encoder(2, 32, 2, len(WORDS), hidden=64, length=32)
    encoder, head_spec = spec.build(), head("masked_lm", norm=norm("layer"))
    for p in encoder.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return Model(spec, Bundle(encoder, head_spec.build(encoder, 0)), load_tokenizer(tmp_path / "vocab.txt"), head_spec)


@torch.no_grad()
def by_definition(model: Model, words: str) -> float:
    """Equation 1 of Salazar et al. 2020, one forward pass a token."""
    ids = [2, *(WORDS.index(w) for w in words.split()), 3]
    total = 0.0
    for place in range(1, len(ids) - 1):
        token = torch.tensor([ids])
        token[0, place] = 4
        layout = Layout.padded(torch.ones_like(token))
        logits = model.head(model.encoder(token, layout), layout)[0, place]
        total += float(logits.double().log_softmax(-1)[ids[place]])
    return total


@pytest.mark.parametrize("budget", [1, 7, 64, 8192])
def test_pseudo_log_likelihood_equals_its_definition(model, budget):
    texts = ["the dog barks", "a b c d a b", "", "dogs", "the dog barks", "a"]
    found = pseudo_log_likelihood(model, texts, budget=budget)
    assert [n for _, n in found] == [3, 6, 0, 1, 3, 1]
    for text, (value, _) in zip(texts, found, strict=True):
        assert value == pytest.approx(by_definition(model, text), abs=1e-4)
    total = sum(by_definition(model, t) for t in texts)
    assert perplexity(found) == pytest.approx(math.exp(-total / 14), rel=1e-4)


def test_modes_are_put_back_and_models_without_the_head_are_refused(model):
    model.encoder.train()
    pseudo_log_likelihood(model, ["a"])
    assert model.encoder.training and not model.head.training
    with pytest.raises(ValueError, match="masked-LM head"):
        pseudo_log_likelihood(Model(model.spec, Bundle(model.encoder, None), model.tokenizer), ["a"])
    with pytest.raises(ValueError, match="fine-tune"):
        evaluate(model, [{"text": "a", "label": 1}])
    with pytest.raises(ValueError, match="no token"):
        perplexity([(0.0, 0)])


def write_blimp(folder: Path) -> None:
    """Two toy paradigms."""
    folder.mkdir()
    for name, field, bad in (
        ("agreement", "morphology", "the dog bark"),
        ("other", "syntax/semantics", "the dog barks"),
    ):
        lines = [
            {
                "sentence_good": f"the dog barks {w}",
                "sentence_bad": f"{bad} {w}",
                "field": field,
                "linguistics_term": "t",
            }
            for w in "abcd"
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))


def test_blimp_counts_pairs_from_a_folder_or_an_archive(model, tmp_path):
    write_blimp(tmp_path / "blimp")
    said: list[str] = []
    found = blimp(model, tmp_path / "blimp", progress=False, say=said.append)
    good = [by_definition(model, f"the dog barks {w}") > by_definition(model, f"the dog bark {w}") for w in "abcd"]
    assert found["paradigms"]["agreement"]["accuracy"] == np.mean(good)
    assert found["paradigms"]["other"]["accuracy"] == 0 and found["ties"] == 4  # equal sentences: a tie is not right
    assert (
        found["fields"] == {"morphology": np.mean(good), "syntax_semantics": 0.0}
        and found["accuracy"] == np.mean(good) / 2
    )
    assert "2 paradigms instead of the 67" in said[0]
    with tarfile.open(tmp_path / "blimp.tar.xz", "w:xz") as archive:
        archive.add(tmp_path / "blimp", "blimp")
    assert blimp(model, tmp_path / "blimp.tar.xz", progress=False, say=said.append) == found
    assert (
        blimp(model, tmp_path / "blimp", limit=2, progress=False, say=said.append)["paradigms"]["other"]["pairs"] == 2
    )


def test_blimp_names_what_is_wrong(model, tmp_path):
    with pytest.raises(FileNotFoundError, match="blimp.tar.xz"):
        blimp(model, tmp_path / "none")
    (tmp_path / "bad.tar.xz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="tar archive"):
        blimp(model, tmp_path / "bad.tar.xz")
    with tarfile.open(tmp_path / "odd.tar", "w") as archive:
        content = b'{"sentence": "a"}\n'
        info = tarfile.TarInfo("../../x.jsonl")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    with pytest.raises(ValueError, match="sentence_good"):
        blimp(model, tmp_path / "odd.tar")
    assert not (tmp_path / ".." / ".." / "x.jsonl").exists()


def test_masked_lm_asks_the_same_and_near_chance_at_random(model, tmp_path):
    rng = np.random.default_rng(0)
    text = "\n\n".join(" ".join(rng.choice(WORDS[5:], 40)) for _ in range(30))
    (tmp_path / "held.txt").write_text(text)
    one = masked_lm(model, tmp_path / "held.txt", max_length=32)
    assert one["pieces"] == 60 and 0.1 < one["asked"] / 1200 < 0.2
    assert one["perplexity"] == pytest.approx(math.exp(one["loss"]))
    assert masked_lm(model, tmp_path / "held.txt", max_length=32, budget=64) == pytest.approx(one, rel=1e-5)
    assert masked_lm(model, tmp_path / "held.txt", max_length=32, seed=1)["loss"] != one["loss"]
    zero = model.head.dense.weight
    with torch.no_grad():
        zero.zero_()
        model.head.dense.bias.zero_()
    assert masked_lm(model, tmp_path / "held.txt", max_length=32)["loss"] == pytest.approx(
        math.log(len(WORDS)), abs=1e-5
    )
    flat = pseudo_perplexity(model, tmp_path / "held.txt", max_length=32)
    assert flat["tokens"] == 1200 and flat["pseudo_perplexity"] == pytest.approx(len(WORDS), rel=1e-5)


@pytest.mark.skipif("BERTSMITH_DATA" not in os.environ, reason="needs BERTSMITH_DATA, the folder of development data")
def test_the_real_blimp_has_67_paradigms_and_four_fields(model):
    found = blimp(model, Path(os.environ["BERTSMITH_DATA"]) / "tasks" / "blimp.tar.xz", limit=1, progress=False)
    assert len(found["paradigms"]) == 67 and set(found["fields"]) == {
        "morphology",
        "syntax",
        "semantics",
        "syntax_semantics",
    }
