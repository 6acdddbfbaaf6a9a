"""Changes to a weight: (W, b) -> (W, b). Stack with one another; `bake` writes them in without changing an output.

A method subclasses Edit (constructor: the weight, then settings); it is the identity at its start if
`starts_as_identity` says so. Applied with `bertsmith.linear.edit`.
"""

from bertsmith.linear import Edit
from bertsmith.spec import Slot

edit = Slot(__name__, Edit)
