"""BERT in its published shapes, pre-trained by masked LM on packed documents, within a budget.

Devlin et al. 2018, arXiv:1810.04805 (base, large); Turc et al. 2019, arXiv:1908.08962 (tiny, mini, small, medium).
"""

import json
from pathlib import Path

from bertsmith.corpus.shards import need
from bertsmith.data import data
from bertsmith.hf.bert import bert_encoder
from bertsmith.masking import masking
from bertsmith.objective import objective
from bertsmith.optim import optim
from bertsmith.schedule import schedule
from bertsmith.train import Run, Stage


def _run(depth: int, dim: int, heads: int, lr: float, path: Path | str, budget: str, seed: int) -> Run:
    manifest = json.loads((Path(path) / "manifest.json").read_text())
    ids = manifest["special"]
    need(ids, "mask")
    return Run(
        encoder=bert_encoder(depth, dim, heads, vocab=manifest["vocabulary"]),
        stages=[
            Stage(
                objective=objective(
                    "masked_lm", masking=masking("bert"), mask_id=ids["mask"], special=sorted(ids.values())
                ),
                data=data("packed", path=str(path), length=128, rows=32, seed=seed),
                budget=budget,
                optim=optim("adamw", lr=lr, betas=[0.9, 0.98], eps=1e-6, weight_decay=0.01),
                schedule=schedule("linear", warmup=0.06),
            )
        ],
        seed=seed,
    )


def bert_tiny(path: Path | str, budget: str = "10000-steps", seed: int = 0) -> Run:
    """2 layers, 128 wide, 2 heads."""
    return _run(2, 128, 2, 1e-3, path, budget, seed)


def bert_mini(path: Path | str, budget: str = "10000-steps", seed: int = 0) -> Run:
    """4 layers, 256 wide, 4 heads."""
    return _run(4, 256, 4, 1e-3, path, budget, seed)


def bert_small(path: Path | str, budget: str = "50000-steps", seed: int = 0) -> Run:
    """4 layers, 512 wide, 8 heads."""
    return _run(4, 512, 8, 7e-4, path, budget, seed)


def bert_medium(path: Path | str, budget: str = "50000-steps", seed: int = 0) -> Run:
    """8 layers, 512 wide, 8 heads."""
    return _run(8, 512, 8, 5e-4, path, budget, seed)


def bert_base(path: Path | str, budget: str = "125000-steps", seed: int = 0) -> Run:
    """12 layers, 768 wide, 12 heads."""
    return _run(12, 768, 12, 4e-4, path, budget, seed)


def bert_large(path: Path | str, budget: str = "125000-steps", seed: int = 0) -> Run:
    """24 layers, 1024 wide, 16 heads."""
    return _run(24, 1024, 16, 2e-4, path, budget, seed)
