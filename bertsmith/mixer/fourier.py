"""Mixing without weights: the real part of the Fourier transform over the tokens of a document and over the width.

    y = Re(F_n X F_D), F_n[t, s] = exp(-2 pi i t s / n), n the number of tokens of the document

FNet, Lee-Thorp et al. 2021, arXiv:2105.03824, section 3.2.

Differs from the paper: a document is transformed at its own length, however it is padded or packed. A row that is one
whole document goes through the fast transform; otherwise the transform over tokens is a product with F_n.

B rows, T tokens, S tokens read, D width.
"""

import math

import torch
from torch import Tensor

from bertsmith.layout import Layout
from bertsmith.mixer import Mixer


class Fourier(Mixer):
    """`heads` has no meaning here. The places are those of the layout's positions, 0 to n - 1."""

    paper = "arXiv:2105.03824"

    def forward(self, x_BTD: Tensor, layout: Layout, source: tuple[Tensor, Layout] | None = None) -> Tensor:
        s_BSD, to = source or (x_BTD, layout)
        # there is no transform in half precision
        wide_BSD = torch.fft.fft(s_BSD.to(torch.promote_types(s_BSD.dtype, torch.float32)), dim=-1)
        mask = layout.mask_B1TT(0, to if source else None)
        if mask is None:
            return torch.fft.fft(wide_BSD, dim=1).real.to(x_BTD.dtype)
        key = ("waves", id(to) if source else 0)
        cos_BTS, sin_BTS = layout.once(key, lambda: _waves(mask[:, 0], layout, to))
        real_BSD, imaginary_BSD = wide_BSD.real, wide_BSD.imag
        y_BTD = cos_BTS.to(real_BSD) @ real_BSD + sin_BTS.to(real_BSD) @ imaginary_BSD
        return y_BTD.to(x_BTD.dtype)


def _waves(same_BTS: Tensor, layout: Layout, to: Layout) -> tuple[Tensor, Tensor]:
    """(cos, sin) of 2 pi t s / n where t and s are of one document, else 0."""
    n_BT1 = same_BTS.sum(-1, keepdim=True).clamp(min=1)
    # the remainder first: a large angle has no digits left for its fraction of a turn
    turn_BTS = (layout.position_BT[:, :, None] * to.position_BT[:, None, :]) % n_BT1 / n_BT1
    angle_BTS = 2 * math.pi * turn_BTS
    return torch.where(same_BTS, angle_BTS.cos(), 0), torch.where(same_BTS, angle_BTS.sin(), 0)
