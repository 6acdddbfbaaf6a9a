"""BERT with a narrow token table and one layer used again and again; pairs of segments in order or swapped.

Lan et al. 2019, ALBERT, arXiv:1909.11942, section 3.1. Layers come in groups: all of a group are the same `inner_group_num`
layers in turn, so that the encoder has num_hidden_layers * inner_group_num layers and `share` says which are one.
"""

from bertsmith.hf import Config, Family, Row, Stock, both, layer_rows
from bertsmith.hf.bert import ROWS as BERT_ROWS
from bertsmith.hf.bert import encoder_config, encoder_spec
from bertsmith.hf.stocks import bert_stocks, lm_norm, lm_rows, with_pairs
from bertsmith.residual import residual
from bertsmith.spec import Spec

COUNTS = ("num_hidden_layers", "num_hidden_groups", "inner_group_num")


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


def layers(config: Config) -> list[tuple[str, str]]:
    """Where each layer that has weights of its own stands: first used in ours, in its group in theirs."""
    owner = groups(*(config[key] for key in COUNTS))
    return [(str(owner.index((group, j))), f"{group}.albert_layers.{j}") for group, j in dict.fromkeys(owner)]


def spec(config: Config) -> Spec:
    """The encoder of a config.json. Raises ValueError naming what we do not have."""
    layers, count, inner = (config[key] for key in COUNTS)
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
    found = next((c for c in choices if shared(*c) == spec.get("share")), (depth, 1, 1))
    width = spec.get("embedding.width") or spec.get("dim")
    said = {"embedding_size": width, "classifier_dropout_prob": 0.1}
    return encoder_config(spec) | dict(zip(COUNTS, found, strict=True)) | said


_MIXER = "attention.query attention.key attention.value attention.dense attention.LayerNorm"
ROWS: list[Row] = [
    *(row for row in BERT_ROWS if "{i}" not in row[1]),
    *both("encoder.embedding.project", "encoder.embedding_hidden_mapping_in"),
    *layer_rows("encoder.albert_layer_groups.{i}.", _MIXER, "ffn ffn_output full_layer_layer_norm"),
]
_LM = ("predictions.dense", "predictions.LayerNorm", "predictions.bias")
_BERT = bert_stocks("albert.", "classifier_dropout_prob", "pooler")
_MASKED_LM = Stock(_BERT["ForMaskedLM"].head, lm_rows("head", *_LM))
FAMILY = Family(
    types={"albert": "Albert"},
    prefix="albert.",
    spec=spec,
    config=config,
    rows=lambda config: ROWS,
    stocks=_BERT
    | {
        "ForMaskedLM": _MASKED_LM,
        "ForPreTraining": with_pairs(_MASKED_LM, _BERT["ForSequenceClassification"], "sop_classifier.classifier"),
    },
    unused=("position_ids", "predictions.decoder."),
    layers=layers,
)
