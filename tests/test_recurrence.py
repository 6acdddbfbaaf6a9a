"""Reading past the end of a row: Transformer-XL's positions and recurrence, XLNet's memories and two streams, recurrent memory.

Every property is also asked of an encoder without the step that makes it, and must fail there.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from recall import answer, rows, trained, with_memory, with_past
from toy import build, wake

from bertsmith import hf
from bertsmith.layout import Layout
from bertsmith.linear import load_tensors, tensors
from bertsmith.position import position
from bertsmith.spec import Spec

CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # float32, the same sums in another order
HERE = Path(__file__).parent


def alone(token_BT):
    """One document a row, all of it."""
    return Layout.padded(torch.ones_like(token_BT))


def some(rows=1, length=12, seed=0):
    return torch.randint(10, 30, (rows, length), generator=torch.Generator().manual_seed(seed))


# ---- Transformer-XL's positions


@pytest.mark.parametrize("apart", [False, True])
def test_the_terms_of_the_scores_are_the_papers(apart):
    """Dai et al. 2019, section 3.3, terms (b), (c) and (d), and XLNet's segments, pair by pair."""
    N, H, D, T, S = 2, 3, 8, 5, 7
    method = wake(position("transformer_xl", types=True, apart=apart).build(D, N, H))
    g = torch.Generator().manual_seed(0)
    q, k = torch.randn(1, N, T, H, generator=g), torch.randn(1, N, S, H, generator=g)
    one = Layout(torch.ones(1, T).long(), torch.tensor([[0, 3, 4, 8, 9]]), torch.zeros(1).long(), 1)
    two = Layout(torch.ones(1, S).long(), torch.tensor([[0, 2, 5, 6, 7, 9, 11]]), torch.zeros(1).long(), 1)
    one.__dict__["type_BT"], two.__dict__["type_BT"] = (
        torch.tensor([[0, 1, 1, 0, 0]]),
        torch.tensor([[1] * 3 + [0] * 4]),
    )
    with torch.no_grad():
        ours = method.score(q, k, one, two, None)[0].numpy()
    W, u, v, w, s = (x.detach().numpy() for x in (method.r.weight, method.u, method.v, method.w, method.s.weight))
    W, s, q, k = W.reshape(N, H, D), s.reshape(2, N, H), q[0].numpy(), k[0].numpy()
    f = 10000.0 ** (-np.arange(0, D, 2) / D)
    for n in range(N):
        for i in range(T):
            for j in range(S):
                p_i, p_j = one.position_BT[0, i].item(), two.position_BT[0, j].item()
                R = np.concatenate([np.sin((p_i - p_j) * f), np.cos((p_i - p_j) * f)])
                differ = int(one.type_BT[0, i] != two.type_BT[0, j])
                place = (q[n, i] + v[n]) @ W[n] @ R + (q[n, i] + w[n]) @ s[differ, n]
                want = u[n] @ k[n, j] + (0 if apart and 0 in (p_i, p_j) else place)
                assert np.isclose(ours[n, i, j], want / H**0.5, atol=1e-5)


def moved(spec):
    """How much states change if a document begins at place 7."""
    encoder, token = build(spec), some()
    there = alone(token)
    later = replace(there, position_BT=there.position_BT + 7)
    return (encoder(token, there) - encoder(token, later)).abs().max()


def turned(spec):
    """How much the states of words change if the words of a document stand in the other order."""
    encoder, token = build(spec), some()
    return (encoder(token, alone(token)) - encoder(token.flip(1), alone(token)).flip(1)).abs().max()


def test_it_knows_order_and_no_absolute_place():
    spec = {kind: with_past(12, 0, position=kind).get("inner") for kind in ("transformer_xl", "learned", "none")}
    holds = lambda kind: bool(moved(spec[kind]) < 1e-5) and bool(turned(spec[kind]) > 1e-2)  # noqa: E731
    assert holds("transformer_xl") and not holds("learned") and not holds("none")


