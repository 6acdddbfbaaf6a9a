"""Which parameters train."""

from torch import Tensor

from bertsmith.spec import Slot


class Select:
    """(path, parameter) -> bool; paths are encoder.* and objective.*."""

    paper = ""

    def __call__(self, path: str, parameter: Tensor) -> bool:
        raise NotImplementedError


select = Slot(__name__, Select)
