"""BERT that reads near, first, last and random blocks, its embeddings dropped out before the norm.  arXiv:2007.14062.

Zaheer et al. 2020. `attention_type` "original_full" is BERT's attention, "block_sparse" is core/block_sparse,
with one seed a layer. BigBirdForQuestionAnswering has a head of two more layers and hides the question: it is not opened.

The reference counts blocks over the whole row with its padding, so that its last block may hold padding alone; ours counts them
over each document. The reference draws random blocks in training alone, and in evaluation reads the first block again in their
place, 1 + num_random_blocks times in the sum; ours draws the same blocks always. The reference turns to "original_full" for
good once it was given a short row; ours reads short documents in full and long ones sparsely. The reference has no dropout on
the attention weights of blocks, so that there is none here.
"""

from bertsmith.core import core
from bertsmith.embedding import embedding
from bertsmith.head import head as heads
from bertsmith.hf import Config, Family, Stock, act_of, both
from bertsmith.hf.bert import (
    ROWS,
    UNUSED,
    bert_stocks,
    classifier_dropout,
    dropout_config,
    encoder_config,
    encoder_spec,
    lm_rows,
)
from bertsmith.mixer import mixer
from bertsmith.pool import pool as pools
from bertsmith.spec import Spec


def big_bird_spec(config: Config) -> Spec:
    """The encoder of a config.json. Raises ValueError naming what we do not have."""
    kind = config.get("attention_type", "block_sparse")
    if kind not in ("original_full", "block_sparse"):
        raise ValueError(f"attention_type {kind!r} is not supported; there are: original_full, block_sparse")
    plain, bias = encoder_spec(config), config.get("use_bias", True)
    e = plain.get("embedding")
    scale = float(config["hidden_size"] ** 0.5) if config.get("rescale_embeddings") else 1.0
    own = embedding("big_bird", **{k: e.get(k) for k in ("vocab", "position", "norm", "types", "dropout")}, scale=scale)
    one = plain.get("blocks.0")
    if kind == "original_full":
        mixers = [one.get("mixer").replace("bias", bias)]
    else:
        sizes = {"block": config.get("block_size", 64), "random": config.get("num_random_blocks", 3)}
        cores = [core("block_sparse", **sizes, seed=i) for i in range(plain.get("depth"))]
        mixers = [mixer("attention", bias=bias, core=c) for c in cores]
    return plain.replace("embedding", own).replace("blocks", [one.replace("mixer", m) for m in mixers])


def big_bird_config(spec: Spec) -> Config:
    """The fields of config.json that say the encoder. Raises ValueError for a core that the stock class does not have."""
    said = encoder_config(spec) | {
        "use_bias": spec.get("blocks.0.mixer.bias"),
        "rescale_embeddings": spec.get("embedding.scale") != 1,
    }
    if (inner := spec.get("blocks.0.mixer.core")) is None:
        return said | {"attention_type": "original_full"}
    if inner.kind != "block_sparse":
        raise ValueError(
            f"big_bird cannot hold blocks.0.mixer.core = core/{inner.kind}: it has core/block_sparse, or None"
        )
    return said | {
        "attention_type": "block_sparse",
        "block_size": inner.get("block"),
        "num_random_blocks": inner.get("random"),
    }


def classifier(config: Config) -> Spec:
    """A pooler with the encoder's activation, and dropout on both sides."""
    drop = classifier_dropout(config)
    pool = pools("bert", act=act_of(config["hidden_act"]), dropout=drop)
    return heads("linear", pool=pool, dropout=drop)


PLAIN = bert_stocks("bert.")
POOLER = both("head.pool.dense", "bert.pooler")
FAMILY = Family(
    types={"big_bird": "BigBird"},
    prefix="bert.",
    spec=big_bird_spec,
    config=big_bird_config,
    rows=lambda config: ROWS,
    stocks={
        "Model": Stock(PLAIN["Model"].head, POOLER),
        "ForMaskedLM": PLAIN["ForMaskedLM"],
        "ForPreTraining": Stock(
            PLAIN["ForPreTraining"].head,
            [*lm_rows("head.masked_lm"), *POOLER, *both("head.next", "cls.seq_relationship")],
        ),
        "ForSequenceClassification": Stock(
            classifier,
            [*both("head.pool.dense", "classifier.dense"), *both("head.out", "classifier.out_proj")],
            dropout_config,
        ),
        "ForTokenClassification": PLAIN["ForTokenClassification"],
    },
    unused=(*UNUSED, "bert.pooler."),  # every class has one, two read it
)
