"""Two LSTMs over every document, one reading it forwards and one backwards, however documents are padded or packed.

Hochreiter & Schmidhuber 1997; both ways, Graves & Schmidhuber 2005. C documents, L places of the longest, D width, H hidden
width of a direction, G = 4 H gates.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bertsmith.kernels import generator
from bertsmith.layout import Layout
from bertsmith.rows import documents, packed


def lstm(dim: int, hidden: int) -> nn.LSTM:
    """Started as torch starts it, but by the generator of this thread."""
    made = nn.LSTM(dim, hidden, batch_first=True, device="meta").to_empty(device=torch.get_default_device())
    for p in made.parameters():
        nn.init.uniform_(p, -(hidden**-0.5), hidden**-0.5, generator=generator())
    return made


def both_ways(ahead: nn.LSTM, back: nn.LSTM, x_BTD: Tensor, layout: Layout) -> Tensor:
    """[forwards ; backwards] as y_BT2H, 0 at padding."""
    (x_C1LD,), keep_CL = documents(layout, x_BTD[:, None])
    x_CLD = x_C1LD[:, 0]
    # a document backwards: its last token first, what follows it left where it is of no account
    place_L = torch.arange(x_CLD.shape[1], device=x_CLD.device)
    turn_CL1 = (keep_CL.sum(1, keepdim=True) - 1 - place_L).clamp(min=0)[..., None]
    ahead_CLH = _run(ahead, x_CLD)
    back_CLH = _run(back, x_CLD.gather(1, turn_CL1.expand_as(x_CLD)))
    back_CLH = back_CLH.gather(1, turn_CL1.expand_as(back_CLH))
    return packed(layout, torch.cat([ahead_CLH, back_CLH], -1)[:, None])[:, 0]


def _run(lstm: nn.LSTM, x_CLD: Tensor) -> Tensor:
    """h_CLH after each place."""
    if not torch.compiler.is_exporting():
        return lstm(x_CLD)[0]
    # an exporter would unroll torch's layer to one length; this loop it keeps
    from torch._higher_order_ops.scan import scan

    weight_GD, weight_GH, bias_G, more_G = lstm.parameters()
    gates_LCG = F.linear(x_CLD, weight_GD, bias_G + more_G).transpose(0, 1)

    def step(before: tuple[Tensor, Tensor], gates_CG: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        h_CH, cell_CH = before
        gates_CG = gates_CG + F.linear(h_CH, weight_GH)
        into, keep, new, out = gates_CG.chunk(4, -1)
        cell_CH = keep.sigmoid() * cell_CH + into.sigmoid() * new.tanh()
        h_CH = out.sigmoid() * cell_CH.tanh()
        return (h_CH, cell_CH), h_CH.clone()

    start_CH = x_CLD.new_zeros(x_CLD.shape[0], lstm.hidden_size)
    return scan(step, (start_CH, start_CH.clone()), gates_LCG)[1].transpose(0, 1)
