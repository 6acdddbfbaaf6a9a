"""Encoders that differ by low rank run as one: each text gets its own adapter's answer, whatever stands beside it."""

import copy

import numpy as np
import pytest
import torch
from golden.make import tokenizer as toy_tokenizer
from test_native import CLOSE, SETS, VOCAB, by_torch, cosines, packed, spec, texts, wide_awake

from bertsmith import adapter, native
from bertsmith.edit import edit as edits
from bertsmith.engine import Engine
from bertsmith.engine.adopt import RANK, added, factors, tell
from bertsmith.engine.guest import Guest
from bertsmith.engine.plan import Unsupported, plan
from bertsmith.head import head
from bertsmith.layout import Layout
from bertsmith.linear import edit
from bertsmith.model import Bundle, Model
from bertsmith.pool import pool
from bertsmith.task import task

pytestmark = pytest.mark.skipif(bool(native.why_not()), reason=native.why_not())

GATED = {"blocks__0__ffn": {"kind": "ffn/glu", "hidden": 37, "act": "silu"}}
TURNED = {"blocks__0__mixer__position": {"kind": "position/rope"}}
LENGTHS = [1, 40, 3, 17, 90, 8, 64, 33, 12, 300, 5]


def changed(encoder, kind, where, seed, **settings):
    """A copy with an edit whose weights are away from their start."""
    made = copy.deepcopy(encoder)
    edit(made, where, edits(kind, **settings), "one")
    generator = torch.Generator().manual_seed(seed)
    for name, p in made.named_parameters():
        if ".edits." in name:
            p.data += 0.1 * torch.randn(p.shape, generator=generator)
    return made.eval()


def biased(encoder, seed):
    """A copy with other biases of its products, as BitFit makes them."""
    made, generator = copy.deepcopy(encoder), torch.Generator().manual_seed(seed)
    for name, p in made.named_parameters():
        if name.endswith("bias") and "norm" not in name:
            p.data += 0.3 * torch.randn(p.shape, generator=generator)
    return made.eval()


def family(change):
    """An encoder, and others that differ from it by what is of low rank."""
    base = wide_awake(spec(depth=2, **change).build())
    return base, [
        changed(base, "lora", "**.mixer.[qv]", 1, rank=2),
        changed(base, "lora", "**.ffn.*", 2, rank=5),
        changed(base, "vera", "**.mixer.*", 3, rank=4),
        biased(base, 4),
    ]


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("kind", ["fp32", "bf16"])
@pytest.mark.parametrize("change", [{}, {"dim": 192, "heads": 3}, GATED | TURNED, {"dim": 24, "heads": 3}], ids=str)
def test_every_text_gets_its_own_adapter(isa, kind, change):
    if kind == "bf16" and not isa.bf16:
        pytest.skip(f"{isa.name} does not multiply bf16")
    base, others = family(change)
    handle, ours = packed(base, isa, native.KINDS[kind]), plan(base, 512)
    for number, other in enumerate(others):
        tell(handle, number, native.KINDS[kind], added(ours, plan(other, 512), isa.lanes))
    ids, types, starts = texts(LENGTHS)
    whose = np.arange(len(LENGTHS), dtype=np.int32) % 5 - 1
    want = np.concatenate(
        [
            by_torch(others[n] if n >= 0 else base, ids[a:b], types[a:b], np.array([0, b - a]))
            for a, b, n in zip(starts[:-1], starts[1:], whose, strict=True)
        ]
    )
    got = handle.run(ids, starts, 2, types=types, adapters=whose)
    if kind == "fp32":
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)  # factors leave out 1e-5 of the weights' norm
    else:
        assert np.abs(got - want).mean() < 0.03 * np.abs(want).mean()  # as for products without adapters
    plain = handle.run(ids, starts, 2, types=types)
    own = np.repeat(whose >= 0, np.diff(starts))
    assert np.array_equal(got[~own], plain[~own]), "texts of the base are as they were"
    assert (np.abs(got - plain)[own].max(1) > 1e-3).all(), "and adapters change all of theirs"
    for threads in (1, 3):  # alone, too: with one thread, and with several that share it
        for i, (a, b) in enumerate(zip(starts[:-1], starts[1:], strict=True)):
            begin = np.array([0, b - a], np.int32)
            alone = handle.run(
                ids[a:b].copy(), begin, threads, types=types[a:b].copy(), adapters=whose[i : i + 1].copy()
            )
            assert np.array_equal(alone, got[a:b])


