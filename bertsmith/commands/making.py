"""From raw text to an encoder."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from bertsmith.commands.shared import AsJson, Seed, Source, say, tell


def demo(
    quick: Annotated[bool, typer.Option("--quick", help="A smaller one, within a minute.")] = False,
    out: Annotated[Path, typer.Option(help="Where the run goes.")] = Path("runs/demo"),
    as_json: AsJson = False,
) -> None:
    """From raw text to a working BERT in five minutes: vocabulary, pre-training, fine-tuning, a report."""
    from bertsmith.demo import demo as run

    result = run(out, quick=quick, progress=not as_json)
    if as_json:
        tell(result, True, "")


def tokenizer_train(
    paths: Source,
    out: Annotated[Path, typer.Option(help="Folder for tokenizer.json, and vocab.txt or vocab.json and merges.txt.")],
    size: Annotated[int, typer.Option(help="How many tokens.")] = 16384,
    kind: Annotated[str, typer.Option(help="wordpiece, bpe or unigram; the family's own if not said.")] = "",
    family: Annotated[
        str, typer.Option(help="Whose special tokens and template: bert, roberta, albert, xlm-roberta, ...")
    ] = "bert",
    cased: Annotated[bool, typer.Option("--cased", help="Keep case and accents.")] = False,
    as_json: AsJson = False,
) -> None:
    """Learn a vocabulary from text: BERT's WordPiece, or that of another family."""
    from bertsmith.corpus.skips import Skips
    from bertsmith.pretrain import find_data
    from bertsmith.tokenizer.train import train_tokenizer

    skips = Skips()
    made = train_tokenizer(find_data(paths), size, out, kind, family, False if cased else None, on_skip=skips)
    if skips.message():
        say(skips.message())
    tell({"out": str(out), "size": made.get_vocab_size()}, as_json, f"{made.get_vocab_size():,} tokens in {out}")


def prepare(
    paths: Source,
    tokenizer: Annotated[
        str, typer.Option(help="A tokenizer.json, a vocab.txt, a vocab.json or .model, or a folder with one.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the shards.")],
    workers: Annotated[int | None, typer.Option(help="Processes; one a core if not said.")] = None,
    field: Annotated[str, typer.Option(help="Column of the text in .jsonl, .csv and .parquet.")] = "text",
    again: Annotated[bool, typer.Option("--again", help="Throw away what another call left in OUT.")] = False,
    as_json: AsJson = False,
) -> None:
    """Turn text into token shards. Killed, the same command goes on."""
    from bertsmith.corpus.prepare import prepare as run
    from bertsmith.corpus.prepare import skipped
    from bertsmith.pretrain import find_data
    from bertsmith.progress import Counter

    with Counter("tokens", shown=not as_json) as counter:
        manifest = run(
            find_data(paths),
            out,
            tokenizer,
            workers,
            field=field,
            again=again,
            on_chunk=lambda r: counter.add(r["tokens"]),
        )
    if told := skipped(manifest):
        say(told)
    tell(manifest, as_json, f"{manifest['documents']:,} documents, {manifest['tokens']:,} tokens in {out}")


def pretrain(
    recipe: Annotated[
        str,
        typer.Argument(
            help="brief_mini for an hour on a CPU; bert_tiny, bert_mini, ... bert_large, modernbert_base, ..."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run, and of the model at its end.")],
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="Raw text, or what `prepare` made; also below $BERTSMITH_DATA, which is taken where this is absent."
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PATH=VALUE]...", help="Dotted: encoder.depth=2 stages.0.optim.lr=1e-3 stages.0.schedule=cosine."
        ),
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="30m, 2h, 2e9-tokens, 10000-steps or 1e15-flops; the recipe's own if not said.")
    ] = None,
    seed: Seed = 0,
    vocab: Annotated[int, typer.Option(help="Tokens to learn, where DATA is raw text.")] = 16384,
    tokenizer: Annotated[str | None, typer.Option(help="Use this tokenizer instead of learning one.")] = None,
    as_json: AsJson = False,
) -> None:
    """Train an encoder from text. The same command again goes on where it stopped."""
    from bertsmith.pretrain import parse_override
    from bertsmith.pretrain import pretrain as run

    given = data or ([os.environ["BERTSMITH_DATA"]] if os.environ.get("BERTSMITH_DATA") else [])
    if not given:
        raise ValueError("no text to train on: say --data PATH, or set the environment variable BERTSMITH_DATA")
    changed = dict(parse_override(text) for text in overrides or [])
    run(
        recipe,
        given,
        out,
        budget=budget,
        seed=seed,
        overrides=changed,
        vocab=vocab,
        tokenizer=tokenizer,
        progress=not as_json,
        say=say,
    )
    last = [line for line in map(json.loads, (out / "log.jsonl").read_text().splitlines()) if "step" in line][-1]
    tell(
        {"out": str(out), "last": last},
        as_json,
        f"loss {last['loss']:.3f} after {last['step']:,} steps; the model and report.html are in {out}",
    )
