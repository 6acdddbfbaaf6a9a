"""MPNet: BERT with one table of T5's distance buckets for all layers, positions from 2, and no token types.

Song et al. 2020, arXiv:2004.09297.

The reference: always counts in 32 buckets, whatever `relative_attention_num_buckets` says of the size of their table.
"""

from bertsmith.hf import Config, Family, Row, act_of, both, layer_rows
from bertsmith.hf.bert import bert_encoder
from bertsmith.hf.bert import encoder_config as bert_config
from bertsmith.hf.roberta import roberta_stocks
from bertsmith.position import position
from bertsmith.spec import Spec

BUCKETS = 32
OFFSET = 2  # the reference numbers positions from its padding id, which is 1 whatever the config says, plus 1


def encoder_spec(config: Config) -> Spec:
    """The encoder of a config.json. Raises ValueError naming what we do not have."""
    if (buckets := config.get("relative_attention_num_buckets", BUCKETS)) != BUCKETS:
        raise ValueError(f"relative_attention_num_buckets {buckets} is not supported; only {BUCKETS} is")
    spec = bert_encoder(
        depth=config["num_hidden_layers"],
        dim=config["hidden_size"],
        heads=config["num_attention_heads"],
        vocab=config["vocab_size"],
        hidden=config["intermediate_size"],
        types=0,
        dropout=config.get("hidden_dropout_prob", 0.1),
        attention_dropout=config.get("attention_probs_dropout_prob", 0.1),
        act=act_of(config.get("hidden_act", "gelu")),
        eps=config.get("layer_norm_eps", 1e-12),
    )
    absolute = position("learned", length=config["max_position_embeddings"], offset=OFFSET)
    spec = spec.replace("embedding.position", absolute).replace("share", ["**.mixer.position"])
    return spec.replace("blocks.*.mixer.position", position("t5_buckets", buckets=BUCKETS))


def encoder_config(spec: Spec) -> Config:
    """The fields of config.json that say the encoder."""
    made = bert_config(spec) | {"relative_attention_num_buckets": BUCKETS, "pad_token_id": 1}
    return {name: value for name, value in made.items() if name != "type_vocab_size"}


_ATTENTION = "attention.attn.q attention.attn.k attention.attn.v attention.attn.o attention.LayerNorm"
ROWS: list[Row] = [
    ("encoder.embedding.table.weight", "embeddings.word_embeddings.weight"),
    ("encoder.embedding.position.table.weight", "embeddings.position_embeddings.weight"),
    *both("encoder.embedding.norm", "embeddings.LayerNorm"),
    ("encoder.layers.0.mixer.position.table.weight", "encoder.relative_attention_bias.weight"),
    *layer_rows("encoder.layer.{i}.", _ATTENTION, "intermediate.dense output.dense output.LayerNorm"),
]


FAMILY = Family(
    types={"mpnet": "MPNet"},
    prefix="mpnet.",
    spec=encoder_spec,
    config=encoder_config,
    rows=lambda config: ROWS,
    stocks=roberta_stocks("mpnet.", ""),
    unused=("position_ids", "lm_head.decoder."),
)
