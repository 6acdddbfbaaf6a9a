"""The compiled encoder gives what ours gives, on every instruction set of this machine; what it cannot run is named."""

import os
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from golden.make import tokenizer

import bertsmith
from bertsmith import engine, native
from bertsmith.engine.plan import Unsupported, best, build, plan, rounded
from bertsmith.graft import graft as grafts
from bertsmith.layout import Layout
from bertsmith.linear import graft
from bertsmith.model import Bundle, Model
from bertsmith.spec import Spec

pytestmark = pytest.mark.skipif(bool(native.why_not()), reason=native.why_not())
VOCAB = 60
SETS = [pytest.param(isa, id=isa.name) for isa in native.sets()]
CLOSE = {"rtol": 2e-5, "atol": 2e-5}  # fp32, sums in another order, through a few layers


def spec(dim=32, heads=2, depth=2, vocab=61, length=512, **more):
    """A BERT; `more` replaces by dotted path."""
    block = {
        "kind": "block/sequential",
        "mixer": {"kind": "mixer/attention"},
        "ffn": {"kind": "ffn/mlp", "hidden": 4 * dim},
        "residual": {"kind": "residual/post", "norm": {"kind": "norm/layer"}},
    }
    embedding = {
        "kind": "embedding/tokens",
        "vocab": vocab,
        "types": 2,
        "position": {"kind": "position/learned", "length": length},
        "norm": {"kind": "norm/layer"},
    }
    made = Spec.from_dict(
        {"kind": "encoder/stack", "dim": dim, "heads": heads, "depth": depth, "embedding": embedding}
        | {"blocks": [block], "norm": {"kind": "norm/none"}}
    )
    for path, value in more.items():
        made = made.replace(path.replace("__", "."), Spec.from_dict(value) if isinstance(value, dict) else value)
    return made


def wide_awake(encoder, scale=1.0):
    """Every weight away from its start, biases and norms too."""
    g = torch.Generator().manual_seed(3)
    for p in encoder.parameters():
        p.data += scale * 0.1 * torch.randn(p.shape, generator=g)
    return encoder.eval()


def texts(lengths, vocab=61, seed=0):
    """(ids, types, starts) of texts of these lengths."""
    rng = np.random.default_rng(seed)
    starts = np.cumsum([0, *lengths]).astype(np.int32)
    return (
        rng.integers(5, vocab, starts[-1]).astype(np.int32),
        rng.integers(0, 2, starts[-1]).astype(np.int32),
        starts,
    )


@torch.inference_mode()
def by_torch(encoder, ids, types, starts):
    """[tokens, D], every text alone."""
    found = []
    for a, b in zip(starts[:-1], starts[1:], strict=True):
        token, kind = (torch.from_numpy(x[a:b].astype(np.int64))[None] for x in (ids, types))
        found.append(encoder(token, Layout.padded(torch.ones_like(token), kind, whole=True))[0])
    return torch.cat(found).numpy()


def packed(encoder, isa, kind, longest=512):
    return build(plan(encoder, longest), isa, lambda layer, name: kind)


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"dim": 20, "heads": 2},  # no multiple of anything
        {"dim": 24, "heads": 3, "blocks__0__ffn__hidden": 37},
        {"dim": 192, "heads": 3},  # the widest panels
        {"dim": 64, "heads": 1},
        {"blocks__0__mixer__kv_heads": 1},
        {"blocks__0__mixer__window": 6},
        {"blocks__0__mixer__position": {"kind": "position/rope"}},
        {"blocks__0__mixer__position": {"kind": "position/alibi"}},
        {"blocks__0__mixer__position": {"kind": "position/t5_buckets", "buckets": 8, "far": 20}},
        {"blocks__0__residual": {"kind": "residual/pre", "norm": {"kind": "norm/rms"}}, "norm": {"kind": "norm/layer"}},
        {"blocks__0__ffn": {"kind": "ffn/glu", "hidden": 37, "act": "silu"}},
        {"blocks__0__ffn__act": "relu"},
        {"blocks__0__ffn__act": "tanh"},
        {"blocks__0__ffn__act": "squared_relu"},
        {"embedding__width": 12},
        {"embedding__position": {"kind": "position/sinusoidal"}},
    ],
    ids=lambda c: ",".join(f"{k.split('__')[-1]}={v['kind'] if isinstance(v, dict) else v}" for k, v in c.items()),
)
def test_all_lengths_and_shapes(isa, change):
    encoder = wide_awake(spec(**change).build())
    ids, types, starts = texts([1, 2, 3, 15, 16, 17, 31, 33, 64, 100, 0, 5])
    want = by_torch(encoder, ids, types, starts)
    exact = packed(encoder, isa, native.FP32)
    np.testing.assert_allclose(exact.run(ids, starts, 1, types=types), want, **CLOSE)
    np.testing.assert_allclose(exact.run(ids, starts, 3, types=types), want, **CLOSE)
    scale = np.abs(want).mean()
    # rounding to 8 bits of mantissa, and to 8 bits in all: what a layer loses is of this size, and a wrong place is far larger
    for kind, most in ((native.BF16, 0.03), (native.INT8, 0.12)):
        if kind == native.INT8 or isa.bf16:
            got = packed(encoder, isa, kind).run(ids, starts, 2, types=types)
            assert np.abs(got - want).mean() < most * scale