def test_distances_beyond_its_reach_count_as_its_reach():
    def holds(reach):
        spec = with_past(12, 0).get("inner").replace("blocks.*.mixer.position", position("transformer_xl", reach=reach))
        encoder, token = build(spec.replace("depth", 1)), some()
        there = alone(token)
        far = there.position_BT.clone()
        far[:, 8:] += 5  # the last four words move away; the first four were more than 3 places away before
        x = encoder(token, there)
        y = encoder(token, replace(there, position_BT=far))
        return bool((x[:, :5] - y[:, :5]).abs().max() < 1e-5)

    assert holds(3) and not holds(0)


# ---- what all that cut documents into segments promise


def last_of_the_third(spec):
    """How much the states of segment 3 change with a word of segment 1."""
    encoder, token = build(spec), some()
    other = token.clone()
    other[:, 1] = 5
    change = (encoder(token, alone(token)) - encoder(other, alone(token))).abs().amax(-1)[0]
    assert change[:4].max() > 1e-2  # it does change its own segment
    return change[8:].max()


def test_a_fact_of_the_first_segment_reaches_the_third():
    holds = lambda spec: bool(last_of_the_third(spec) > 1e-3)  # noqa: E731
    assert holds(with_memory(4)) and holds(with_past(4, 4))
    assert not holds(with_past(4, 0))  # segments that know nothing of each other


@pytest.mark.parametrize(
    "spec", [with_memory(5), with_past(5, 3), with_past(5, 8)], ids=["memory", "past", "long past"]
)
def test_a_stream_is_the_whole_pass_segment_by_segment(spec):
    encoder, token = build(spec), some(length=23)
    whole = encoder(token, alone(token))[0]
    parts = list(encoder.stream(iter(token[0].tolist())))
    assert [len(p) for p in parts] == [5, 5, 5, 5, 3] and not any(p.requires_grad for p in parts)
    torch.testing.assert_close(torch.cat(parts), whole, **CLOSE)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("spec", [with_memory(4), with_past(4, 4)], ids=["memory", "past"])
def test_a_segment_read_alone_is_what_the_plain_stack_reads(spec):
    """Tensors bear the names of the plain stack, so that its weights can be loaded."""
    encoder, plain = build(spec), spec.get("inner").build().eval()
    load_tensors(plain, {k: v.detach() for k, v in tensors(encoder).items() if k != "memory"})
    token = some(length=4)
    x, y = encoder(token, alone(token)), plain(token, alone(token))
    assert torch.allclose(x, y, atol=1e-6) == (spec.kind == "recurrent")


def test_a_layout_that_says_who_sees_whom_is_refused_and_so_is_what_is_no_stack():
    token = some()
    there = replace(alone(token), see_BTT=torch.ones(1, 12, 12).bool())
    with pytest.raises(ValueError, match="who sees whom"):
        build(with_memory(4))(token, there)
    with pytest.raises(ValueError, match="goes around an encoder/stack, not around encoder/memory"):
        Spec.from_dict(with_memory(4).to_dict() | {"inner": with_memory(4).to_dict()}).build()
    with pytest.raises(ValueError, match="reads segments of 1 token or more"):
        with_past(0, 4).build()


# ---- recurrent memory


def test_memory_is_what_the_paper_says():
    """Bulatov et al. 2022, section 3.2: [m_(k+1); y_k] = encoder([m_k; x_k]), with the plain stack's own parts."""
    encoder, token = build(with_memory(4, memory=3)), some(length=11)
    memory, out = encoder.memory[None], []
    for at in (0, 4, 8):
        part = token[:, at : at + 4]
        place = torch.arange(3 + part.shape[1])[None]
        words = encoder.embedding(part, replace(alone(part), position_BT=place[:, 3:]))
        x = torch.cat([memory, words], 1)
        layout = alone(place)
        for layer in encoder.layers:
            x = layer(x, layout)
        memory, y = x[:, :3], x[:, 3:]
        out.append(y)
    torch.testing.assert_close(encoder(token, alone(token)), torch.cat(out, 1), **CLOSE)


