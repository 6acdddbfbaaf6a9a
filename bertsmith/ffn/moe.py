"""Mixture of experts: each token goes to the `top` experts that a router likes best, y = sum_i p_i(x) E_i(x).

Switch, Fedus et al. 2021, arXiv:2101.03961: eq. 1 (router), eq. 2 (output), eq. 4 to 6 (balance = N sum_i f_i P_i);
more than one expert a token as Shazeer et al. 2017, arXiv:1701.06538.

Differs from the paper: no capacity, so no token is dropped and what else is in a batch changes nothing; no jitter on
the router's input. Padding goes to no expert and does not count in the balance.

B rows, T tokens, D width, E experts, N chosen tokens.
"""

import torch
from torch import Tensor, nn

from bertsmith import tap
from bertsmith.ffn import FFN
from bertsmith.layout import Layout
from bertsmith.linear import Linear
from bertsmith.spec import Spec


class MoE(FFN):
    """`balance` times the balance loss is said through `tap.say`; `renormalise`: the chosen p_i add up to 1."""

    paper = "arXiv:2101.03961"
    example = {"expert": {"kind": "ffn/mlp", "hidden": 24}}

    def __init__(
        self,
        dim: int,
        *,
        expert: Spec,
        experts: int = 4,
        top: int = 1,
        balance: float = 0.01,
        renormalise: bool = False,
    ):
        super().__init__(dim)
        if not 1 <= top <= experts:
            raise ValueError(f"ffn/moe: top lies between 1 and the {experts} experts, not {top}")
        built: list[FFN] = [expert.build(dim) for _ in range(experts)]
        self.experts = nn.ModuleList(built)
        self.router, self.top, self.balance, self.renormalise = Linear(dim, experts, False), top, balance, renormalise
        self.reads = ("router", *(f"experts.{i}.{name}" for i, one in enumerate(built) for name in one.reads))

    def forward(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        p_BTE = self.router(x_BTD).float().softmax(-1)
        use_BTE = torch.zeros_like(p_BTE).scatter(-1, p_BTE.topk(self.top).indices, 1.0) * layout.real_BT[..., None]
        self._say_balance(p_BTE, use_BTE, layout)
        gate_BTE = p_BTE * use_BTE
        if self.renormalise:
            gate_BTE = gate_BTE / gate_BTE.sum(-1, keepdim=True).clamp(min=1e-9)
        gate_BTE = gate_BTE.to(x_BTD.dtype)
        # a traced graph has no sizes that depend on data: there, every expert sees every token
        routed = self._everywhere if torch.compiler.is_compiling() else self._where_chosen
        return routed(x_BTD, gate_BTE, use_BTE, layout)

    def _where_chosen(self, x_BTD: Tensor, gate_BTE: Tensor, use_BTE: Tensor, layout: Layout) -> Tensor:
        x, gate, y = x_BTD.flatten(0, 1), gate_BTE.flatten(0, 1), torch.zeros_like(x_BTD).flatten(0, 1)
        for i, expert in enumerate(self.experts):
            index_N = use_BTE[..., i].flatten().nonzero()[:, 0]
            chosen = Layout.padded(torch.ones_like(index_N)[None])
            out_ND = expert(x[index_N][None], chosen)[0]
            y = y.index_add(0, index_N, out_ND * gate[index_N, i, None])
        return y.view_as(x_BTD)

    def _everywhere(self, x_BTD: Tensor, gate_BTE: Tensor, use_BTE: Tensor, layout: Layout) -> Tensor:
        y = torch.zeros_like(x_BTD)
        for i, expert in enumerate(self.experts):
            y = y + expert(x_BTD, layout) * gate_BTE[..., i, None]
        return y

    def _say_balance(self, p_BTE: Tensor, use_BTE: Tensor, layout: Layout) -> None:
        count = layout.real_BT.sum().clamp(min=1)
        share_E = use_BTE.sum((0, 1)) / (count * self.top)
        mean_E = (p_BTE * layout.real_BT[..., None]).sum((0, 1)) / count
        tap.say("balance", self.balance * len(self.experts) * (share_E * mean_E).sum())
