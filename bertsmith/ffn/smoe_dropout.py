"""Experts behind a router that is random and never trained; ever more of them take part as training goes on.

SMoE-Dropout, Chen et al. 2023, arXiv:2303.01610: y = sum over the k best of R(x) of softmax(those k)_i E_i(x), R(x) = r x with
fixed random r; k grows linearly from `top` to all. The model is self-slimmable: any number of experts can be used
afterwards (`active`), and more of them are better.

Differs from the paper: each k from `top` to all takes an equal share of the stage; experts are built from a spec (the paper
cuts a feed-forward into as many equal parts: say their `hidden` as its, divided by their number).

B rows, T tokens, D width, E experts, N chosen tokens.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bertsmith import kernels
from bertsmith.ffn import FFN
from bertsmith.layout import Layout
from bertsmith.spec import Spec


class SMoEDropout(FFN):
    """`top`: k at the start. `active`: a fixed k instead, for a slimmer model or for tuning one; 0: what training reached."""

    paper = "arXiv:2303.01610"
    example = {"expert": {"kind": "ffn/mlp", "hidden": 24}}
    router: Tensor
    reached: Tensor

    def __init__(self, dim: int, *, expert: Spec, experts: int = 4, top: int = 1, active: int = 0):
        super().__init__(dim)
        if not 1 <= top <= experts or not 0 <= active <= experts:
            raise ValueError(f"ffn/smoe_dropout: top lies in 1 to {experts}, active in 0 to {experts}: {top}, {active}")
        self.experts = nn.ModuleList(expert.build(dim) for _ in range(experts))
        self.top, self.active, bound = top, active, dim**-0.5
        router_ED = nn.init.uniform_(torch.empty(experts, dim), -bound, bound, generator=kernels.generator())
        self.register_buffer("router", router_ED)
        self.register_buffer("reached", torch.tensor(top))

    def step(self, progress: float) -> None:
        most = len(self.experts)
        # it never falls again: a later stage goes on with what this one ended with
        self.reached.clamp_(min=min(most, self.top + int(progress * (most - self.top + 1))))

    def forward(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        like_BTE = F.linear(x_BTD, self.router.to(x_BTD.dtype)).float()
        rank_BTE = like_BTE.argsort(dim=-1, descending=True, stable=True).argsort(-1)
        use_BTE = (rank_BTE < (self.active or self.reached)) & layout.real_BT[..., None]
        gate_BTE = torch.where(use_BTE, like_BTE, torch.finfo(like_BTE.dtype).min).softmax(-1)
        gate_BTE = torch.where(use_BTE, gate_BTE, 0).to(x_BTD.dtype)
        # a traced graph has no sizes that depend on data: there, every expert sees every token
        routed = self._everywhere if torch.compiler.is_compiling() else self._where_chosen
        return routed(x_BTD, gate_BTE, use_BTE, layout)

    def _where_chosen(self, x_BTD: Tensor, gate_BTE: Tensor, use_BTE: Tensor, layout: Layout) -> Tensor:
        x, gate, y = x_BTD.flatten(0, 1), gate_BTE.flatten(0, 1), torch.zeros_like(x_BTD).flatten(0, 1)
        for i, expert in enumerate(self.experts):
            index_N = use_BTE[..., i].flatten().nonzero()[:, 0]
            chosen = Layout.padded(torch.ones_like(index_N)[None])
            y = y.index_add(0, index_N, expert(x[index_N][None], chosen)[0] * gate[index_N, i, None])
        return y.view_as(x_BTD)

    def _everywhere(self, x_BTD: Tensor, gate_BTE: Tensor, use_BTE: Tensor, layout: Layout) -> Tensor:
        y = torch.zeros_like(x_BTD)
        for i, expert in enumerate(self.experts):
            y = y + expert(x_BTD, layout) * gate_BTE[..., i, None]
        return y