@pytest.mark.parametrize("isa", SETS)
def test_long_texts_and_many_chunks(isa):
    encoder = wide_awake(spec(depth=1).build())
    ids, types, starts = texts([512, 300, 1, 511, *range(1, 60)])
    want = by_torch(encoder, ids, types, starts)
    for threads in (1, 2, 5):
        np.testing.assert_allclose(
            packed(encoder, isa, native.FP32).run(ids, starts, threads, types=types), want, **CLOSE
        )


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("kind", ["fp32", "bf16", "int8"])
def test_a_text_is_the_same_bit_for_bit_whatever_stands_beside_it(isa, kind):
    if kind == "bf16" and not isa.bf16:
        pytest.skip(f"{isa.name} does not multiply bf16")
    encoder = wide_awake(spec().build())
    handle = packed(encoder, isa, native.KINDS[kind])
    ids, _, starts = texts([40, 3, 17, 90, 8, 64, 33, 12, 300, 5])
    together = handle.run(ids, starts, 2)
    for threads in (1, 2, 4):
        assert np.array_equal(together, handle.run(ids, starts, threads))
    for a, b in zip(starts[:-1], starts[1:], strict=True):
        for threads in (1, 3):
            alone = handle.run(ids[a:b].copy(), np.array([0, b - a], np.int32), threads)
            assert np.array_equal(alone, together[a:b])


@pytest.mark.parametrize("isa", SETS)
def test_pooling_and_no_texts(isa):
    encoder = wide_awake(spec().build())
    handle = packed(encoder, isa, native.FP32)
    ids, _, starts = texts([4, 9, 1])
    states = handle.run(ids, starts, 2)
    parts = [states[a:b] for a, b in zip(starts[:-1], starts[1:], strict=True)]
    np.testing.assert_allclose(
        handle.run(ids, starts, 2, native.MEAN), [p.mean(0) for p in parts], rtol=1e-5, atol=1e-6
    )
    assert np.array_equal(handle.run(ids, starts, 2, native.FIRST), [p[0] for p in parts])
    assert handle.run(ids[:0], starts[:1], 2).shape == (0, 32)


@pytest.mark.parametrize("isa", SETS)
def test_extreme_weights_stay_finite(isa):
    encoder = wide_awake(spec().build(), scale=30.0)
    ids, types, starts = texts([30, 7, 64])
    want = by_torch(encoder, ids, types, starts)
    for kind in {native.INT8, native.FP32, best(isa)}:
        got = packed(encoder, isa, kind).run(ids, starts, 2, types=types)
        assert np.isfinite(got).all()
        if kind == native.FP32:
            assert np.abs(got - want).mean() < 1e-3 * np.abs(want).mean()


def test_the_plan_refuses_what_it_does_not_know():
    encoder = spec().build()
    graft(encoder, "layers.*.ffn", grafts("bottleneck", size=4))
    with pytest.raises(Unsupported, match="the graft at layers.0.ffn"):
        plan(encoder, 64)
    with pytest.raises(Unsupported, match="core/"):
        plan(spec(blocks__0__mixer__core={"kind": "core/linear"}).build(), 64)


def test_two_threads_with_two_models():
    made = [(wide_awake(spec(dim=d).build()), d) for d in (16, 48)]
    ids, types, starts = texts(list(range(1, 50)))
    want = [by_torch(encoder, ids, types, starts) for encoder, _ in made]
    got: dict[int, list] = {}

    def work(number):
        handle = packed(made[number][0], native.sets()[0], native.FP32)
        got[number] = [handle.run(ids, starts, 2, types=types) for _ in range(5)]

    both = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    for number, expected in enumerate(want):
        for found in got[number]:
            np.testing.assert_allclose(found, expected, **CLOSE)


