"""Tasks beyond one label a text, end to end on toy texts: what goes in as characters comes out as characters."""

import json

import numpy as np
import pytest
import torch
from golden.make import tokenizer as toy_tokenizer

import bertsmith
from bertsmith import adapter
from bertsmith.coding import Coder
from bertsmith.evaluate import evaluate
from bertsmith.examples import Examples
from bertsmith.head import head
from bertsmith.hf.bert import bert_encoder
from bertsmith.labelled.spans import Span
from bertsmith.linear import tensors
from bertsmith.model import Bundle, Model
from bertsmith.recipes import tuning as recipes
from bertsmith.select import select
from bertsmith.task import task
from bertsmith.task.extractive_qa import Answer
from bertsmith.tuning import Tuning, finetune

VOCAB = 60
FAST = {"epochs": 8, "lr": 3e-3, "progress": False, "batch": 8, "baselines": False}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    spec = bert_encoder(2, 32, 2, VOCAB, length=64, dropout=0.0)
    return Model(spec, Bundle(spec.build(), None), toy_tokenizer(VOCAB), max_length=64)


def words(rng, count):
    return [f"w{i}" for i in rng.integers(5, 20, count)]


def tagged(count, seed):
    """w30 is a PER, w31 w32 an ORG of two words."""
    rng, texts, spans = np.random.default_rng(seed), [], []
    for _ in range(count):
        parts = words(rng, int(rng.integers(2, 8)))
        for name in rng.permutation(["w30", "w31 w32"])[: rng.integers(0, 3)]:
            parts.insert(int(rng.integers(0, len(parts) + 1)), str(name))
        text = " ".join(parts)
        found = [Span(at, at + 3, "PER") for at in [text.find("w30")] if at >= 0]
        found += [Span(at, at + 7, "ORG") for at in [text.find("w31 w32")] if at >= 0]
        texts.append(text)
        spans.append(sorted(found))
    return Examples(texts, None, spans)


@pytest.mark.parametrize("kind", ["token", "crf"])
def test_spans_are_learnt_and_come_back_as_characters(model, kind, tmp_path):
    made = None if kind == "token" else head("crf", fact="first")
    tuned = finetune(model, tagged(120, 0), valid=tagged(20, 1), test=tagged(40, 2), head=made, **FAST)
    assert tuned.task.kind == "tagging" and tuned.labels == ["ORG", "PER"]
    assert tuned.report["test"]["span_f1"]["mean"] > 0.95 and tuned.report["degenerate"] == []
    found = tuned.predict("w7 w30 w9 w31 w32")
    assert found.label == [Span(3, 6, "PER"), Span(10, 17, "ORG")]
    tuned.save(tmp_path)
    assert bertsmith.load(tmp_path).predict("w7 w30 w9 w31 w32") == found
    config = tmp_path / "config.json"
    assert config.exists() == (kind == "token")
    if kind == "token":
        said = json.loads(config.read_text())
        assert said["architectures"] == ["BertForTokenClassification"]
        assert [said["id2label"][str(i)] for i in range(5)] == ["O", "B-ORG", "I-ORG", "B-PER", "I-PER"]
        (tmp_path / "bertsmith.json").unlink()  # as anybody's token classifier
        assert bertsmith.load(tmp_path).predict("w7 w30 w9 w31 w32") == found


def by_ending(count, seed):
    """Words that the vocabulary does not know; those that end in "ski" are names."""
    rng, texts, spans = np.random.default_rng(seed), [], []
    for _ in range(count):
        stems = ["".join(rng.choice(list("abdegilmnoprtu"), rng.integers(2, 7))) for _ in range(6)]
        parts = [stem + str(rng.choice(["ski", "ing", "sik"])) for stem in stems]
        at = np.cumsum([0, *(len(part) + 1 for part in parts)])
        texts.append(" ".join(parts))
        spans.append(
            [Span(int(a), int(a) + len(w), "PER") for a, w in zip(at, parts, strict=False) if w.endswith("ski")]
        )
    return Examples(texts, None, spans)


