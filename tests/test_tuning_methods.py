"""Tuning methods that `peft` does not have: each against its paper's formula in NumPy, and what each promises beside it."""

import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from toy import (
    DIM,
    HEADS,
    both,
    build,
    corrupted,
    documents,
    encoder_spec,
    example,
    language,
    packed,
    padded,
    states,
    wake,
)

from bertsmith import kernels, tap
from bertsmith.corpus.prepare import prepare
from bertsmith.data import data
from bertsmith.edit import edit as edits
from bertsmith.graft import graft as grafts
from bertsmith.hf import bert
from bertsmith.layout import Layout
from bertsmith.learner import build as build_learner
from bertsmith.linear import Linear, apply_changes, bake, edit, graft, load_tensors, tensors, ungraft
from bertsmith.masking import masking
from bertsmith.model import Model, load
from bertsmith.objective import objective
from bertsmith.optim import optim
from bertsmith.resize import resize
from bertsmith.run import Run, Stage
from bertsmith.schedule import schedule
from bertsmith.select import select as selects
from bertsmith.spec import from_plain, to_plain
from bertsmith.tokenizer.load import load_tokenizer
from bertsmith.tokenizer.train import train_wordpiece
from bertsmith.train import train

CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # float32, the same sums in another order


def num(tensor):
    return tensor.detach().double().numpy()


def near(mine, formula, **more):
    np.testing.assert_allclose(num(mine), formula, **({"rtol": 1e-4, "atol": 1e-5} | more))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def through(linear, x):
    y = x @ num(linear.weight).T
    return y if linear.bias is None else y + num(linear.bias)


def normed(norm, x):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((x**2).mean(-1, keepdims=True) - x.mean(-1, keepdims=True) ** 2 + 1e-12) * num(
        norm.weight
    ) + num(norm.bias)


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def draws(*shape, seed=4):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def by_document(x, layout):
    """The states of each document alone."""
    return [num(x[layout.document_BT.eq(c) & layout.real_BT]) for c in range(layout.count)]


def trained_by(model, tensor):
    """The names of the parameters that a sum over a tensor reaches."""
    model.zero_grad()
    (tensor * draws(*tensor.shape)).sum().backward()
    return {n for n, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}


# ---- adapters beside one another


def test_a_parallel_adapter_is_its_formula():
    model = build(encoder_spec())
    graft(model, "layers.0.ffn", grafts("parallel", size=5, scale=3.0))
    wake(model, "grafts.")
    host, x, (_, layout) = model.layers[0].ffn, draws(2, 7, DIM), both()[0]
    one = host.grafts["parallel"]
    beside = through(one.up, np.maximum(through(one.down, num(x)), 0))
    near(host(x, layout), num(type(host).forward(host, x, layout)) + 3 * beside)


def bottleneck(one, h):
    return through(one.up, gelu(through(one.down, h)))


def test_fusion_is_its_formula():
    model = build(encoder_spec())
    one = grafts("bottleneck", size=4)
    graft(model, "layers.0.ffn", grafts("fusion", adapters={"a": one, "b": one, "c": one}, pull=0.5))
    wake(model, "grafts.")
    host, x, (_, layout) = model.layers[0].ffn, draws(2, 7, DIM), both()[0]
    f = host.grafts["fusion"]
    h = num(type(host).forward(host, x, layout))
    u = np.stack([bottleneck(f.adapters[n], h) for n in "abc"], 2)
    s = softmax(np.einsum("btd,btad->bta", through(f.q, h), through(f.k, u)))
    with tap.heard() as said:
        near(model.train().layers[0].ffn(x, layout), h + np.einsum("bta,btad->btd", s, through(f.v, u)))
    assert s.std(2).min() > 0
    near(said["fusion"], 0.5 * ((num(f.v.weight) - np.eye(DIM)) ** 2).sum())


def test_fusion_takes_over_trained_adapters_and_leaves_them_as_they_were():
    """Two adapters trained apart; fused with q = 0 each token gets the mean of what they add."""
    model, (pad, _) = build(encoder_spec()), both()
    apart = {}
    for seed, name in enumerate("ab"):
        graft(model, "layers.1.ffn", grafts("bottleneck", size=4), name)
        wake(model, "grafts.", seed=seed)
        apart[name] = {k: v.clone() for k, v in tensors(model).items() if f".{name}." in k}
        ungraft(model, name)
    for name in apart:
        graft(model, "layers.1.ffn", grafts("bottleneck", size=4), name)
    with torch.no_grad():
        for held in apart.values():
            for k, v in held.items():
                tensors(model)[k].copy_(v)
    stacked = model(*pad)
    graft(model, "layers.1.ffn", grafts("fusion", adapters={n: grafts("bottleneck", size=4) for n in "ab"}))
    for name in apart:
        ungraft(model, name)
    host, x = model.layers[1].ffn, draws(1, 5, DIM)
    f = host.grafts["fusion"]
    torch.nn.init.zeros_(f.q.weight)
    h = num(type(host).forward(host, x, pad[1]))
    near(host(x, pad[1]), h + sum(bottleneck(f.adapters[n], h) for n in "ab") / 2)
    assert not torch.allclose(model(*pad), stacked, atol=1e-3)
    assert [c["name"] for c in model.changes] == ["fusion"]
    for p in model.parameters():
        p.requires_grad_(False)
    select = selects("paths", train=["**.fusion.[qkv].**"]).build()
    for n, p in model.named_parameters():
        p.requires_grad_(select(n, p))
    torch.nn.init.normal_(f.q.weight)
    moved = trained_by(model, states(model(*pad), pad[1]))
    assert moved == {f"layers.1.ffn.grafts.fusion.{n}" for n in ("q.weight", "q.bias", "k.weight", "v.weight")}


