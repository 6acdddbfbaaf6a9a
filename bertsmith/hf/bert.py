"""BERT as `transformers` stores it: BertModel, ForMaskedLM, ForPreTraining, ForSequenceClassification.

Devlin et al. 2018, arXiv:1810.04805.
"""

from typing import Any

from torch import Tensor

from bertsmith.block import block
from bertsmith.embedding import embedding
from bertsmith.encoder import encoder
from bertsmith.ffn import ffn
from bertsmith.head import head as heads
from bertsmith.hf import Row, to_ours, to_theirs
from bertsmith.mixer import mixer
from bertsmith.norm import norm
from bertsmith.pool import pool as pools
from bertsmith.position import position
from bertsmith.residual import residual
from bertsmith.spec import Spec

MODEL_TYPE = "bert"


def _both(ours: str, theirs: str) -> list[Row]:
    return [(f"{ours}.{p}", f"{theirs}.{p}") for p in ("weight", "bias")]


_L, _H = "encoder.layers.{i}.", "bert.encoder.layer.{i}."
_BODY: list[Row] = [
    ("encoder.embedding.table.weight", "bert.embeddings.word_embeddings.weight"),
    ("encoder.embedding.types.weight", "bert.embeddings.token_type_embeddings.weight"),
    ("encoder.embedding.position.table.weight", "bert.embeddings.position_embeddings.weight"),
    *_both("encoder.embedding.norm", "bert.embeddings.LayerNorm"),
    *_both(_L + "mixer.q", _H + "attention.self.query"),
    *_both(_L + "mixer.k", _H + "attention.self.key"),
    *_both(_L + "mixer.v", _H + "attention.self.value"),
    *_both(_L + "mixer.out", _H + "attention.output.dense"),
    *_both(_L + "mixer_residual.norm", _H + "attention.output.LayerNorm"),
    *_both(_L + "ffn.up", _H + "intermediate.dense"),
    *_both(_L + "ffn.down", _H + "output.dense"),
    *_both(_L + "ffn_residual.norm", _H + "output.LayerNorm"),
]


def _lm(ours: str) -> list[Row]:
    return [
        *_both(ours + ".dense", "cls.predictions.transform.dense"),
        *_both(ours + ".norm", "cls.predictions.transform.LayerNorm"),
        (ours + ".bias", "cls.predictions.bias"),
    ]


# architecture -> (our head's kind, its rows)
_HEADS: dict[str, tuple[str, list[Row]]] = {
    "BertModel": ("vector", _both("head.pool.dense", "bert.pooler.dense")),
    "BertForMaskedLM": ("masked_lm", _lm("head")),
    "BertForPreTraining": (
        "bert_pretraining",
        [
            *_lm("head.masked_lm"),
            *_both("head.pool.dense", "bert.pooler.dense"),
            *_both("head.next", "cls.seq_relationship"),
        ],
    ),
    "BertForSequenceClassification": (
        "linear",
        [*_both("head.pool.dense", "bert.pooler.dense"), *_both("head.out", "classifier")],
    ),
    "BertForTokenClassification": ("token", _both("head.out", "classifier")),
}
_UNUSED = ("embeddings.position_ids", "cls.predictions.decoder.", "cls.predictions.bias_dummy")


def bert_encoder(
    depth: int,
    dim: int,
    heads: int,
    vocab: int,
    hidden: int = 0,
    length: int = 512,
    types: int = 2,
    dropout: float = 0.1,
    attention_dropout: float | None = None,
    act: str = "gelu",
    eps: float = 1e-12,
) -> Spec:
    """A BERT encoder of any shape; hidden is 4 * dim where not said."""
    ln = norm("layer", eps=eps)
    within = dropout if attention_dropout is None else attention_dropout
    return encoder(
        "stack",
        dim=dim,
        heads=heads,
        depth=depth,
        embedding=embedding(
            "tokens", vocab=vocab, types=types, norm=ln, dropout=dropout, position=position("learned", length=length)
        ),
        blocks=[
            block(
                "sequential",
                mixer=mixer("attention", dropout=within),
                ffn=ffn("mlp", hidden=hidden or 4 * dim, act=act),
                residual=residual("post", norm=ln, dropout=dropout),
            )
        ],
        norm=norm("none"),
    )


def encoder_spec(config: dict[str, Any]) -> Spec:
    """The encoder of a config.json. Raises ValueError naming what we do not have."""
    if (kind := config.get("position_embedding_type", "absolute")) != "absolute":
        raise ValueError(f"position_embedding_type {kind!r} is not supported for BERT; only 'absolute' is")
    acts = {"gelu": "gelu", "gelu_new": "gelu_tanh", "relu": "relu", "silu": "silu", "tanh": "tanh"}
    if config["hidden_act"] not in acts:
        raise ValueError(f"no activation {config['hidden_act']!r}; there are: {', '.join(acts)}")
    return bert_encoder(
        depth=config["num_hidden_layers"],
        dim=config["hidden_size"],
        heads=config["num_attention_heads"],
        vocab=config["vocab_size"],
        hidden=config["intermediate_size"],
        length=config["max_position_embeddings"],
        types=config["type_vocab_size"],
        dropout=config.get("hidden_dropout_prob", 0.1),
        attention_dropout=config.get("attention_probs_dropout_prob", 0.1),
        act=acts[config["hidden_act"]],
        eps=config.get("layer_norm_eps", 1e-12),
    )


