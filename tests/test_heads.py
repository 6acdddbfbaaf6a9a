"""Heads and pools, each equal to its formula or to a reference; padded and packed alike; nothing crosses documents."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from toy import DIM, both, build, documents, encoder_spec, example, kinds, packed, states, wake

from bertsmith import chain, kernels, pooling, tap
from bertsmith.head import head as heads
from bertsmith.init import initialise
from bertsmith.layout import Layout
from bertsmith.learner import Learner
from bertsmith.pool import pool as pools

CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # float32, the same sums in another order


def noise(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def made(spec, labels=3, seed=2):
    """A head on the toy encoder, or a pool of its width, with large weights, in evaluation."""
    context = (DIM,) if spec.slot.name == "pool" else (build(encoder_spec()), labels)
    return wake(spec.build(*context).eval(), seed=seed)


def weights(module):
    return {n: p.detach().double().numpy() for n, p in module.named_parameters()}


def parts(x, layout):
    """The states of each document alone, as float64 arrays."""
    found = []
    for b in range(len(x)):
        for n in range(1, int(layout.segment_BT[b].max()) + 1):
            found.append(x[b, layout.segment_BT[b] == n].detach().double().numpy())
    return found


def inputs(width=DIM):
    """(the same states padded, and packed, each with its layout)."""
    (token, pad), (_, pack) = both()
    x = noise(0, *token.shape, width)
    y = torch.full((*pack.segment_BT.shape, width), 5.0)
    y[pack.real_BT] = states(x, pad)
    return (x, pad), (y, pack)


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


# ---- pools


def test_maximum_and_softmax_over_documents():
    for x, layout in inputs():
        docs = parts(x, layout)
        np.testing.assert_array_equal(pooling.maximum(x, layout).double().numpy(), np.stack([d.max(0) for d in docs]))
        p = pooling.softmax(30 * x, layout)
        np.testing.assert_allclose(np.concatenate(parts(p, layout)), np.concatenate([softmax(30 * d, 0) for d in docs]),
                                   rtol=1e-4, atol=1e-6)  # fmt: skip
        assert not p[~layout.real_BT].any()
    nothing = Layout.padded(torch.tensor([[0, 0, 0], [1, 1, 0]]))
    x = noise(1, 2, 3, 4).requires_grad_()
    most, p = pooling.maximum(x, nothing), pooling.softmax(x, nothing)
    assert not most[0].any() and not p[0].any() and torch.equal(most[1], x[1, :2].amax(0))
    (most.sum() + p.square().sum()).backward()
    assert x.grad.isfinite().all() and not x.grad[0].any()


def test_max_and_attention_pools_are_their_formulas():
    most, attention = made(pools("max")), made(pools("attention", width=5))
    w = weights(attention)
    for x, layout in inputs():
        docs = parts(x, layout)
        np.testing.assert_array_equal(most(x, layout).double().numpy(), np.stack([d.max(0) for d in docs]))
        want = []
        for d in docs:
            u = np.tanh(d @ w["dense.weight"].T + w["dense.bias"])
            want.append(softmax(u @ w["context.weight"][0]) @ d)
        np.testing.assert_allclose(attention(x, layout).detach().numpy(), np.stack(want), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("over", ["mean", "max", "attention"])
def test_a_text_in_pieces_is_one_vector(over):
    """Rows of 3, 1 and 2 pieces, the first with padding within the batch."""
    docs = documents((5, 3, 4, 6, 2, 7))
    token, layout = packed(docs, [[0, 1, 2], [3], [4, 5]], 14)
    pool = made(pools("hierarchical", over=pools(over)))
    x = noise(3, *token.shape, DIM)
    first = np.stack([d[0] for d in parts(x, layout)])
    texts = [first[:3], first[3:4], first[4:]]
    if over == "attention":
        w = weights(pool.over)
        weight = [softmax(np.tanh(t @ w["dense.weight"].T + w["dense.bias"]) @ w["context.weight"][0]) for t in texts]
        want = np.stack([a @ t for a, t in zip(weight, texts, strict=True)])
    else:
        want = np.stack([getattr(t, over)(0) for t in texts])
    np.testing.assert_allclose(pool(x, layout).detach().numpy(), want, rtol=1e-4, atol=1e-5)
    mean = pools("hierarchical", pool=pools("mean"), over=pools("mean")).build(DIM)(x, layout)
    whole = np.stack([d.mean(0) for d in parts(x, layout)])
    np.testing.assert_allclose(mean[2].numpy(), whole[4:].mean(0), rtol=1e-4, atol=1e-5)
    assert pool.each == "row"


# ---- heads of documents


def test_the_mlp_head_is_its_formula():
    head, ((x, layout), _) = made(heads("mlp", pool=pools("mean"), hidden=7)), inputs()
    w = weights(head)
    h = np.stack([d.mean(0) for d in parts(x, layout)])
    want = np.tanh(h @ w["dense.weight"].T + w["dense.bias"]) @ w["out.weight"].T + w["out.bias"]
    np.testing.assert_allclose(head(x, layout).detach().numpy(), want, rtol=1e-4, atol=1e-5)


def test_prototypes_are_their_formula_and_explain_their_logits():
    settings = {"count": 4, "width": 6, "rebuild": 0.3, "near_text": 0.7, "near_prototype": 0.2}
    head = made(heads("prototypes", pool=pools("mean"), **settings)).train()
    (x, layout), pack = inputs()
    w = weights(head)
    h = np.stack([d.mean(0) for d in parts(x, layout)])
    z = h @ w["encode.weight"].T + w["encode.bias"]
    far = ((z[:, None] - w["prototype.weight"]) ** 2).sum(-1)
    with tap.heard() as extra:
        got = head(x, layout)
    np.testing.assert_allclose(got.detach().numpy(), far @ w["out.weight"].T, rtol=1e-4, atol=1e-5)
    again = z @ w["decode.weight"].T + w["decode.bias"]
    loss = 0.3 * ((again - h) ** 2).sum(1).mean() + 0.7 * far.min(0).mean() + 0.2 * far.min(1).mean()
    assert extra["prototypes"].item() == pytest.approx(loss, rel=1e-4)
    (got.sum() + extra["prototypes"]).backward()
    assert all(p.grad.abs().max() > 0 for p in head.parameters())
    distance, share = head.explain(*pack)
    np.testing.assert_allclose(distance.detach().numpy(), far, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(share.sum(-1), got, **CLOSE)
    np.testing.assert_allclose(
        head.decoded().detach().numpy(),
        w["prototype.weight"] @ w["decode.weight"].T + w["decode.bias"],
        rtol=1e-4,
        atol=1e-5,
    )
    with tap.heard() as extra:
        head.eval()(x, layout)
    assert not extra


def test_prototypes_come_to_stand_for_clusters():
    """Two clusters of texts: after training each has a prototype near it, and the nearest prototype tells the label."""
    head = heads("prototypes", pool=pools("first"), count=2, width=4).build(build(encoder_spec()), 2)
    initialise(Learner(build(encoder_spec()), head), build(encoder_spec()).init, 0)
    label = torch.arange(40) % 2
    x = 0.1 * noise(0, 40, 1, DIM) + torch.where(label[:, None, None] == 1, 1.0, -1.0)
    layout = Layout.padded(torch.ones(40, 1))
    optimiser = torch.optim.Adam(head.train().parameters(), lr=3e-2)
    for _ in range(150):
        with tap.heard() as extra:
            loss = torch.nn.functional.cross_entropy(head(x, layout), label) + sum(extra.values())
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    far, share = head.eval().explain(x, layout)
    nearest = far.argmin(1)
    assert len(set(zip(nearest.tolist(), label.tolist(), strict=True))) == 2 and len(set(nearest.tolist())) == 2
    assert far.amin(1).mean() < 0.2 * far.amax(1).mean()
    assert (share.sum(-1).argmax(1) == label).all()


# ---- heads of tokens


def test_the_recurrent_head_is_torchs_lstm_on_each_document():
    head = made(heads("rnn", hidden=5, dropout=0.0))
    lstm = torch.nn.LSTM(DIM, 5, batch_first=True, bidirectional=True)
    with torch.no_grad():
        for name, p in lstm.named_parameters():
            way = head.back if name.endswith("_reverse") else head.ahead
            p.copy_(getattr(way, name.removesuffix("_reverse")))
    for x, layout in inputs():
        head.zero_grad()
        lstm.zero_grad()
        docs = [torch.from_numpy(d).float()[None] for d in parts(x, layout)]
        want = torch.cat([head.out(lstm(d)[0])[0] for d in docs])
        got = states(head(x, layout), layout)
        torch.testing.assert_close(got, want, **CLOSE)
        spread = noise(1, *want.shape)
        (want * spread).sum().backward()
        reference = {n: p.grad.clone() for n, p in lstm.named_parameters()}
        (got * spread).sum().backward()
        for name, g in reference.items():
            way = head.back if name.endswith("_reverse") else head.ahead
            torch.testing.assert_close(getattr(way, name.removesuffix("_reverse")).grad, g, **CLOSE)


def test_characters_are_their_formula_token_by_token():
    spec = heads("char_cnn", width=4, filters=5, span=3)
    head, ((x, pad), (y, pack)) = made(spec), inputs()
    p, code_BTK = weights(head), pad.extra["characters"].numpy()
    assert (code_BTK == 0).all(-1)[pad.real_BT].any() and (code_BTK > 0).any()
    want = x.double().numpy()
    for b, t in np.ndindex(*code_BTK.shape[:2]):
        e_KE = np.where(code_BTK[b, t, :, None] > 0, p["table.weight"][code_BTK[b, t]], 0)
        around = np.pad(e_KE, ((1, 1), (0, 0)))
        over = [
            p["conv.weight"] @ around[k : k + 3].reshape(-1) + p["conv.bias"] for k in range(3) if code_BTK[b, t, k]
        ]
        c_F = np.max(over, 0) if over else np.zeros(5)
        want[b, t] += p["join.weight"] @ c_F + p["join.bias"]
    want = want @ p["inner.out.weight"].T + p["inner.out.bias"]
    np.testing.assert_allclose(states(head(x, pad), pad).detach(), want[pad.real_BT.numpy()], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(states(head(y, pack), pack), states(head(x, pad), pad), **CLOSE)
    encoder = build(encoder_spec())
    new = spec.build(encoder, 3).eval()
    initialise(Learner(encoder, new), encoder.init, 0)
    assert torch.equal(new(x, pad), new.inner(x, pad)), "it does not start as the head inside"
    assert new.table.weight.abs().max() > 0.5 and new.conv.weight.abs().max() > 0.1
    with pytest.raises(ValueError, match=r"ask the task for them: task\('tagging', characters=24\)"):
        head(x, replace(pad, extra={}))
    with pytest.raises(ValueError, match="a span of 2 characters has no middle"):
        heads("char_cnn", span=2).build(build(encoder_spec()), 3)


def test_heads_of_two_texts_are_their_formulas():
    """On rows of two documents, of one (which is compared with itself) and of three (the first and the last count)."""
    docs = documents((5, 3, 4, 6, 2, 3))
    _, layout = packed(docs, [[0, 1], [2], [3, 4, 5]], 14)
    x = noise(4, *layout.segment_BT.shape, DIM)
    mean = [part.mean(0) for part in parts(x, layout)]
    u, v = np.stack([mean[i] for i in (0, 2, 3)]), np.stack([mean[i] for i in (1, 2, 5)])
    one, p = (head := made(heads("siamese"))), weights(head)
    want = np.concatenate([u, v, np.abs(u - v)], -1) @ p["out.weight"].T + p["out.bias"]
    np.testing.assert_allclose(one(x, layout).detach(), want, rtol=1e-4, atol=1e-5)
    one, p = (head := made(heads("cosine"))), weights(head)
    cosine = (u * v).sum(-1) / (np.linalg.norm(u, axis=-1) * np.linalg.norm(v, axis=-1))
    np.testing.assert_allclose(one(x, layout).detach(), p["slope"] * cosine[:, None] + p["shift"], rtol=1e-4, atol=1e-5)
    new = heads("cosine").build(build(encoder_spec()), 1)
    np.testing.assert_allclose(new(x, layout).detach()[:, 0], cosine, rtol=1e-4, atol=1e-5)


def test_the_recurrent_head_starts_as_torchs_and_from_the_seed():
    encoder = build(encoder_spec())
    head = heads("rnn", hidden=64).build(encoder, 3)
    initialise(Learner(encoder, head), encoder.init, 0)
    for p in (*head.ahead.parameters(), *head.back.parameters()):
        assert 0.1 < p.abs().max() <= 64**-0.5 and abs(p.mean()) < 0.02

    def one():
        with kernels.seeded(7):
            before = torch.get_rng_state()
            made = heads("rnn", hidden=4).build(encoder, 0)
            assert torch.equal(torch.get_rng_state(), before)
            return made.ahead.weight_hh_l0

    assert torch.equal(one(), one())


def brute(score_TLL):
    """{path: score} of all paths, counted one by one; before the row stands label 0."""
    T, L = score_TLL.shape[:2]
    found = {}
    for path in itertools.product(range(L), repeat=T):
        found[path] = sum(score_TLL[t, a, b].item() for t, (a, b) in enumerate(zip((0, *path), path, strict=False)))
    return found


def test_chains_are_their_sums_over_all_paths():
    score = noise(0, 2, 5, 3, 3).double().requires_grad_()
    target = torch.tensor([[0, 2, 1, 1, 0], [1, -100, 2, -100, -100]])
    log_z, nll, best, p = (
        chain.log_partition(score),
        chain.nll(score, target),
        chain.viterbi(score),
        chain.marginals(score),
    )
    for b in range(2):
        paths = brute(score[b])
        z = sum(math.exp(s) for s in paths.values())
        fits = [s for y, s in paths.items() if all(t < 0 or t == k for t, k in zip(target[b].tolist(), y, strict=True))]
        assert log_z[b].item() == pytest.approx(math.log(z), rel=1e-5)
        assert nll[b].item() == pytest.approx(-math.log(sum(map(math.exp, fits)) / z), rel=1e-4)
        assert tuple(best[b].tolist()) == max(paths, key=paths.get)
        for t, k in itertools.product(range(5), range(3)):
            want = sum(math.exp(s) for y, s in paths.items() if y[t] == k) / z
            assert p[b, t, k].item() == pytest.approx(want, abs=1e-5)
    assert chain.loss(score, target).item() == pytest.approx(nll.sum().item() / 7)
    # the gradient of log Z: the probability of each pair of labels that follow one another
    (pair,) = torch.autograd.grad(log_z.sum(), score)
    torch.testing.assert_close(pair.sum(2).float(), p.float(), **CLOSE)
    assert chain.loss(score, torch.full_like(target, -100)) == 0


def test_the_crf_is_its_formula_document_by_document():
    head, L = made(heads("crf"), labels=3), 3
    a, first, last = (p.detach().double() for p in (head.after, head.first, head.last))
    for x, layout in inputs():
        score, e = head(x, layout), head.inner(x, layout)
        assert score.shape == (*x.shape[:2], L, L)
        rng = torch.Generator().manual_seed(1)
        target = torch.where(layout.real_BT, torch.randint(L, layout.segment_BT.shape, generator=rng), -100)
        for b in range(len(x)):
            want, wanted = 0.0, 0.0
            for n in range(1, int(layout.segment_BT[b].max()) + 1):
                here = layout.segment_BT[b] == n
                p, y = e[b, here].detach().double(), target[b, here].tolist()
                alpha = first + p[0]
                for row in p[1:]:
                    alpha = (alpha[:, None] + a).logsumexp(0) + row
                want += (alpha + last).logsumexp(0).item()
                wanted += (first[y[0]] + last[y[-1]] + sum(p[t, k] for t, k in enumerate(y))).item()
                wanted += sum(a[i, j].item() for i, j in zip(y, y[1:], strict=False))
            assert chain.log_partition(score)[b].item() == pytest.approx(want, rel=1e-5)
            assert chain.nll(score, target)[b].item() == pytest.approx(want - wanted, rel=1e-4, abs=1e-4)
    (x, pad), (y, pack) = inputs()
    for read in (chain.viterbi, chain.marginals):
        torch.testing.assert_close(states(read(head(x, pad)), pad), states(read(head(y, pack)), pack), **CLOSE)


def test_the_crf_goes_past_tokens_without_a_label():
    """Marked tokens alone give what a text of these tokens alone gives; special tokens and later pieces are not counted."""
    head, ((x, pad), _) = made(heads("crf", fact="begins")), inputs()
    marks = (noise(2, *pad.segment_BT.shape) > 0) & pad.real_BT
    marks[:, 0] = False
    layout = replace(pad, extra={"begins": marks.long()})
    score = head(x, layout)
    target = torch.where(marks, torch.randint(3, marks.shape, generator=torch.Generator().manual_seed(3)), -100)
    for b in range(len(x)):
        if not marks[b].any():
            continue
        only, mine = x[b : b + 1, marks[b]], target[b : b + 1, marks[b]]
        plain = Layout.padded(torch.ones_like(mine), None, True)
        alone = head(only, replace(plain, extra={"begins": torch.ones_like(mine)}))
        assert chain.log_partition(score)[b].item() == pytest.approx(chain.log_partition(alone).item(), rel=1e-5)
        assert chain.nll(score, target)[b].item() == pytest.approx(chain.nll(alone, mine).item(), rel=1e-4)
        assert torch.equal(chain.viterbi(score)[b, marks[b]], chain.viterbi(alone)[0])
    with pytest.raises(ValueError, match="no 'begins'"):
        head(x, pad)


def test_the_crf_starts_as_its_inner_head_and_learns_what_may_follow():
    encoder = build(encoder_spec())
    head = heads("crf", inner=heads("token", dropout=0.0)).build(encoder, 3)
    initialise(Learner(encoder, head), encoder.init, 0)
    wake(head.inner)
    x, layout = noise(0, 20, 6, DIM), Layout.padded(torch.ones(20, 6))
    assert torch.equal(chain.viterbi(head(x, layout)), head.inner(x, layout).argmax(-1))
    torch.testing.assert_close(chain.marginals(head(x, layout)), head.inner(x, layout).softmax(-1), **CLOSE)
    # label 2 always follows 1, and nothing in the states says so
    target = torch.randint(2, (20, 6), generator=torch.Generator().manual_seed(1))
    target[:, 1:] = torch.where(target[:, :-1] == 1, 2, target[:, 1:])
    target[:, 1:] = torch.where((target[:, 1:] == 2) & (target[:, :-1] != 1), 0, target[:, 1:])
    pairs = {(i, j) for row in target.tolist() for i, j in itertools.pairwise(row)}
    optimiser = torch.optim.Adam(head.parameters(), lr=0.1)
    for _ in range(60):
        chain.loss(head(x, layout), target).backward()
        optimiser.step()
        optimiser.zero_grad()
    unseen = [head.after[i, j].item() for i in range(3) for j in range(3) if (i, j) not in pairs]
    assert (1, 2) in pairs and max(unseen) < head.after[1, 2].item() - 1
    said = chain.viterbi(head(noise(9, 20, 6, DIM), layout)).tolist()
    assert {(i, j) for row in said for i, j in itertools.pairwise(row)} <= pairs


def test_chains_in_bf16_and_of_one_token():
    head, ((x, layout), _) = made(heads("crf")).bfloat16(), inputs()
    score = head(x.bfloat16(), layout)
    assert chain.nll(score, torch.zeros_like(layout.segment_BT)).isfinite().all()
    one = made(heads("crf"))(x[:, :1], layout.columns(0, 1))
    assert chain.viterbi(one).shape == (3, 1) and chain.marginals(one).sum(-1).allclose(torch.ones(3, 1))


def test_pointers_are_their_formula():
    head = made(heads("pointer", pool=pools("mean")), labels=3)
    w = weights(head)
    sigmoid = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731
    for x, layout in inputs():
        want = []
        for h in parts(x, layout):
            d, cell, scores = h.mean(0), np.zeros(DIM), []
            for k in range(3):
                if k:
                    read = softmax(scores[-1]) @ h
                    gates = np.concatenate([read, d]) @ w["gates.weight"].T + w["gates.bias"]
                    i, f, g, o = np.split(gates, 4)
                    cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
                    d = sigmoid(o) * np.tanh(cell)
                u = np.tanh(h @ w["token.weight"].T + w["token.bias"] + d @ w["state.weight"].T)
                scores.append(u @ w["score.weight"][0])
            want.append(np.stack(scores, -1))
        got = states(head(x, layout), layout)
        np.testing.assert_allclose(got.detach().numpy(), np.concatenate(want), rtol=1e-4, atol=1e-5)
    assert "gates.weight" not in dict(heads("pointer").build(build(encoder_spec()), 1).named_parameters())


def test_the_biaffine_head_is_its_formula_within_documents():
    head = made(heads("biaffine", arc=7, relation=5), labels=2)
    w = weights(head)
    mlp = lambda h, name: np.maximum(h @ w[f"{name}.weight"].T + w[f"{name}.bias"], 0)  # noqa: E731
    for x, layout in inputs():
        got = head(x, layout)
        assert got.shape == (*x.shape[:2], x.shape[1], 3)
        assert torch.equal(got[..., 0], head.arcs(x, layout)) and torch.equal(got[..., 1:], head.relations(x, layout))
        docs = iter(parts(x, layout))
        for b in range(len(x)):
            for n in range(1, int(layout.segment_BT[b].max()) + 1):
                h, here = next(docs), layout.segment_BT[b] == n
                a, d = mlp(h, "arc_head"), mlp(h, "arc_dependent")
                arc = np.einsum("ie,fe,jf->ij", d, w["arc_pair.weight"], a) + a @ w["arc_bias.weight"][0]
                c, e = mlp(h, "relation_head"), mlp(h, "relation_dependent")
                u = w["relation_pair.weight"].reshape(2, 5, 5)
                relation = np.einsum("ie,rfe,jf->ijr", e, u, c)
                relation += (c @ w["relation_bias.weight"].T + w["relation_bias.bias"])[None]
                relation += (e @ w["relation_side.weight"].T)[:, None]
                mine = got[b, here][:, here].detach().numpy()
                np.testing.assert_allclose(mine, np.concatenate([arc[..., None], relation], -1), rtol=1e-3, atol=1e-4)
                assert (got[b, here][:, ~here & layout.real_BT[b]] == chain.NEVER).all()
    arcs_alone = made(heads("biaffine", arc=7), labels=0)
    assert arcs_alone(*inputs()[0]).shape == (3, 9, 9, 1) and head.each == "token"


# ---- all of them


HEADS = ("biaffine", "char_cnn", "crf", "mlp", "pointer", "prototypes", "queries", "rnn")
POOLS = ("attention", "hierarchical", "max", "nmtune", "query")


@pytest.mark.parametrize("room, kind", [*(("head", k) for k in HEADS), *(("pool", k) for k in POOLS)])
def test_every_parameter_gets_a_gradient_and_nothing_crosses(room, kind):
    assert (room, kind) in kinds(room)
    top, (_, (x, layout)) = made(example(room, kind)).train(), inputs()
    x = x.requires_grad_()
    with tap.heard() as extra:
        y = top(x, layout)
    y = torch.where(y == chain.NEVER, 0, y)
    if y.shape[:2] == layout.segment_BT.shape:
        y = y[layout.real_BT]
    ((y * noise(1, *y.shape)).sum() + sum(extra.values())).backward()
    assert not [n for n, p in top.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert x.grad.isfinite().all() and not x.grad[~layout.real_BT].any()
    top.eval()
    other = torch.where((layout.segment_BT == 2)[..., None], -x.detach(), x.detach())
    a, b = (top(v, layout) for v in (x.detach(), other))
    if kind == "hierarchical":  # it joins them: the second row has one document
        assert torch.equal(a[1], b[1]) and not torch.allclose(a[0], b[0])
    elif a.shape[:2] == layout.segment_BT.shape:
        torch.testing.assert_close(a[layout.segment_BT == 1], b[layout.segment_BT == 1], rtol=0, atol=1e-6)
        assert not torch.allclose(a[layout.segment_BT == 2], b[layout.segment_BT == 2])
    else:
        torch.testing.assert_close(a[[0, 2]], b[[0, 2]], rtol=0, atol=1e-6)
        assert not torch.allclose(a[1], b[1])
