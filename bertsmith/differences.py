"""What differs between two descriptions of a job, said to whoever goes on with it."""

import json
from typing import Any

SHOWN = 100  # characters of a setting in a message


def differences(before: dict[str, Any], now: dict[str, Any], place: str = "") -> list[str]:
    """What differs between two values of plain JSON, for people; of `before` only what `now` has, too."""
    found = []
    for name, value in now.items():
        old = before.get(name)
        if isinstance(value, list) and isinstance(old, list) and len(value) == len(old) and value:
            old, value = ({str(i): x for i, x in enumerate(one)} for one in (old, value))
        if isinstance(value, dict) and isinstance(old, dict):
            found += differences(old, value, f"{place}{name}.")
        elif old != value:
            found.append(f"{place}{name} was {_short(old)}, is {_short(value)}")
    return found


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else text[:SHOWN] + " ..."