def gradient_of_the_first_segment(spec):
    """The size of d (last segment) / d (words of the first one)."""
    encoder, token = build(spec), some()
    token[0, 0] = 6
    token[0, 1:] = torch.where(token[0, 1:] == 6, 7, token[0, 1:])
    encoder(token, alone(token))[:, 8:].square().sum().backward()
    return encoder.embedding.table.weight.grad[6].abs().max()


def test_the_gradient_goes_back_through_segments_until_it_is_cut():
    holds = lambda spec: bool(gradient_of_the_first_segment(spec) > 1e-4)  # noqa: E731
    assert holds(with_memory(4)) and holds(with_memory(4, through=3))
    assert not holds(with_memory(4, through=1)) and not holds(with_memory(4, through=2))
    assert not holds(with_past(4, 4))  # Transformer-XL stops it at every segment


@pytest.mark.slow
def test_facts_are_recalled_further_than_was_trained():
    """Trained on up to 8 segments, chance is 0.25. Of seeds 0 to 3 all recall every fact over 16 segments, and 0.86, 1, 0.66
    and 1 of them over 80."""

    def holds(spec):
        encoder, head, rng = trained(spec, 8, 500, most=8)
        right = []
        for segments in (16, 80):
            token, fact = rows(64, 8, segments, rng)
            with torch.no_grad():
                right.append((answer(encoder, head, token).argmax(-1) == fact).float().mean().item())
        return right[0] > 0.95 and right[1] > 0.5

    assert holds(with_memory(8))
    assert not holds(with_past(8, 0))  # segments that know nothing of each other


@pytest.mark.slow
def test_two_million_tokens_take_the_memory_of_one_segment():
    """The most memory ever held does not grow from 20 thousand tokens on."""

    def holds(how, few, many):
        command = [sys.executable, str(HERE / "recall.py"), how, str(few), str(many)]
        path = os.pathsep.join([str(HERE.parent), str(HERE)])
        done = subprocess.run(
            command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=True
        )
        first, second = json.loads(done.stdout)
        assert (first["tokens"], second["tokens"]) == (few, many)
        return second["peak"] - first["peak"] < 4 * 2**20  # of what the allocator comes by; 2M states are 256 MB

    assert holds("stream", 20_000, 2_000_000)
    assert not holds("whole", 20_000, 200_000)  # without the stream, even a tenth of it holds more


# ---- Transformer-XL's recurrence


def reach(spec):
    """The farthest segment back from which a word changes the last one, of 6 segments of 4."""
    encoder, token = build(spec), some(length=24)
    x = encoder(token, alone(token))[:, 20:]
    found = 0
    for back in range(1, 6):
        other = token.clone()
        other[:, 20 - 4 * back : 24 - 4 * back] = 5
        if (encoder(other, alone(token))[:, 20:] - x).abs().max() > 1e-6:
            found = back
    return found


def test_each_layer_carries_a_fact_one_cache_further():
    """Dai et al. 2019, section 3.2: the largest dependency is linear in the number of layers."""
    assert [reach(with_past(4, 4, depth)) for depth in (1, 2, 3)] == [1, 2, 3]
    assert [reach(with_past(4, 0, depth)) for depth in (1, 3)] == [0, 0]


# ---- XLNet: parity