def test_a_forked_child_has_threads_of_its_own():
    handle = packed(wide_awake(spec().build()), native.sets()[0], native.FP32)
    ids, _, starts = texts(list(range(1, 40)))
    want = handle.run(ids, starts, 2)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, b"y" if np.array_equal(handle.run(ids, starts, 2), want) else b"n")
        os._exit(0)
    assert os.read(read, 1) == b"y"
    os.waitpid(child, 0)
    assert np.array_equal(handle.run(ids, starts, 2), want)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="no g++ with its sanitizers")
def test_under_the_sanitizers(tmp_path):
    runtime = subprocess.run(["g++", "-print-file-name=libasan.so"], capture_output=True, text=True).stdout.strip()
    if not Path(runtime).is_absolute():
        pytest.skip("g++ has no libasan")
    from bertsmith.native.build import NAME
    from bertsmith.native.build import build as compiled

    os.environ["CXX"] = "g++"
    try:
        compiled(tmp_path, ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-O1", "-w"))
    finally:
        del os.environ["CXX"]
    code = f"""
import pathlib, sys
import bertsmith.native as native
native.LIBRARY = pathlib.Path({str(tmp_path / NAME)!r})
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_native as t
import test_adopt as a
for isa in native.sets():
    for change in ({{}}, {{"dim": 20}}, {{"blocks__0__ffn": {{"kind": "ffn/glu", "hidden": 37}}}}, {{"embedding__width": 12}},
                   {{"blocks__0__mixer__window": 6}}, {{"blocks__0__mixer__position": {{"kind": "position/alibi"}}}}):
        t.test_all_lengths_and_shapes(isa, change)
    t.test_long_texts_and_many_chunks(isa)
    t.test_pooling_and_no_texts(isa)
    t.test_extreme_weights_stay_finite(isa)
    a.test_every_text_gets_its_own_adapter(isa, "fp32", {{}})
import test_wordpiece as w
for name in w.ONES:
    w.test_every_character_of_the_table_between_others(name)
w.test_texts_for_the_library_stand_in_their_places()
w.test_cut_and_counted_as_the_library_s("the run ")
from bertsmith.native import step
if not step.why_not():
    import test_fused as f, test_fused_embedding as e, test_train
    for change in e.SHAPES.values():
        e.test_outputs_and_gradients_are_those_of_fp32(change)
    for change in f.SHAPES.values():
        for rows in (f.TEXTS, ((1,),), ((33, 64),)):
            f.test_outputs_and_gradients_are_those_of_fp32(change, rows)
        f.test_some_tokens_get_what_they_get_among_all(change)
    for asked in (None, [3, 4, 11, 21, 30]):
        f.test_dropout_drops_the_same_in_both_passes(asked)
    f.test_texts_longer_than_a_block_of_queries_and_a_window_that_leaves_some_out()
    f.test_what_is_frozen_gets_no_gradient_and_the_rest_the_same()
    f.test_the_seed_decides_what_is_dropped_and_evaluation_drops_nothing()
    for sizes in ((7, 32, 1031), (50, 96, 1024)):
        f.test_many_outputs_and_their_cross_entropy(sizes)
    test_train.test_the_compiled_adamw_takes_the_steps_of_torchs(test_train.optim("adamw", lr=0.01, weight_decay=0.1))
print("clean")
"""
    env = os.environ | {
        "LD_PRELOAD": runtime,
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONPATH": str(Path(native.__file__).parents[2]),
    }
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0 and "clean" in done.stdout, done.stderr[-4000:]


# the engine: which of them runs, and what it promises


@pytest.fixture
def model():
    made = spec(dim=32, vocab=VOCAB, length=64)
    return Model(made, Bundle(wide_awake(made.build()), None), tokenizer(VOCAB), max_length=64)


TEXTS = ["w1 w2 w3", "w7", "w9 w9 w4 w30 w31 w2"]


def cosines(a_ND, b_ND):
    return (a_ND * b_ND).sum(1) / np.linalg.norm(a_ND, axis=1) / np.linalg.norm(b_ND, axis=1)


def test_changed_weights_are_seen(model, tmp_path):
    before = model.encode(TEXTS, precision="exact")
    assert model.engine.about("exact")["runtime"].startswith("kernel")
    with torch.no_grad():
        model.encoder.layers[0].ffn.up.weight += torch.linspace(0, 1, 32)
    after = model.encode(TEXTS, precision="exact")
    assert np.abs(after - before).max() > 1e-3
    model.save(tmp_path)
    assert np.array_equal(after, bertsmith.load(tmp_path).encode(TEXTS, precision="exact"))


@pytest.mark.parametrize("compiled", [True, False])
def test_what_dictionaries_hold(compiled):
    """The same as plain Python says, whatever is done to them."""

    def changed(change):
        a, b, first, second = object(), object(), {}, {}
        first.update(weight=a, bias=None), second.update(weight=b)
        held = native.Held([first, {}, second])
        if not compiled:
            held.lib = None
        assert held.same()
        change(first, second)
        return not held.same()

    assert not changed(lambda first, second: first.update(weight=first["weight"]))
    assert changed(lambda first, second: first.update(weight=second["weight"]))
    assert changed(lambda first, second: first.update(bias=object()))
    assert changed(lambda first, second: first.update(more=None))
    assert changed(lambda first, second: first.pop("bias"))
    assert changed(lambda first, second: second.update(weight_orig=second.pop("weight")))
    assert changed(lambda first, second: (second.update(weight=first["weight"]), first.update(weight=second["weight"])))


def test_default_keeps_its_promise_or_becomes_fp32(model):
    assert cosines(model.encode(TEXTS), model.encode(TEXTS, precision="exact")).min() >= 0.9999
    with torch.no_grad():  # what tells texts apart becomes small beside what all share, and then all that is left
        for layer in model.encoder.layers:
            layer.mixer.q.weight *= 300
            layer.mixer.k.weight *= 300
    assert model.engine.about()["precision"].startswith(
        "fp32 (bf16 has a cosine of" if native.sets()[0].bf16 else "fp32"
    )
    assert np.array_equal(model.encode(TEXTS), model.encode(TEXTS, precision="exact"))


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_encode_equals_torch(model, pooling, monkeypatch):
    got = [model.encode(TEXTS, pooling, normalize=one, precision="exact") for one in (False, True)]
    assert np.array_equal(got[1][0], model.encode(TEXTS[0], pooling, normalize=True, precision="exact"))
    monkeypatch.setattr(native, "why_not", lambda: "switched off")
    model._engine = None
    want = [model.encode(TEXTS, pooling, normalize=one, precision="exact") for one in (False, True)]
    np.testing.assert_allclose(got, want, **CLOSE)
    np.testing.assert_allclose(np.linalg.norm(got[1], axis=1), 1, rtol=1e-6)
    assert model.engine.about("exact") == {"runtime": "torch", "precision": "fp32", "why": "switched off"}


def test_states_of_padded_and_packed_rows(model):
    encoder, engine = model.encoder, model.engine
    token_BT = torch.tensor([[2, 7, 8, 3, 0, 0], [2, 9, 3, 2, 8, 3]])
    pad = Layout.padded((token_BT > 0).long())
    pack = Layout.of(
        torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 2, 2, 2]]),
        torch.tensor([[0, 1, 2, 3, 0, 0], [0, 1, 2, 0, 1, 2]]),
        torch.tensor([[0, 1, 1, 1, 0, 0], [0, 0, 1, 0, 0, 1]]),
    )
    for layout in (pad, pack):
        with torch.inference_mode():
            want = encoder(token_BT, layout)
        got = engine.states(token_BT, layout, "exact")
        real = layout.real_BT
        np.testing.assert_allclose(got[real], want[real], **CLOSE)
        assert not got[~real].any()


