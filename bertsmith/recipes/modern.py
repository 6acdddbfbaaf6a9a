"""Encoders after BERT, pre-trained by masked LM on packed documents, within a budget.

ModernBERT, Warner et al. 2024, arXiv:2412.13663, table 4; MosaicBERT, Portes et al. 2023, arXiv:2312.17482; NeoBERT, Le Breton
et al. 2025, arXiv:2502.19587, table 1; crammed BERT, Geiping & Goldstein 2022, arXiv:2212.14034, section 4.2; LTG-BERT, Samuel
et al. 2023, arXiv:2303.09859; nGPT, Loshchilov et al. 2024, arXiv:2410.01131, as an encoder.

Differs from the papers: AdamW throughout (ModernBERT has StableAdamW, LTG-BERT has LAMB), one stage of one length, batches of
32 rows: raise `stages.0.accumulate` for theirs. LTG-BERT masks single tokens here, where the paper masks spans.
"""

import json
from pathlib import Path
from typing import Any

from bertsmith.block import block
from bertsmith.corpus.shards import need
from bertsmith.data import data
from bertsmith.embedding import embedding
from bertsmith.encoder import encoder
from bertsmith.ffn import ffn
from bertsmith.head import head as heads
from bertsmith.hf.bert import bert_encoder
from bertsmith.hf.modernbert import FAMILY
from bertsmith.init import init
from bertsmith.masking import masking
from bertsmith.mixer import mixer
from bertsmith.norm import norm
from bertsmith.objective import objective
from bertsmith.optim import optim
from bertsmith.position import position
from bertsmith.residual import residual
from bertsmith.schedule import schedule
from bertsmith.spec import Spec
from bertsmith.train import Run, Stage


def _manifest(path: Path | str) -> dict[str, Any]:
    return json.loads((Path(path) / "manifest.json").read_text())


def _run(
    encoder: Spec,
    path: Path | str,
    budget: str,
    seed: int,
    head: Spec,
    hide: Spec,
    lr: float,
    length: int = 128,
    betas: tuple[float, float] = (0.9, 0.98),
    eps: float = 1e-6,
    decay: float = 0.01,
    plan: Spec | None = None,
    clip: float = 1.0,
) -> Run:
    ids = _manifest(path)["special"]
    need(ids, "mask")
    asked = {"masking": hide, "mask_id": ids["mask"], "special": sorted(ids.values())}
    stage = Stage(
        objective=objective("masked_lm", head=head, **asked),
        data=data("packed", path=str(path), length=length, rows=32, seed=seed),
        budget=budget,
        optim=optim("adamw", lr=lr, betas=list(betas), eps=eps, weight_decay=decay),
        schedule=plan or schedule("linear", warmup=0.06),
        clip=clip,
    )
    return Run(encoder=encoder, stages=[stage], seed=seed)


def modernbert_encoder(depth: int, dim: int, heads: int, hidden: int, vocab: int, attention_dropout: float) -> Spec:
    """A ModernBERT encoder of any shape: a global layer, then two local ones, and so on."""
    shape = {"num_hidden_layers": depth, "hidden_size": dim, "num_attention_heads": heads, "intermediate_size": hidden}
    return FAMILY.spec(shape | {"vocab_size": vocab, "attention_dropout": attention_dropout})


def _modernbert(
    depth: int, dim: int, wide: int, hidden: int, lr: float, decay: float, path: Path | str, budget: str, seed: int
) -> Run:
    made = modernbert_encoder(depth, dim, wide, hidden, vocab=_manifest(path)["vocabulary"], attention_dropout=0.1)
    head = heads("masked_lm", norm=norm("layer", eps=1e-5, bias=False), bias=False)
    hide, plan = masking("bert", rate=0.3), schedule("constant", warmup=0.002)
    return _run(made, path, budget, seed, head, hide, lr, length=1024, decay=decay, plan=plan)


def modernbert_base(path: Path | str, budget: str = "125000-steps", seed: int = 0) -> Run:
    """22 layers, 768 wide, 12 heads: one global layer, then two that look 64 tokens to each side; 149 million parameters."""
    return _modernbert(22, 768, 12, 1152, 8e-4, 1e-5, path, budget, seed)


def modernbert_large(path: Path | str, budget: str = "125000-steps", seed: int = 0) -> Run:
    """28 layers, 1024 wide, 16 heads; 395 million parameters."""
    return _modernbert(28, 1024, 16, 2624, 5e-4, 1e-5, path, budget, seed)


