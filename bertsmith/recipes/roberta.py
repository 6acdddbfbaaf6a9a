"""RoBERTa in its published shapes and schedule: masked LM alone on rows of 512, in batches of 8,192 rows.

Liu et al. 2019, arXiv:1907.11692, table 9. One step is 256 micro-batches of 32 rows: a smaller `stages.0.accumulate`, with
a smaller `stages.0.optim.lr`, is for smaller machines.
"""

import json
from pathlib import Path

from bertsmith.corpus.shards import need
from bertsmith.data import data
from bertsmith.hf.roberta import roberta_encoder
from bertsmith.masking import masking
from bertsmith.objective import objective
from bertsmith.optim import optim
from bertsmith.schedule import schedule
from bertsmith.train import Run, Stage


def _run(depth: int, dim: int, heads: int, lr: float, warmup: float, path: Path | str, budget: str, seed: int) -> Run:
    manifest = json.loads((Path(path) / "manifest.json").read_text())
    ids = manifest["special"]
    need(ids, "mask")
    return Run(
        encoder=roberta_encoder(depth, dim, heads, vocab=manifest["vocabulary"], pad=ids["pad"]),
        stages=[
            Stage(
                objective=objective(
                    "masked_lm", masking=masking("bert"), mask_id=ids["mask"], special=sorted(ids.values())
                ),
                data=data("packed", path=str(path), length=512, rows=32, seed=seed),
                budget=budget,
                optim=optim("adamw", lr=lr, betas=[0.9, 0.98], eps=1e-6, weight_decay=0.01),
                schedule=schedule("linear", warmup=warmup),
                accumulate=256,
                clip=0.0,
            )
        ],
        seed=seed,
    )


def roberta_base(path: Path | str, budget: str = "500000-steps", seed: int = 0) -> Run:
    """12 layers, 768 wide, 12 heads."""
    return _run(12, 768, 12, 6e-4, 0.048, path, budget, seed)


def roberta_large(path: Path | str, budget: str = "500000-steps", seed: int = 0) -> Run:
    """24 layers, 1024 wide, 16 heads."""
    return _run(24, 1024, 16, 4e-4, 0.06, path, budget, seed)
