"""The report of a run: self-contained, whole, and clear about what it cannot read."""

import json
import xml.etree.ElementTree as ElementTree

import pytest

from bertsmith.report import write_report


def log_line(step, stage=0, **more):
    return json.dumps(
        {"stage": stage, "step": step, "loss": 9.0 / step, "lr": 1e-3, "tokens": 100, "seconds": 6} | more
    )


@pytest.fixture
def run(tmp_path):
    (tmp_path / "log.jsonl").write_text("\n".join(log_line(step, tokens_per_s=5e4) for step in range(1, 30)) + "\n")
    return tmp_path


def page_of(folder):
    page = write_report(folder).read_text()
    # All tags but <meta> and the doctype are written as XML, so that an XML parser finds what is not closed or escaped.
    body = page[page.index("<body>") : page.index("</html>")]
    return page, ElementTree.fromstring(body)


def test_report_is_whole_and_opens_offline(run):
    (run / "examples.json").write_text(
        json.dumps([{"text": "a <b> [MASK] & c", "guesses": [["cat", 0.5], ["<i>", 0.1]]}])
    )
    (run / "scores.json").write_text(
        json.dumps([["bert_tiny", "accuracy", 0.91, 0.88, 0.94], ["majority", "accuracy", 0.1, None, None]])
    )
    page, body = page_of(run)
    assert "http:" not in page and "https:" not in page and "src=" not in page and "<script" not in page
    assert "prefers-color-scheme: dark" in page
    assert len(body.findall(".//svg")) == 3  # loss, learning rate, tokens per second: what the log holds
    assert [cell.text for cell in body.findall(".//td")] == [
        "bert_tiny", "accuracy", "0.910", "0.880 to 0.940", "majority", "accuracy", "0.100", None,
    ]  # fmt: skip
    assert "".join(body.find(".//blockquote").itertext()) == "a <b> [MASK] & c"
    assert sorted(p.name for p in run.iterdir()) == ["examples.json", "log.jsonl", "report.html", "scores.json"]


def test_stages_follow_one_another(run):
    (run / "log.jsonl").write_text("\n".join([log_line(5), log_line(10), log_line(5, 1), log_line(10, 1)]))
    _, body = page_of(run)
    said = [title.text for title in body.find(".//svg").findall(".//title")]
    assert [text.split(":")[0] for text in said] == ["step 5", "step 10", "step 15", "step 20"]
    assert len(body.findall('.//svg[1]/line[@class="stage"]')) == 2  # one a chart


def test_a_log_cut_short_and_bad_numbers(run):
    (run / "log.jsonl").write_text(
        "\n".join([log_line(1, loss=float("nan")), log_line(2), '{"warning": "resumed <late>"}', '{"step": 3, "lo'])
    )
    page, _ = page_of(run)
    assert "2 steps, 200 tokens, 0.2 minutes" in page and "step 1: nan" not in page and "resumed &lt;late&gt;" in page


def test_long_logs_are_thinned(run):
    (run / "log.jsonl").write_text("\n".join(log_line(step) for step in range(1, 5000)))
    page, _ = page_of(run)
    assert len(page) < 300_000


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("log.jsonl", '{"step": 1}\nnonsense\n{"step": 2}\n', "log.jsonl, line 2: not JSON"),
        ("scores.json", '[["a", 1]]', r"a row is \[name, metric, value, low, high\]"),
        ("scores.json", "{}", "must be a list"),
        ("examples.json", "[3]", "an example is"),
        ("examples.json", "[", "examples.json: not JSON"),
    ],
)
def test_errors_name_the_file(run, name, content, says):
    (run / name).write_text(content)
    with pytest.raises(ValueError, match=says):
        write_report(run)
    assert not (run / "report.html").exists()


def test_nothing_to_report(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing to report"):
        write_report(tmp_path)
