"""The server: the shapes that others' clients read, answers equal to the model's own, batches, refusals, and the end."""

import asyncio
import base64
import contextlib
import gc
import json
import random
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from golden.make import tokenizer as toy_tokenizer

from bertsmith import adapter
from bertsmith.graft import graft as grafts
from bertsmith.head import head
from bertsmith.hf.bert import bert_encoder
from bertsmith.linear import graft
from bertsmith.mixer import mixer
from bertsmith.model import Bundle, Model
from bertsmith.norm import norm
from bertsmith.pool import pool
from bertsmith.task import task

httpx = pytest.importorskip("httpx", reason="httpx is not installed (an extra of the tests)")
pytest.importorskip("fastapi", reason="fastapi is not installed (the extra bertsmith[serve])")
uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not installed (the extra bertsmith[serve])")

from bertsmith import serve  # noqa: E402
from bertsmith.serve.attention import attention  # noqa: E402
from bertsmith.serve.batching import Closed, Full, Job, Worker  # noqa: E402
from bertsmith.serve.metrics import Meter  # noqa: E402

VOCAB = 60
TEXTS = ["w1 w2 w3", "w7", "w9 w9 w4 w30 w31 w2", "w3 w4"]


def made(top, about=None, labels=(), length=32):
    """A tiny BERT with a head of random weights."""
    torch.manual_seed(0)
    spec = bert_encoder(1, 16, 2, VOCAB, length=length, dropout=0.0)
    encoder, one = spec.build(), about.build(list(labels)) if about else None
    bundle = Bundle(encoder, top.build(encoder, one.outputs if one else VOCAB) if top else None)
    for p in bundle.parameters():
        p.data += 0.3 * torch.randn_like(p)
    return Model(spec, bundle, toy_tokenizer(VOCAB), top, about, list(labels), max_length=length)


@pytest.fixture(scope="module")
def models():
    linear = head("linear", pool=pool("mean"))
    return {
        "plain": made(None),
        "classes": made(linear, task("single_label"), ["no", "yes", "maybe"]),
        "pairs": made(linear, task("regression"), ["fit"]),
        "tags": made(head("token"), task("tagging"), ["LOC", "PER"]),
        "squad": made(head("span"), task("extractive_qa"), ["start", "end"]),
        "masks": made(head("masked_lm", norm=norm("layer"))),
        "sets": made(linear, task("multi_label"), ["a", "b"]),
        "choice": made(head("choice", pool=pool("mean")), task("multiple_choice")),
    }


@contextlib.contextmanager
def running(front):
    """The address of an application that runs in a thread."""
    config = uvicorn.Config(front, host="127.0.0.1", port=0, log_level="critical")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def address(models):
    with running(serve.make_app(models, "exact")) as found:
        yield found


@pytest.fixture(scope="module")
def client(address):
    with httpx.Client(base_url=address) as found:
        yield found


def rows(model, texts):
    """What the server gives by default: vectors one long."""
    return model.encode(texts, normalize=True, precision="exact")


# the shapes, and that answers are the model's own


def test_embeddings_as_openai_has_them(client, models):
    want = rows(models["plain"], TEXTS)
    said = client.post("/v1/embeddings", json={"model": "plain", "input": TEXTS}).json()
    assert said["object"] == "list" and said["model"] == "plain" and [d["index"] for d in said["data"]] == [0, 1, 2, 3]
    np.testing.assert_allclose([d["embedding"] for d in said["data"]], want, atol=1e-6)
    assert said["usage"] == {"prompt_tokens": 20, "total_tokens": 20}
    said = client.post("/v1/embeddings", json={"model": "plain", "input": "w7", "encoding_format": "base64"}).json()
    got = np.frombuffer(base64.b64decode(said["data"][0]["embedding"]), "<f4")
    np.testing.assert_allclose(got, want[1], atol=1e-6)
    assert [m["id"] for m in client.get("/v1/models").json()["data"]] == list(models)


