"""Text to memory-mapped token shards: in parallel, in bounded memory, and it goes on where it was killed."""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from bertsmith.corpus.chunk import SUFFIXES, Chunk, chunks, name_of, write_shard
from bertsmith.corpus.encode import Encoder
from bertsmith.corpus.parent import die_with_parent
from bertsmith.corpus.read import documents
from bertsmith.corpus.skips import Skips, told
from bertsmith.corpus.sources import STDIN, sources
from bertsmith.files import sweep, write_atomic
from bertsmith.jieba import from_text, to_text
from bertsmith.tokenizer.load import load_tokenizer, special_ids

FORMAT = 1
MANIFEST, PARTS, PLAN, TOKENIZER = "manifest.json", "parts", "plan.json", "tokenizer.json"


def prepare(
    paths: str | Path | Sequence[str | Path],
    out: str | Path,
    tokenizer: Tokenizer | str | Path,
    workers: int | None = None,
    *,
    field: str = "text",
    chunk: int = 1 << 22,
    again: bool = False,
    on_chunk: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Tokenise a corpus into `out`, to be opened with `Shards(out)`; returns the manifest.

    The text is read by this process and cut into chunks of whole documents; worker processes turn each into a shard.
    Killed at any moment, the same call goes on: finished shards are kept, and the result is to the byte that of an
    unbroken run, whatever the number of workers. `out` is complete when it holds manifest.json.

    Memory: (2 x workers + 2) chunks of text, at most 8 Mi characters each with the default `chunk`, and per worker the
    encoding of one chunk: whatever the corpus, about 550 MB in all with two workers and the default `chunk` on English.

    Args:
        paths: files, folders, globs, "-" for stdin (see `corpus.read.documents`).
        out: a folder; new, or that of an interrupted run of the same call.
        tokenizer: a Tokenizer, or a path for `load_tokenizer`.
        workers: processes that encode; default: one per core this process may use. 0 encodes in this process.
        field: the text column of .jsonl, .csv and .parquet.
        chunk: characters of text a shard; a multiple of it is what memory holds.
        again: throw away what another call left in `out` and start anew.
        on_chunk: called with the record of each shard (its counts of tokens, words, ...), done now or found done.

    Raises:
        FileNotFoundError, ValueError: inputs that name nothing or cannot be read; no text in any of them; `out` holds
            something else, or the result of another call (other inputs, another tokenizer) and `again` is False; the
            text has changed since the interrupted run.
        RuntimeError: another process is preparing into `out`; a worker was killed.
    """
    if chunk < 1 or (workers is not None and workers < 0):
        raise ValueError(f"chunk must be at least 1 and workers at least 0, not {chunk} and {workers}")
    built = tokenizer if isinstance(tokenizer, Tokenizer) else load_tokenizer(tokenizer)
    specials = special_ids(built, ("pad", "sep"))
    files, folder = sources(paths), Path(out)
    plan = _plan(files, built, field, chunk)
    _check_folder(folder)
    (folder / PARTS).mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        finished = _resume(folder, plan, again)
        if finished is not None:
            return finished
        write_atomic(folder / TOKENIZER, to_text(built, pretty=True))
        skips = Skips()
        count = len(os.sched_getaffinity(0)) if workers is None else workers
        text = chunks(documents(files, skips, field), chunk)
        records = _encode_all(text, folder, built, count, on_chunk)
        if not any(record["tokens"] for record in records):
            raise ValueError(f"no text in {len(files)} input file(s). {skips.message()}".strip())
        manifest = _manifest(plan, records, skips, built, specials)
        _remove_beyond(folder, len(records))
        write_atomic(folder / MANIFEST, json.dumps(manifest, indent=1))
        shutil.rmtree(folder / PARTS)
        return manifest


def _plan(files: list[str], tokenizer: Tokenizer, field: str, chunk: int) -> dict[str, Any]:
    """What a run is: two calls with the same plan make the same shards."""
    content = to_text(tokenizer).encode()
    return {
        "format": FORMAT,
        "inputs": [
            {"path": f, "bytes": os.path.getsize(f) if f != STDIN and os.path.exists(f) else None} for f in files
        ],
        "tokenizer": hashlib.blake2b(content, digest_size=16).hexdigest(),
        "field": field,
        "chunk": chunk,
    }


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; prepare writes a folder")
    ours = (folder / MANIFEST).exists() or (folder / PARTS).is_dir()
    if folder.exists() and not ours and any(folder.iterdir()):
        raise ValueError(f"{folder} holds other files; name a new or empty folder")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Holds a lock that ends with this process, and is not inherited by its workers."""
    path = folder / PARTS / "lock"
    with open(path, "w") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RuntimeError(
                f"another process is preparing into {folder}; wait for it or name another folder"
            ) from error
        yield


def _resume(folder: Path, plan: dict[str, Any], again: bool) -> dict[str, Any] | None:
    """Compares with what is there; returns the manifest if all is done, and leaves `folder` ready to go on if not."""
    sweep(folder)
    sweep(folder / PARTS)
    old = _read(folder / MANIFEST) or _read(folder / PARTS / PLAN) or {}
    if old and not again:
        before = {key: old.get("plan", old).get(key) for key in plan}
        if changed := [key for key in plan if before[key] != plan[key]]:
            if (folder / MANIFEST).exists():
                shutil.rmtree(folder / PARTS)
            raise ValueError(
                f"{folder} was begun by a call with other {', '.join(changed)}; repeat that call to go on, name "
                "another folder, or start anew (again=True)"
            )
        if (folder / MANIFEST).exists():
            shutil.rmtree(folder / PARTS)
            return old
    else:
        (folder / MANIFEST).unlink(missing_ok=True)
        for record in (folder / PARTS).glob("*.json"):
            record.unlink()
        _remove_beyond(folder, 0)
    write_atomic(folder / PARTS / PLAN, json.dumps(plan))
    return None


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _remove_beyond(folder: Path, count: int) -> None:
    for suffix in SUFFIXES:
        for file in folder.glob(f"shard-*{suffix}"):
            if int(file.name.split("-")[1].split(".")[0]) >= count:
                file.unlink()


def _encode_all(
    text: Iterator[Chunk],
    folder: Path,
    tokenizer: Tokenizer,
    workers: int,
    on_chunk: Callable[[dict[str, Any]], None] | None,
) -> list[dict[str, Any]]:
    """Every chunk to its shard; the records in order. At most 2 x workers chunks are on their way at once."""
    records: dict[int, dict[str, Any]] = {}

    def note(number: int, record: dict[str, Any]) -> None:
        records[number] = record
        if on_chunk is not None:
            on_chunk(record)

    def record_of(piece: Chunk) -> Path:
        return folder / PARTS / f"{name_of(piece.number)}.json"

    def missing() -> Iterator[Chunk]:
        for piece in text:
            done = _read(record_of(piece))
            if done is None:
                yield piece
            elif done["digest"] == piece.digest:
                note(piece.number, done)
            else:
                raise ValueError(f"the text has changed since {folder} was begun; start anew (again=True)")

    if workers == 0:
        encoder = Encoder(tokenizer)
        for piece in missing():
            note(piece.number, write_shard(piece, encoder, folder, record_of(piece)))
        return [records[number] for number in sorted(records)]

    pool = ProcessPoolExecutor(workers, initializer=_begin, initargs=(to_text(tokenizer),))
    waiting: dict[Future[dict[str, Any]], int] = {}
    try:
        for piece in missing():
            waiting[pool.submit(_work, piece, folder, record_of(piece))] = piece.number
            if len(waiting) >= 2 * workers:
                _collect(waiting, note)
        while waiting:
            _collect(waiting, note)
    except BrokenProcessPool as error:
        raise RuntimeError(
            "a worker of prepare was killed (out of memory?); call again to go on, with fewer workers"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return [records[number] for number in sorted(records)]


def _collect(waiting: dict[Future[dict[str, Any]], int], note: Callable[[int, dict[str, Any]], None]) -> None:
    for future in wait(waiting, return_when=FIRST_COMPLETED).done:
        note(waiting.pop(future), future.result())


_encoder: Encoder | None = None  # of a worker process, which lives for one call of prepare


def _begin(tokenizer: str) -> None:
    global _encoder
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    die_with_parent()
    _encoder = Encoder(from_text(tokenizer))


def _work(piece: Chunk, folder: Path, record: Path) -> dict[str, Any]:
    assert _encoder is not None
    return write_shard(piece, _encoder, folder, record)


def skipped(manifest: dict[str, Any]) -> str:
    """What was left out or mended, one line a reason: how often, why, the first places. Empty if nothing was."""
    return told(manifest["skipped"], manifest["skipped_first"])


def _manifest(
    plan: dict[str, Any], records: list[dict[str, Any]], skips: Skips, tokenizer: Tokenizer, specials: dict[str, int]
) -> dict[str, Any]:
    total = {key: sum(record[key] for record in records) for key in ("documents", "lines", "tokens", "words")}
    skipped = dict(skips.count)
    for key, reason in (("empty_lines", "paragraph without a token"), ("empty_documents", "document without a token")):
        if count := sum(record[key] for record in records):
            skipped[reason] = count
    return {
        "format": FORMAT,
        **total,
        "vocabulary": tokenizer.get_vocab_size(),
        "special": specials,
        "dtype": Encoder(tokenizer).dtype.str,
        "skipped": skipped,
        "skipped_first": skips.where,
        "plan": plan,
        "shards": [{key: record[key] for key in ("documents", "lines", "tokens")} for record in records],
    }
