"""README and docs: every code block runs, every generated table is what `make docs` would write."""

import contextlib
import importlib
import io
import json
import lzma
import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from bertsmith import cli, families, methods, systems
from bertsmith.demo import ASSETS
from bertsmith.spec import rooms

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


def blocks(page):
    """[(language, text)] of the code blocks of a page that has a language."""
    return [(language, text) for language, text in BLOCK.findall(page.read_text(encoding="utf-8")) if language]


@pytest.fixture(scope="module")
def imported():
    """What the blocks import, once and before they are timed."""
    for name in ("bertsmith.tuning", "sklearn.feature_extraction.text", "sklearn.linear_model", "sklearn.multiclass"):
        importlib.import_module(name)


@pytest.fixture
def desk(tmp_path, monkeypatch, imported):
    """A folder as the docs assume it: a text in books.txt, labelled texts in intents.csv."""
    text = lzma.decompress((ASSETS / "heldout.txt.xz").read_bytes()).decode()
    (tmp_path / "books.txt").write_text(text[:8_000])
    rows = (ASSETS / "clinc12_train.csv").read_text().splitlines()
    (tmp_path / "intents.csv").write_text("\n".join([rows[0], *rows[1::24]]) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_command(line, targets):
    """Run a line of a shell block: bertsmith's commands in this process; of make, that there is such a target."""
    words = shlex.split(line, comments=True)
    if not words:
        return
    if words[0] == "make":
        assert set(words[1:]) <= targets, line
        return
    assert words[0] == "bertsmith", f"the test knows no {words[0]!r}: {line}"
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as said:
        patch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as end:
            cli.main()
    assert end.value.code == 0 and said.getvalue(), line


def run_python(text, names, desk):
    """Run a block, or, if it begins with the name of a file of ours, put it into its room."""
    first = text.partition("\n")[0]
    if not first.startswith("# bertsmith/"):
        exec(compile(text, "block", "exec"), names)
        return
    folder, _, name = first.removeprefix("# bertsmith/").partition("/")
    (desk / name).write_text(text.partition("\n")[2])
    importlib.import_module(f"bertsmith.{folder}").__path__.append(str(desk))


@pytest.fixture(autouse=True)
def rooms_as_they_were():
    """A method that a page adds is gone after its test."""
    homes = [importlib.import_module(f"bertsmith.{room}") for room in rooms()]
    before, modules = [list(home.__path__) for home in homes], set(sys.modules)
    yield
    for home, path in zip(homes, before, strict=True):
        home.__path__[:] = path
    for name in [n for n in sys.modules if n.startswith("bertsmith.") and n not in modules]:
        if not str(getattr(sys.modules[name], "__file__", "")).startswith(str(ROOT)):
            del sys.modules[name]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_runs(page, desk):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    names = {"__name__": "block"}
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for language, text in blocks(page):
            assert language in ("python", "bash"), f"{page.name}: a block of {language}"
            if language == "python":
                if "tensorboard" in text:
                    pytest.importorskip("tensorboard", reason="tensorboard is not installed (an extra of the tests)")
                run_python(text, names, desk)
            for line in text.splitlines() if language == "bash" else ():
                run_command(line, targets)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_methods_page_is_current():
    assert (ROOT / "docs/methods.md").read_text() == methods.markdown(), "stale: run `make docs`"


def test_the_families_page_is_current():
    stored = ROOT / "docs/results/families.json"
    wanted = families.page(json.loads(stored.read_text()) if stored.exists() else {})
    assert (ROOT / "docs/families.md").read_text() == wanted, "stale: run `make docs`"


def test_the_systems_page_is_current():
    assert (ROOT / "docs/systems.md").read_text() == systems.markdown(systems.read(ROOT / "docs/systems")), (
        "run `make docs`"
    )


@pytest.mark.parametrize("row", systems.read(ROOT / "docs/systems"), ids=lambda row: row["id"])
def test_what_a_system_names_is_there(row):
    assert not systems.absent(row, ROOT)


def test_a_system_must_be_said_in_full(tmp_path):
    text = (ROOT / "docs/systems/S013.toml").read_text()
    (tmp_path / "S999.toml").write_text(text)
    with pytest.raises(ValueError, match="file and id must agree"):
        systems.read(tmp_path)
    (tmp_path / "S999.toml").write_text(
        text.replace("S013", "S999").replace('evidence = "parity"', 'evidence = "hope"')
    )
    with pytest.raises(ValueError, match="no evidence 'hope'; there are: parity"):
        systems.read(tmp_path)
    (tmp_path / "S999.toml").write_text(text.replace("S013", "S999").replace("scale =", "skale ="))
    with pytest.raises(ValueError, match="scale, skale missing or unknown"):
        systems.read(tmp_path)
    (tmp_path / "S999.toml").write_text(text.replace("S013", "S999").replace('state = "whole"', 'state = "part"'))
    with pytest.raises(ValueError, match="state is"):
        systems.read(tmp_path)


def test_what_is_not_there_is_named():
    row = {"pieces": ["ffn/magic"], "recipes": ["bert_huge"], "tests": ["tests/test_docs.py::test_nothing"]}
    lost = systems.absent(row, ROOT)
    assert len(lost) == 3 and "no ffn method 'magic'; there are:" in lost[0]


def test_every_method_is_listed():
    listed = {one["kind"] for one in methods.methods()}
    assert {"ffn/mlp", "mixer/attention", "select/bitfit", "edit/lora"} <= listed
    tiny = next(one for one in methods.methods() if one["kind"] == "mixer/attention")
    assert "bert_tiny" in tiny["recipes"] and tiny["paper"] == "arXiv:1706.03762" and tiny["says"]


def test_no_path_of_a_machine_stands_in_the_project():
    ours = [p for folder in ("bertsmith", "tests", "docs", "benchmarks") for p in (ROOT / folder).rglob("*")]
    ours += [ROOT / name for name in ("README.md", "Makefile", "pyproject.toml", "constraints.txt", ".ci/run")]
    homes = [os.sep + name + os.sep for name in ("work", "root", "home", "Users")]
    for path in ours:
        if path.suffix in (".py", ".md", ".toml", ".txt", "") and path.is_file():
            text = path.read_text(encoding="utf-8")
            assert not any(home in text for home in homes), path.relative_to(ROOT)
