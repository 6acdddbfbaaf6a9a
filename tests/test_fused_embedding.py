"""The embedding trained as one function gives the outputs and gradients of fp32 torch, up to the rounding of bf16."""

import copy

import pytest
import torch
from test_fused import ANGLE, NORM, TEXTS, packed, same
from test_native import spec

from bertsmith import fused, kernels, tap
from bertsmith.edit import edit as edits
from bertsmith.graft import graft as grafts
from bertsmith.linear import edit, graft
from bertsmith.native import step

pytestmark = pytest.mark.skipif(bool(step.why_not()), reason=step.why_not())

VOCAB = 61
LEARNED = {"kind": "position/learned", "length": 64}
SHAPES = {
    "bert": {},
    "roberta": {"embedding__types": 1, "embedding__position": LEARNED | {"offset": 2}},
    "modernbert": {"embedding__types": 0, "embedding__position": {"kind": "position/rope"}},
    "albert": {"embedding__width": 32},
    "t5": {
        "embedding__types": 0,
        "embedding__position": {"kind": "position/none"},
        "embedding__norm": {"kind": "norm/none"},
    },
    "rms": {"embedding__norm": {"kind": "norm/rms"}},
    "no bias": {"embedding__norm": {"kind": "norm/layer", "bias": False}},
}


def encoder_of(change, facts=None):
    made = spec(**{"dim": 64, "depth": 1, "length": 64} | change)
    return (made.replace("embedding.facts", facts) if facts else made).build().train()


def embedding_of(change):
    """An embedding whose weights are away from their start, each a bf16 number."""
    made = encoder_of(change).embedding
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in made.parameters():
            p.copy_((torch.randn(p.shape, generator=generator) * 0.3 + (p.dim() == 1)).bfloat16())
    return made


def given(made, rows=TEXTS):
    """(token_BT, layout, dy_BTD in bf16): few ids, so that most come often; nothing comes back to padding."""
    layout, generator = packed(rows), torch.Generator().manual_seed(3)
    token_BT = torch.randint(0, 12, layout.segment_BT.shape, generator=generator) * layout.real_BT
    layout = copy.copy(layout)
    object.__setattr__(layout, "type_BT", torch.randint(0, 2, token_BT.shape, generator=generator))
    dim = made.table.weight.shape[1] if made.project is None else made.project.weight.shape[0]
    dy_BTD = torch.randn(*token_BT.shape, dim, generator=generator).bfloat16()
    return token_BT, layout, dy_BTD * layout.real_BT[..., None]


def went(made, token_BT, layout, dy_BTD):
    y_BTD = fused.embedded(made, token_BT, layout.fresh())
    y_BTD.backward(dy_BTD.to(y_BTD.dtype))
    found = {"y": y_BTD.detach()[layout.real_BT]} | {
        n: p.grad for n, p in made.named_parameters() if p.grad is not None
    }
    return {name: value.double().flatten() for name, value in found.items()}


@pytest.mark.parametrize("change", SHAPES.values(), ids=SHAPES)
def test_outputs_and_gradients_are_those_of_fp32(change):
    made = embedding_of(change)
    assert fused.why_not_embedded(made) == ""
    token_BT, layout, dy_BTD = given(made)
    want = went(copy.deepcopy(made), token_BT, layout, dy_BTD)
    got = went(made.bfloat16(), token_BT, layout, dy_BTD)
    same(got, want)
    unread = [row for row in range(VOCAB) if row not in token_BT]
    assert unread and not made.table.weight.grad[unread].any()


def test_it_is_nearer_to_fp32_than_torch_in_bf16_is():
    made = embedding_of({})
    token_BT, layout, dy_BTD = given(made, ((60, 4), (64,)) * 8)
    want = went(copy.deepcopy(made), token_BT, layout, dy_BTD)
    short = made.bfloat16()
    with kernels.piecewise():
        plain = went(copy.deepcopy(short), token_BT, layout, dy_BTD)
    ours = went(short, token_BT, layout, dy_BTD)
    far = {
        who: {n: float((x[n] - want[n]).norm() / want[n].norm()) for n in want}
        for who, x in (("ours", ours), ("torch", plain))
    }
    assert all(far["ours"][n] < far["torch"][n] for n in want), far


