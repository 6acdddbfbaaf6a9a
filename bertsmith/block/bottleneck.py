"""A narrow layer between two linear maps: down, attention, several feed-forwards, up; the stream stays wide.

    h = norm(D x);  a = norm(D' x);  h = res(h, O attention(q = Q a, k = K a, v = V x));
    h = res(h, ffn(h)), `count` times;  y = res(x, U h)

MobileBERT, Sun et al. 2020, arXiv:2004.02984, fig. 1c, sections 3.1 and 3.2.

B rows, T tokens, S tokens read, D width, W narrow width, N heads, H head width.
"""

from torch import Tensor, nn

from bertsmith.block import Block
from bertsmith.core import Core
from bertsmith.core import core as cores
from bertsmith.layout import Layout
from bertsmith.linear import Linear
from bertsmith.spec import Spec


class Bottleneck(Block):
    """`width`: inside. `residual` stands around attention and every feed-forward, `out_residual` around all (`residual`,
    where it is None). `split`: queries and keys come from a map down of their own and values from the wide states
    (MobileBERT); without, all come from h (MobileBERT-tiny).
    """

    paper = "arXiv:2004.02984"
    example = {
        "width": 8,
        "ffn": {"kind": "ffn/mlp", "hidden": 12},
        "residual": {"kind": "residual/post", "norm": {"kind": "norm/layer"}},
        "norm": {"kind": "norm/layer"},
    }

    def __init__(
        self,
        dim: int,
        heads: int,
        layer: int,
        depth: int,
        *,
        width: int,
        ffn: Spec,
        residual: Spec,
        norm: Spec,
        out_residual: Spec | None = None,
        count: int = 4,
        split: bool = True,
        dropout: float = 0.0,
        core: Spec | None = None,
    ):
        super().__init__(dim, heads, layer, depth)
        self.down, self.down_norm = Linear(dim, width), norm.build(width)
        self.down_qk = Linear(dim, width) if split else None
        self.down_qk_norm = norm.build(width) if split else None
        self.mixer = _Attention(width, dim if split else width, heads, dropout, core or cores("softmax"))
        self.mixer_residual = residual.build(width, layer, depth)
        self.ffns = nn.ModuleList(ffn.build(width) for _ in range(count))
        self.ffn_residuals = nn.ModuleList(residual.build(width, layer, depth) for _ in range(count))
        self.up, self.out_residual = Linear(width, dim), (out_residual or residual).build(dim, layer, depth)

    def forward(self, x_BTD: Tensor, layout: Layout, source: tuple[Tensor, Layout] | None = None) -> Tensor:
        if source is not None:
            source = self.out_residual.view(*source), source[1]
        return self.out_residual(x_BTD, lambda x: self.up(self._narrow(x, layout, source)), layout)

    def _narrow(self, x_BTD: Tensor, layout: Layout, source: tuple[Tensor, Layout] | None) -> Tensor:
        s_BSD, to = source or (x_BTD, layout)
        h_BTW = self.down_norm(self.down(x_BTD), layout)

        def mix(h_BTW: Tensor) -> Tensor:
            if self.down_qk is not None and self.down_qk_norm is not None:
                q_BTW, k_BSW = (self.down_qk_norm(self.down_qk(x), at) for x, at in ((x_BTD, layout), (s_BSD, to)))
                return self.mixer(q_BTW, k_BSW, s_BSD, layout, to)
            if source is None:
                return self.mixer(h_BTW, h_BTW, h_BTW, layout, to)
            k_BSW = self.mixer_residual.view(self.down_norm(self.down(s_BSD), to), to)
            return self.mixer(h_BTW, k_BSW, k_BSW, layout, to)

        h_BTW = self.mixer_residual(h_BTW, mix, layout)
        for ffn, residual in zip(self.ffns, self.ffn_residuals, strict=True):
            h_BTW = residual(h_BTW, lambda h, ffn=ffn: ffn(h, layout), layout)
        return h_BTW


class _Attention(nn.Module):
    """Attention whose queries, keys and values come from three places."""

    def __init__(self, width: int, values: int, heads: int, dropout: float, core: Spec):
        super().__init__()
        if width % heads:
            raise ValueError(f"the narrow width {width} is not a multiple of {heads} heads: choose another")
        self.head_dim = width // heads
        self.q, self.k, self.v = Linear(width, width), Linear(width, width), Linear(values, width)
        self.out, self.core = Linear(width, width), core.build(heads, self.head_dim, dropout)

    def forward(self, q_BTW: Tensor, k_BSW: Tensor, v_BSD: Tensor, layout: Layout, to: Layout) -> Tensor:
        core: Core = self.core
        if to is not layout and not core.dense:
            raise ValueError("this core reads its own row only, so that it cannot read another source")
        mask = layout.mask_B1TT(0, None if to is layout else to) if core.dense else None
        q_BNTH, k_BNSH, v_BNSH = (
            linear(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for linear, x in ((self.q, q_BTW), (self.k, k_BSW), (self.v, v_BSD))
        )
        y_BNTH = core(q_BNTH, k_BNSH, v_BNSH, mask, self.head_dim**-0.5, layout)
        return self.out(y_BNTH.transpose(1, 2).flatten(2))