# ---- UniPELT


def unipelt_layer(layer, x, name="unipelt"):
    """One document through one layer, post-norm, as the paper says."""
    mixer, ffn = layer.mixer, layer.ffn
    part = lambda host: host.grafts[name].part  # noqa: E731
    gate = lambda one, v: sigmoid(through(one.gate.dense, v)).mean()  # noqa: E731

    def projected(linear):
        one = part(linear)
        return through(linear, x) + gate(one, x) * x @ num(one.a).T @ num(one.b).T

    split = lambda y: y.reshape(len(y), HEADS, -1).transpose(1, 0, 2)  # noqa: E731
    q, k, v = split(projected(mixer.q)), split(through(mixer.k, x)), split(projected(mixer.v))
    prefix = part(mixer.core)
    g = gate(prefix, x)
    k, v = np.concatenate([g * num(prefix.k), k], 1), np.concatenate([g * num(prefix.v), v], 1)
    read = softmax(q @ k.transpose(0, 2, 1) * mixer.scale) @ v
    y = through(mixer.out, read.transpose(1, 0, 2).reshape(len(x), -1))
    x = normed(layer.mixer_residual.norm, x + y)
    y, one = through(ffn.down, gelu(through(ffn.up, x))), part(ffn)
    y = y + gate(one, y) * through(one.up, np.maximum(through(one.down, y), 0))
    return normed(layer.ffn_residual.norm, x + y)


@pytest.fixture(scope="module")
def unipelt():
    model = build(encoder_spec())
    spec = grafts("unipelt", rank=2, length=3, size=4)
    hit = graft(model, grafts.load("unipelt").where, spec)
    assert len(hit) == 2 * 6
    return wake(model, "grafts.")


@pytest.mark.parametrize("form", [0, 1], ids=["padded", "packed"])
def test_unipelt_is_its_formula_with_gates_for_each_document(unipelt, form):
    token, layout = both()[form]
    x0, x1, _ = unipelt.states(token, layout)
    for x, y in zip(by_document(x0, layout), by_document(x1, layout), strict=True):
        np.testing.assert_allclose(y, unipelt_layer(unipelt.layers[0], x), rtol=1e-4, atol=1e-5)


def test_unipelts_gates_differ_from_document_to_document(unipelt):
    """What a gate is about: it is a function of the input."""
    token, layout = both()[1]
    x = unipelt.states(token, layout)[0]
    gate = unipelt.layers[0].ffn.grafts["unipelt"].part.gate
    opened = gate(x, layout)[..., 0]
    found = [opened[layout.document_BT.eq(c) & layout.real_BT] for c in range(layout.count)]
    assert all(torch.equal(g, g[:1].expand_as(g)) for g in found)
    assert len({round(g[0].item(), 5) for g in found}) == layout.count


def test_two_unipelts_in_one_model_and_threads_do_not_meet(unipelt):
    docs = documents()
    batches = [padded([d]) for d in docs] * 4
    want = [unipelt(*b) for b in batches]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda b: unipelt(*b), batches))
    assert all(torch.equal(x, y) for x, y in zip(got, want, strict=True))
    graft(unipelt, grafts.load("unipelt").where, grafts("unipelt", rank=2, length=3, size=4), "again")
    wake(unipelt, "grafts.again.", seed=9)
    pad, pack = both()
    x, y = unipelt(*pad), unipelt(*pack)
    torch.testing.assert_close(states(x, pad[1]), states(y, pack[1]), **CLOSE)
    ungraft(unipelt, "again")
    assert not torch.allclose(states(x, pad[1]), states(unipelt(*pad), pad[1]), atol=1e-3)