def test_factors_of_low_rank_and_no_others():
    rng = np.random.default_rng(0)
    matrix = (rng.standard_normal((70, 9)) @ rng.standard_normal((9, 50))).astype(np.float32)
    widen, narrow = factors(matrix, 1e-5 * float(np.linalg.norm(matrix)))
    assert widen.shape == (70, 9) and narrow.shape == (9, 50)
    np.testing.assert_allclose(widen @ narrow, matrix, rtol=1e-4, atol=1e-4)
    widen, narrow = factors(np.zeros((6, 4), np.float32), 1e-5)
    assert not (widen @ narrow).any()
    full = rng.standard_normal((RANK + 20, RANK + 30)).astype(np.float32)
    assert factors(full, 1e-5 * float(np.linalg.norm(full))) is None


def of(encoder, engine=Engine):
    rng = np.random.default_rng(5)
    probes = [rng.integers(5, 61, n).tolist() for n in (3, 9, 30)]
    return engine(encoder, 64, lambda: probes, list)


@pytest.mark.parametrize("precision", ["default", "exact"])
def test_an_engine_runs_its_guests(precision):
    base, others = family({})
    host = of(base)
    guests = [Guest(of(other), host, precision) for other in others]
    assert [guest.number for guest in guests] == [0, 1, 2, 3]
    token_BT = torch.randint(5, 61, (5, 20), generator=torch.Generator().manual_seed(0))
    layout = Layout.padded(torch.ones_like(token_BT))
    mixed = host.states(token_BT, layout, precision, np.array([-1, 0, 1, 2, 3], np.int32))
    with torch.inference_mode():
        for row, (engine, encoder) in enumerate(zip([host, *guests], [base, *others], strict=True)):
            own = engine.states(token_BT, layout, precision)[row]
            assert torch.equal(mixed[row], own)
            want = encoder(token_BT, layout)[row].mean(0)[None].numpy()
            assert cosines(mixed[row].mean(0)[None].numpy(), want) > 0.9999
    ids, starts = token_BT.flatten().numpy().astype(np.int32), np.arange(0, 101, 20, dtype=np.int32)
    for engine in (host, *guests):
        means = engine.states(token_BT, layout, precision).mean(1)
        np.testing.assert_allclose(engine.pooled(ids, starts, "mean", precision), means, **CLOSE)


def test_what_an_engine_cannot_run_is_named():
    base = wide_awake(spec(depth=2).build())
    host = of(base)
    other = copy.deepcopy(base)
    other.layers[1].mixer_residual.norm.weight.data += 1
    with pytest.raises(Unsupported, match="norms of its own in layer 1"):
        host.adopt(of(other))
    other = copy.deepcopy(base)
    other.embedding.table.weight.data += 1
    with pytest.raises(Unsupported, match="an embedding"):
        host.adopt(of(other))
    wide = wide_awake(spec(dim=192, heads=3, depth=1).build())
    other = copy.deepcopy(wide)
    torch.nn.init.normal_(other.layers[0].ffn.up.weight)
    with pytest.raises(Unsupported, match=f"a rank above {RANK}: up in layer 0"):
        of(wide).adopt(of(other))
    with pytest.raises(Unsupported, match="another width or depth"):
        host.adopt(of(wide))
    with pytest.raises(IndexError, match="no adopted encoder 0; there are 0"):
        host.pooled(np.array([5, 6], np.int32), np.array([0, 2], np.int32), "mean", adopted=np.zeros(1, np.int32))


