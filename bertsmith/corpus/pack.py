"""Packing pieces into rows of fixed length."""

from collections.abc import Sequence


def pack(size_N: Sequence[int], length: int) -> list[list[int]]:
    """Best-fit decreasing: rows of piece numbers whose sizes sum to at most `length`.

    The longest pieces first, each into the fullest row that still has room (Johnson 1974). Rows with the same room are
    kept in a bucket, and the buckets that are not empty are bits of one integer, so that a piece costs O(1).

    Raises:
        ValueError: a piece of no token, or longer than a row.
    """
    rows: list[list[int]] = []
    by_room: list[list[int]] = [[] for _ in range(length + 1)]
    filled = 0  # bit r is set where by_room[r] holds a row
    for piece in sorted(range(len(size_N)), key=lambda i: (-size_N[i], i)):
        size = size_N[piece]
        if not 0 < size <= length:
            raise ValueError(f"a piece of {size} tokens does not go into a row of {length}")
        fitting = filled >> size
        if fitting:
            room = size + (fitting & -fitting).bit_length() - 1
            row = by_room[room].pop()
            if not by_room[room]:
                filled &= ~(1 << room)
        else:
            room, row = length, len(rows)
            rows.append([])
        rows[row].append(piece)
        by_room[room - size].append(row)
        filled |= 1 << (room - size)
    return rows