def test_a_batch_that_the_kernel_cannot_read_is_done_by_torch(model):
    token_BT = torch.tensor([[2, 7, 8, 3]])
    see = torch.ones(1, 4, 4, dtype=torch.bool).tril()
    layout = replace(Layout.padded(torch.ones_like(token_BT)), see_BTT=see)
    with torch.inference_mode():
        assert torch.equal(model.engine.states(token_BT, layout), model.encoder(token_BT, layout))


def test_marks_for_heads_do_not_keep_the_kernel_away(model, monkeypatch):
    token_BT = torch.tensor([[2, 7, 8, 3]])
    plain = Layout.padded(torch.ones_like(token_BT))
    marked = replace(plain, extra={"first": torch.tensor([[0, 1, 1, 0]])})
    want = model.engine.states(token_BT, plain, "exact")
    monkeypatch.setattr(model.encoder, "forward", None)
    assert torch.equal(model.engine.states(token_BT, marked, "exact"), want)


def test_an_unknown_precision_and_an_unknown_token(model):
    with pytest.raises(ValueError, match="no precision 'quick'; there are: default, exact, fast"):
        model.encode("a", precision="quick")
    with pytest.raises(IndexError, match="token 999999 is not in a table"):
        model.engine.pooled(np.array([999999], np.int32), np.array([0, 1], np.int32), "mean")
    with pytest.raises(IndexError, match="type 5 is not in a table of 2 rows"):
        one = np.array([1], np.int32)
        model.engine.pooled(one, np.array([0, 1], np.int32), "mean", types=5 * one)


