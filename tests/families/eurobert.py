from families import cases

ENDINGS = "Model ForMaskedLM ForSequenceClassification ForTokenClassification"
# four heads that share two of keys and values
SHARED = {"num_key_value_heads": 2, "pad_token_id": 0}
BIASED = SHARED | {
    "attention_bias": True,
    "mlp_bias": True,
    "head_dim": 6,
    "tie_word_embeddings": True,
    "classifier_pooling": "bos",
    "rope_parameters": {"rope_type": "default", "rope_theta": 50.0},
}
MORE = {"types": False, "dropouts": ("attention_dropout",)}
CASES = [
    *cases("EuroBert", ENDINGS, fields=SHARED, **MORE),
    *cases("EuroBert", ENDINGS, fields=BIASED, name="biased", **MORE),
    *cases(
        "EuroBert", "ForSequenceClassification", fields=SHARED | {"classifier_pooling": "mean"}, name="mean", **MORE
    ),
]

REFUSED = [
    ("EuroBertConfig", {"hidden_act": "mish"}, "no activation 'mish'"),
    (
        "EuroBertConfig",
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0}},
        "rope_type 'linear' is not supported",
    ),
    ("EuroBertConfig", {"rope_parameters": None, "rope_scaling": {"type": "dynamic"}}, "rope_type 'dynamic'"),
    ("EuroBertConfig", {"classifier_pooling": "max"}, "classifier_pooling 'max' is not supported"),
]

CANNOT_HOLD = [
    ("blocks.0.mixer.window", 4, "blocks.0.mixer.window = 4"),
    ("norm", {"kind": "norm/layer"}, "norm"),
    ("embedding.types", 2, "embedding.types = 2"),
]
