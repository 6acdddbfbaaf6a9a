"""PROMPT_TUNING: graft/prompt, of which a row of the file is a vector; and what prefixes have in common with it."""

from collections.abc import Collection

from torch import Tensor

from bertsmith.encoder import Encoder
from bertsmith.graft import graft as grafts
from bertsmith.head import Head
from bertsmith.hf import Config
from bertsmith.hf.peft.method import CONFIG, Changes, Held, Method
from bertsmith.hf.peft.stock import TASKS, Holder, StockClass
from bertsmith.linear import matching

ROWS = "prompt_embeddings"
SETTINGS = "num_virtual_tokens num_transformer_submodules token_dim num_attention_heads num_layers"


class Prompt(Method):
    """`peft` puts the vectors before the embeddings of a text's words, as `graft/prompt` does."""

    type = "PROMPT_TUNING"
    kinds = ("graft/prompt",)
    settings = SETTINGS
    unread = "prompt_tuning_init prompt_tuning_init_text tokenizer_name_or_path tokenizer_kwargs"
    shared = (ROWS,)

    def read(self, config: Config, held: Held, stock: StockClass, model: Holder) -> Changes:
        vectors = rows(config, held, {"token_dim": model.encoder.embedding.table.weight.shape[1]})
        spec = grafts("prompt", length=len(vectors))
        return {"": (spec, {}), "embedding.table": (spec, {"vectors": vectors})}

    def write(self, changes: Changes, stock: StockClass, model: Holder) -> tuple[Config, Held]:
        check_everywhere(changes, model.encoder)
        vectors = changes["embedding.table"][1]["vectors"]
        config = sizes(model.encoder, vectors.shape[1]) | {"num_virtual_tokens": len(vectors)}
        return config | {"prompt_tuning_init": "RANDOM"}, {ROWS: vectors}

    def refuse(self, stock: StockClass, head: Head | None, paths: Collection[str]) -> None:
        check_class(stock)
        if not stock.bare and head is not None and head.each == "document":
            raise ValueError(
                f"peft's {stock.title} with a prompt reads the state of the prompt's first vector, ours that of the first "
                "token: leave the head out (task_type FEATURE_EXTRACTION, head=False), or tune a prefix"
            )


def sizes(encoder: Encoder, width: int) -> Config:
    """The settings that say for what encoder a prompt or prefix is."""
    plain = {"num_attention_heads": encoder.heads, "num_layers": len(encoder.layers)}
    return plain | {"token_dim": width, "num_transformer_submodules": 1}


def rows(config: Config, held: Held, expected: Config) -> Tensor:
    """A row for each place before a text. Raises ValueError where settings are not as expected here."""
    if config.get("task_type") is None:
        raise ValueError(
            f"{config['peft_type']} without task_type is not supported: peft puts nothing before its texts"
        )
    expected = expected | {"num_transformer_submodules": 1}
    if odd := [f"{k} {config[k]}, not {v}" for k, v in expected.items() if config.get(k) not in (None, v)]:
        raise ValueError(f"{CONFIG} is for another encoder: {'; '.join(odd)}")
    found, places = held.pop(ROWS, None), config.get("num_virtual_tokens")
    if found is None or len(found) != places:
        raise KeyError(f"{0 if found is None else len(found)} {ROWS} in the file, {places} in {CONFIG}")
    return found


def check_class(stock: StockClass) -> None:
    """Raise ValueError where `peft` would put nothing before texts: it does so in classes that a task_type names."""
    if stock.ending not in TASKS.values():
        raise ValueError(f"peft has no prompts and prefixes for {stock.title}, but for {', '.join(TASKS)}")


def check_everywhere(changes: Changes, encoder: Encoder) -> None:
    """Raise ValueError unless one graft hangs wherever it may."""
    spec = next(iter(changes.values()))[0]
    where = spec.slot.load(spec.kind).where
    if {path for path, _ in matching(encoder, where)} != set(changes) or any(x != spec for x, _ in changes.values()):
        raise ValueError(f"an adapter of peft is one graft at every {where!r}, and here it is not so")
