"""Two state space models, one reading forwards and one backwards, multiplied together and gated: no attention.

BiGS, Wang et al. 2022, arXiv:2212.10544, section 3 (the gated layer), s = GELU, * element by element:
    V = s(W_v X)    F = s(W_f X)    B = s(W_b X)
    U = s(W_u (W_f' SSM(F) * W_b' SSM'(B)))    Y = W_o (U * V),  U and V of width 3 D
The state space model is diagonal, S4D, Gu et al. 2022, arXiv:2206.11893, held for a step d and shared by all dimensions:
    h_t = exp(d A) h_(t-1) + (exp(d A) - 1) / A x_t    y_t = Re(C h_t) + D x_t
which is the convolution with K_t = Re(sum_n C_n (exp(d A_n) - 1) / A_n exp(d A_n t)), done by FFT: O(L log L) in a length L.
A_n starts at -1/2 + i pi n (S4D-Lin). Layer norm and residual are the block's; it needs no feed-forward (block/single).

B rows, T tokens, S tokens read, D width, H width of U and V, C documents, L places, N states.
"""

import math

import torch
from torch import Tensor, nn

from bertsmith import kernels
from bertsmith.act import build_act
from bertsmith.layout import Layout
from bertsmith.linear import Linear
from bertsmith.mixer import Mixer
from bertsmith.rows import documents, packed
from bertsmith.spec import Spec


class StateSpace(nn.Module):
    """One kernel K for all dimensions, and the weight of x itself."""

    starts = ("rate", "frequency", "readout", "log_step", "skip")

    def __init__(self, states: int):
        super().__init__()
        rng, low, high = kernels.generator(), math.log(0.01), math.log(1.0)
        self.rate = nn.Parameter(torch.full((states,), -0.5))
        self.frequency = nn.Parameter(math.pi * torch.arange(states, dtype=torch.float32))
        self.readout = nn.Parameter(nn.init.normal_(torch.empty(states, 2), std=0.5**0.5, generator=rng))
        self.log_step = nn.Parameter(nn.init.uniform_(torch.empty(()), low, high, generator=rng))
        self.skip = nn.Parameter(nn.init.normal_(torch.empty(()), generator=rng))

    def kernel(self, length: int) -> Tensor:
        """K_L in fp32."""
        a_N = torch.complex(self.rate.float().clamp(max=-1e-4), self.frequency.float())
        c_N = torch.complex(self.readout[:, 0].float(), self.readout[:, 1].float())
        da_N = a_N * self.log_step.float().exp()
        place_L = torch.arange(length, device=da_N.device)
        return (c_N * (da_N.exp() - 1) / a_N * (place_L[:, None] * da_N).exp()).sum(1).real

    def forward(self, x_CLD: Tensor, backwards: bool) -> Tensor:
        length = x_CLD.shape[1]
        x = x_CLD.float()
        # twice the length, so that what is past the end does not come back at the start
        k_F = torch.fft.rfft(self.kernel(length), n=2 * length)
        k_F = k_F.conj() if backwards else k_F
        y = torch.fft.irfft(torch.fft.rfft(x, n=2 * length, dim=1) * k_F[:, None], n=2 * length, dim=1)
        return (y[:, :length] + self.skip.float() * x).to(x_CLD.dtype)


class BiGS(Mixer):
    """`states`: N. `hidden`: the width of U and V; 0: 3 D. Packed documents are convolved each by itself."""

    paper = "arXiv:2212.10544"
    reads = ("v", "f", "b")

    def __init__(
        self, dim: int, heads: int, *, states: int = 64, hidden: int = 0, act: Spec | str = "gelu", bias: bool = True
    ):
        super().__init__(dim, heads)
        hidden = hidden or 3 * dim
        self.v, self.f, self.b = Linear(dim, hidden, bias), Linear(dim, dim, bias), Linear(dim, dim, bias)
        self.forwards, self.backwards = StateSpace(states), StateSpace(states)
        self.f_out, self.b_out = Linear(dim, dim, bias), Linear(dim, dim, bias)
        self.u, self.out, self.act = Linear(dim, hidden, bias), Linear(hidden, dim, bias), build_act(act)

    def forward(self, x_BTD: Tensor, layout: Layout, source: tuple[Tensor, Layout] | None = None) -> Tensor:
        s_BSD, to = source or (x_BTD, layout)
        if s_BSD.shape[1] != x_BTD.shape[1]:
            raise ValueError(f"mixer/bigs reads a source of the same {x_BTD.shape[1]} tokens, not of {s_BSD.shape[1]}")
        # the documents, as of one head
        (f_C1LD, b_C1LD), _ = documents(to, self.act(self.f(s_BSD))[:, None], self.act(self.b(s_BSD))[:, None])
        f_C1LD, b_C1LD = self.forwards(f_C1LD[:, 0], False)[:, None], self.backwards(b_C1LD[:, 0], True)[:, None]
        f_BTD, b_BTD = packed(layout, f_C1LD)[:, 0], packed(layout, b_C1LD)[:, 0]
        u_BTH = self.act(self.u(self.f_out(f_BTD) * self.b_out(b_BTD)))
        return self.out(u_BTH * self.act(self.v(x_BTD)))