@pytest.mark.parametrize("seen", [0, 12])
def test_characters_tell_words_that_the_vocabulary_does_not_know(model, seen, tmp_path):
    made = head("crf", fact="first", inner=head("char_cnn")) if seen else head("crf", fact="first")
    sets = {"valid": by_ending(20, 1), "test": by_ending(40, 2)}
    tuned = finetune(model, by_ending(160, 0), head=made, task=task("tagging", characters=seen), **sets, **FAST)
    score = tuned.report["test"]["span_f1"]["mean"]
    assert score > 0.95 if seen else score < 0.6, score
    if seen:
        tuned.save(tmp_path)
        found = bertsmith.load(tmp_path).predict("adrienimbreluski malting")
        assert found.label == [Span(0, 16, "PER")], "a word longer than what is seen of it is known by its end"


def test_a_long_text_is_read_in_windows(model):
    """Every word is asked, with context on both sides, however long the text is."""
    tuned = finetune(model, tagged(120, 0), valid=tagged(20, 1), test=tagged(20, 2), **FAST)
    rng = np.random.default_rng(5)
    parts = words(rng, 400)
    for at in range(10, 400, 30):
        parts[at] = "w30"
    text = " ".join(parts)
    true = [Span(i, i + 3, "PER") for i in range(len(text)) if text.startswith("w30", i)]
    found = tuned.predict(text)
    hits = len(set(found.label) & set(true))
    assert len(true) == 13 and hits >= 12 and len(found.label) <= 14


def test_tags_of_a_checkpoint_in_another_order_are_kept():
    names = ["B-PER", "I-PER", "O", "B-ORG", "I-ORG"]
    one = task("tagging", tags=names).build(["PER", "ORG"])
    assert one.output_names == names and one.number["O"] == 2
    with pytest.raises(ValueError, match="are not those of the scheme"):
        task("tagging", tags=["O", "B-X"]).build(["PER"])
    with pytest.raises(ValueError, match="no label 'LOC'; there are: 'PER', 'ORG'"):
        one.numbers([(0, 2, "LOC")], [Span(0, 2)])


def asked(count, seed):
    """The answer is "w40" or "w41 w42"; every fourth text holds none."""
    rng, texts, contexts, answers = np.random.default_rng(seed), [], [], []
    for i in range(count):
        before, after = words(rng, int(rng.integers(1, 5))), words(rng, int(rng.integers(1, 5)))
        answer = ("w40", "w41 w42")[rng.integers(2)]
        texts.append(f"w{rng.integers(30, 33)}")
        contexts.append(" ".join([*before, *([answer] if i % 4 else []), *after]))
        answers.append([{"text": answer, "start": len(" ".join(before)) + 1}] if i % 4 else [])
    return Examples(texts, contexts, answers)


