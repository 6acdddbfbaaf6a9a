"""Changes to what a module computes, hung onto it in place: `forward(inner, *inputs)`.

A method subclasses Graft (constructor: host, path, dim, heads, then settings). Applied with `bertsmith.linear.graft`.
"""

from bertsmith.linear import Graft
from bertsmith.spec import Slot

graft = Slot(__name__, Graft)
