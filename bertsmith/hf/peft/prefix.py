"""PREFIX_TUNING: graft/p_tuning. A row of the file is [layers * (k, v) * heads * width of a head].

P places of the prefix, L layers times k and v, N heads, H width of a head.
"""

from collections.abc import Collection

import torch

from bertsmith.graft import graft as grafts
from bertsmith.head import Head
from bertsmith.hf import Config
from bertsmith.hf.peft.method import Changes, Held, Method
from bertsmith.hf.peft.prompt import ROWS, SETTINGS, check_class, check_everywhere, rows, sizes
from bertsmith.hf.peft.stock import Holder, StockClass
from bertsmith.linear import matching


class Prefix(Method):
    """Tokens move up by P in the table of positions. A file has what a network made (prefix_projection), not the network."""

    type = "PREFIX_TUNING"
    kinds = ("graft/p_tuning",)
    settings = SETTINGS
    unread = "encoder_hidden_size prefix_projection init_weights"
    shared = (ROWS,)

    def read(self, config: Config, held: Held, stock: StockClass, model: Holder) -> Changes:
        if model.spec.get("embedding.position").kind != "learned":
            raise ValueError(
                "prefix tuning is read onto encoders with a table of positions, as those are that peft has it for"
            )
        cores = matching(model.encoder, "layers.*.mixer.core")
        L, N, H = 2 * len(cores), cores[0][1].heads, cores[0][1].head_dim
        prefix = rows(config, held, sizes(model.encoder, N * H))
        P = len(prefix)
        if prefix.shape != (P, L * N * H):
            raise KeyError(f"{ROWS} {list(prefix.shape)} do not fit {len(cores)} layers of {N} heads of {H}")
        held_LNPH = prefix.view(P, L, N, H).permute(1, 2, 0, 3)
        spec = grafts("p_tuning", length=P)
        changes: Changes = {"embedding": (spec, {})}
        for (path, _), k, v in zip(cores, held_LNPH[::2], held_LNPH[1::2], strict=True):
            changes[path] = spec, {"prefix.k": k, "prefix.v": v}
        return changes

    def write(self, changes: Changes, stock: StockClass, model: Holder) -> tuple[Config, Held]:
        check_everywhere(changes, model.encoder)
        held_LNPH = torch.stack([x for _, held in changes.values() for x in held.values()])
        L, N, P, H = held_LNPH.shape
        config = sizes(model.encoder, N * H) | {"num_virtual_tokens": P, "encoder_hidden_size": N * H}
        return config | {"prefix_projection": False}, {ROWS: held_LNPH.permute(2, 0, 1, 3).reshape(P, L * N * H)}

    def refuse(self, stock: StockClass, head: Head | None, paths: Collection[str]) -> None:
        check_class(stock)