def test_openais_client(address, models):
    openai = pytest.importorskip("openai", reason="openai is not installed (an extra of the tests)")
    with openai.OpenAI(base_url=f"{address}/v1", api_key="any", max_retries=0) as client:
        for how in ({}, {"encoding_format": "float"}):
            said = client.embeddings.create(model="plain", input=TEXTS, **how)
            np.testing.assert_allclose([d.embedding for d in said.data], rows(models["plain"], TEXTS), atol=1e-6)
        assert {m.id for m in client.models.list()} == set(models)
        with pytest.raises(openai.NotFoundError, match="no model 'gpt' is served here; there are: 'plain', 'classes'"):
            client.embeddings.create(model="gpt", input="w1")
        with pytest.raises(openai.BadRequestError, match="vocabularies of their own"):
            client.embeddings.create(model="plain", input=[1, 2])


def test_hugging_faces_client(address, models, monkeypatch):
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed (an extra of the tests)")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # what it asks is on this machine

    def ask(name):
        return hub.InferenceClient(f"{address}/?model={name}")

    want = rows(models["plain"], TEXTS)
    np.testing.assert_allclose(ask("plain").feature_extraction(TEXTS), want, atol=1e-6)
    np.testing.assert_allclose(hub.InferenceClient(f"{address}/embed").feature_extraction("w7"), want[1:2], atol=1e-6)
    np.testing.assert_allclose(hub.InferenceClient(address).feature_extraction(TEXTS), want, atol=1e-6)
    plain = ask("plain").feature_extraction("w7", normalize=False, truncate=True)
    np.testing.assert_allclose(plain[0], models["plain"].encode("w7", precision="exact"), atol=1e-5)
    np.testing.assert_allclose(ask("plain").sentence_similarity("w7", TEXTS), want @ want[1], atol=1e-6)

    said = models["classes"].predict(TEXTS[0], precision="exact")
    got = ask("classes").text_classification(TEXTS[0])
    assert got[0].label == said.label and {one.label: pytest.approx(one.score, abs=1e-5) for one in got} == said.scores
    assert len(ask("classes").text_classification(TEXTS[0], top_k=2)) == 2

    text = "w1  w2\tw3 w40 w5"
    spans = models["tags"].predict(text, precision="exact").label
    got = ask("tags").token_classification(text)
    assert spans and [(e.start, e.end, e.entity_group) for e in got] == [(s.start, s.end, s.label) for s in spans]
    assert all(e.word == text[e.start : e.end] for e in got)

    said = models["squad"].predict("w1", "w2 w3 w4 w5", precision="exact").label
    got = ask("squad").question_answering("w1", "w2 w3 w4 w5")
    assert (got.answer, got.start, got.end) == (said.text, said.start, said.end) and 0 <= got.score <= 1

    filled = models["masks"].fill("w1 [MASK] w3", top=3, precision="exact")
    got = ask("masks").fill_mask("w1 [MASK] w3", top_k=3)
    assert [g.token_str for g in got] == [g.token for g in filled.guesses[0]]
    assert got[0].sequence == filled.text and got[0].score == pytest.approx(filled.guesses[0][0].probability, abs=1e-5)


def test_several_masks(client, models):
    said = client.post("/fill-mask?model=masks", json={"inputs": ["[MASK] w1 [MASK]", "w1 [MASK]"]}).json()
    assert [len(said[0]), len(said[0][1]), len(said[1])] == [2, 5, 5]
    assert said[0][1][0]["sequence"] == f"[MASK] w1 {said[0][1][0]['token_str']}"


def test_rerank(client, models):
    texts = ["w1 w2", "w7 w8 w9", "w7"]
    said = client.post("/rerank", json={"query": "w7", "texts": texts, "return_text": True}).json()
    cosine = rows(models["plain"], texts) @ rows(models["plain"], "w7")
    assert [one["index"] for one in said] == list(np.argsort(-cosine)) and said[0]["text"] == "w7"
    said = client.post("/rerank?model=pairs", json={"query": "w7", "texts": texts, "raw_scores": True}).json()
    want = [one.label for one in models["pairs"].predict(["w7"] * 3, texts, precision="exact")]
    np.testing.assert_allclose([one["score"] for one in sorted(said, key=lambda x: x["index"])], want, atol=1e-5)
    said = client.post("/rerank?model=pairs", json={"query": "w7", "texts": texts}).json()
    assert all(0 < one["score"] < 1 for one in said)
    said = client.post("/rerank?model=classes", json={"query": "w7", "texts": texts})
    assert said.status_code == 400 and "regression" in said.json()["error"]
    assert client.post("/rerank", json={"query": "w7", "texts": []}).json() == []


