from families import cases


def replaced(out, bundle, x_BTD, layout, real):
    """One logit a token."""
    return [(out.logits[real], bundle.head(x_BTD, layout)[..., 0][real])]


NARROW, SAME = {"embedding_size": 16}, {"embedding_size": 32}
CASES = [
    *cases("Electra", "Model ForMaskedLM ForSequenceClassification ForTokenClassification", fields=NARROW),
    *cases("Electra", "ForPreTraining", fields=NARROW, pairs=replaced),
    *cases("Electra", "ForQuestionAnswering", fields=NARROW | {"num_labels": 2}),
    *cases("Electra", "Model ForMaskedLM", name="no_projection", fields=SAME),
    *cases("Electra", "ForMaskedLM", name="relu", fields=NARROW | {"hidden_act": "relu"}),
    *cases("Electra", "ForPreTraining", name="relu", fields=NARROW | {"hidden_act": "relu"}, pairs=replaced),
]

REFUSED = [
    ("ElectraConfig", {"hidden_act": "mish"}, "no activation 'mish'"),
    ("ElectraConfig", {"architectures": ["ElectraForMultipleChoice"]}, "ElectraForMultipleChoice is not opened"),
]

CANNOT_HOLD = [
    ("embedding.width", 32, "embedding.width = 32"),
    ("blocks.0.residual.dropout", 0.3, "blocks.0.residual.dropout = 0.3"),
]