def test_answers_are_found_and_none_where_there_is_none(model, tmp_path):
    qa = task("extractive_qa", threshold=0.0)
    tuned = finetune(model, asked(120, 0), valid=asked(20, 1), test=asked(40, 2), task=qa, **FAST)
    assert tuned.report["test"]["squad_f1"]["mean"] > 0.8, tuned.report["test"]
    found = tuned.predict("w30", "w6 w7 w41 w42 w8")
    assert found.label == Answer("w41 w42", 6, 13)
    assert tuned.predict(["w31"], ["w6 w7 w9 w8"])[0].label.text == ""
    tuned.save(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["BertForQuestionAnswering"]
    assert bertsmith.load(tmp_path).predict("w30", "w6 w7 w41 w42 w8") == found
    with pytest.raises(ValueError, match="needs the text that its answer is in"):
        tuned.predict("w30")
    with pytest.raises(ValueError, match="does not stand at character 3"):
        wrong = Examples(["w1"], ["w2 w3"], [[{"text": "w2", "start": 3}]])
        finetune(model, wrong, valid=wrong, test=wrong, task=qa, **FAST)


def test_windows_hold_every_answer_once_or_more(model):
    """Each answer is wholly inside some window, at the tokens that its characters are, and [CLS] is asked in the others."""
    qa = task("extractive_qa", stride=8).build(["start", "end"])
    rng = np.random.default_rng(3)
    parts = words(rng, 90)
    context = " ".join(parts)
    for at in range(0, 90, 7):
        start = len(" ".join(parts[:at])) + (at > 0)
        rows = qa.rows(Coder(model.tokenizer, 32), ["w1"], [context], [[(parts[at], start)]])
        asked = [(row, row.target["target"].tolist()) for row in rows]
        hits = [(row, s, e) for row, (s, e) in asked if (s, e) != (0, 0)]
        assert len(rows) > 3 and hits
        for row, s, e in hits:
            (code,) = row.codes
            assert (code.offsets[s][0], code.offsets[e][1]) == (start, start + len(parts[at]))


def test_the_loss_of_question_answering_is_that_of_transformers():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=60, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    theirs = transformers.BertForQuestionAnswering(config).eval()
    ids = torch.randint(5, 60, (2, 9))
    out = theirs(ids, start_positions=torch.tensor([2, 0]), end_positions=torch.tensor([4, 0]))
    one = task("extractive_qa").build(["start", "end"])
    from bertsmith.layout import Layout

    batch = {"layout": Layout.padded(torch.ones(2, 9)), "target": torch.tensor([[2, 4], [0, 0]])}
    logits = torch.stack([out.start_logits, out.end_logits], -1)
    torch.testing.assert_close(one.loss(*one.ask(logits, batch)), out.loss)


def choices(count, seed):
    """The right choice holds the word of the question, and w7; two to four choices."""
    rng, texts, pairs, right = np.random.default_rng(seed), [], [], []
    for _ in range(count):
        key, n = int(rng.integers(30, 40)), int(rng.integers(2, 5))
        others = [f"w{(key - 30 + 1 + i) % 10 + 30} w{rng.integers(5, 20)}" for i in range(n - 1)]
        at = int(rng.integers(0, n))
        texts.append(f"w{key}")
        pairs.append([*others[:at], f"w{key} w7", *others[at:]])
        right.append(at)
    return Examples(texts, pairs, right)


def test_multiple_choice_with_any_number_of_choices(model, tmp_path):
    some = {"task": task("multiple_choice")}
    tuned = finetune(model, choices(120, 0), valid=choices(20, 1), test=choices(40, 2), **some, **FAST)
    assert tuned.report["test"]["accuracy"]["mean"] > 0.75, tuned.report["test"]
    one = tuned.predict("w33", ["w31 w9", "w33 w7"])
    assert one.label == 1 and sum(one.scores.values()) == pytest.approx(1, abs=1e-5) and len(one.scores) == 2
    with pytest.raises(ValueError, match="is no number of a choice, 0 to 1"):
        finetune(model, Examples([f"w{i}" for i in range(12)], [["a", "b"]] * 12, [5] * 12), **some, **FAST)
    with pytest.raises(ValueError, match="list of at least two choices"):
        tuned.predict("w33", "w3")


def two_texts(count, seed, number):
    """Whether both texts have w30, both have w31, or one each (labels); or the share of words that they have in common."""
    rng, texts, pairs, labels = np.random.default_rng(seed), [], [], []
    for _ in range(count):
        if number:
            words, same = rng.permutation(np.arange(30, 42))[:8], int(rng.integers(0, 5))
            a, b = words[:4], np.concatenate([words[:same], words[4 : 8 - same]])
            label = same / 4
        else:
            a, b = ([*rng.integers(5, 20, 3), 30 + rng.integers(0, 2)] for _ in range(2))
            label = f"{'same' if a[-1] == b[-1] else 'other'}"
        texts.append(" ".join(f"w{i}" for i in a))
        pairs.append(" ".join(f"w{i}" for i in rng.permutation(b)))
        labels.append(label)
    return Examples(texts, pairs, labels)


def test_two_texts_are_read_apart_and_compared_by_their_vectors(model, tmp_path):
    sets = {"valid": two_texts(20, 1, True), "test": two_texts(60, 2, True)}
    tuned = finetune(model, two_texts(200, 0, True), head=head("cosine"), **sets, **FAST)
    assert tuned.report["test"]["spearman"]["mean"] > 0.8, tuned.report["test"]
    tuned.save(tmp_path)
    again, (a, b) = bertsmith.load(tmp_path), ("w30 w31 w32 w33", "w33 w31 w38 w39 w30")
    one = again.predict(a, b)
    assert one == tuned.predict(a, b) and one.label == pytest.approx(again.predict(b, a).label, rel=1e-5)
    u, v = again.encode([a, b], normalize=True, precision="exact")
    line = again.head.slope.item() * float(u @ v) + again.head.shift.item()
    aim = again.task.build(again.labels)
    assert one.label == pytest.approx(aim.mean + aim.scale * line, rel=1e-3)
    with pytest.raises(ValueError, match=r"the head compares two texts; say which the second ones are \(pair=\)"):
        again.predict(a)


def test_labels_of_two_texts_that_are_read_apart(model):
    sets = {"valid": two_texts(20, 1, False), "test": two_texts(60, 2, False)}
    tuned = finetune(model, two_texts(240, 0, False), head=head("siamese"), **sets, **FAST)
    assert tuned.report["test"]["accuracy"]["mean"] > 0.9, tuned.report["test"]


def test_ordered_labels(model):
    """Stars by how many of w30 there are; an error of one costs less than one of three, and no probability is negative."""
    rng = np.random.default_rng(0)

    def stars(count):
        n = rng.integers(0, 4, count)
        text = [" ".join(rng.permutation(["w30"] * k + words(rng, 6 - k))) for k in n]
        return Examples(text, None, [int(k) + 1 for k in n])

    tuned = finetune(model, stars(120), valid=stars(20), test=stars(40), task=task("ordinal"), **FAST)
    assert tuned.labels == ["1", "2", "3", "4"] and tuned.report["metric"] == "mae"
    assert tuned.report["test"]["mae"]["mean"] < 0.7 * tuned.report["baselines"]["majority"]["mae"]
    found = tuned.predict(["w30 w30 w30 w6", "w7 w8"])
    assert int(found[0].label) > int(found[1].label)
    for one in found:
        assert min(one.scores.values()) >= 0 and sum(one.scores.values()) == pytest.approx(1, abs=1e-5)
    one = task("ordinal").build(list("abc"))
    assert one.encode(["a", "b", "c"]).tolist() == [[0, 0], [1, 0], [1, 1]]
    assert one.decode(torch.tensor([[-1.0, 2.0], [1.0, -1.0], [1.0, 1.0]])) == ["a", "b", "c"]


def test_the_metric_that_chooses_the_epoch_of_label_sets_is_said(model):
    """The labels are of unlike frequency: micro F1 would be content with the common one."""

    def rows(count):
        rng = np.random.default_rng(count)
        sets = [["common"] * (rng.random() < 0.8) + ["rare"] * (rng.random() < 0.2) for _ in range(count)]
        marks = {"common": "w30", "rare": "w31"}
        return Examples([" ".join([*(marks[x] for x in s), *words(rng, 3)]) for s in sets], None, sets)

    for main in ("micro_f1", "macro_f1"):
        aim = task("multi_label", main=main)
        tuned = finetune(model, rows(60), valid=rows(20), test=rows(21), task=aim, **FAST | {"epochs": 4})
        assert tuned.report["metric"] == main == aim.build(["a"]).metrics().main
        (run,) = tuned.report["seeds"]
        looks = [one[main] for one in run["epochs"]]
        assert run["chosen_epoch"] == 1 + looks.index(max(looks))
    assert set(task("multi_label").build(["a"]).metrics().metrics) == {"micro_f1", "macro_f1", "accuracy"}
    with pytest.raises(ValueError, match="measures micro_f1, macro_f1, accuracy; not 'matthews'"):
        task("multi_label", main="matthews").build([])


def test_an_answer_keeps_to_the_tree():
    one = task("hierarchy").build(task("hierarchy").build([]).names(["a > b", "a>c>d", ["e"]]))
    assert one.labels == ["a", "a > b", "a > c", "a > c > d", "e"]
    assert one.encode(["a>c>d", ["e", "a > b"], ""]).tolist() == [[1, 0, 1, 1, 0], [1, 1, 0, 0, 1], [0, 0, 0, 0, 0]]
    said = torch.tensor([[3.0, -1, -1, 3, -1], [3.0, -1, 2, 3, 1], [-3.0, 3, 3, 3, -3]])
    assert one.decode(said) == [["a"], ["a > c > d", "e"], []]  # "d" without "c", and "b" without "a", are not said
    with pytest.raises(ValueError, match="no node 'x'"):
        one.encode(["x"])


def test_several_numbers_with_gaps(model, tmp_path):
    rng = np.random.default_rng(0)

    def rows(count):
        n = rng.integers(0, 4, count)
        text = [" ".join(rng.permutation(["w30"] * k + words(rng, 6 - k))) for k in n]
        return Examples(text, None, [[float(k) * 10, None if k == 2 else -float(k)] for k in n])

    tuned = finetune(model, rows(120), valid=rows(20), test=rows(40), task=task("regressions"), **FAST)
    assert tuned.report["test"]["r2"]["mean"] > 0.6
    more, less = (p.label for p in tuned.predict(["w30 w30 w30 w6 w7 w8", "w7 w8 w9 w7 w5 w6"]))
    assert more[0] > less[0] + 10 and more[1] < less[1] - 1
    one = task("regressions", mean=[1.0, 2.0], scale=[2.0, 4.0]).build(["a", "b"])
    logits, target = torch.tensor([[0.5, 1.0], [1.0, 0.0]]), torch.tensor([[3.0, float("nan")], [1.0, 6.0]])
    want = ((0.5 - 1.0) ** 2 + (1.0 - 0.0) ** 2 + (0.0 - 1.0) ** 2) / 3
    assert one.loss(logits, target).item() == pytest.approx(want)


@pytest.mark.parametrize("how", recipes.names())
def test_an_adapter_holds_what_changed_and_nothing_else(model, how, tmp_path):
    """Of every way to tune: after an epoch the adapter, put onto the base again, answers as the tuned model."""
    made = recipes.named({"pasta": "pasta:cls=2,sep=3", "unfreezing": "unfreezing:depth=2"}.get(how, how))
    before = {k: v.clone() for k, v in tensors(model.bundle).items()}
    some = FAST | {"epochs": 1, "lr": None, "max_length": 64}
    tuned = finetune(model, tagged(16, 0), valid=tagged(6, 1), test=tagged(6, 2), tuning=made, **some)
    share = adapter.save(tuned, model, tmp_path / "a")["share"]
    assert made.partial or share > 0.9
    again = adapter.load(model, tmp_path / "a")
    text = "w7 w30 w9 w31 w32"
    assert again.predict(text) == tuned.predict(text)
    assert all(torch.equal(v, tensors(tuned.bundle)[k]) for k, v in tensors(again.bundle).items())
    assert all(torch.equal(v, before[k]) for k, v in tensors(model.bundle).items())
    kept = {k: v.data_ptr() for k, v in tensors(model.bundle).items()}
    assert not made.partial or any(v.data_ptr() == kept.get(k) for k, v in tensors(again.bundle).items())


def test_of_bitfit_the_biases_alone_are_kept(model, tmp_path):
    """A subset of the user's choice trains, and the adapter holds these biases and the head, nothing else."""
    some = Tuning(select=[select("bitfit", biases=["**.mixer.q.bias"])], lr=1e-2)
    tuned = finetune(
        model, tagged(16, 0), valid=tagged(6, 1), test=tagged(6, 2), tuning=some, **FAST | {"epochs": 1, "lr": None}
    )
    adapter.save(tuned, model, tmp_path / "a")
    kept = json.loads((tmp_path / "a/adapter.json").read_text())["tensors"]
    want = [f"encoder.layers.{i}.mixer.q.bias" for i in range(2)] + ["head.out.bias", "head.out.weight"]
    assert kept == sorted(want)
    assert adapter.load(model, tmp_path / "a").predict("w7 w30") == tuned.predict("w7 w30")


def test_a_damaged_or_foreign_adapter_is_refused(model, tmp_path):
    tuned = finetune(model, tagged(40, 0), tuning=recipes.lora(rank=2), **FAST | {"epochs": 1})
    adapter.save(tuned, model, tmp_path / "a")
    other = Model(model.spec, Bundle(model.spec.build(), None), model.tokenizer)
    with pytest.raises(ValueError, match="tuned on other weights"):
        adapter.load(other, tmp_path / "a")
    file = tmp_path / "a/adapter.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="damaged adapter"):
        adapter.load(model, tmp_path / "a")
    with pytest.raises(FileNotFoundError, match="no adapter.json"):
        adapter.load(model, tmp_path)


def test_groups_stay_on_one_side(model):
    rng = np.random.default_rng(0)
    rows = [{"text": " ".join(words(rng, 5)), "who": f"p{i % 10}", "label": "ab"[i % 2]} for i in range(120)]
    tuned = finetune(model, rows, text="text", label="label", group="who", **FAST | {"epochs": 1})
    assert tuned.report["splits"]["made"].startswith("test and valid cut from the table by a hash of the who")
    assert tuned.report["splits"]["test"] == 12 and tuned.report["splits"]["valid"] % 12 == 0


def test_files_of_spans_and_questions_are_read(model, tmp_path):
    lines = []
    for text, spans in zip(*(lambda e: (e.text, e.label))(tagged(60, 0)), strict=True):
        at = 0
        for word in text.split(" "):
            inside = next((s for s in spans if s.start <= at < s.end), None)
            lines.append(
                f"{word}\t" + ("O" if inside is None else ("B-" if inside.start == at else "I-") + inside.label)
            )
            at += len(word) + 1
        lines.append("")
    (tmp_path / "train.tsv.conll").write_text("\n".join(lines))
    tuned = finetune(model, tmp_path / "train.tsv.conll", **FAST | {"epochs": 1})
    assert tuned.task.kind == "tagging" and tuned.labels == ["ORG", "PER"]
    assert set(evaluate(tuned, tmp_path / "train.tsv.conll", say=lambda line: None)) == {
        "span_f1",
        "precision",
        "recall",
    }


@pytest.mark.slow
def test_of_long_texts_the_chosen_part_is_read(model):
    """The word that tells is at the end: the head alone cannot know it, the tail and the pieces do."""
    rng = np.random.default_rng(0)

    def rows(count):
        said = rng.integers(0, 2, count)
        return Examples([" ".join([*words(rng, 40), f"w{30 + k}"]) for k in said], None, [f"k{k}" for k in said])

    given = [rows(120), rows(20), rows(40)]
    score = {}
    for long in ("head", "tail", "pieces"):
        said = []
        some = FAST | {
            "epochs": 8 if long == "pieces" else 3,
            "batch": 4,
            "lr": 4e-3,
            "max_length": 24,
            "progress": True,
        }
        tuned = finetune(model, given[0], valid=given[1], test=given[2], long=long, say=said.append, **some)
        score[long] = tuned.report["test"]["accuracy"]["mean"]
        cut = [line for line in said if "are cut" in line]
        assert bool(cut) == (long != "pieces")
        assert long == "pieces" or f"the {long} is kept, 44.2 % of all tokens are lost" in cut[0]
        if long == "pieces":
            assert tuned.head_spec.get("pool").kind == "hierarchical"
            alone, beside = tuned.predict("w30 w6"), tuned.predict(["w30 w6", " ".join(["w7"] * 60)])[0]
            assert alone.label == beside.label and alone.scores == pytest.approx(beside.scores, rel=1e-5)
    assert score["head"] < 0.8 and min(score["tail"], score["pieces"]) > 0.9, score
    with pytest.raises(ValueError, match="no way 'middle' to treat long texts; there are: head, tail"):
        Coder(model.tokenizer, 9, long="middle")


def test_both_ends_of_a_text_fill_a_row(model):
    text = " ".join(f"w{i % 50 + 5}" for i in range(100))
    coder = Coder(model.tokenizer, 22, long="head+tail")
    (code,) = coder.encode([text])
    whole = model.tokenizer.encode(text).ids
    assert code.ids == [*whole[:6], *whole[-16:]] and len(code) == 22 and (coder.cut, coder.lost) == (1, 80)
    assert Coder(model.tokenizer, 22, long="tail").encode([text])[0].ids == [whole[0], *whole[-21:]]


def test_what_a_file_plainly_asks_is_asked(model, tmp_path):
    """Relations in SpERT's JSON are read as relations, or as spans alone where tagging is asked for."""
    rng = np.random.default_rng(0)
    records = []
    for i in range(30):
        tokens = [*words(rng, 3), "w30", *words(rng, 2), "w31"]
        entities = [{"type": "A", "start": 3, "end": 4}, {"type": "B", "start": 6, "end": 7}]
        relations = [{"type": "R", "head": 0, "tail": 1}] if i % 2 else []
        records.append({"tokens": tokens, "entities": entities, "relations": relations, "orig_id": i})
    (tmp_path / "spert.json").write_text(json.dumps(records))
    some = FAST | {"epochs": 1}
    tuned = finetune(model, tmp_path / "spert.json", **some)
    assert tuned.task.kind == "relations"
    assert "span_f1" in evaluate(tuned, tmp_path / "spert.json", say=lambda line: None)
    tagger = finetune(model, tmp_path / "spert.json", task=task("tagging"), **some)
    assert tagger.task.kind == "tagging" and tagger.labels == ["A", "B"]
    with pytest.raises(ValueError, match="task/parsing needs heads and relations of words"):
        finetune(model, tmp_path / "spert.json", task=task("parsing"), **some)