def test_predict_in_tei_s_shapes(client, models):
    want = [one.label for one in models["classes"].predict(TEXTS[:2], precision="exact")]
    alone = client.post("/predict?model=classes", json={"inputs": TEXTS[0]}).json()
    both = client.post("/predict?model=classes", json={"inputs": [[text] for text in TEXTS[:2]]}).json()
    assert alone[0]["label"] == want[0] and [one[0]["label"] for one in both] == want
    assert [one["score"] for one in alone] == pytest.approx([one["score"] for one in both[0]], abs=1e-6)
    pair = client.post("/predict?model=classes", json={"inputs": ["w1", "w2"]}).json()
    assert pair[0]["label"] == models["classes"].predict("w1", "w2", precision="exact").label
    mixed = client.post("/predict?model=classes", json={"inputs": [["w1"], ["w1", "w2"]]})
    assert mixed.status_code == 400 and "send them in two" in mixed.json()["error"]
    assert client.post("/predict?model=classes", json={"inputs": [["a"] * 3]}).status_code == 400


def test_whatever_a_model_was_tuned_for(client, models):
    body = {"model": "choice", "texts": ["w1"], "pairs": [["w2", "w3 w4"]]}
    want = models["choice"].predict(["w1"], [["w2", "w3 w4"]], precision="exact")[0]
    assert client.post("/v1/predict", json=body).json()[0]["label"] == want.label
    said = client.post("/v1/predict", json={"model": "tags", "texts": ["w1 w2"]}).json()
    assert all(set(span) == {"start", "end", "label", "text"} for span in said[0]["label"])
    said = client.post("/v1/predict", json={"model": "sets", "texts": ["w1 w2"]}).json()
    assert set(said[0]["scores"]) == {"a", "b"}


def test_what_is_served(client, models):
    about = client.get("/info?model=tags").json()
    assert about["model_id"] == "tags" and about["max_input_length"] == 32
    assert {one["name"]: one["task"] for one in about["models"]} == {
        "plain": "feature-extraction",
        "classes": "text-classification",
        "pairs": "text-classification",
        "tags": "token-classification",
        "squad": "question-answering",
        "masks": "fill-mask",
        "sets": "text-classification",
        "choice": "multiple_choice",
    }
    assert client.get("/health").json()["status"] == "ok"
    assert {"/v1/embeddings", "/embed", "/rerank", "/predict"} <= set(client.get("/openapi.json").json()["paths"])


def test_metrics_are_prometheus(client):
    client.post("/embed", json={"inputs": TEXTS})
    text = client.get("/metrics").text
    parser = pytest.importorskip("prometheus_client.parser", reason="prometheus-client is not installed")
    found = {family.name: family for family in parser.text_string_to_metric_families(text)}
    (read,) = [s.value for s in found["bertsmith_texts"].samples if s.labels == {"model": "plain"}]
    assert read >= 4 and found["bertsmith_waiting_tokens"].samples[0].value == 0
    assert found["bertsmith_request_seconds"].type == "histogram"


def test_the_page_is_one_file_and_asks_nobody_else(client):
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "http://" not in page.text and "https://" not in page.text


