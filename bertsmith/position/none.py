"""No order beyond what other pieces bring (a bag of words, if none does).

Vaswani et al. 2017, arXiv:1706.03762, section 3.5 says what is lost.
"""

from bertsmith.position import Position


class NoPosition(Position):
    paper = "arXiv:1706.03762"
