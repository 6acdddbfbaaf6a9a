"""What was left out or mended while reading, counted by reason, so that nothing disappears in silence."""

from collections.abc import Callable

OnSkip = Callable[[str, str], None]
EXAMPLES = 3


class Skips:
    """Counts what readers report. Call it as `on_skip(reason, where)`.

    Attributes:
        count: reason -> how often, in the order in which the reasons first came up.
        where: reason -> the first few places, for the message.
    """

    def __init__(self) -> None:
        self.count: dict[str, int] = {}
        self.where: dict[str, list[str]] = {}

    def __call__(self, reason: str, where: str) -> None:
        self.count[reason] = self.count.get(reason, 0) + 1
        places = self.where.setdefault(reason, [])
        if len(places) < EXAMPLES:
            places.append(where)

    def message(self) -> str:
        """One line a reason: how often, why, the first places. Empty if nothing was skipped."""
        return told(self.count, self.where)


def told(count: dict[str, int], where: dict[str, list[str]]) -> str:
    """One line a reason: how often, why, and the first places where they are known."""
    first = {why: f" (first: {', '.join(where[why])})" if why in where else "" for why in count}
    return "\n".join(f"{n} x {why}{first[why]}" for why, n in count.items())
