"""The command line: each command says what it does in Python, and no more.

Exit codes: 0 done; 1 the run failed; 2 what was asked for cannot be done (a file, a name, a setting). A failure is one
line on the standard error; with BERTSMITH_DEBUG=1 in the environment it is a traceback. Results go to the standard
output, as JSON with `--json`; progress and remarks go to the standard error. Nothing heavy is imported before a command
runs, so that `--help` is quick.
"""

import os
import sys

import typer

from bertsmith.commands import adapting, augmenting, exporting, making, measuring, serving, tuning, using

COMMANDS = (
    *(making.demo, making.prepare, making.pretrain),
    *(using.fill, using.encode, using.predict, exporting.export),
    serving.serve,
    *(tuning.finetune, tuning.multitask, augmenting.augment, tuning.diet),
    *(measuring.evaluate, measuring.methods, measuring.doctor),
    *(measuring.report, measuring.plot),
)
GROUPS = {
    "tokenizer": ("Learn a vocabulary.", {"train": making.tokenizer_train}),
    "adapter": (
        "Bring adapters in from the `peft` library, or take them there.",
        {"import": adapting.adapter_import, "export": adapting.adapter_export},
    ),
}

app = typer.Typer(
    help="Make, tune, compress, study and serve BERT-line text encoders.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
for command in COMMANDS:
    app.command()(command)
for name, (about, members) in GROUPS.items():
    group = typer.Typer(help=about, no_args_is_help=True, rich_markup_mode=None)
    for member, command in members.items():
        group.command(member)(command)
    app.add_typer(group, name=name)


def main() -> None:
    """Run the command line and leave with its exit code."""
    try:
        app()
    except KeyError as error:
        if " " not in str(error.args[:1]):  # a bare key is no message for anybody: a fault of ours
            raise
        _fail(error, 2)
    except (ValueError, OSError, ImportError) as error:
        _fail(error, 2)
    except (RuntimeError, ArithmeticError) as error:
        _fail(error, 1)


def _fail(error: Exception, code: int) -> None:
    if os.environ.get("BERTSMITH_DEBUG"):
        raise error
    said = error.args[0] if isinstance(error, KeyError) and error.args else error
    print(f"bertsmith: {' '.join(str(said).split())}", file=sys.stderr)
    raise SystemExit(code)