def test_numbers_end_with_the_weights_that_they_were_for():
    base, others = family({})
    host = of(base)
    guest = Guest(of(others[0]), host, "default")
    token_BT = torch.full((1, 4), 7)
    layout = Layout.padded(torch.ones_like(token_BT))
    guest.states(token_BT, layout)
    with torch.no_grad():
        base.layers[0].ffn.up.weight += 0.01
    with pytest.raises(IndexError, match="since the weights were last changed"):
        guest.states(token_BT, layout)


def test_a_batch_for_several_adapters_is_one_pass(tmp_path, monkeypatch):
    pytest.importorskip("httpx", reason="httpx is not installed (an extra of the tests)")
    pytest.importorskip("fastapi", reason="fastapi is not installed (the extra bertsmith[serve])")
    from bertsmith.serve.house import House
    from bertsmith.serve.models import Limits

    made = spec(dim=32, vocab=VOCAB, length=64)
    base = Model(made, Bundle(wide_awake(made.build()), None), toy_tokenizer(VOCAB), max_length=64)
    models = {"base": base}
    kinds = {
        "moods": (edits("lora", rank=2), "single_label", head("linear", pool=pool("mean")), ["bad", "fine", "good"]),
        "names": (edits("lora", rank=3), "tagging", head("token"), ["LOC", "PER"]),
        "scaled": (edits("lora", rank=2), "regression", head("linear", pool=pool("mean")), ["fit"]),
    }
    for name, (spec_of_edit, kind, top, labels) in kinds.items():
        encoder = copy.deepcopy(base.encoder)
        edit(encoder, "**.mixer.[qv]", spec_of_edit, "one")
        about = task(kind)
        tuned = Model(
            made,
            Bundle(encoder, top.build(encoder, about.build(labels).outputs)),
            base.tokenizer,
            top,
            about,
            labels,
            max_length=64,
        )
        for n, p in tuned.bundle.named_parameters():
            if ".edits." in n or "head" in n or (name == "scaled" and "norm" in n):
                p.data += 0.2 * torch.randn(p.shape, generator=torch.Generator().manual_seed(len(n)))
        adapter.save(tuned, base, tmp_path / name)
        models[name] = adapter.load(base, tmp_path / name)
    asked = {name: [f"w{i} w{i + 3} w9" for i in range(k, k + 4)] for k, name in enumerate(models)}
    want = {name: m.predict(asked[name], precision="exact") for name, m in models.items() if m.task}
    vectors = base.encode(asked["base"], precision="exact")

    house = House(models, "exact", Limits())
    assert len({id(kin) for kin in house.kin.values()}) == 1, "they share their base's arrays"
    kin = house.kin["base"]
    kin.join()
    assert set(kin.numbers) == {"base", "moods", "names"}
    said = {one["name"]: one["alone"] for one in house.about()}
    assert not said["moods"] and "an embedding or a last norm of its own" in said["scaled"]
    runs, inner = [], native.Handle.run

    def counted(self, ids, starts, threads, *more, **rest):
        runs.append(len(starts) - 1)
        return inner(self, ids, starts, threads, *more, **rest)

    monkeypatch.setattr(native.Handle, "run", counted)
    items, order = [], []
    for i in range(4):  # in turns, so that neighbours are of different models
        for name, served in house.models.items():
            what = ("encode",) if name == "base" else ("predict",)
            given = [asked[name][i]] if name == "base" else [(asked[name][i], None)]
            items += [(served, what, item) for item in served.read(what, given, True).items]
            order.append((name, i))
    got = kin.run(("shared",), items)
    assert sorted(runs) == [4, 12], "the base's texts and two adapters' in one pass; the third alone"
    for (name, i), answer in zip(order, got, strict=True):
        if name == "base":
            np.testing.assert_allclose(answer, vectors[i], rtol=1e-4, atol=1e-5)
        elif name == "moods":
            assert answer.label == want[name][i].label
            np.testing.assert_allclose(
                list(answer.scores.values()), list(want[name][i].scores.values()), rtol=1e-3, atol=1e-5
            )
        elif name == "scaled":
            assert answer.label == pytest.approx(want[name][i].label, abs=1e-4)
        else:
            assert answer == want[name][i]
    house.close()