def mosaicbert_base(path: Path | str, budget: str = "70000-steps", seed: int = 0) -> Run:
    """BERT base with ALiBi, gated units, low-precision norms, 30 % masked, a vocabulary in 64s; 137 million parameters."""
    vocab, ln = -(-_manifest(path)["vocabulary"] // 64) * 64, norm("low_precision")
    one = block(
        "sequential",
        mixer=mixer("attention", position=position("alibi")),
        ffn=ffn("glu", hidden=3072, out_bias=True, dropout=0.1),
        residual=residual("post", norm=ln, dropout=0.1),
        ffn_residual=residual("post", norm=ln),
    )
    made = encoder(
        "stack",
        dim=768,
        heads=12,
        depth=12,
        embedding=embedding("tokens", vocab=vocab, types=2, position=position("none"), norm=ln, dropout=0.1),
        blocks=[one],
        norm=norm("none"),
    )
    plan = schedule("linear", warmup=0.06, final=0.02)
    head = heads("masked_lm", norm=ln)
    return _run(made, path, budget, seed, head, masking("bert", rate=0.3), 5e-4, decay=1e-5, plan=plan)


def neobert(path: Path | str, budget: str = "1000000-steps", seed: int = 0) -> Run:
    """28 layers, 768 wide, 12 heads: RMS pre-norm, rotary positions, SwiGLU, a table of its own for the logits; 250 million."""
    rms = norm("rms", eps=1e-5)
    one = block(
        "sequential",
        mixer=mixer("attention", position=position("rope"), bias=False, out_bias=False),
        ffn=ffn("glu", hidden=2048, act="silu"),
        residual=residual("pre", norm=rms),
    )
    tokens = embedding("tokens", vocab=_manifest(path)["vocabulary"], position=position("none"), norm=norm("none"))
    made = encoder("stack", dim=768, heads=12, depth=28, embedding=tokens, blocks=[one], norm=rms)
    plan = schedule("cosine", warmup=0.002, final=0.1)
    hide = masking("bert", rate=0.2, masked=1.0, random=0.0)
    head = heads("lm_linear", tied=False, bias=True)
    return _run(
        made, path, budget, seed, head, hide, 6e-4, length=1024, betas=(0.9, 0.95), eps=1e-8, decay=0.1, plan=plan
    )


def cramming(path: Path | str, budget: str = "24h", seed: int = 0) -> Run:
    """16 layers, 768 wide, 12 heads, pre-norm, GEGLU, no biases in layers, no dropout, nothing between states and logits."""
    ln = norm("layer")
    one = block(
        "sequential",
        mixer=mixer("attention", bias=False, out_bias=False),
        ffn=ffn("glu", hidden=1536),
        residual=residual("pre", norm=ln),
    )
    waves = position("scaled_sinusoidal")
    tokens = embedding("tokens", vocab=_manifest(path)["vocabulary"], position=waves, norm=ln)
    made = encoder("stack", dim=768, heads=12, depth=16, embedding=tokens, blocks=[one], norm=ln)
    plan = schedule("linear", warmup=0.5)  # up and down in one triangle
    hide = masking("bert", rate=0.25)
    return _run(made, path, budget, seed, heads("lm_linear"), hide, 1e-3, eps=1e-12, plan=plan, clip=0.5)


def ltg_bert_base(path: Path | str, budget: str = "31250-steps", seed: int = 0) -> Run:
    """12 layers, 768 wide, 12 heads: disentangled positions, a norm at both ends of attention, normed GEGLU; 98 million."""
    plain, ln = norm("standard", eps=1e-7), norm("layer", eps=1e-7)
    places = position("disentangled", span=512, buckets=32, shared=True, norm=ln, dropout=0.1)
    one = block(
        "sequential",
        mixer=mixer("attention", position=places, dropout=0.1),
        ffn=ffn("normed_glu", hidden=2048, act="gelu_tanh", norm=plain),
        residual=residual("sandwich", norm=plain, out_norm=ln, dropout=0.1),
        ffn_residual=residual("pre", norm=plain, dropout=0.1),
    )
    vocab = _manifest(path)["vocabulary"]
    made = encoder(
        "stack",
        dim=768,
        heads=12,
        depth=12,
        embedding=embedding("tokens", vocab=vocab, position=position("none"), norm=plain, dropout=0.1),
        blocks=[one],
        norm=plain,
        init=init("normal", std=(2 / (5 * 768)) ** 0.5),
        share=["**.mixer.position.table", "**.mixer.position.norm"],
    )
    plan = schedule("cosine", warmup=0.016, final=0.1)
    return _run(
        made, path, budget, seed, heads("masked_lm", norm=plain), masking("bert"), 1e-3, decay=0.1, plan=plan, clip=2.0
    )


def ngpt_base(path: Path | str, budget: str = "125000-steps", seed: int = 0) -> Run:
    """12 layers, 768 wide, 12 heads, all on the unit sphere: no norms with weights, no warm-up, no weight decay."""
    one = block(
        "sequential",
        mixer=mixer("ngpt", position=position("rope")),
        ffn=ffn("ngpt", hidden=3072),
        residual=residual("ngpt"),
    )
    tokens = embedding("tokens", vocab=_manifest(path)["vocabulary"], position=position("none"), norm=norm("unit"))
    made = encoder("stack", dim=768, heads=12, depth=12, embedding=tokens, blocks=[one], norm=norm("none"))
    plan = schedule("cosine", warmup=0.0)
    hide = masking("bert")
    return _run(made, path, budget, seed, heads("ngpt"), hide, 1e-3, betas=(0.9, 0.95), eps=1e-8, decay=0.0, plan=plan)


def bert_base__rope__glu__pre(path: Path | str, budget: str = "125000-steps", seed: int = 0) -> Run:
    """BERT base with three changes: rotary positions, gated units of the same size, pre-norm."""
    ln = norm("layer", eps=1e-12)
    made = (
        bert_encoder(12, 768, 12, vocab=_manifest(path)["vocabulary"])
        .replace("embedding.position", position("none"))
        .replace("blocks.*.mixer.position", position("rope"))
        .replace("blocks.*.ffn", ffn("glu", hidden=2048, bias=True, out_bias=True))
        .replace("blocks.*.residual", residual("pre", norm=ln, dropout=0.1))
        .replace("norm", ln)
    )
    return _run(made, path, budget, seed, heads("masked_lm", norm=norm("layer")), masking("bert"), 4e-4)