def xlnet(**more):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"vocab_size": 61, "d_model": 32, "n_layer": 3, "n_head": 4, "d_inner": 48}
    theirs = transformers.XLNetLMHeadModel(transformers.XLNetConfig(**sizes, dropout=0.0, mem_len=8)).eval()
    wake(theirs)
    config = theirs.config.to_dict() | {"architectures": ["XLNetLMHeadModel"]}
    spec, _, held = hf.read(config, {k: v.clone() for k, v in theirs.state_dict().items()})
    if more:
        spec = Spec.from_dict({"kind": "encoder/recurrent", "inner": spec.to_dict()} | more)
    encoder = spec.build().eval()
    load_tensors(encoder, {k.removeprefix("encoder."): v for k, v in held.items() if k.startswith("encoder.")})
    return theirs, encoder, held["head.bias"]


@pytest.mark.parametrize("length", [8, 5])
def test_xlnets_memories_are_the_cache(length):
    """mem_len 8: of segments of 5 the cache holds the last one and part of the one before."""
    theirs, encoder, _ = xlnet(length=length, cache=8)
    token = some(2, 3 * length)
    mems, out = None, []
    for at in range(0, 3 * length, length):
        part = token[:, at : at + length]
        said = theirs.transformer(part, token_type_ids=torch.zeros_like(part), mems=mems, use_mems=True)
        mems = said.mems
        out.append(said.last_hidden_state)
    ours, want = encoder(token, alone(token)), torch.cat(out, 1)
    torch.testing.assert_close(ours, want, **CLOSE)
    _, without, _ = xlnet(length=length, cache=0)
    assert not torch.allclose(without(token, alone(token)), want, atol=1e-2)


def test_xlnets_query_stream_is_tokens_that_see_and_are_not_seen():
    """Yang et al. 2019, section 2.3: M queries appended, each at its target's place, seeing what is before it in the order."""
    theirs, encoder, bias = xlnet()
    B, T, M = 3, 13, 4
    g = torch.Generator().manual_seed(0)
    token, kind = some(B, T), torch.randint(0, 2, (B, T), generator=g)
    rank = torch.rand(B, T, generator=g).argsort(1).argsort(1)
    before = rank[:, None, :] < rank[:, :, None]  # [reader, read]
    target = (rank >= T - M).long().argsort(dim=1, descending=True, stable=True)[:, :M]
    mapping = torch.nn.functional.one_hot(target, T).float()
    want = theirs(token, token_type_ids=kind, perm_mask=(~before).float(), target_mapping=mapping).logits
    pick = lambda x: torch.cat([x, x.gather(1, target)], 1)  # noqa: E731
    see = torch.zeros(B, T + M, T + M, dtype=torch.bool)
    see[:, :T, :T] = before | torch.eye(T).bool()
    see[:, T:, :T] = before.gather(1, target[:, :, None].expand(-1, -1, T))
    place = pick(torch.arange(T).expand(B, T))
    layout = replace(alone(place), position_BT=place, type_BT=pick(kind), see_BTT=see)
    asks = torch.full((B, M), 61)
    states = encoder(torch.cat([token, asks], 1), layout)[:, T:]
    ours = torch.nn.functional.linear(states, encoder.embedding.table.weight, bias)
    torch.testing.assert_close(ours, want, **CLOSE)
    weight = torch.randn(want.shape, generator=g)
    (ours * weight).sum().backward()
    (want * weight).sum().backward()
    near = {"rtol": 1e-3, "atol": 1e-3}  # sums over all tokens of a batch, and values up to a hundred
    torch.testing.assert_close(encoder.embedding.query.weight.grad, theirs.transformer.mask_emb.grad[0], **near)
    layer = theirs.transformer.layer[1].rel_attn
    torch.testing.assert_close(encoder.layers[1].mixer.position.v.grad, layer.r_r_bias.grad, **near)


def test_who_asks_is_told_from_what_is_read():
    """The same places asked by the query token and by an ordinary one differ: the stream's own vector is read."""
    _, encoder, _ = xlnet()
    token = some(1, 6)
    asks, other = token.clone(), token.clone()
    asks[0, 3], other[0, 3] = 61, 60
    assert (encoder(asks, alone(asks)) - encoder(other, alone(asks))).abs().max() > 1e-2
