"""Makes the tiny SentencePiece models of this folder, and what the original library gives for some texts.

    pip install sentencepiece && python tests/spm/make.py

The tests read the models with our own reader and need no such package. Each model has the special pieces of a family.
"""

import json
from pathlib import Path

import sentencepiece

HERE = Path(__file__).parent
SENTENCES = [
    "The quick brown fox jumps over the lazy dog, and the dog sleeps on.",
    "A model of language is a distribution over strings of words.",
    "Le chat dort près de la fenêtre; il a mangé déjà.",
    "Der Fluß fließt über die großen Steine zum Meer.",
    "In 1905 he wrote 4 papers, 3,000 words each (more or less).",
    "東京は日本の首都です。北京是中国的首都。",
    "한국어 문장은 낱말 사이를 띄어 쓴다.",
    "she sells sea shells by the sea shore; the shells she sells are sea shells.",
]
TEXTS = [
    "The fox sleeps over the sea shells.",
    "  two  spaces,  and a   space and an end ",
    "près du Fluß 1905 (3,000) 東京 日本 한국어",
    "ＦＵＬＬ width ﬁsh ①",
    "unseen: Ω ж 🙂 zebra",
    "",
]
# full-width letters, a ligature and a number in a circle, as NFKC writes them: the compiled table is small
RULES = [(chr(0xFF21 + i), chr(0x41 + i)) for i in range(26)] + [("\ufb01", "fi"), ("\u2460", "1")]
ANGLES = {"unk_id": 0, "bos_id": 1, "eos_id": 2}
MODELS = {
    "albert": {"pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1, "control_symbols": ["[CLS]", "[SEP]"],
               "user_defined_symbols": ["[MASK]", "(", ")"]},
    "xlm-roberta": ANGLES,
    "t5": {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1},
    "xlnet": ANGLES | {"control_symbols": ["<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>"]},
    "deberta-v2": {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3, "pad_piece": "[PAD]", "bos_piece": "[CLS]",
                   "eos_piece": "[SEP]", "unk_piece": "[UNK]"},
    "big_bird": {"pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3, "control_symbols": ["[CLS]", "[SEP]", "[MASK]"]},
    "rembert": {"pad_id": 0, "bos_id": 1, "unk_id": 2, "eos_id": -1, "bos_piece": "[CLS]",
                "control_symbols": ["[SEP]", "[MASK]"]},
    "bpe": {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1, "model_type": "bpe"},
}  # fmt: skip


def main() -> None:
    """Write the models and ids.json: model -> [text, its ids]."""
    text, rules = HERE / "text.tmp", HERE / "rules.tmp"
    text.write_text("\n".join(SENTENCES * 4), encoding="utf-8")
    codes = [(" ".join(f"{ord(c):X}" for c in side) for side in pair) for pair in RULES]
    rules.write_text("".join(f"{a}\t{b}\n" for a, b in codes), encoding="utf-8")
    ids = {}
    for name, settings in MODELS.items():
        sentencepiece.SentencePieceTrainer.train(
            input=str(text), model_prefix=str(HERE / name), vocab_size=220, hard_vocab_limit=False,
            character_coverage=1.0, normalization_rule_tsv=str(rules), minloglevel=2, **settings,
        )  # fmt: skip
        (HERE / f"{name}.vocab").unlink()
        model = sentencepiece.SentencePieceProcessor(model_file=str(HERE / f"{name}.model"))
        ids[name] = [[text, model.encode(text)] for text in TEXTS]
    (HERE / "ids.json").write_text(_lines(ids), encoding="utf-8")
    text.unlink()
    rules.unlink()


def _lines(ids: dict[str, list]) -> str:
    rows = [f"{json.dumps(name)}: [\n" + ",\n".join(json.dumps(t, ensure_ascii=False) for t in texts) + "\n]"
            for name, texts in ids.items()]  # fmt: skip
    return "{\n" + ",\n".join(rows) + "\n}\n"


if __name__ == "__main__":
    main()