def test_attention_by_layer_and_head(client, models):
    model = models["masks"]
    said = client.post("/v1/attention", json={"model": "masks", "inputs": "w1 w2 w3"}).json()
    assert said["tokens"] == ["[CLS]", "w1", "w2", "w3", "[SEP]"] and (said["layers"], said["layer"]) == (1, 1)
    weight_NTT = np.array(said["weights"])
    assert weight_NTT.shape == (2, 5, 5)
    np.testing.assert_allclose(weight_NTT.sum(-1), 1, atol=5e-4)
    ((_, token_BT, layout),) = model.tokens(["w1 w2 w3"])
    first = model.encoder.layers[0].mixer
    x_TD = model.encoder.embedding(token_BT, layout)[0]
    q_NTH, k_NTH = ((x_TD @ one.weight.T + one.bias).view(5, 2, 8).transpose(0, 1) for one in (first.q, first.k))
    want_NTT = (q_NTH @ k_NTH.transpose(1, 2) / 8**0.5).softmax(-1)
    np.testing.assert_allclose(weight_NTT, want_NTT.detach(), atol=6e-5)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda one: graft(one.encoder, "**.core", grafts("prefix")), "mixer/attention with core/softmax with the graft p"),
        (lambda one: graft(one.encoder, "{,embedding.table}", grafts("prompt", length=2)), "7 read 7, of a text of 5"),
        (lambda one: one.encoder.layers[0].register_module("mixer", mixer("fourier").build(16, 2)), "mixer/fourier"),
        (lambda one: one.encoder.layers[0].register_module("mixer", torch.nn.Identity()), "has no attention"),
    ],
)  # fmt: skip
def test_attention_that_is_not_plain_is_refused(change, says):
    model = made(None)
    change(model)
    with pytest.raises(ValueError, match=says):
        attention(model, model.coder().encode(["w1 w2 w3"])[0], 1)


def test_attention_is_for_short_texts(models):
    front = serve.make_app({"long": made(None, length=200)})

    async def ask(count):
        transport = httpx.ASGITransport(app=front)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            return await client.post("/v1/attention", json={"inputs": "w1 " * count})

    assert len(asyncio.run(ask(126)).json()["tokens"]) == 128
    said = asyncio.run(ask(127))
    assert said.status_code == 413 and "128 tokens at the most" in said.json()["error"]["message"]
    front.house.close()


