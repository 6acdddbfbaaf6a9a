"""BERT for hours on a processor, not days on a cluster: what leaves the plateau of word frequencies early.

BERT's shapes (Turc et al. 2019, arXiv:1908.08962) with rotary positions (RoFormer, Su et al. 2021, arXiv:2104.09864), 30 % of
the tokens asked (Wettig et al. 2022, arXiv:2202.08005), no dropout (Geiping & Goldstein 2022, arXiv:2212.14034),
small batches at a high rate. BERT's learned positions find "the word before" late: docs/log.md says what each change is worth.
They are saved as RoFormer, which `transformers` opens.
"""

from dataclasses import replace
from pathlib import Path

from bertsmith.masking import masking
from bertsmith.optim import optim
from bertsmith.position import position
from bertsmith.recipes.bert import bert_mini, bert_small, bert_tiny
from bertsmith.run import Run
from bertsmith.schedule import schedule

DROPS = ("embedding.dropout", "blocks.*.mixer.dropout", "blocks.*.residual.dropout")


def _brief(run: Run, rows: int, lr: float) -> Run:
    spec, (stage,) = run.encoder, run.stages
    spec = spec.replace("embedding.position", position("none")).replace("blocks.*.mixer.position", position("rope"))
    for where in DROPS:
        spec = spec.replace(where, 0.0)
    stage = replace(
        stage,
        objective=stage.objective.replace("masking", masking("bert", rate=0.3)),
        data=stage.data.replace("rows", rows),
        optim=optim("adamw", lr=lr, betas=[0.9, 0.98], eps=1e-6, weight_decay=0.01),
        schedule=schedule("linear", warmup=0.03),
    )
    return replace(run, encoder=spec, stages=[stage])


def brief_tiny(path: Path | str, budget: str = "10m", seed: int = 0) -> Run:
    """2 layers, 128 wide, 2 heads: for minutes."""
    return _brief(bert_tiny(path, budget, seed), 16, 2e-3)


def brief_mini(path: Path | str, budget: str = "1h", seed: int = 0) -> Run:
    """4 layers, 256 wide, 4 heads: for an hour or two."""
    return _brief(bert_mini(path, budget, seed), 16, 2e-3)


def brief_small(path: Path | str, budget: str = "8h", seed: int = 0) -> Run:
    """4 layers, 512 wide, 8 heads: for a night."""
    return _brief(bert_small(path, budget, seed), 16, 1e-3)
