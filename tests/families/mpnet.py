from families import cases

CASES = [
    *cases(
        "MPNet",
        "Model ForMaskedLM ForSequenceClassification ForTokenClassification",
        types=False,
        length=23,  # beyond the distances that have buckets of their own
    ),
    *cases("MPNet", "ForQuestionAnswering", fields={"num_labels": 2}, types=False),
]

REFUSED = [
    ("MPNetConfig", {"relative_attention_num_buckets": 64}, "relative_attention_num_buckets 64"),
    ("MPNetConfig", {"architectures": ["MPNetForMultipleChoice"]}, "MPNetForMultipleChoice is not opened"),
]

CANNOT_HOLD = [
    ("share", [], "share = "),
    ("blocks.0.mixer.position.far", 64, "blocks.0.mixer.position.far = 64"),
    ("embedding.position.offset", 0, "embedding.position.offset = 0"),
]
