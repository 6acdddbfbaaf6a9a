"""Write the golden checkpoints anew: python tests/golden/make.py. Only for a new kind of checkpoint, never to make a test pass.

Each is a tiny saved model with the outputs that it had when it was written; every later commit must open it and give them.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from bertsmith.edit import edit as edits
from bertsmith.graft import graft as grafts
from bertsmith.head import head as heads
from bertsmith.hf.bert import bert_encoder
from bertsmith.layout import Layout
from bertsmith.linear import edit, graft
from bertsmith.model import Bundle, Model
from bertsmith.norm import norm
from bertsmith.pool import pool as pools
from bertsmith.task import task as tasks

HERE = Path(__file__).parent
TOKEN_BT = torch.tensor([[2, 9, 14, 4, 7, 3], [2, 5, 3, 0, 0, 0]])


def tokenizer(size: int = 20, pad: int = 0) -> Tokenizer:
    """The five special tokens, then w0, w1, ...: one token a word. `pad`: the id of [PAD], which changes places with it."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(size - 5))]
    words[0], words[pad] = words[pad], words[0]
    tok = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, "[UNK]"))
    tok.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tok.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", [(w, words.index(w)) for w in ("[CLS]", "[SEP]")]
    )
    tok.add_special_tokens([w for w in words if w.startswith("[")])
    return tok


def outputs(model: Model) -> dict[str, torch.Tensor]:
    """States and what the head makes of them, for two rows of which one is padded."""
    layout = Layout.padded((TOKEN_BT != 0).long())
    with torch.inference_mode():
        x_BTD = model.encoder(TOKEN_BT, layout)
        real = {"states": x_BTD * layout.real_BT[..., None]}
        if model.head is not None:
            y = model.head(x_BTD, layout)
            real["head"] = y * layout.real_BT[..., None] if y.dim() == 3 else y
    return {k: v.clone().contiguous() for k, v in real.items()}


def golden() -> dict[str, Model]:
    """The models, by name of their folder."""
    torch.manual_seed(0)
    spec = bert_encoder(2, 8, 2, 20, length=12)
    made = {}
    for name, head, task, labels in (
        ("masked_lm", heads("masked_lm", norm=norm("layer")), None, []),
        ("classifier", heads("linear", pool=pools("bert")), tasks("single_label"), ["no", "yes"]),
        ("changed", heads("vector", pool=pools("mean")), None, []),
    ):
        encoder = spec.build()
        if name == "changed":
            edit(encoder, "**.mixer.[qv]", edits("lora", rank=2))
            graft(encoder, "**.mixer.core", grafts("prefix", length=2))
        bundle = Bundle(encoder, head.build(encoder, len(labels)))
        for p in bundle.parameters():
            p.data += 0.1 * torch.randn_like(p)
        made[name] = Model(spec, bundle, tokenizer(), head, task, labels, max_length=12)
    return made


if __name__ == "__main__":
    for name, model in golden().items():
        model.save(HERE / name)
        save_file(outputs(model), HERE / name / "outputs.safetensors")
