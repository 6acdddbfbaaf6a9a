"""DeBERTaV3 in its published shapes: content and place scored apart, in logarithmic buckets, one table for all layers.

He et al. 2021, arXiv:2111.09543, section 5 and its released models.

Differs from the paper: masked LM with the enhanced mask decoder, as in DeBERTa (He et al. 2020, arXiv:2006.03654), where V3
tells replaced tokens; rows of 512 in batches of 32.
"""

from pathlib import Path

from bertsmith.hf import deberta_v2
from bertsmith.norm import norm
from bertsmith.optim import optim
from bertsmith.recipes.shared import manifest, masked_lm
from bertsmith.schedule import schedule
from bertsmith.train import Run


def _run(depth: int, dim: int, heads: int, lr: float, path: Path | str, budget: str, seed: int) -> Run:
    vocab, ids = manifest(path)
    config = {
        "vocab_size": vocab,
        "hidden_size": dim,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "intermediate_size": 4 * dim,
        "hidden_act": "gelu",
        "max_position_embeddings": 512,
        "type_vocab_size": 0,
        "relative_attention": True,
        "position_buckets": 256,
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "norm_rel_ebd": "layer_norm",
        "position_biased_input": False,
    }
    ln, plan = norm("layer", eps=1e-7), schedule("linear", warmup=0.02)
    how = optim("adamw", lr=lr, betas=[0.9, 0.98], eps=1e-6, weight_decay=0.01)
    stage = masked_lm("enhanced_mask_decoder", ln, ids, path, 512, budget, seed, how, plan)
    return Run(encoder=deberta_v2.encoder_spec(config), stages=[stage], seed=seed)


def deberta_v3_xsmall(path: Path | str, budget: str = "500000-steps", seed: int = 0) -> Run:
    """12 layers, 384 wide, 6 heads."""
    return _run(12, 384, 6, 6e-4, path, budget, seed)


def deberta_v3_small(path: Path | str, budget: str = "500000-steps", seed: int = 0) -> Run:
    """6 layers, 768 wide, 12 heads."""
    return _run(6, 768, 12, 6e-4, path, budget, seed)


def deberta_v3_base(path: Path | str, budget: str = "500000-steps", seed: int = 0) -> Run:
    """12 layers, 768 wide, 12 heads."""
    return _run(12, 768, 12, 6e-4, path, budget, seed)


def deberta_v3_large(path: Path | str, budget: str = "500000-steps", seed: int = 0) -> Run:
    """24 layers, 1024 wide, 16 heads."""
    return _run(24, 1024, 16, 3e-4, path, budget, seed)
