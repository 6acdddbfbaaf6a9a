"""sentence-transformers as it comes (SETTING fp32), or with its weights in bfloat16 (bf16)."""

import torch
from loop import loop
from sentence_transformers import SentenceTransformer


def make(model, setting):
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16}
    opened = SentenceTransformer(model, device="cpu", model_kwargs={"torch_dtype": kinds[setting]})
    return lambda texts: opened.encode(texts, normalize_embeddings=True, show_progress_bar=False)


loop(make)
