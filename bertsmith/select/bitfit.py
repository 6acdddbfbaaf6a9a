"""BitFit: of a trained encoder only the biases train, and what the objective owns (the new head).

Ben Zaken et al. 2021, arXiv:2106.10199, section 3. Their smaller set, b_q and b_m2 (the query's bias and that of the
feed-forward's first layer), is `biases=["**.mixer.q.bias", "**.ffn.up.bias"]`.
"""

from torch import Tensor

from bertsmith.linear import fits
from bertsmith.select import Select


class BitFit(Select):
    """`biases` and `also` are patterns: which of the biases, and what trains whole."""

    paper = "arXiv:2106.10199"

    def __init__(self, *, biases: list[str] = ["**.bias"], also: list[str] = ["objective.**"]):  # noqa: B006
        self.biases, self.also = biases, also

    def __call__(self, path: str, parameter: Tensor) -> bool:
        is_bias = path.endswith(".bias") and any(fits(path, pattern) for pattern in self.biases)
        return is_bias or any(fits(path, pattern) for pattern in self.also)