def test_torch_where_the_kernel_cannot(model):
    want = model.encode(TEXTS, precision="exact")
    graft(model.encoder, "layers.*.ffn", grafts("bottleneck", size=4))
    about = model.engine.about()
    assert about["runtime"] == "torch" and "graft" in about["why"]
    got = model.encode(TEXTS, precision="exact")
    np.testing.assert_allclose(got, want, **CLOSE)  # it starts as the identity
    if model.engine.about()["precision"] == "bf16":
        assert not np.array_equal(model.encode(TEXTS), got)
    assert cosines(model.encode(TEXTS), got).min() >= 0.9999
    assert cosines(model.encode(TEXTS, precision="fast"), got).mean() >= 0.999


def test_a_vector_of_zeros_stays_one(model):
    with torch.no_grad():
        for p in model.encoder.parameters():
            p.zero_()
    assert not model.encode(TEXTS, normalize=True, precision="exact").any()


def test_a_text_longer_than_its_places(model):
    ids, starts = np.full(70, 7, np.int32), np.array([0, 70], np.int32)
    with pytest.raises(IndexError, match="a text of 70 tokens is longer than the 64"):
        model.engine.pooled(ids, starts, "mean")


def test_fast_keeps_its_promise_and_is_kept(model, tmp_path, monkeypatch):
    monkeypatch.setenv("BERTSMITH_CACHE", str(tmp_path))
    made = model.encode(TEXTS, precision="fast")
    exact = model.encode(TEXTS, precision="exact")
    assert cosines(made, exact).mean() > 0.999
    assert model.engine.about("fast")["precision"].startswith("int8")
    (path,) = tmp_path.glob("int8-*.safetensors")
    monkeypatch.setattr(engine.int8, "calibrate", lambda *given: pytest.fail("it was in the cache"))
    model._engine = None
    assert np.array_equal(made, model.encode(TEXTS, precision="fast"))
    monkeypatch.undo()
    monkeypatch.setenv("BERTSMITH_CACHE", str(tmp_path))
    path.write_bytes(path.read_bytes()[:100])  # damaged: made again
    model._engine = None
    assert np.array_equal(made, model.encode(TEXTS, precision="fast"))
    assert "int8" in model.calibrate_int8(["w3 w9 w12", "w30 w31"] * 20)


def test_fast_is_promised_of_long_texts_too(model):
    texts = [[1] * n for n in range(1, 49)]
    cosines = np.full(48, 0.9999)
    cosines[:2] = 0.9985  # of two short ones: the mean is what it shall be
    assert engine._keeps(cosines, texts) and not engine._keeps(cosines, texts[::-1])
    probed = sorted(len(ids) for ids in model._probes())
    assert probed[150] < model.max_length / 2 and probed[-12] == model.max_length


def test_rounding_makes_up_for_its_own_errors():
    """GPTQ and smoothing lose less of W x than rounding to the nearest, on inputs with a few wide channels."""
    g = torch.Generator().manual_seed(0)
    x_TD = torch.randn(400, 48, generator=g) @ torch.randn(48, 48, generator=g)
    x_TD[:, 3] *= 30
    weight_KD = torch.randn(20, 48, generator=g)
    seen = engine.int8.Seen(48)
    seen.add(x_TD)
    want = x_TD @ weight_KD.T

    def lost(codes, scale, smooth):
        given = x_TD if smooth is None else x_TD * torch.from_numpy(smooth)
        step = given.abs().amax(1, keepdim=True) / 127  # inputs are rounded too, a row at a time
        got = (given / step).round() * step @ (torch.from_numpy(codes).float() * torch.from_numpy(scale)[:, None]).T
        return float((got - want).pow(2).mean())

    nearest = lost(*rounded(weight_KD.numpy()))
    plain = lost(*engine.int8.quantise(weight_KD, seen, None))
    smooth = lost(*engine.int8.quantise(weight_KD, seen, 0.5))
    assert smooth < 0.5 * plain and plain < nearest


def test_products_that_lose_too_much_stay_finer(model, tmp_path, monkeypatch):
    monkeypatch.setenv("BERTSMITH_CACHE", str(tmp_path))
    with torch.no_grad():  # one channel that dwarfs the others where nothing is smoothed: 8 bits cannot hold both
        model.encoder.layers[1].ffn.up.weight[0] *= 3000
        model.encoder.layers[1].ffn.down.weight[:, 0] *= 1e-3
    said = model.engine.about("fast")["precision"]
    assert "of 8 products in" in said
    assert cosines(model.encode(TEXTS, precision="fast"), model.encode(TEXTS, precision="exact")).mean() > 0.999
