"""Reading a SentencePiece model: the pieces with their scores, and the compiled normaliser. Nothing else is needed.

The file is a protocol buffer (sentencepiece_model.proto of github.com/google/sentencepiece): records of a field's number
and wire type, then a number (varint), 8 bytes, a length with so many bytes, or 4 bytes. Fields not listed are passed over.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tokenizers.models import BPE, Unigram

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


@dataclass
class Pieces:
    """What a SentencePiece model holds.

    Attributes:
        pieces: (text, score, type) in the order of ids.
        kind: 1 for unigram, 2 for bpe; 3 and 4 (words, characters) are not read.
        unk: id of the unknown piece.
        fall_back: characters without a piece become those of their bytes.
        charsmap: the compiled normaliser, or nothing.
    """

    pieces: list[tuple[str, float, int]] = field(default_factory=list)
    kind: int = 1
    unk: int = 0
    fall_back: bool = False
    charsmap: bytes = b""


def read_pieces(file: Path) -> Pieces:
    """The content of a .model. Raises ValueError for what is none, and for word and character models."""
    found = Pieces()
    try:
        for number, value in _fields(file.read_bytes()):
            if number == 1 and isinstance(value, bytes):
                found.pieces.append(_piece(value))
            elif number == 2 and isinstance(value, bytes):
                trainer = dict(_fields(value))
                found.kind, found.unk = int(trainer.get(3, 1)), int(trainer.get(40, 0))
                found.fall_back = bool(trainer.get(35, 0))
            elif number == 3 and isinstance(value, bytes):
                found.charsmap = next((bytes(v) for n, v in _fields(value) if n == 2 and isinstance(v, bytes)), b"")
    except (IndexError, struct.error, UnicodeDecodeError, ValueError, TypeError) as error:
        raise ValueError(f"{file} is not a SentencePiece model: {error}") from error
    if not found.pieces or not 0 <= found.unk < len(found.pieces):
        raise ValueError(f"{file} is not a SentencePiece model: it holds no pieces")
    if found.kind not in (1, 2):
        raise ValueError(f"{file} is a SentencePiece model of words or characters; unigram and bpe ones are read")
    return found


def unigram(pieces: list[tuple[str, float]], unk: int) -> Unigram:
    """The model of the tokenizers library. Raises ValueError if a piece stands there twice."""
    if len(texts := {text for text, _ in pieces}) < len(pieces):
        raise ValueError(f"{len(pieces) - len(texts)} pieces stand twice in the vocabulary")
    return Unigram(pieces, unk_id=unk, byte_fallback=False)


def merges(pieces: list[tuple[str, float]], unk: int, fall_back: bool, normal: set[str]) -> BPE:
    """A bpe model: two `normal` pieces whose text together is one are merged, those of the earlier piece first."""
    ids = {text: number for number, (text, _) in enumerate(pieces)}
    pairs = []
    for text in normal & set(ids):
        cuts = ((text[:at], text[at:]) for at in range(1, len(text)))
        pairs += [(ids[text], len(a), len(b), a, b) for a, b in cuts if a in normal and b in normal]
    found = [(a, b) for *_, a, b in sorted(pairs)]
    return BPE(ids, found, unk_token=pieces[unk][0], fuse_unk=True, byte_fallback=fall_back)


def _piece(record: bytes) -> tuple[str, float, int]:
    text, score, type = "", 0.0, NORMAL
    for number, value in _fields(record):
        if number == 1 and isinstance(value, bytes):
            text = value.decode()
        elif number == 2 and isinstance(value, bytes):
            score = struct.unpack("<f", value)[0]
        elif number == 3 and isinstance(value, int):
            type = value
    return text, score, type


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number of the field, its value); the value is an int for a varint and bytes for all others."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"byte {at} begins no field")
        if at + size > len(data):
            raise ValueError("it ends in the middle of a field")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError(f"byte {at} is in a number of more than 64 bits")
