"""`peft`'s rules for names: which layers its settings mean."""

import re
from collections.abc import Sequence
from typing import Any

from bertsmith.hf import Config


def named(said: str | Sequence[str], layer: str) -> bool:
    """A text is a whole regular expression, a list has ends of names."""
    if isinstance(said, str):
        return re.fullmatch(said, layer) is not None
    return any(layer == end or layer.endswith(f".{end}") for end in said)


def targeted(config: Config, layer: str) -> bool:
    """Whether target_modules mean a layer, with all that takes layers out again."""
    target, saved = config["target_modules"], config.get("modules_to_save") or []
    if named(config.get("exclude_modules") or [], layer) or not named(target, layer):
        return False
    if any(re.match(rf"(^|.*\.){m}($|\..*)", layer) for m in saved):
        return False
    only = config.get("layers_to_transform")
    if isinstance(target, str) or only is None or only == []:
        return True
    patterns = config.get("layers_pattern") or []
    patterns = [patterns] if isinstance(patterns, str) else patterns
    rules = [rf"(?:^|.*?\.){p}\.(\d+)\." for p in patterns] or [r".*?\.[^.]*\.(\d+)\."]
    found = next((m for rule in rules if (m := re.match(rule, layer))), None)
    return found is not None and int(found[1]) in ([only] if isinstance(only, int) else only)


def by_pattern(patterns: dict[str, Any] | None, layer: str, default: Any) -> Any:
    """The value of the first pattern that is the end of the layer's name."""
    return next((v for k, v in (patterns or {}).items() if re.match(rf"(.*\.)?({k})$", layer)), default)
