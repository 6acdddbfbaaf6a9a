from families import cases

CASES = [
    *cases("MegatronBert", "Model ForMaskedLM ForPreTraining ForSequenceClassification ForTokenClassification"),
    *cases("MegatronBert", "ForQuestionAnswering", fields={"num_labels": 2}),
    *cases("MegatronBert", "ForMaskedLM", name="relu", fields={"hidden_act": "relu"}),
]

REFUSED = [
    ("MegatronBertConfig", {"hidden_act": "mish"}, "no activation 'mish'"),
    ("MegatronBertConfig", {"is_decoder": True}, "is_decoder True is not supported"),
]

CANNOT_HOLD = [
    ("embedding.norm", {"kind": "norm/layer"}, "embedding.norm = norm/layer"),
    ("norm", {"kind": "norm/none"}, "norm/layer at the end, not norm/none"),
]
