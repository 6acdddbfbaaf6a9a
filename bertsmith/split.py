"""Train, valid and test by a pure hash draw.

Where a row goes depends on its text and the seed alone, and on the texts around it, never on the order of the file;
equal texts go to the same split, so that none stands on both sides.
"""

from bertsmith.draw import draw


def cut(texts: list[str], classes: list[str] | None, share: float, seed: int, what: str) -> tuple[list[int], list[int]]:
    """(kept, cut off): row numbers, in order, of about (1 - share) and share of the rows.

    texts: what tells rows apart; equal texts stay together.
    classes: a class for each row to keep in proportion (stratified), or None. A class with fewer than three different
        texts is not cut: its rows are kept.
    what: part of the draw ("valid", "test"), so that two cuts are independent.
    """
    groups: dict[str, list[int]] = {}
    for row, text in enumerate(texts):
        groups.setdefault(text, []).append(row)
    strata: dict[str, list[str]] = {}
    for text, rows in groups.items():
        strata.setdefault(classes[rows[0]] if classes is not None else "", []).append(text)
    kept: list[int] = []
    off: list[int] = []
    passed = 0
    for name in sorted(strata):
        members = sorted(strata[name], key=lambda text: (draw(seed, what, text), text))
        if len(members) < 3:
            kept += [row for text in members for row in groups[text]]
            continue
        for text in members:  # systematic sampling along all strata: each gets its share, and so does the whole
            passed += 1
            (off if int(passed * share) > int((passed - 1) * share) else kept).extend(groups[text])
    return sorted(kept), sorted(off)
