"""BERT that reads near, first, last and random blocks, its embeddings dropped out before the norm.  arXiv:2007.14062.

Zaheer et al. 2020. `attention_type` "original_full" is BERT's attention, "block_sparse" is core/block_sparse,
with one seed a layer. BigBirdForQuestionAnswering ends the question with the first [SEP]; here the token types say it.

The reference counts blocks over the whole row with its padding, so that its last block may hold padding alone; ours counts them
over each document. The reference draws random blocks in training alone, and in evaluation reads the first block again in their
place, 1 + num_random_blocks times in the sum; ours draws the same blocks always. The reference turns to "original_full" for
good once it was given a short row; ours reads short documents in full and long ones sparsely. The reference has no dropout on
the attention weights of blocks, so that there is none here.
"""

from bertsmith.core import core
from bertsmith.embedding import embedding
from bertsmith.ffn import ffn
from bertsmith.head import head as heads
from bertsmith.hf import Config, Family, Stock, both
from bertsmith.hf.bert import ROWS, UNUSED, encoder_config, encoder_spec
from bertsmith.hf.fields import known
from bertsmith.hf.stocks import bert_stocks, classifier_dropout, lm_act, lm_norm, own_layer
from bertsmith.mixer import mixer
from bertsmith.spec import Spec


def big_bird_spec(config: Config) -> Spec:
    """The encoder of a config.json. Raises ValueError naming what we do not have."""
    kind = config.get("attention_type", "block_sparse")
    known("attention_type", [kind], ("original_full", "block_sparse"))
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


def question_answering(config: Config) -> Spec:
    """A feed-forward like those of the layers, and the question out of the competition."""
    f = ffn("mlp", hidden=config["intermediate_size"], act=lm_act(config))
    return heads("context_span", ffn=f, norm=lm_norm(config), dropout=classifier_dropout(config, ""))


_BERT, _QA = bert_stocks("bert.", pooler="pooler"), "qa_classifier."
FAMILY = Family(
    types={"big_bird": "BigBird"},
    prefix="bert.",
    spec=big_bird_spec,
    config=big_bird_config,
    rows=lambda config: ROWS,
    stocks=_BERT
    | {
        "ForSequenceClassification": own_layer(),
        "ForMultipleChoice": bert_stocks("bert.", "", "pooler")["ForMultipleChoice"],
        "ForQuestionAnswering": Stock(
            question_answering,
            [
                *both("head.ffn.up", _QA + "intermediate.dense"),
                *both("head.ffn.down", _QA + "output.dense"),
                *both("head.norm", _QA + "output.LayerNorm"),
                *both("head.out", _QA + "qa_outputs"),
            ],
        ),
    },
    unused=(*UNUSED, "bert.pooler."),  # every class has one, three read it
)
