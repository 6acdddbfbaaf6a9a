"""What the server counts, in the text format that Prometheus reads (exposition format 0.0.4)."""

import threading
from collections import defaultdict
from collections.abc import Sequence

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[tuple[str, str], ...]


class Counter:
    """A number for each set of labels, that only grows."""

    kind = "counter"

    def __init__(self, about: str):
        self.about = about
        self.held: dict[Labels, float] = defaultdict(float)

    def add(self, labels: Labels, amount: float = 1) -> None:
        self.held[labels] += amount

    def lines(self, name: str) -> list[str]:
        return [f"{name}{_braces(labels)} {value!r}" for labels, value in sorted(self.held.items())]


class Histogram:
    """How many values were at most each of some bounds, for each set of labels."""

    kind = "histogram"

    def __init__(self, about: str, bounds: Sequence[float]):
        self.about, self.bounds = about, bounds
        self.held: dict[Labels, list[float]] = defaultdict(lambda: [0.0] * (len(bounds) + 2))  # counts, all, sum

    def add(self, labels: Labels, value: float) -> None:
        counts = self.held[labels]
        for i, bound in enumerate(self.bounds):
            counts[i] += value <= bound
        counts[-2] += 1
        counts[-1] += value

    def lines(self, name: str) -> list[str]:
        found = []
        for labels, (*counts, total, amount) in sorted(self.held.items()):
            for bound, count in zip(self.bounds, counts, strict=True):
                found.append(f"{name}_bucket{_braces((*labels, ('le', f'{bound:g}')))} {count:.0f}")
            found.append(f"{name}_bucket{_braces((*labels, ('le', '+Inf')))} {total:.0f}")
            found += [f"{name}_count{_braces(labels)} {total:.0f}", f"{name}_sum{_braces(labels)} {amount!r}"]
        return found


class Meter:
    """All that is counted; may be told from any thread."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.requests = Counter("Requests, by path and status.")
        self.seconds = Histogram("Seconds from the arrival of a request to its answer.", SECONDS)
        self.gone = Counter("Requests whose client went away, or whose time was up, before the answer.")
        self.texts = Counter("Texts that models have read.")
        self.tokens = Counter("Tokens that models have read.")
        self.busy = Counter("Seconds that models have worked.")
        self.sizes = Histogram("Texts in a batch.", SIZES)

    def request(self, path: str, status: int, seconds: float) -> None:
        with self.lock:
            self.requests.add((("path", path), ("status", str(status))))
            self.seconds.add((("path", path),), seconds)

    def left(self, model: str) -> None:
        with self.lock:
            self.gone.add((("model", model),))

    def batch(self, model: str, texts: int, tokens: int, seconds: float) -> None:
        labels = (("model", model),)
        with self.lock:
            self.texts.add(labels, texts)
            self.tokens.add(labels, tokens)
            self.busy.add(labels, seconds)
            self.sizes.add(labels, texts)

    def text(self, waiting: dict[str, int]) -> str:
        """Everything, and how many tokens wait for each model."""
        shown = {
            "bertsmith_requests_total": self.requests,
            "bertsmith_request_seconds": self.seconds,
            "bertsmith_abandoned_total": self.gone,
            "bertsmith_texts_total": self.texts,
            "bertsmith_tokens_total": self.tokens,
            "bertsmith_busy_seconds_total": self.busy,
            "bertsmith_batch_texts": self.sizes,
        }
        lines = []
        with self.lock:
            for name, one in shown.items():
                lines += [f"# HELP {name} {one.about}", f"# TYPE {name} {one.kind}", *one.lines(name)]
        name = "bertsmith_waiting_tokens"
        lines += [f"# HELP {name} Tokens in the queue.", f"# TYPE {name} gauge"]
        lines += [f"{name}{_braces((('model', model),))} {count}" for model, count in waiting.items()]
        return "\n".join(lines) + "\n"


def _braces(labels: Labels) -> str:
    inner = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels)
    return f"{{{inner}}}" if inner else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