# what cannot be done


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("/embed", b"{", 422, "JSON"),
        ("/embed", b"", 422, "body"),
        ("/embed", b"[1]", 422, "body"),
        ("/embed", b"\xff\xfe", 422, "JSON"),
        ("/embed", b'{"inputs": 3}', 422, "inputs"),
        ("/embed", b'{"inputs": "w1", "inptus": 1}', 422, "inptus"),
        ("/embed", b'{"inputs": "w1 \\ud800"}', 422, "half of a surrogate pair"),
        ("/embed", b'{"\\ud800": "w1"}', 422, "unicode"),
        ("/embed", b'{"inputs": "w1", "dimensions": 3}', 400, "16 dimensions"),
        ("/embed", b'{"inputs": "w1", "model": "../../etc/passwd"}', 404, "there are: 'plain'"),
        ("/embed", b'{"inputs": "' + b"w1 " * 40 + b'", "truncate": false}', 413, "42 tokens, more than 32"),
        ("/embed", b'{"inputs": ["w1"' + b', "w1"' * 3000 + b"]}", 413, "2048 is the most"),
        ("/embed", b'{"inputs": "' + b"w1 " * 300_000 + b'"}', 413, "262144 is the most"),
        ("/embed", b'{"inputs": "' + b"w1 " * 3_000_000 + b'"}', 413, "8388608 bytes"),
        ("/embed", b"[" * 100_000, 400, "nested"),
        ("/fill-mask", b'{"inputs": "w1", "model": "masks"}', 400, "has no [MASK]"),
        ("/fill-mask", b'{"inputs": "' + b"w1 " * 40 + b'[MASK]", "model": "masks"}', 400, "cut off"),
        ("/fill-mask", b'{"inputs": "[MASK]"}', 400, "does feature-extraction, not fill-mask"),
        ("/token-classification", b'{"inputs": "w1"}', 400, "not token-classification"),
        ("/question-answering?model=squad", b'{"inputs": {"question": "%s", "context": "w1"}}' % (b"w1 " * 40), 400, "room"),
        ("/v1/predict", b'{"texts": ["w1"]}', 400, "not tuned for a task"),
        ("/v1/predict", b'{"texts": ["w1"], "pairs": [], "model": "classes"}', 400, "each text needs its own"),
        ("/?model=choice", b'{"inputs": "w1"}', 400, "POST /v1/predict"),
        ("/?model=tags", b'{"text": "w1"}', 422, "inputs"),
        ("/v1/attention", b'{"inputs": "w1", "layer": 2}', 400, "no layer 2: they are 1 to 1"),
        ("/v1/attention", b'{"inputs": "w1", "layer": 0}', 422, "layer"),
        ("/nothing", b"{}", 404, "/embed, "),
        ("/health", b"{}", 405, "not for this path"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_to_do(client, path, body, status, says):
    said = client.post(path, content=body, headers={"content-type": "application/json"})
    fault = said.json()["error"]
    message = fault["message"] if path.startswith("/v1/") else fault
    assert (said.status_code, says in message) == (status, True), (said.status_code, message)


def test_odd_texts(client, models):
    for texts in ([], ["", " ", "\x00", "w1 \x00 w2", "\U0001f600 é", "\n" * 1000]):
        got = client.post("/embed", json={"inputs": texts}).json()
        np.testing.assert_allclose(got, rows(models["plain"], texts).tolist(), atol=1e-6)
    long = "w1 " * 300
    np.testing.assert_allclose(
        client.post("/embed", json={"inputs": long}).json()[0], rows(models["plain"], long), atol=1e-6
    )
    spans = models["tags"].predict(long, precision="exact").label
    assert len(client.post("/token-classification?model=tags", json={"inputs": long}).json()) == len(spans)


def test_a_body_that_does_not_say_its_size(client):
    def parts():
        for _ in range(20):
            yield b"x" * (1 << 20)

    said = client.post("/embed", content=parts(), headers={"content-type": "application/json"})
    assert said.status_code == 413 and "8388608 bytes" in said.json()["error"]


def test_a_key(models):
    front = serve.make_app({"plain": models["plain"]}, api_key="secret")

    async def ask(*given):
        transport = httpx.ASGITransport(app=front)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            headers = {"authorization": given[0]} if given else {}
            return [
                (await client.get(path, headers=headers)).status_code for path in ("/health", "/", "/info", "/metrics")
            ]

    for wrong in ((), ("Bearer secre",), ("secret",), ("Bearer é".encode(),)):
        assert asyncio.run(ask(*wrong)) == [200, 200, 401, 401]
    assert asyncio.run(ask("Bearer secret")) == [200, 200, 200, 200]
    front.house.close()


def test_names(models):
    assert serve.named(["some/folder", "b=some/folder", "c=x=y/z"]) == {
        "folder": "some/folder",
        "b": "some/folder",
        "c=x": "y/z",
    }
    with pytest.raises(ValueError, match="two models would be called 'm': give one another name"):
        serve.named(["a/m", "b/m"])
    with pytest.raises(ValueError, match="name a model's directory"):
        serve.make_app({})


# the queue


class Slow:
    """Answers with the item itself, and waits where it is told to."""

    def __init__(self):
        self.batches, self.go, self.begun = [], threading.Event(), threading.Event()

    def __call__(self, what, items):
        self.batches.append((what, items))
        self.begun.set()
        assert self.go.wait(5)
        if "bad" in items:
            raise ValueError("a bad item")
        if "worse" in items:
            raise RuntimeError("a fault of ours")
        return [item * 2 for item in items]


def with_worker(test, budget=10, most=100):
    """Run `test(worker, slow)`, whose first batch has begun with one item."""

    async def all_of_it():
        slow = Slow()
        worker = Worker("toy", slow, budget, most, Meter())
        first = worker.submit("a", ["x"], [1])
        await asyncio.to_thread(slow.begun.wait)
        await test(worker, slow)
        slow.go.set()
        assert await first.done == ["xx"]
        await asyncio.to_thread(worker.close)
        assert worker.tokens == 0 and not worker.waiting

    asyncio.run(all_of_it())


def test_what_waits_goes_together_and_each_gets_its_share():
    async def test(worker, slow):
        many = worker.submit("a", [1, 2, 3, 4, 5, 6], [3] * 6)
        one = worker.submit("a", [7], [3])
        other = worker.submit("b", [8], [3])
        slow.go.set()
        assert await many.done == [2, 4, 6, 8, 10, 12] and await one.done == [14] and await other.done == [16]
        assert slow.batches[1:] == [("a", [1, 7, 2]), ("b", [8]), ("a", [3, 4, 5]), ("a", [6])]

    with_worker(test)


def test_an_item_larger_than_the_budget_stands_alone():
    async def test(worker, slow):
        job = worker.submit("a", [1, 2, 3], [50, 1, 1])
        slow.go.set()
        assert await job.done == [2, 4, 6] and slow.batches[1:] == [("a", [1]), ("a", [2, 3])]

    with_worker(test)


def test_a_fault_is_its_own_jobs_alone():
    async def test(worker, slow):
        jobs = [worker.submit("a", [item], [1]) for item in (1, "bad", 2, "worse")]
        slow.go.set()
        found = await asyncio.gather(*(job.done for job in jobs), return_exceptions=True)
        assert found[::2] == [[2], [4]] and [type(one) for one in found[1::2]] == [ValueError, RuntimeError]

    with_worker(test)


def test_a_full_queue_and_dropped_work():
    async def test(worker, slow):
        kept, gone = worker.submit("a", [1], [60]), worker.submit("a", [2], [40])
        with pytest.raises(Full) as error:
            worker.submit("a", [3], [1])
        assert error.value.seconds >= 1
        worker.drop(gone)
        worker.drop(gone)
        assert worker.tokens == 60
        later = worker.submit("a", [4], [40])
        slow.go.set()
        assert await kept.done == [2] and await later.done == [8]
        assert [2] not in [items for _, items in slow.batches]

    with_worker(test)


def test_closing_answers_what_was_taken():
    async def test(worker, slow):
        jobs = [worker.submit("a", [i], [5]) for i in range(10)]
        closing = asyncio.create_task(asyncio.to_thread(worker.close))
        while not worker.closed:
            await asyncio.sleep(0.001)
        with pytest.raises(Closed):
            worker.submit("a", [1], [1])
        slow.go.set()
        assert [await job.done for job in jobs] == [[2 * i] for i in range(10)]
        await closing

    with_worker(test)


def test_an_adapter_beside_its_model(tmp_path):
    base, other, tuned = made(None), made(None, length=40), made(head("token"), task("tagging"), ["LOC"])
    tuned.encoder.load_state_dict(base.encoder.state_dict())
    tuned.encoder.layers[0].mixer.q.bias.data += 1
    for name, model in (("base", base), ("other", other)):
        model.save(tmp_path / name)
    adapter.save(tuned, base, tmp_path / "tuned" / "adapter")
    here = [
        f"{name}={tmp_path / folder}" for name, folder in (("tags", "tuned/adapter"), ("b", "base"), ("o", "other"))
    ]
    found = serve.open_all(here)
    assert list(found) == ["tags", "b", "o"] and found["tags"].predict("w1 w2") == tuned.predict("w1 w2")
    ours, theirs = (found[name].encoder.layers[0].mixer for name in ("tags", "b"))
    assert ours.k.weight.data_ptr() == theirs.k.weight.data_ptr() and ours.q.bias[0] == theirs.q.bias[0] + 1
    with pytest.raises(ValueError, match="name the model that it was tuned on, too; not 'o': .* of another shape"):
        serve.open_all(here[::2])


@pytest.fixture
def held(models, monkeypatch):
    """An application with a short queue and a short patience, its model (which waits for `go`), and `go`."""
    limits = serve.Limits(batch=8, waiting=20, seconds=0.3)
    front = serve.make_app({"plain": models["plain"]}, "exact", limits)
    served, go = front.house.models["plain"], threading.Event()
    run, served.done = served.run, []

    def waits(what, items):
        served.done += [" ".join(code.tokens[1:-1]) for _, code in items]
        go.wait(5)
        return run(what, items)

    served.run = waits
    yield front, served, go
    go.set()


def test_too_much_at_once_is_429_and_too_slow_is_504(held):
    front, served, go = held

    async def ask():
        transport = httpx.ASGITransport(app=front)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            asked = [asyncio.create_task(client.post("/embed", json={"inputs": "w1 w2"})) for _ in range(20)]
            first = await asyncio.gather(*asked)
            go.set()
            return first, await client.post("/embed", json={"inputs": "w1 w2"}), (await client.get("/metrics")).text

    first, last, metrics = asyncio.run(ask())
    assert {one.status_code for one in first} == {429, 504} and last.status_code == 200
    full = next(one for one in first if one.status_code == 429)
    assert int(full.headers["retry-after"]) >= 1 and "come again in" in full.json()["error"]
    assert "within 0.3 s" in next(one for one in first if one.status_code == 504).json()["error"]
    late = sum(one.status_code == 504 for one in first)
    assert f'bertsmith_abandoned_total{{model="plain"}} {late}.0' in metrics
    assert len(served.done) <= 3, "what nobody waits for is not worked on"


def test_a_client_that_vanishes_is_forgotten(held):
    front, served, go = held
    front.house.limits, worker = serve.Limits(seconds=60), front.house.kin["plain"].worker
    with running(front) as address:
        port = int(address.rpartition(":")[2])
        body = json.dumps({"inputs": "w1 w2"})
        text = (
            f"POST /embed HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        lines = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        for line in lines:
            line.sendall((text + body).encode())
            until(lambda: served.done)  # the first is worked on, so that the others wait
        until(lambda: len(worker.waiting) == 2)
        for line in lines:
            line.close()
        until(lambda: not worker.waiting)
        go.set()
        assert httpx.post(f"{address}/embed", json={"inputs": "w3"}).status_code == 200
    assert served.done == ["w1 w2", "w3"] and worker.tokens == 0


def until(happens, seconds=60):
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def test_many_idle_connections_are_in_nobodys_way(address, client):
    port = int(address.rpartition(":")[2])
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(300)]
    assert client.post("/embed", json={"inputs": "w1"}).status_code == 200
    for line in idle:
        line.close()


def test_many_clients_at_once_get_their_own(address, models):
    texts = [" ".join(f"w{(i * 7 + j) % 50}" for j in range(1 + i % 20)) for i in range(120)]
    want = rows(models["plain"], texts)

    async def ask():
        async with httpx.AsyncClient(base_url=address, timeout=30) as client:
            asked = (client.post("/embed", json={"inputs": texts[i : i + 1 + i % 3]}) for i in range(len(texts)))
            return [one.json() for one in await asyncio.gather(*asked)]

    for i, got in enumerate(asyncio.run(ask())):
        np.testing.assert_allclose(got, want[i : i + 1 + i % 3], atol=1e-6)


def test_nothing_is_left_of_requests(address):
    """The quick form of what test_serve_slow.py measures: memory is flat over requests of random lengths."""
    rng = random.Random(0)

    def send(count):
        with httpx.Client(base_url=address) as client:
            for _ in range(count):
                body = {"inputs": [" ".join(["w1"] * rng.randint(0, 60)) for _ in range(rng.randint(0, 3))]}
                assert client.post("/embed", json=body).status_code == 200
        until(idle)
        return len(gc.get_objects())

    def idle():
        gc.collect()  # of tests before this one exceptions may hold jobs in a circle
        return not any(type(one) is Job for one in gc.get_objects())

    gc.collect()
    gc.freeze()  # a long run of tests has a million other objects, which would be looked through each time
    try:
        send(100)
        before = send(1)
        assert send(200) - before < 200, "less than an object a request"
    finally:
        gc.unfreeze()


@pytest.mark.slow
def test_whatever_is_sent_is_answered_as_the_description_says(address):
    pytest.importorskip("schemathesis", reason="schemathesis is not installed (an extra of the tests)")
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{address}/openapi.json", "--max-examples", "30"]
    command += [
        "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:]