def head_spec(config: dict[str, Any], names: set[str]) -> tuple[str, Spec | None]:
    """(architecture, our head), by what the config says and, where it is silent, by the tensors that are there."""
    architecture = (config.get("architectures") or ["BertModel"])[0]
    ln = norm("layer", eps=config.get("layer_norm_eps", 1e-12))
    if architecture in ("BertForMaskedLM", "BertForPreTraining"):
        return architecture, heads(_HEADS[architecture][0], norm=ln)
    drop = config.get("classifier_dropout")
    drop = config.get("hidden_dropout_prob", 0.1) if drop is None else drop
    if architecture == "BertForSequenceClassification":
        return architecture, heads("linear", pool=pools("bert"), dropout=drop)
    if architecture == "BertForTokenClassification":
        return architecture, heads("token", dropout=drop)
    pooler = any("pooler.dense" in n for n in names)
    return "BertModel", heads("vector", pool=pools("bert")) if pooler else None


def read(config: dict[str, Any], theirs: dict[str, Tensor]) -> tuple[Spec, Spec | None, dict[str, Tensor]]:
    """(encoder spec, head spec or None, tensors under our names encoder.* and head.*).

    Raises KeyError naming tensors that have no place here: nothing is dropped in silence.
    """
    spec = encoder_spec(config)
    renamed = {k.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias"): v
               for k, v in theirs.items()}  # fmt: skip
    prefixed = {k if k.startswith(("bert.", "cls.", "classifier.")) else f"bert.{k}": v for k, v in renamed.items()}
    architecture, head = head_spec(config, set(theirs))
    ours, left = to_ours([*_BODY, *_HEADS[architecture][1]], config["num_hidden_layers"], prefixed)
    left = {k for k in left if not any(u in k for u in _UNUSED)}
    if architecture != "BertModel":
        left = {k for k in left if "pooler" not in k}  # a pooler that the named head does not use
    if left:
        raise KeyError(f"tensors of {architecture} with no place here: {sorted(left)[:5]}")
    return spec, head, ours


def config(spec: Spec, head: Spec | None) -> tuple[str, dict[str, Any]] | None:
    """(architecture, config.json) of the stock class that can hold this encoder and head; None where there is none."""
    first = spec.args["blocks"][0] if spec.args.get("blocks") else None
    if spec.kind != "stack" or first is None or first.kind != "sequential" or first.args["mixer"].kind != "attention":
        return None
    architecture = _architecture(head)
    acts = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu", "silu": "silu", "tanh": "tanh"}
    tokens, inner = spec.args["embedding"].args, first.args["ffn"].args
    if architecture is None or first.args["ffn"].kind != "mlp" or "length" not in tokens["position"].args:
        return None
    made: dict[str, Any] = {
        "model_type": "bert",
        "architectures": [architecture],
        "vocab_size": tokens["vocab"],
        "hidden_size": spec.args["dim"],
        "num_hidden_layers": spec.args["depth"],
        "num_attention_heads": spec.args["heads"],
        "intermediate_size": inner["hidden"],
        "hidden_act": acts[inner["act"]],
        "hidden_dropout_prob": tokens["dropout"],
        "attention_probs_dropout_prob": first.args["mixer"].args["dropout"],
        "max_position_embeddings": tokens["position"].args["length"],
        "type_vocab_size": tokens["types"],
        "layer_norm_eps": tokens["norm"].args.get("eps", 0.0),
        "pad_token_id": 0,
        "tie_word_embeddings": True,
    }
    # a stock BERT is exactly what its config makes here; anything else in the spec has no stock class
    same = encoder_spec(made) == spec.replace("init", None)
    if head is not None and head.kind in ("linear", "token"):
        made["classifier_dropout"] = head.args["dropout"]
    return (architecture, made) if same else None


def _architecture(head: Spec | None) -> str | None:
    if head is None:
        return "BertModel"
    if head.args.get("pool", head).kind not in ("bert", head.kind):
        return None
    return next((name for name, (kind, _) in _HEADS.items() if kind == head.kind), None)


def write(architecture: str, ours: dict[str, Tensor], depth: int) -> dict[str, Tensor]:
    """Our tensors (encoder.*, head.*) under the stock class's names."""
    theirs = to_theirs([*_BODY, *_HEADS[architecture][1]], depth, ours)
    return {k.removeprefix("bert.") if architecture == "BertModel" else k: v for k, v in theirs.items()}
