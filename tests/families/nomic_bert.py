from families import cases

ENDINGS = "Model ForMaskedLM ForSequenceClassification ForTokenClassification"
WIDE = {"head_dim": 6, "rope_parameters": {"rope_type": "default", "rope_theta": 50.0}, "hidden_act": "gelu"}
CASES = [
    *cases("NomicBert", ENDINGS, renamed=True),
    *cases("NomicBert", "Model ForMaskedLM", name="wide", fields=WIDE, renamed=True),
]

YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}
REFUSED = [
    ("NomicBertConfig", {"hidden_act": "mish"}, "no activation 'mish'"),
    ("NomicBertConfig", {"rope_parameters": YARN}, "rope_type 'yarn' is not supported"),
    (
        "NomicBertConfig",
        {"rope_parameters": {"partial_rotary_factor": 0.5}},
        "partial_rotary_factor 0.5 is not supported",
    ),
    ("NomicBertConfig", {"tie_word_embeddings": False}, "tie_word_embeddings False is not supported"),
]

CANNOT_HOLD = [
    ("blocks.0.mixer.bias", True, "blocks.0.mixer.bias = True"),
    ("blocks.0.ffn.dropout", 0.1, "blocks.0.ffn.dropout = 0.1"),
    ("blocks.0.residual", {"kind": "residual/pre", "norm": {"kind": "norm/layer"}}, "blocks.0.residual"),
]
