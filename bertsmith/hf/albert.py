"""BERT with a narrow token table and one layer used again and again; pairs of segments in order or swapped.

Lan et al. 2019, ALBERT, arXiv:1909.11942, section 3.1. Layers come in groups: all of a group are the same `inner_group_num`
layers in turn, so that the encoder has num_hidden_layers * inner_group_num layers and `share` says which are one.
"""

from bertsmith.head import head as heads
from bertsmith.hf import Config, Family, Row, Stock, both, each
from bertsmith.hf.bert import ROWS as BERT_ROWS
from bertsmith.hf.bert import encoder_config, encoder_spec
from bertsmith.hf.stocks import bert_stocks, classifier_dropout, lm_act, lm_norm, lm_rows
from bertsmith.pool import pool as pools
from bertsmith.residual import residual
from bertsmith.spec import Spec


def groups(layers: int, count: int, inner: int) -> list[tuple[int, int]]:
    """(group, layer in the group) of every layer of the encoder."""
    # divided in floating point, as the reference does
    return [(int(i / (layers / count)), j) for i in range(layers) for j in range(inner)]


def shared(layers: int, count: int, inner: int) -> list[str]:
    """The patterns of `share`: one for each layer that is used more than once."""
    owner = groups(layers, count, inner)
    places = [[str(i) for i, one in enumerate(owner) if one == which] for which in dict.fromkeys(owner)]
    if len(places) == 1:
        return ["layers.*"] if len(owner) > 1 else []
    return ["layers.{" + ",".join(same) + "}" for same in places if len(same) > 1]


def spec(config: Config) -> Spec:
    """The encoder of a config.json. Raises ValueError naming what we do not have."""
    layers, count, inner = (config[k] for k in ("num_hidden_layers", "num_hidden_groups", "inner_group_num"))
    if count > layers:
        raise ValueError(f"num_hidden_groups {count} is more than the {layers} layers: some would never be used")
    made = encoder_spec(config).replace("embedding.width", config["embedding_size"])
    made = made.replace("depth", layers * inner).replace("share", shared(layers, count, inner))
    # its feed-forward has no dropout
    return made.replace("blocks.*.ffn_residual", residual("post", norm=lm_norm(config)))


def config(spec: Spec) -> Config:
    """The fields of config.json that say the encoder."""
    depth = spec.get("depth")
    choices = [(depth // i, g, i) for i in range(1, depth + 1) if depth % i == 0 for g in range(1, depth // i + 1)]
    layers, count, inner = next((c for c in choices if shared(*c) == spec.get("share")), (depth, 1, 1))
    return encoder_config(spec) | {
        "embedding_size": spec.get("embedding.width") or spec.get("dim"),
        "num_hidden_layers": layers,
        "num_hidden_groups": count,
        "inner_group_num": inner,
        "classifier_dropout_prob": 0.1,
    }


def rows(config: Config) -> list[Row]:
    """The weight table: a row for each layer that has weights of its own."""
    owner = groups(config["num_hidden_layers"], config["num_hidden_groups"], config["inner_group_num"])
    parts = {
        "mixer.q": "attention.query",
        "mixer.k": "attention.key",
        "mixer.v": "attention.value",
        "mixer.out": "attention.dense",
        "mixer_residual.norm": "attention.LayerNorm",
        "ffn.up": "ffn",
        "ffn.down": "ffn_output",
        "ffn_residual.norm": "full_layer_layer_norm",
    }
    found = [row for row in BERT_ROWS if "{i}" not in row[1]]
    found += both("encoder.embedding.project", "encoder.embedding_hidden_mapping_in")
    for group, layer in dict.fromkeys(owner):
        ours = f"encoder.layers.{owner.index((group, layer))}."
        theirs = f"encoder.albert_layer_groups.{group}.albert_layers.{layer}."
        found += each(ours, theirs, parts)
    return found


_BERT = bert_stocks("albert.", "classifier_dropout_prob", "pooler")
_LM = ("predictions.dense", "predictions.LayerNorm", "predictions.bias")


def pre_training(config: Config) -> Spec:
    """From the width of the encoder to that of the table, and the order of two segments."""
    masked_lm = heads("masked_lm", norm=lm_norm(config), act=lm_act(config))
    drop = classifier_dropout(config, "classifier_dropout_prob")
    return heads("lm_with_pairs", masked_lm=masked_lm, pool=pools("bert"), dropout=drop)


FAMILY = Family(
    types={"albert": "Albert"},
    prefix="albert.",
    spec=spec,
    config=config,
    rows=rows,
    stocks=_BERT
    | {
        "ForMaskedLM": Stock(_BERT["ForMaskedLM"].head, lm_rows("head", *_LM)),
        "ForPreTraining": Stock(
            pre_training,
            [
                *lm_rows("head.masked_lm", *_LM),
                *both("head.pool.dense", "albert.pooler"),
                *both("head.next", "sop_classifier.classifier"),
            ],
            _BERT["ForSequenceClassification"].config,
        ),
    },
    unused=("position_ids", "predictions.decoder."),
)