def test_unipelt_works_where_positions_go_through_the_projections():
    spec = encoder_spec("position", "disentangled")
    model = build(spec.replace("blocks.*.mixer.position.shared", True))
    before = model(*both()[0])
    graft(model, grafts.load("unipelt").where, grafts("unipelt", rank=2))
    wake(model, "grafts.")
    (pad, pack) = both()
    x, y = model(*pad), model(*pack)
    torch.testing.assert_close(states(x, pad[1]), states(y, pack[1]), **CLOSE)
    assert not torch.allclose(states(x, pad[1]), states(before, pad[1]), atol=1e-3)
    assert any(".q.grafts." in n and n.endswith(".b") for n in trained_by(model, states(x, pad[1])))


def test_unipelt_refuses_an_inner_product_that_reads_no_prefix():
    model = build(encoder_spec("core", "linear"))
    with pytest.raises(ValueError, match="leave .mixer.core out"):
        graft(model, grafts.load("unipelt").where, grafts("unipelt"))
    graft(model, "layers.*{,.mixer,.mixer.q,.mixer.v,.ffn}", grafts("unipelt"))
    wake(model, "grafts.")
    (pad, pack) = both()
    torch.testing.assert_close(states(model(*pad), pad[1]), states(model(*pack), pack[1]), **CLOSE)


def test_unipelt_with_gates_wide_open_has_finite_gradients_in_bf16():
    model = build(encoder_spec())
    graft(model, grafts.load("unipelt").where, grafts("unipelt", rank=2))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("gate.dense.bias"):
                p.fill_(20.0)
    token, layout = both()[0]
    model.bfloat16()(token, layout).float().square().sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)


def test_unipelt_at_a_projection_alone_says_what_is_missing():
    model = build(encoder_spec())
    graft(model, "layers.*.mixer.q", grafts("unipelt"))
    with pytest.raises(ValueError, match="together with their layers"):
        model(*both()[0])


# ---- PASTA


def pairs():
    """Three documents with [CLS] = 2 and [SEP] = 3, two of them pairs."""
    cut = lambda doc, at: torch.cat([doc[:at], torch.tensor([3]), doc[at:], torch.tensor([3])])  # noqa: E731
    docs = documents((7, 5, 6))
    return [cut(docs[0], 4), torch.cat([docs[1], torch.tensor([3])]), cut(docs[2], 3)]


