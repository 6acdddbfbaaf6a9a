"""Attention in two steps through a side sequence: packed from the tokens, read by them, carried to the next layer.

Luna, Ma et al. 2021, arXiv:2106.01540, section 3: Y_P = Attn(P, X), Y_X = Attn(X, Y_P), and the next layer's P is
norm(Y_P + P). Time and memory are T * length of the side sequence.

P goes from layer to layer in the layout's scratch, under "luna". A mixer with `length` > 0 starts it, with learned vectors; one
with length 0 goes on with what an earlier layer left: blocks=[first, rest, rest ...], one for each layer.

Differs from the paper: the norm of Y_P + P belongs to the layer that reads it, so that the last layer has none that nothing
reads. Each document has a side sequence of its own. Packed rows are unpacked to rows of the longest document: the cost is that
of the padded batch.

C documents, L places, P places of the side sequence, D width, N heads, H head width.
"""

from torch import Tensor

from bertsmith import kernels
from bertsmith.layout import Layout
from bertsmith.linear import Embedding, Linear
from bertsmith.mixer import Mixer
from bertsmith.norm import norm as norms
from bertsmith.rows import documents, packed
from bertsmith.spec import Spec


class Luna(Mixer):
    """`length` of the side sequence where it starts; `norm` where it goes on (layer norm where it is None)."""

    paper = "arXiv:2106.01540"
    reads = ("pack_k", "pack_v", "q")
    example = {"length": 4}

    def __init__(self, dim: int, heads: int, *, length: int, norm: Spec | None = None, dropout: float = 0.0):
        super().__init__(dim, heads)
        if dim % heads:
            raise ValueError(f"width {dim} is not a multiple of {heads} heads: choose other heads")
        self.heads, self.dropout, self.scale = heads, dropout, (dim // heads) ** -0.5
        self.start = Embedding(length, dim) if length else None
        self.norm = None if length else (norm or norms("layer")).build(dim)
        self.pack_q, self.pack_k, self.pack_v = (Linear(dim, dim) for _ in range(3))
        self.q, self.k, self.v, self.out = (Linear(dim, dim) for _ in range(4))

    def forward(self, x_BTD: Tensor, layout: Layout, source: tuple[Tensor, Layout] | None = None) -> Tensor:
        s_BSD, to = source or (x_BTD, layout)
        split = lambda x: x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # noqa: E731
        p = self.dropout if self.training else 0.0
        (k, v), keep_CL = documents(to, split(self.pack_k(s_BSD)), split(self.pack_v(s_BSD)))
        side_CPD = self._side(to, k.shape[0])
        y_CNPH = kernels.attention(split(self.pack_q(side_CPD)), k, v, keep_CL[:, None, None], self.scale, p)
        y_CPD = y_CNPH.transpose(1, 2).flatten(2)
        to.scratch["luna"] = side_CPD + y_CPD
        (q,), _ = documents(layout, split(self.q(x_BTD)))
        y_CNLH = kernels.attention(q, split(self.k(y_CPD)), split(self.v(y_CPD)), None, self.scale, p)
        return self.out(packed(layout, y_CNLH).transpose(1, 2).flatten(2))

    def _side(self, layout: Layout, documents: int) -> Tensor:
        if self.start is not None:
            return self.start.edited()[0].expand(documents, -1, -1)
        if "luna" not in layout.scratch:
            raise ValueError("mixer/luna: no earlier layer left a side sequence; give the first block a length above 0")
        left: Tensor = layout.scratch["luna"]
        assert self.norm is not None
        side: Tensor = self.norm(left, layout)
        return side
