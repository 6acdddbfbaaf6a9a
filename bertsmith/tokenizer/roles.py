"""Which token plays which role in a tokenizer, told by its content: the model, the template, the special tokens."""

import json
from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer

from bertsmith.tokenizer.families import FAMILIES, ROLES

# role -> the names that families give it, the commonest first
NAMES = {role: list(dict.fromkeys(s.names[role] for s in FAMILIES.values() if role in s.names)) for role in ROLES}
NAMES["pad"].append("<|padding|>")


def roles(tokenizer: Tokenizer) -> dict[str, str]:
    """Role -> token, {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"}: those there are.

    The unknown token is the model's own word for it; [CLS] and [SEP] are those that the template puts around a text
    (the first of those behind it is [SEP]); the others are told by the names that families give them.
    """
    added = tokenizer.get_added_tokens_decoder().values()
    special = {token.content for token in added if token.special}
    found = _in_template(tokenizer)
    if unk := _unknown(tokenizer):
        found["unk"] = unk
    for role in ROLES:
        there = [name for name in NAMES[role] if tokenizer.token_to_id(name) is not None]
        chosen = [name for name in there if name in special] or there
        if role not in found and chosen and chosen[0] not in found.values():
            found[role] = chosen[0]
    return {role: found[role] for role in ROLES if role in found}


def special_ids(tokenizer: Tokenizer, need: Sequence[str] = ("pad", "cls", "sep", "mask")) -> dict[str, int]:
    """{"pad", "unk", "cls", "sep", "mask"} -> id, of the roles that the tokenizer has (see `roles`).

    Raises:
        ValueError: one of those in `need` is not among them.
    """
    found = roles(tokenizer)
    for role in need:
        if role not in found:
            raise ValueError(
                f"the tokenizer has no {role} token: none of {', '.join(NAMES[role])} is in its vocabulary"
            )
    ids = {role: tokenizer.token_to_id(name) for role, name in found.items()}
    return {role: number for role, number in ids.items() if number is not None}


def shown(tokenizer: Tokenizer, number: int) -> str:
    """A token as it stands in a text: without the mark of a space, bytes as the characters that they are; "##ing" stays."""
    token = tokenizer.id_to_token(number) or ""
    if tokenizer.decoder is None or type(tokenizer.model).__name__ == "WordPiece":
        return token
    text = tokenizer.decode([number], skip_special_tokens=False).strip()
    return token if not text or "\ufffd" in text else text


def _unknown(tokenizer: Tokenizer) -> str | None:
    state = type(tokenizer.model).__name__
    name = tokenizer.model.unk_token if state in ("WordPiece", "BPE", "WordLevel") else None
    return name if name and tokenizer.token_to_id(name) is not None else None


def _in_template(tokenizer: Tokenizer) -> dict[str, str]:
    """[CLS] and [SEP] as far as the template has them."""
    if tokenizer.post_processor is None:
        return {}
    state: dict[str, Any] = json.loads(tokenizer.post_processor.__getstate__())
    parts = state["processors"] if state["type"] == "Sequence" else [state]
    for part in parts:
        if part["type"] in ("RobertaProcessing", "BertProcessing"):
            return {"cls": part["cls"][0], "sep": part["sep"][0]}
        if part["type"] == "TemplateProcessing":
            order = [next(iter(piece.values()))["id"] for piece in part["single"]]
            before, behind = order[: order.index("A")], order[order.index("A") + 1 :]
            others = [*before, *behind[1:]]
            return ({"sep": behind[0]} if behind else {}) | ({"cls": others[0]} if others else {})
    return {}
