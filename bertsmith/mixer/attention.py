"""Multi-head softmax attention, softmax(Q K' / sqrt(H)) V.

Vaswani et al. 2017, arXiv:1706.03762, eq. 1; `window` as in Longformer, Beltagy et al. 2020, arXiv:2004.05150.

B rows, T tokens, S tokens read, D width, N heads, H head width.
"""

from torch import Tensor

from bertsmith.attend import attend, check, merge, split
from bertsmith.core import Core
from bertsmith.core import core as cores
from bertsmith.layout import Layout
from bertsmith.linear import Linear
from bertsmith.mixer import Mixer
from bertsmith.position import position as positions
from bertsmith.spec import Spec


class Attention(Mixer):
    """Settings: `own_heads` and `head_dim` where they differ from the encoder's (0: the encoder's); `kv_heads`, fewer heads
    for keys and values (Ainslie et al. 2023, arXiv:2305.13245; 0: as many); `scale` of q k' (0: 1 / sqrt(head_dim)); `core`,
    what is done with q, k and v (softmax where it is None); `query_bias` and `key_bias`, False where q (Funnel) or k (DeBERTa)
    has none beside others that do.
    """

    paper = "arXiv:1706.03762"
    reads = ("q", "k", "v")

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        position: Spec | None = None,
        bias: bool = True,
        out_bias: bool = True,
        dropout: float = 0.0,
        window: int = 0,
        own_heads: int = 0,
        head_dim: int = 0,
        kv_heads: int = 0,
        scale: float = 0.0,
        core: Spec | None = None,
        key_bias: bool = True,
        query_bias: bool = True,
    ):
        super().__init__(dim, heads)
        if not head_dim and dim % heads:
            raise ValueError(f"width {dim} is not a multiple of {heads} heads: choose other heads or say head_dim")
        self.head_dim, heads, self.window = head_dim or dim // heads, own_heads or heads, window
        if kv_heads and heads % kv_heads:
            raise ValueError(f"{heads} heads cannot share {kv_heads} heads of keys and values: say a divisor")
        self.group = heads // (kv_heads or heads)
        wide, wide_kv = self.head_dim * heads, self.head_dim * (kv_heads or heads)
        self.q, self.k = Linear(dim, wide, bias and query_bias), Linear(dim, wide_kv, bias and key_bias)
        self.v = Linear(dim, wide_kv, bias)
        self.out = Linear(wide, dim, out_bias)
        self.position = (position or positions("none")).build(dim, heads, self.head_dim)
        self.reads = tuple(name for name in self.reads if name not in self.position.uses)
        self.core: Core = (core or cores("softmax")).build(heads, self.head_dim, dropout)
        check(self.position, self.core, window)
        self.scale = scale or (self.head_dim * self.position.terms) ** -0.5

    def forward(self, x_BTD: Tensor, layout: Layout, source: tuple[Tensor, Layout] | None = None) -> Tensor:
        heads = lambda linear: split(linear, self.head_dim)  # noqa: E731
        spread = lambda linear: lambda x: heads(linear)(x).repeat_interleave(self.group, 1)  # noqa: E731
        kv = heads if self.group == 1 else spread
        project = heads(self.q), kv(self.k), kv(self.v)
        y_BNTH = attend(x_BTD, layout, source, project, self.position, self.core, self.scale, self.window)
        return self.out(merge(y_BNTH))