def test_pasta_adds_a_vector_to_each_special_token_in_its_order():
    docs, model = pairs(), build(encoder_spec())
    graft(model, "layers.*", grafts("pasta", count=3))
    wake(model, "grafts.")
    seen = []
    for token, layout in (padded(docs), packed(docs, [[0, 1], [2]], 18)):
        with tap.see(model, "layers.*", lambda path, inputs, output: seen.append((path, inputs[0]))):
            x = model(token, layout)
        seen.append(("", x))
        for i in range(2):
            given = seen[-3 + i][1]
            e = num(model.layers[i].grafts["pasta"].added)
            for doc, h in zip(docs, by_document(given, layout), strict=True):
                special = np.isin(doc.numpy(), [2, 3])
                h[special] += e[: special.sum()]
                if i:
                    continue
                ours = num(type(model.layers[0]).forward(model.layers[0], torch.from_numpy(h).float()[None],
                                                         model.prepare(doc[None], padded([doc])[1])))[0]  # fmt: skip
                after = by_document(seen[-2][1], layout)[next(j for j, d in enumerate(docs) if d is doc)]
                np.testing.assert_allclose(after, ours, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(states(seen[2][1], padded(docs)[1]), states(seen[5][1], layout), **CLOSE)
    # padding that looks like a special token, in front
    token = torch.cat([torch.tensor([3, 3]), docs[0]])[None]
    place = torch.arange(-2, len(docs[0])).clamp(min=0)[None]
    layout = Layout.of(
        (torch.arange(token.shape[1]) >= 2).long()[None], place, F.pad(padded(docs[:1])[1].type_BT, (2, 0))
    )
    torch.testing.assert_close(model(token, layout)[0, 2:], seen[2][1][0, : len(docs[0])], **CLOSE)


def test_pasta_trains_its_vectors_alone_and_no_more_than_there_are_special_tokens():
    model, docs = build(encoder_spec()), pairs()
    graft(model, "layers.*", grafts("pasta", count=4, special=[2, 3]))
    for p in model.parameters():
        p.requires_grad_(False)
    for i in range(2):
        model.layers[i].grafts["pasta"].added.requires_grad_(True)
    token, layout = padded(docs)
    moved = trained_by(model, states(model(token, layout), layout))
    assert moved == {f"layers.{i}.grafts.pasta.added" for i in range(2)}
    grad = model.layers[0].grafts["pasta"].added.grad
    assert bool((grad[:3].abs().amax(1) > 0).all()) and not grad[3].any()
    share = sum(p.numel() for p in model.parameters() if p.requires_grad) / sum(p.numel() for p in model.parameters())
    assert share < 0.03
    with pytest.raises(ValueError, match="graft/pasta needs ids"):
        graft(model, "layers.*", grafts("pasta", special=[]), "none")


# ---- DSEE


def test_dsee_is_its_formula_and_bakes():
    layer = Linear(12, 20)
    with kernels.seeded(0):
        one = edits("dsee", rank=3, alpha=6.0, count=7).build(layer.weight)
    layer.edits["dsee"] = one
    assert torch.equal(layer.edited()[0], layer.weight)
    wake(layer, "edits.")
    s = np.zeros(20 * 12)
    s[one.place.numpy()] = num(one.s)
    near(layer.edited()[0], num(layer.weight) + 2 * (num(one.b) @ num(one.a) + s.reshape(20, 12)), rtol=1e-5)
    assert len(set(one.place.tolist())) == 7


@pytest.mark.parametrize("size", [1, 3])
def test_dsees_places_are_those_where_the_weight_is_no_low_rank_matrix(size):
    """Entries planted on a matrix of rank 4 are all found: small ones, which are not its largest, and ones that outweigh it."""
    w = 0.2 * draws(40, 4) @ draws(4, 32, seed=5)
    planted = torch.randperm(40 * 32, generator=torch.Generator().manual_seed(0))[:32].sort().values
    w.view(-1)[planted] += size * draws(32, seed=6).sign()
    with kernels.seeded(1):
        place = edits("dsee", rank=1, count=32).build(w).place
    assert torch.equal(place, planted)
    largest = w.abs().flatten().topk(32).indices.sort().values
    assert size > 1 or not torch.equal(largest, planted)


def test_the_mask_and_dsee_make_the_papers_weight():
    """W M + B A + S, with M of the largest weights; the sparse weights are 0 wherever the update is."""
    model = build(encoder_spec())
    at = "layers.*.mixer.[qv]"
    edit(model, at, edits("magnitude", sparsity=0.75), "mask")
    edit(model, at, edits("dsee", rank=2, alpha=2.0, count=5))
    wake(model, "edits.")
    host = model.layers[0].mixer.q
    w, one = num(host.weight), host.edits["dsee"]
    mask = np.abs(w) >= np.sort(np.abs(w).ravel())[-w.size // 4]
    s = np.zeros(w.size)
    s[one.place.numpy()] = num(one.s)
    near(host.edited()[0], w * mask + num(one.b) @ num(one.a) + s.reshape(w.shape), rtol=1e-5)
    assert mask.mean() == 0.25 and not host.edits["mask"].forward(host.weight, None)[0][~host.edits["mask"].mask].any()
    before = model(*both()[0])
    bake(model)
    torch.testing.assert_close(model(*both()[0]), before, **CLOSE)


# ---- mixout


def mixed(layer, seed=0):
    with kernels.seeded(seed, "pass"):
        return layer.edited()[0]


def test_mixout_is_its_formula():
    layer, p = Linear(6, 4), 0.5
    layer.edits["mixout"] = edits("mixout", p=p).build(layer.weight)
    u = num(layer.weight)
    wake(layer, "weight")
    w, got = num(layer.weight), num(mixed(layer.train()))
    kept = np.isclose(got, (w - p * u) / (1 - p), atol=1e-6).all(0)
    m = kept.astype(float)
    assert 0 < kept.sum() < 6
    np.testing.assert_allclose(got, (m * w + (1 - m) * u - p * u) / (1 - p), atol=1e-6)
    mixed(layer).sum().backward()
    near(layer.weight.grad, np.broadcast_to(m / (1 - p), w.shape))


def test_mixout_keeps_the_mean_and_is_off_in_evaluation():
    layer = Linear(8, 4)
    layer.edits["mixout"] = edits("mixout", p=0.7).build(layer.weight)
    wake(layer, "weight")
    layer.train()
    mean = torch.stack([mixed(layer, seed) for seed in range(400)]).mean(0)
    apart = (layer.weight - layer.edits["mixout"].origin).abs()
    # the standard error is apart * sqrt(p / (1 - p) / 400)
    assert ((mean - layer.weight).abs() < 5 * apart * (0.7 / 0.3 / 400) ** 0.5).all()
    assert torch.equal(mixed(layer), mixed(layer)) and not torch.equal(mixed(layer), mixed(layer, 1))
    with torch.no_grad():
        assert torch.equal(mixed(layer), layer.weight)
    assert torch.equal(mixed(layer.eval()), layer.weight)
    with pytest.raises(ValueError, match="p lies in"):
        edits("mixout", p=1.0).build(layer.weight)


def test_mixout_works_in_bf16_and_bakes_to_the_weights_themselves():
    model = build(encoder_spec()).bfloat16().train()
    edit(model, "**.mixer.[qv]", edits("mixout"))
    (token, layout) = both()[0]
    model(token, layout).float().sum().backward()
    held = model.layers[0].mixer.q.weight.clone()
    bake(model)
    assert torch.equal(model.layers[0].mixer.q.weight, held)


# ---- a network beside the encoder


def unipt_formula(one, all_states):
    """The side network for one document, from the states of all layers."""
    narrow = [normed(n, through(d, h)) for d, n, h in zip(one.down, one.norms, all_states, strict=True)]
    a, rest = narrow[-1], narrow[:-1]
    found, score = [], []
    for t in rest:
        weight = np.maximum(a @ t.T, 0)
        found.append((weight / (weight.sum(1, keepdims=True) + 1e-8) + np.eye(len(t))) @ t)
        score.append(through(one.gate, a.mean(0) * t.mean(0))[0])
    m = sum(c * x for c, x in zip(softmax(np.array(score)), found, strict=True))
    return through(one.up, np.maximum(a + normed(one.project_norm, through(one.project, m)), 0))


@pytest.mark.parametrize("form", [0, 1], ids=["padded", "packed"])
def test_unipt_is_its_formula(form):
    model, (token, layout) = build(encoder_spec()), both()[form]
    graft(model, "", grafts("unipt", factor=2))
    wake(model, "grafts.")
    per_layer = [by_document(h, layout) for h in model.states(token, layout)]
    for c, y in enumerate(by_document(model(token, layout), layout)):
        want = unipt_formula(model.grafts["unipt"], [h[c] for h in per_layer])
        np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-5)


def kept(model, token, layout):
    """(how much is kept for a backward pass, its sizes), the parameters aside."""
    sizes, own = [], {p.data_ptr() for p in model.parameters()}

    def pack(x):
        if x.data_ptr() not in own:
            sizes.append(x.shape)
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        model(token, layout)
    return sum(math.prod(s) for s in sizes), sizes


def test_unipt_sends_no_gradient_to_the_encoder_and_keeps_none_of_its_activations():
    spec = encoder_spec().replace("depth", 6)
    model, (token, layout) = build(spec).train(), padded(documents((16, 12, 16, 9)))
    whole, sizes = kept(model, token, layout)
    assert any(s[-1] == 24 for s in sizes)  # the feed-forward's
    graft(model, "", grafts("unipt", factor=4))
    beside, sizes = kept(model, token, layout)
    assert not any(s[-1] == 24 for s in sizes) and beside < whole / 2, (beside, whole)
    moved = trained_by(model, states(model(token, layout), layout))
    assert moved == {n for n, _ in model.named_parameters() if n.startswith("grafts.")}
    with pytest.raises(ValueError, match="beside the whole encoder"):
        graft(model, "layers.0", grafts("unipt"), "there")


# ---- in the space of the inputs


def test_input_space_tuning_is_a_bottleneck_on_the_embedding():
    """x + W_up gelu(W_down x) before a frozen encoder; it trains, and nothing else does."""
    model, (pad, _) = build(encoder_spec()), both()
    before = model.states(*pad)
    graft(model, "embedding", grafts("bottleneck", size=4), "input")
    assert torch.equal(model(*pad), before[-1])
    wake(model, "grafts.")
    x = num(before[0])
    near(model.states(*pad)[0], x + bottleneck(model.embedding.grafts["input"], x))
    chosen = selects("paths", train=["**.grafts.input.**"]).build()
    for n, p in model.named_parameters():
        p.requires_grad_(chosen(n, p))
    moved = trained_by(model, states(model(*pad), pad[1]))
    assert moved == {f"embedding.grafts.input.{n}" for n in ("down.weight", "down.bias", "up.weight", "up.bias")}


# ---- tags


def test_tags_are_prompts_with_names_that_recombine():
    """A domain's tag from one model and a task's tag from another stand before one text, as if trained together."""
    at, (pad, _) = grafts.load("prompt").where, both()

    def tagged(names, seed):
        model = build(encoder_spec())
        for name in names:
            graft(model, at, grafts("prompt", length=2), name)
            wake(model, f"grafts.{name}.", seed=seed + len(name))
        return model

    one, two = tagged(["law", "sentiment"], 0), tagged(["physics", "topic"], 5)
    mixed = tagged(["physics", "sentiment"], 9)
    held = {k: v for model in (one, two) for k, v in tensors(model).items() if ".grafts." in k}
    with torch.no_grad():
        for k, v in tensors(mixed).items():
            if ".grafts." in k:
                v.copy_(held[k])
    table = mixed.embedding.table
    vectors = torch.cat([table.grafts[n].vectors for n in ("physics", "sentiment")])
    assert torch.equal(vectors[:2], two.embedding.table.grafts["physics"].vectors)
    token, layout = pad
    whole = build(encoder_spec())
    graft(whole, at, grafts("prompt", length=4))
    with torch.no_grad():
        whole.embedding.table.grafts["prompt"].vectors.copy_(vectors)
    torch.testing.assert_close(states(mixed(*pad), layout), states(whole(*pad), layout), **CLOSE)
    assert not torch.allclose(states(mixed(*pad), layout), states(one(*pad), layout), atol=1e-3)


# ---- which parameters train, and how fast


def chosen(train):
    learner = build_learner(encoder_spec(), [], example("objective", "masked_lm"), 0)
    select = selects("paths", train=train).build()
    return {n for n, p in learner.named_parameters() if select(n, p)}, {n for n, _ in learner.named_parameters()}


def test_attention_alone_trains():
    some, everything = chosen(["encoder.**.mixer.**", "objective.**"])
    assert some == {n for n in everything if ".mixer." in n or n.startswith("objective.")}
    assert {f"encoder.layers.1.mixer.{x}.weight" for x in ("q", "k", "v", "out")} < some
    assert not any(".ffn." in n or "norm" in n or "embedding" in n for n in some if n.startswith("encoder."))


def test_a_frozen_transformer_trains_norms_positions_input_and_output():
    some, everything = chosen(["encoder.**norm.*", "encoder.embedding.**", "objective.**"])
    frozen = everything - some
    assert frozen == {n for n in everything if n.startswith("encoder.") and (".mixer." in n or ".ffn." in n)}
    assert {"encoder.layers.0.mixer_residual.norm.weight", "encoder.embedding.position.table.weight",
            "encoder.embedding.table.weight", "encoder.norm.bias"} < some  # fmt: skip


def masters(depth=3):
    names = [f"encoder.layers.{i}.{x}" for i in range(depth) for x in ("ffn.up.weight", "ffn.up.bias")]
    names += ["encoder.embedding.table.weight", "encoder.norm.weight", "objective.head.out.weight"]
    return {n: (draws(3, 2, seed=i) if n.endswith("t") and "norm" not in n else draws(3, seed=i)).requires_grad_()
            for i, n in enumerate(names)}  # fmt: skip


def stepped(method, params, factor=0.5, steps=3):
    for _ in range(steps):

        def closure():
            loss = sum((p - 1).square().sum() for p in params.values())
            loss.backward()
            return loss.item()

        method.step(closure, factor)
        for p in params.values():
            p.grad = None
    return {n: p.detach() for n, p in params.items()}


def test_layerwise_rates_are_those_of_the_formula():
    """After three steps every parameter is where AdamW with its own rate brings it."""
    decay, lr = 0.5, 0.1
    got = stepped(optim("layerwise", inner=optim("adamw"), lr=lr, decay=decay).build(params := masters()), params)
    below = lambda n: 3 if "embedding" in n else 2 - int(n.split(".")[2]) if ".layers." in n else 0  # noqa: E731
    for name, start in masters().items():
        alone = optim("adamw", lr=lr * decay ** below(name)).build(one := {name: start})
        assert torch.equal(stepped(alone, one)[name], got[name]), name
    flat = stepped(optim("adamw", lr=lr).build(params := masters()), params)
    same = {n for n in flat if torch.equal(flat[n], got[n])}
    assert same == {n for n in flat if below(n) == 0} and len(same) == 4


def test_layerwise_knows_the_depth_or_is_told_it():
    lower = {n: p for n, p in masters().items() if "layers.0." in n}

    def peaks(params, depth=0):
        method = optim("layerwise", inner=optim("adamw"), lr=1.0, decay=0.5, depth=depth).build(params)
        return [group["peak"] for group in method.inner.torch.param_groups]

    assert peaks(lower) == [1.0, 1.0] and peaks(lower, depth=3) == [0.25, 0.25]
    assert peaks(masters())[0] == 1.0 == max(peaks(masters()))
    with pytest.raises(ValueError, match="decay lies in"):
        optim("layerwise", inner=optim("adamw"), decay=0.0).build(masters())


def test_the_slanted_triangle_is_ulmfits():
    total, frac, ratio = 200, 0.1, 32
    method, cut = schedule("slanted", cut=frac, ratio=ratio).build(), math.floor(total * frac)
    for t in range(total + 1):
        p = t / cut if t < cut else 1 - (t - cut) / (cut * (1 / frac - 1))
        assert method.factor(t / total) == pytest.approx((1 + p * (ratio - 1)) / ratio)
    assert method.factor(0.1) == 1 and method.factor(0) == method.factor(1) == pytest.approx(1 / 32)


# ---- new top layers


def test_reinit_top_renews_the_top_layers_and_the_pooler_and_nothing_else():
    spec = encoder_spec().replace("depth", 3)
    aim = example("objective", "supervised").replace("head.pool", example("pool", "bert"))
    make = lambda s: build_learner(s, [], aim, 7)  # noqa: E731
    old = {k: v.detach() for k, v in tensors(wake(make(spec))).items()}
    fresh = {k: v.detach() for k, v in tensors(make(spec)).items()}
    method = resize("reinit_top", layers=2).build()
    same, new = method(spec, old, make)
    renewed = {k for k in old if not torch.equal(old[k], new[k])}
    assert same == spec and new.keys() == old.keys()
    top = ("encoder.layers.1.", "encoder.layers.2.", "objective.head.pool.")
    assert renewed == {k for k in old if k.startswith(top)}
    assert all(torch.equal(new[k], fresh[k]) for k in renewed)
    for role in ("gradient", "square"):
        _, part = method(spec, {k: torch.ones_like(v) for k, v in old.items()}, make, role)
        assert all(part[k].eq(0 if k in renewed else 1).all() for k in part)
    tied = encoder_spec().replace("share", ["layers.*"])
    with pytest.raises(ValueError, match="has 1 layers of its own"):
        resize("reinit_top").build()(tied, old, make)


# ---- through the loop


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Thirty short documents of a made-up language in which words follow one another."""
    root, words = tmp_path_factory.mktemp("corpus"), ["ba", "be", "bi", "bo", "bu", "da", "de", "di"]
    lines = [" ".join(words[(at + i) % 8] for i in range(20 + at)) for at in range(30)]
    (root / "text.txt").write_text("\n\n".join(lines))
    train_wordpiece([root / "text.txt"], 50, root / "tokenizer")
    prepare([root / "text.txt"], root / "data", root / "tokenizer", 0)
    return root / "data"


def run_of(corpus, stages):
    vocab = json.loads((corpus / "manifest.json").read_text())["vocabulary"]
    encoder = bert.bert_encoder(3, 16, 2, vocab, length=32, dropout=0.1)
    plain = objective("masked_lm", masking=masking("bert"))
    common = {"data": data("packed", path=str(corpus), length=32, rows=4), "budget": "2-steps"}
    common |= {"optim": optim("layerwise", inner=optim("adamw"), lr=3e-3, decay=1 / 2.6)}
    made = [Stage(plain, **common | {"schedule": schedule("slanted")} | stage) for stage in stages]
    return Run(encoder, made, seed=1, precision="fp32", workers=0, save_steps=0, log_every=1)


def ends(corpus, stages, folder):
    """What stands after each stage."""
    run, made = run_of(corpus, stages), []
    for n in range(len(stages)):
        start = replace(made[-1], log=0) if made else None
        made.append(train(replace(run, stages=run.stages[: n + 1]), folder / str(n), start, progress=False))
    return made


def test_gradual_unfreezing_is_stages_with_more_and_more_layers(corpus, tmp_path):
    """The head and one layer more in each stage, from the top; what is frozen does not move."""
    thaw = lambda n: selects("paths", train=[f"encoder.layers.{i}.**" for i in range(n, 3)] + ["objective.**"])  # noqa: E731
    first, *rest = ends(corpus, [{}, {"select": thaw(2)}, {"select": thaw(1)}, {}], tmp_path)
    moving = []
    for before, after in zip([first, *rest], rest, strict=False):
        names = [n for n in after.tensors if not torch.equal(before.tensors[n], after.tensors[n])]
        moving.append(
            {n.split(".")[2] for n in names if ".layers." in n}
            | {n.split(".")[1] for n in names if ".layers." not in n}
        )
    assert moving == [{"2", "head"}, {"1", "2", "head"}, {"0", "1", "2", "head", "embedding"}]


def test_new_top_layers_and_mixout_through_the_loop(corpus, tmp_path):
    """Both in one stage; mixout drops out at its end, and what is saved is an ordinary model."""
    mix = {"how": "edit", "where": "**.ffn.*", "name": "mixout", "spec": edits("mixout", p=0.5)}
    again = {"resize": [resize("reinit_top")], "changes": [mix], "leave": "drop"}
    first, end = ends(corpus, [{}, again], tmp_path)
    assert not end.changes and end.tensors.keys() == first.tensors.keys() and end.encoder == first.encoder
    top, low = "encoder.layers.2.ffn.up.weight", "encoder.layers.0.ffn.up.weight"
    apart = lambda n: float((first.tensors[n] - end.tensors[n]).norm() / first.tensors[n].norm())  # noqa: E731
    assert apart(top) > 1 > 0.2 > apart(low) > 0
    kept = replace(run_of(corpus, [{}, again]).stages[1], leave="bake")
    baked = train(
        replace(run_of(corpus, [{}]), stages=[run_of(corpus, [{}]).stages[0], kept]), tmp_path / "b", progress=False
    )
    assert all(torch.equal(baked.tensors[n], end.tensors[n]) for n in end.tensors)


GRAFTED = {
    "parallel": grafts("parallel", size=4),
    "fusion": example("graft", "fusion"),
    "pasta": grafts("pasta", special=[2, 3]),
    "unipelt": grafts("unipelt", rank=2, length=2, size=4),
    "unipt": grafts("unipt"),
}


def test_dsee_in_stages_is_saved_and_loaded(corpus, tmp_path):
    """A first update is written in; then a mask of what is largest, and a new update on top."""
    at = "**.mixer.[qv]"
    update = {"how": "edit", "where": at, "name": "dsee", "spec": edits("dsee", rank=2, count=6)}
    mask = {"how": "edit", "where": at, "name": "mask", "spec": edits("magnitude", sparsity=0.5)}
    trained = selects("paths", train=["**.edits.dsee.**", "objective.**"])
    stages = [
        {},
        {"changes": [update], "select": trained, "leave": "bake"},
        {"changes": [mask, update], "select": trained},
    ]
    _, one, end = ends(corpus, stages, tmp_path)
    model = Model.of(end, run_of(corpus, stages).stages[-1].objective, load_tokenizer(corpus))
    host = model.encoder.layers[0].mixer.q
    assert torch.equal(host.weight, one.tensors["encoder.layers.0.mixer.q.weight"])
    assert host.edits["mask"].mask.float().mean() == 0.5 and host.edits["dsee"].s.abs().min() > 0
    model.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    token, layout = padded(documents((9, 5)))
    token = token.clamp(max=len(model.encoder.embedding.table.weight) - 1)
    with torch.no_grad():
        assert torch.equal(loaded.encoder(token, layout), model.encoder(token, layout))
    assert [c["name"] for c in loaded.encoder.changes] == ["mask", "dsee"]


def fitted(changes):
    """The loss on some texts after 25 steps of the head and of what is hung up, the encoder frozen and awake."""
    learner = build_learner(encoder_spec(), [], example("objective", "supervised"), seed=0)
    wake(learner.encoder)
    with kernels.seeded(2):
        apply_changes(learner.encoder, changes)
    select = selects("paths", train=["**.grafts.**", "objective.**"]).build()
    params = {n: p.requires_grad_(select(n, p)) for n, p in learner.named_parameters()}
    before = {n: p.detach().clone() for n, p in params.items()}
    optimiser = torch.optim.AdamW([p for p in params.values() if p.requires_grad], lr=2e-2)
    for step in range(25):
        with kernels.seeded(0, step), tap.heard() as extra:
            batch = corrupted(learner.objective, language(48, 0), 0)
            loss = learner.objective(learner.encoder, batch)["loss"]
            (loss + sum(extra.values())).backward()
        optimiser.step()
        optimiser.zero_grad()
    moved = {n for n, p in params.items() if not torch.equal(p, before[n])}
    assert moved and not {n for n in moved if n.startswith("encoder.") and ".grafts." not in n}
    return loss.item()


@pytest.fixture(scope="module")
def head_alone():
    return fitted([])


@pytest.mark.parametrize("kind", GRAFTED)
def test_grafts_fit_with_the_encoder_frozen(kind, head_alone):
    """The papers' setting: of the encoder nothing moves; head and graft together fit some texts better than the head alone."""
    change = {"how": "graft", "where": grafts.load(kind).where, "name": kind, "spec": GRAFTED[kind]}
    assert fitted([change]) < head_alone - 0.02


@pytest.mark.slow
@pytest.mark.parametrize("beside", [False, True], ids=["inside", "beside"])
def test_an_encoder_with_all_changes_compiles_whole(beside):
    model = build(encoder_spec().replace("depth", 1))
    for kind in ("dsee", "magnitude", "mixout"):
        edit(model, "**.mixer.[qv]", example("edit", kind))
    for kind in ["unipt"] if beside else [k for k in GRAFTED if k != "unipt"]:
        graft(model, grafts.load(kind).where, GRAFTED[kind])
    wake(model, "edits.")
    wake(model, "grafts.")
    token, layout = both()[0]
    whole = lambda token_BT, keep_BT: model(token_BT, Layout.padded(keep_BT))  # noqa: E731
    torch._dynamo.reset()
    with torch.no_grad():
        got = torch.compile(whole, fullgraph=True, backend="eager")(token, layout.real_BT.long())
        torch.testing.assert_close(got, whole(token, layout.real_BT.long()), **CLOSE)


def test_what_is_changed_is_described_by_its_changes():
    """A fusion with its adapters, rebuilt from JSON."""
    model, (pad, _) = build(encoder_spec()), both()
    graft(model, "layers.*.ffn", GRAFTED["fusion"])
    wake(model, "grafts.")
    other = encoder_spec().build().eval()
    apply_changes(other, from_plain(json.loads(json.dumps(to_plain(model.changes)))))
    load_tensors(other, {k: v.detach() for k, v in tensors(model).items()})
    assert torch.equal(other(*pad), model(*pad))