def test_dropout_drops_the_same_in_both_passes_and_the_seed_decides_what():
    made = embedding_of({"embedding__dropout": 0.25, "embedding__norm": {"kind": "norm/none"}}).bfloat16()
    with torch.no_grad():
        for p in made.parameters():
            p.fill_(1.0)
    token_BT, layout, dy_BTD = given(made, ((64,),) * 16)
    dy_BTD = torch.ones_like(dy_BTD)

    def once(seed):
        made.zero_grad()
        with kernels.seeded(seed):
            y_BTD = fused.embedded(made, token_BT, layout.fresh())
        y_BTD.backward(dy_BTD)
        return y_BTD.detach().float(), made.position.table.weight.grad.float()

    y, dplace = once(1)
    gone = (y == 0).float()
    assert abs(gone.mean() - 0.25) < 0.01 and torch.allclose(y[y != 0], torch.tensor(3 / 0.75), rtol=1e-2)
    # the place of every column gets 1 / (1 - p) from each row where it stays
    torch.testing.assert_close(dplace[:64], (1 - gone).sum(0) / 0.75, rtol=1e-2, atol=0.0)
    assert torch.equal(once(1)[0], y) and not torch.equal(once(2)[0], y)
    made.eval()
    assert not (fused.embedded(made, token_BT, layout.fresh()) == 0).any()


def test_any_number_of_threads_gives_the_same_bits():
    made, threads, found = embedding_of({}).bfloat16(), torch.get_num_threads(), []
    token_BT, layout, dy_BTD = given(made, ((60, 4), (64,), (3, 50)) * 7)
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            made.zero_grad()
            found.append(went(made, token_BT, layout, dy_BTD))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one[name], found[0][name]) for one in found for name in one)


def test_what_is_frozen_gets_no_gradient_and_an_edit_learns():
    encoder = encoder_of({})
    edit(encoder, "embedding.table", edits("lora", rank=2), "one")
    made = encoder.embedding
    made.table.weight.requires_grad_(False)
    with torch.no_grad():
        for name, p in made.named_parameters():
            if ".edits." in name:
                p.normal_(generator=torch.Generator().manual_seed(len(name)))
                p.copy_(p.bfloat16())
    token_BT, layout, dy_BTD = given(made)
    want = went(copy.deepcopy(made), token_BT, layout, dy_BTD)
    got = went(made.bfloat16(), token_BT, layout, dy_BTD)
    assert "table.weight" not in got and any(".edits." in name for name in got)
    same(got, want, 5 * NORM, 1 - 5 * (1 - ANGLE))  # the edited table is rounded to bf16 once more


def test_what_it_does_not_know_goes_through_torch_and_is_named():
    sinusoidal = embedding_of({"embedding__position": {"kind": "position/sinusoidal"}})
    facts = encoder_of({}, {"task": 3}).embedding
    odd = embedding_of({"embedding__width": 20})
    heard = embedding_of({})
    heard.norm.register_forward_hook(lambda *_: None)
    grafted = encoder_of({})
    graft(grafted, "embedding", grafts("hype"))
    assert "a graft" in fused.why_not_embedded(grafted.embedding)
    for made, said in (
        (sinusoidal, "position/Sinusoidal"),
        (facts, "further facts"),
        (odd, "not a multiple of 32: 20"),
        (heard, "somebody who listens"),
    ):
        assert said in fused.why_not_embedded(made)
        token_BT, layout, _ = given(made)
        with torch.no_grad(), kernels.piecewise():
            want = made(token_BT, layout)
        assert torch.equal(fused.embedded(made, token_BT, layout).detach(), want)


def test_a_probe_hears_the_norm_inside_and_then_the_function_is_back():
    encoder = spec(dim=64, depth=1).build().train().bfloat16()
    token_BT, layout, _ = given(encoder.embedding)
    heard = []
    with tap.see(encoder, "embedding.norm", lambda path, inputs, output: heard.append(path)):
        encoder(token_BT, layout)
    assert heard == ["embedding.norm"]
    with pytest.raises(RuntimeError, match="nothing was heard"), tap.see(encoder, "embedding.drop", print):
        pass
    assert fused.why_not_embedded(encoder.embedding) == ""


@pytest.mark.parametrize("token", [VOCAB, -1])
def test_a_token_that_no_table_has_is_named(token):
    made = embedding_of({}).bfloat16()
    token_BT, layout, _ = given(made)
    token_BT[0, 0] = token
    with pytest.raises(IndexError, match=f"token {token} is not in a table of {VOCAB} rows"):
        fused.embedded(made, token_BT, layout)
