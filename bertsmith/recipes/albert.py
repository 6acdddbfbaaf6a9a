"""ALBERT in its published shapes: one layer's weights for all layers, token tables 128 wide.

Lan et al. 2019, arXiv:1909.11942, table 1.

Differs from the paper: masked LM alone, without the order of two segments; AdamW, where the paper has LAMB with batches of
4,096 rows (raise `stages.0.accumulate` for these).
"""

from pathlib import Path

from bertsmith.hf import albert
from bertsmith.norm import norm
from bertsmith.optim import optim
from bertsmith.recipes.shared import manifest, masked_lm
from bertsmith.schedule import schedule
from bertsmith.train import Run


def _run(depth: int, dim: int, heads: int, lr: float, path: Path | str, budget: str, seed: int) -> Run:
    vocab, ids = manifest(path)
    config = {
        "vocab_size": vocab,
        "embedding_size": 128,
        "hidden_size": dim,
        "num_hidden_layers": depth,
        "num_hidden_groups": 1,
        "inner_group_num": 1,
        "num_attention_heads": heads,
        "intermediate_size": 4 * dim,
        "hidden_act": "gelu",
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
    }
    ln, plan = norm("layer", eps=1e-12), schedule("linear", warmup=0.025)
    how = optim("adamw", lr=lr, weight_decay=0.01)
    stage = masked_lm("masked_lm", ln, ids, path, 512, budget, seed, how, plan)
    return Run(encoder=albert.spec(config), stages=[stage], seed=seed)


def albert_base(path: Path | str, budget: str = "125000-steps", seed: int = 0) -> Run:
    """12 layers, 768 wide, 12 heads."""
    return _run(12, 768, 12, 4e-4, path, budget, seed)


def albert_large(path: Path | str, budget: str = "125000-steps", seed: int = 0) -> Run:
    """24 layers, 1024 wide, 16 heads."""
    return _run(24, 1024, 16, 2e-4, path, budget, seed)


def albert_xlarge(path: Path | str, budget: str = "125000-steps", seed: int = 0) -> Run:
    """24 layers, 2048 wide, 16 heads."""
    return _run(24, 2048, 16, 1e-4, path, budget, seed)


def albert_xxlarge(path: Path | str, budget: str = "125000-steps", seed: int = 0) -> Run:
    """12 layers, 4096 wide, 64 heads."""
    return _run(12, 4096, 64, 1e-4, path, budget, seed)
