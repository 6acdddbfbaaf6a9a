"""Every pool and head leaves the process: torch.export with batch and length open, equal to eager at another size."""

import pytest
import torch
from torch import nn
from toy import DIM, build, documents, encoder_spec, example, facts, kinds, padded, wake

from bertsmith.layout import Layout


class Whole(nn.Module):
    """What is exported: tokens and which of them to keep, both [B, T]; the layout is made inside."""

    def __init__(self, encoder, top):
        super().__init__()
        self.encoder, self.top = encoder, top

    def forward(self, token_BT, keep_BT):
        layout = Layout.padded(keep_BT)
        layout.extra.update(facts(token_BT))
        return self.top(self.encoder(token_BT, layout), layout)


def exported(encoder, top):
    whole = Whole(encoder, top).eval()
    token, layout = padded(documents((7, 5, 3)))
    open_axes = {0: torch.export.Dim("rows", min=1, max=512), 1: torch.export.Dim("length", min=2, max=64)}
    program = torch.export.export(whole, (token, layout.real_BT.long()), dynamic_shapes=(open_axes, open_axes))
    return whole, program.module()


def equal_at_other_sizes(whole, program):
    for lengths in ((4, 11), (9,), (16, 2, 1, 5, 8)):
        token, layout = padded(documents(lengths, seed=4))
        keep = layout.real_BT.long()
        with torch.no_grad():
            got, want = program(token, keep), whole(token, keep)
        assert got.shape == want.shape
        # sdpa in the graph, plain products outside it
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


# torch traces a recurrent layer for seconds
SLOW = {("head", "rnn"): [pytest.mark.slow], ("pool", "rnn"): [pytest.mark.slow]}


@pytest.mark.parametrize(
    "room,kind", [pytest.param(r, k, id=f"{r}/{k}", marks=SLOW.get((r, k), ())) for r, k in kinds("pool", "head")]
)
def test_every_pool_and_head_is_exported(room, kind):
    encoder = build(encoder_spec())
    top = wake(example(room, kind).build(*((DIM,) if room == "pool" else (encoder, 3))).eval(), seed=2)
    equal_at_other_sizes(*exported(encoder, top))


# their tracing takes seconds, too near the limit of an unmarked test
LONG = {"mixer/longformer", "mixer/conv_attention", "core/block_sparse", "core/nystrom"}
PIECES = [
    pytest.param(r, k, id=f"{r}/{k}", marks=[pytest.mark.slow] if f"{r}/{k}" in LONG else [])
    for r, k in kinds("act", "core", "position", "ffn", "norm", "residual", "mixer", "embedding")
]


@pytest.mark.parametrize("room,kind", PIECES)
def test_every_piece_of_the_network_is_exported(room, kind):
    equal_at_other_sizes(*exported(build(encoder_spec(room, kind)), example("pool", "mean").build(DIM)))
