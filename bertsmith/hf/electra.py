"""BERT with tables narrower than the encoder, trained to tell replaced tokens.  Clark et al. 2020, arXiv:2003.10555.

One family for the generator (ElectraForMaskedLM, with GELU in its head whatever the encoder has) and the discriminator
(ElectraForPreTraining). A projection stands behind the embedding where embedding_size differs from hidden_size. There is
no pooler; the classifier has a layer with GELU of its own. The `summary_*` fields belong to multiple choice.
"""

from bertsmith.head import head as heads
from bertsmith.hf import Config, Family, Row, Stock, act_of, both
from bertsmith.hf.bert import ROWS, bert_stocks, classifier_dropout, dropout_config, encoder_spec, lm_norm
from bertsmith.hf.bert import encoder_config as bert_config
from bertsmith.pool import pool as pools
from bertsmith.spec import Spec

LM_ROWS: list[Row] = [
    *both("head.dense", "generator_predictions.dense"),
    *both("head.norm", "generator_predictions.LayerNorm"),
    ("head.bias", "generator_lm_head.bias"),
]


def electra_spec(config: Config) -> Spec:
    """The encoder of a config.json. Raises ValueError naming what we do not have."""
    width = config["embedding_size"]
    return encoder_spec(config).replace("embedding.width", 0 if width == config["hidden_size"] else width)


def electra_config(spec: Spec) -> Config:
    """The fields of config.json that say the encoder."""
    return bert_config(spec) | {"embedding_size": spec.get("embedding.width") or spec.get("dim")}


_BERT = bert_stocks("electra.")
STOCKS = {
    "Model": Stock(lambda config: None),
    "ForMaskedLM": Stock(lambda config: heads("masked_lm", norm=lm_norm(config)), LM_ROWS),
    "ForPreTraining": Stock(
        lambda config: heads("replaced_token", act=act_of(config["hidden_act"])),
        [
            *both("head.dense", "discriminator_predictions.dense"),
            *both("head.out", "discriminator_predictions.dense_prediction"),
        ],
    ),
    "ForSequenceClassification": Stock(
        lambda config: heads(
            "linear",
            pool=pools("bert", act="gelu", dropout=classifier_dropout(config)),
            dropout=classifier_dropout(config),
        ),
        [*both("head.pool.dense", "classifier.dense"), *both("head.out", "classifier.out_proj")],
        dropout_config,
    ),
    "ForTokenClassification": _BERT["ForTokenClassification"],
    "ForQuestionAnswering": _BERT["ForQuestionAnswering"],
}

FAMILY = Family(
    types={"electra": "Electra"},
    prefix="electra.",
    spec=electra_spec,
    config=electra_config,
    rows=lambda config: [*ROWS, *both("encoder.embedding.project", "embeddings_project")],
    stocks=STOCKS,
    unused=("position_ids", "generator_lm_head.weight"),
)
