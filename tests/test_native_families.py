"""The compiled encoder gives what every family gives that it knows, on every instruction set; what it lacks is named."""

import numpy as np
import pytest
from test_native import by_torch, texts

from bertsmith import native
from bertsmith.engine.plan import Unsupported, build, plan

pytest.importorskip("transformers", reason="transformers is not installed (an extra of the tests)")
from test_families import BARE, VOCAB, ours, reference  # noqa: E402

pytestmark = pytest.mark.skipif(bool(native.why_not()), reason=native.why_not())

# What the kernel does not have, by family: all other families run on it.
REFUSED = {
    "BigBird": "embedding/BigBirdEmbed",
    "ConvBert": "mixer/ConvAttention",
    "Deberta": "position/Disentangled|block/BesideConv",
    "ErnieModel-": "further facts",
    "FNet": "embedding/Projected",
    "Funnel": "encoder/Funnel",
    "LayoutLM": "position/Layout2D",
    "Longformer": "mixer/Longformer",
    "MobileBert": "embedding/Trigram",
    "Nystromformer": "core/ValueConv",
    "SqueezeBert": "mixer/GroupedAttention",
    "XLNet": "embedding/TwoStream",
}


def refused(case):
    """What the kernel does not have of a family, or ""."""
    if str(case).endswith("not_relative"):
        return ""
    return next((why for name, why in REFUSED.items() if str(case).startswith(name)), "")


@pytest.mark.parametrize("case", BARE, ids=str)
def test_every_family_that_it_knows(case, tmp_path):
    encoder = ours(reference(case), case, tmp_path)[0].encoder.eval()
    longest = min(case.length, 40)
    if why := refused(case):
        with pytest.raises(Unsupported, match=why):
            plan(encoder, longest)
        return
    ids, types, starts = texts([longest, 1, 2, 7, longest // 2], VOCAB)
    made = plan(encoder, longest)
    if made.kind is None or len(made.kind) < 2:
        types[:] = 0
    want = by_torch(encoder, ids, types, starts)
    for isa in native.sets():
        got = build(made, isa, lambda layer, name: native.FP32).run(ids, starts, 1, types=types)
        assert np.abs(got - want).max() < 2e-6 * np.abs(want).max(), isa.name


def test_the_families_that_are_promised_are_known():
    known = {case.config.removesuffix("Config") for case in BARE if not refused(case)}
    assert known >= {
        "Bert",
        "Roberta",
        "XLMRoberta",
        "Camembert",
        "Electra",
        "DistilBert",
        "MPNet",
        "ModernBert",
        "NomicBert",
        "EuroBert",
    }
