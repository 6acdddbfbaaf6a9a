"""Every fast form equal to its eager form; dropout's statistics; seeds."""

import math

import numpy as np
import pytest
import torch
from toy import documents, packed

from bertsmith import kernels

FAST = sorted(set(kernels.FORMS) - {"eager"})
B, N, T, H = 2, 3, 11, 8


def draws(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def masks():
    _, layout = packed(documents((6, 4, 9)), [[0, 1], [2]], T)
    score = draws(B, N, T, T, seed=9)
    return {
        "none": None,
        "documents": layout.mask_B1TT(),
        "window": layout.mask_B1TT(4),
        "score": score,
        "score and documents": torch.where(layout.mask_B1TT(), score, torch.finfo(score.dtype).min),
        "score of one row": score[:1],
    }


def run(form, mask, dtype=torch.float32, reads=T):
    """Output and the gradients of q, k, v and of a float term."""
    if reads != T and mask is not None:
        mask = torch.cat([mask, mask[..., : reads - T]], -1)
    shapes = ((B, N, T, H), (B, N, reads, H), (B, N, reads, H))
    inputs = [draws(*shape, seed=i).to(dtype).requires_grad_() for i, shape in enumerate(shapes)]
    if mask is not None and mask.is_floating_point():
        mask = mask.to(dtype).clone().requires_grad_()
        inputs.append(mask)
    with kernels.forced(form):
        y = kernels.attention(*inputs[:3], mask, 0.3, 0.0)
    y.backward(draws(*y.shape, seed=5).to(dtype))
    return [y.detach(), *(x.grad for x in inputs)]


@pytest.mark.parametrize("form", FAST)
@pytest.mark.parametrize("what", masks())
@pytest.mark.parametrize("reads", [T, T + 3])
def test_a_fast_form_equals_the_eager_one(form, what, reads):
    mask = masks()[what]
    for fast, eager in zip(run(form, mask, reads=reads), run("eager", mask, reads=reads), strict=True):
        torch.testing.assert_close(fast, eager, rtol=1e-4, atol=1e-5)  # float32, sums in another order


@pytest.mark.parametrize("form", FAST)
def test_a_fast_form_is_near_the_eager_one_in_bf16(form):
    mask = masks()["documents"]
    exact, (fast, *grads) = run("eager", mask), run(form, mask, torch.bfloat16)
    assert fast.dtype == torch.bfloat16
    torch.testing.assert_close(fast.float(), exact[0], rtol=0, atol=0.05)  # 8 bits of mantissa, values near 1
    assert all(g.isfinite().all() for g in grads)


@pytest.mark.parametrize("form", sorted(kernels.FORMS))
def test_attention_is_the_formula(form):
    q, k, v = (draws(B, N, T, H, seed=i) for i in range(3))
    mask = masks()["documents"]
    with kernels.forced(form):
        y = kernels.attention(q, k, v, mask, 0.3, 0.0)
    score = np.einsum("bnth,bnsh->bnts", q.numpy(), k.numpy()) * 0.3
    score = np.where(mask.numpy(), score, -np.inf)
    weight = np.exp(score - score.max(-1, keepdims=True))
    want = np.einsum("bnts,bnsh->bnth", weight / weight.sum(-1, keepdims=True), v.numpy())
    np.testing.assert_allclose(y.numpy(), want, rtol=1e-4, atol=1e-5)


def test_forms_are_chosen_by_device_and_length_and_forced_by_name():
    assert kernels.choose("cpu", 128, 0.0) == "eager" and kernels.choose("cpu", 1024, 0.0) == "sdpa"
    assert kernels.choose("cpu", 1024, 0.1) == "eager" and kernels.choose("cuda", 128, 0.1) == "sdpa"
    with pytest.raises(ValueError, match="no kernel 'nope'; there are: eager, sdpa"), kernels.forced("nope"):
        pass


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_drops_its_share_and_keeps_the_expectation(p, dtype):
    n = 400_000
    with kernels.seeded(0, "dropout"):
        y = kernels.dropout(torch.ones(n, dtype=dtype), p, True).float()
    gain = y.max().item()
    assert set(y.unique().tolist()) == {0.0, gain}
    dropped = (y == 0).double().mean().item()
    sigma = math.sqrt(p * (1 - p) / n)
    assert abs(dropped - p) < 5 * sigma + (0.002 if dtype == torch.bfloat16 else 1e-4)
    # the rate is fitted to a gain that the type can hold, so that the mean is 1 up to chance (and 2^-16 of rounding)
    assert abs(y.double().mean().item() - 1) < 5 * gain * sigma + gain * 2**-16


def test_dropout_masks_have_no_pattern():
    with kernels.seeded(1):
        keep = (kernels.dropout(torch.ones(512, 512), 0.5, True) > 0).double()
    bound = 5 / math.sqrt(keep.numel())
    for one, other in [(keep[:, 1:], keep[:, :-1]), (keep[1:], keep[:-1]), (keep[:, 4:], keep[:, :-4])]:
        assert abs(((one - 0.5) * (other - 0.5)).mean().item() * 4) < bound
    assert (keep.mean(0) - 0.5).abs().max() < 6 * 0.5 / math.sqrt(512)


def test_dropout_gradient_goes_through_the_same_mask():
    x = torch.ones(1000, requires_grad=True)
    with kernels.seeded(2):
        y = kernels.dropout(x, 0.3, True)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_a_seed_gives_the_same_draws_and_another_gives_others():
    def draw(*seed):
        with kernels.seeded(*seed):
            first = kernels.dropout(torch.ones(999), 0.5, True)
            return first, kernels.dropout(torch.ones(999), 0.5, True), torch.rand(5)

    one, same, other = draw(3, 0, "a"), draw(3, 0, "a"), draw(3, 1, "a")
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not torch.equal(one[0], one[1]), "two dropouts of one pass with one mask"


def test_outside_a_seed_dropout_is_torchs_own():
    torch.manual_seed(0)
    ours = kernels.dropout(torch.ones(50), 0.5, True)
    torch.manual_seed(0)
    assert torch.equal(ours, torch.nn.functional.dropout(torch.ones(50), 0.5))
    assert torch.equal(kernels.dropout(torch.ones(5), 0.5, False), torch.ones(5))


def test_attention_weights_drop_without_bias():
    q, k = draws(1, 1, 4, H), draws(1, 1, 50, H, seed=1)
    v = torch.eye(50)[None, None]
    total = torch.zeros(1, 1, 4, 50)
    for i in range(400):
        with kernels.seeded(i):
            total += kernels.attention(q, k, v, None, 0.3, 0.2)
    torch.testing.assert_close(total / 400, (q * 0.3 @ k.mT).softmax(-1), rtol=0.15, atol=0.005)  # 5 sigma: 0.025 * 5


@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no GPU here: its kernels (flash, memory-efficient) cannot run"
)
def test_on_a_gpu_the_chosen_form_equals_the_eager_one_on_the_cpu():
    for mask in masks().values():
        q, k, v = (draws(B, N, T, H, seed=i) for i in range(3))
        with kernels.forced("eager"):
            want = kernels.attention(q, k, v, mask, 0.3, 0.0)
        got = kernels.attention(*(x.cuda() for x in (q, k, v)), None if mask is None else mask.cuda(), 0.3, 0.0)
        torch.testing.assert_close(got.cpu(), want, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("rows,vocab", [(130, 1500), (64, 1024), (1, 1024), (0, 1024), (9, 50)])
def test_blocked_cross_entropy_is_cross_entropy(rows, vocab):
    logits = (4 * draws(rows, vocab)).bfloat16().requires_grad_()
    target = torch.randint(vocab, (rows,), generator=torch.Generator().manual_seed(1))
    exact = logits.detach().double().requires_grad_()
    want = torch.nn.functional.cross_entropy(exact, target, reduction="sum")
    got = kernels.cross_entropy(logits, target)
    (got / 7).backward()
    (want / 7).backward()
    assert got.dtype == torch.float32 and got.item() == pytest.approx(want.item(), rel=1e-5)
    # the gradient is stored in bf16, 8 bits of mantissa, and divided by 7 there
    torch.testing.assert_close(logits.grad.double(), exact.grad, rtol=2**-6, atol=1e-6)
