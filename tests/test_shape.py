"""The shape of the code: who may import whom, and what no file may contain. Read from the syntax trees."""

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "bertsmith"
FILES = sorted(PACKAGE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}

# Imports go one way: a file imports from its own layer and those before it. A name is a file or a room of bertsmith.
LAYERS = [
    "spec layout linear tap draw files kernels native rows budget table chain answers perturb divergence pooling jieba",
    "differences wordpiece coding labelled tags align stream peak trees",
    "alter marked wordrows related",
    "act core norm",
    "position attend",
    "recurrent",
    "embedding mixer ffn residual init masking optim schedule metric select edit graft corpus tokenizer",
    "block data several parts",
    "fused",
    "encoder",
    "pool head objective resize scores cost interval readout around teacher",
    "task",
    "learner checkpoint hf progress parallel doctor examples split run diagnose loader",
    "engine",
    "splits train model texts frozen",
    "feature neighbours",
    "baseline shallow textcnn folds errors beside adapter pseudo blimp evaluate sets",
    "history",
    "examine report plot report_tuning",
    "tuning",
    "calibration predict_file cross curve diet augment prefinetune export bulk",
    "recipes",
    "estimators suite_cell suite_table",
    "suite",
    "transfer",
    "methods systems pretrain families",
    "demo serve",
    "commands",
    "cli",
    "__main__",
]
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names.split()}


@functools.cache
def slot_rooms():
    """The rooms: folders whose __init__.py assigns a Slot."""
    return {
        path.parent.name
        for path, tree in TREES.items()
        if path.name == "__init__.py"
        and any(
            isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == "Slot" for n in ast.walk(tree)
        )
    }


def imports(path):
    """The bertsmith modules that a file imports, as tuples of names below bertsmith; those for type checking too."""
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "bertsmith":
            inner = tuple(node.module.split(".")[1:])
            for alias in node.names:
                below = PACKAGE.joinpath(*inner, alias.name)
                yield (*inner, alias.name) if below.is_dir() or below.with_suffix(".py").is_file() else inner
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.relative_to(ROOT)}: a relative import; say where from"
        elif isinstance(node, ast.Import):
            yield from (tuple(a.name.split(".")[1:]) for a in node.names if a.name.split(".")[0] == "bertsmith")


def name_of(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def test_every_file_has_a_layer():
    homeless = sorted({name_of(path) for path in FILES} - set(LAYER) - {"__init__"})
    assert not homeless, f"add to LAYERS in {Path(__file__).name}: {', '.join(homeless)}"


def test_imports_go_one_way():
    wrong = [
        f"{path.relative_to(ROOT)} imports {'.'.join(module)}"
        for path in FILES
        if name_of(path) not in ("__init__", "__main__")
        for module in imports(path)
        if module and LAYER.get(module[0], 0) > LAYER.get(name_of(path), 99)
    ]
    assert not wrong


def test_no_method_file_imports_another():
    rooms = slot_rooms()
    wrong = [
        f"{path.relative_to(ROOT)} imports {'.'.join(module)}"
        for path in FILES
        if path.parent.name in rooms and path.name != "__init__.py"
        for module in imports(path)
        if len(module) > 1 and module[0] in rooms
    ]
    assert not wrong


def test_no_kwargs_but_the_one():
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.args.kwarg is not None
    ]
    assert [line.split(":")[0] + " " + line.split()[-1] for line in found] == ["bertsmith/spec.py __call__"], found


def test_nothing_is_pickled_and_nothing_is_asked_for_attributes():
    wrong = []
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [node.id] if isinstance(node, ast.Name) else []
            names += [ast.unparse(node)] if isinstance(node, ast.Attribute) else []
            bad = {"hasattr", "pickle", "dill", "cloudpickle", "torch.load", "torch.save", "eval", "exec"} & set(names)
            wrong += [f"{path.relative_to(ROOT)}:{node.lineno} {name}" for name in bad]
    assert not wrong


def test_every_method_names_its_source():
    for path, tree in TREES.items():
        if path.parent.name not in slot_rooms() or path.name == "__init__.py":
            continue
        papers = [
            ast.literal_eval(line.value)
            for node in tree.body
            if isinstance(node, ast.ClassDef)
            for line in node.body
            if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "paper"
        ]
        assert papers and all(papers), f"{path.relative_to(ROOT)}: its class has no paper = ..."
        assert ast.get_docstring(tree), f"{path.relative_to(ROOT)}: no docstring"


def test_settings_are_keyword_only_and_have_types():
    """Context is positional, a setting is keyword-only and typed: the constructor is the schema."""
    for path, tree in TREES.items():
        if path.parent.name not in slot_rooms() or path.name == "__init__.py":
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                where = f"{path.relative_to(ROOT)}:{node.lineno}"
                assert not node.args.defaults, f"{where}: a positional argument with a default; settings stand after *"
                untyped = [a.arg for a in node.args.kwonlyargs if a.annotation is None]
                assert not untyped, f"{where}: {', '.join(untyped)} has no type"


def test_the_loop_stays_one_page():
    assert len((PACKAGE / "train.py").read_text().splitlines()) < 250


@pytest.mark.parametrize("word", ["TODO", "FIXME", "XXX"])
def test_nothing_is_left_for_later(word):
    assert not [str(p.relative_to(ROOT)) for p in FILES if word in p.read_text(encoding="utf-8")]
