from families import HEADS, cases

# tiny windows, and bases that are far from one another, or local layers could be exchanged with global ones unseen
NEAR = {"pad_token_id": 0, "local_attention": 4}
BASES = {
    "full_attention": {"rope_type": "default", "rope_theta": 300.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 7.0},
}
BIASED = {
    "norm_bias": True,
    "attention_bias": True,
    "mlp_bias": True,
    "classifier_bias": True,
    "decoder_bias": False,
    "classifier_activation": "silu",
    "hidden_activation": "relu",
    "layer_types": ["sliding_attention", "full_attention", "full_attention"],
}
MORE = {"types": False, "dropouts": ("attention_dropout", "mlp_dropout", "embedding_dropout")}
ENDINGS = "Model ForMaskedLM " + HEADS
CASES = [
    *cases("ModernBert", ENDINGS, fields=NEAR, **MORE),
    *cases("ModernBert", ENDINGS, fields=NEAR | BIASED | {"rope_parameters": BASES}, name="biased", **MORE),
    *cases(
        "ModernBert", "ForSequenceClassification", fields=NEAR | {"classifier_pooling": "mean"}, name="mean", **MORE
    ),
]

YARN = {"full_attention": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}}
REFUSED = [
    ("ModernBertConfig", {"hidden_activation": "mish"}, "no activation 'mish'"),
    ("ModernBertConfig", {"rope_parameters": YARN}, "rope_type 'yarn' of full_attention is not supported"),
    (
        "ModernBertConfig",
        {"layer_types": ["chunked_attention"] * 22},
        "layer_types 'chunked_attention' is not supported",
    ),
    ("ModernBertConfig", {"tie_word_embeddings": False}, "tie_word_embeddings False is not supported"),
]

CANNOT_HOLD = [
    ("blocks.1.mixer.window", 6, "blocks.1.mixer.window = 6"),
    ("blocks.0.residual", {"kind": "residual/pre", "norm": {"kind": "norm/layer"}}, "blocks.0.residual"),
    ("blocks.2.ffn.hidden", 40, "blocks.2.ffn.hidden = 40"),
]
