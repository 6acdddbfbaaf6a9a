"""The parameters whose path matches one of some patterns; all of them by default.

Freezing layers: Lee et al. 2019, What Would Elsa Do?, arXiv:1911.03090.
"""

from torch import Tensor

from bertsmith.linear import fits
from bertsmith.select import Select


class Paths(Select):
    """Patterns as everywhere: `*` stays inside one name, `**` crosses dots: `["encoder.layers.1[01].**", "objective.**"]`."""

    paper = "arXiv:1911.03090"

    def __init__(self, *, train: list[str] = ["**"]):  # noqa: B006
        self.train = train

    def __call__(self, path: str, parameter: Tensor) -> bool:
        return any(fits(path, pattern) for pattern in self.train)
