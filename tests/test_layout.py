"""Layouts: masks, shifts, sums and unpacking against loops over single tokens."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import documents, packed, padded

from bertsmith.layout import Layout

LENGTHS = st.lists(st.integers(1, 7), min_size=1, max_size=6)
FEW = settings(max_examples=40, deadline=None)


def rows_of(lengths, width=9):
    """Documents put into rows in turn, as many as fit."""
    rows, room = [[]], width
    for i, n in enumerate(lengths):
        if n > room:
            rows, room = [*rows, []], width
        rows[-1].append(i)
        room -= n
    return rows


def pack(lengths, width=9):
    return packed(documents(tuple(lengths)), rows_of(lengths, width), width)[1]


@FEW
@given(LENGTHS)
def test_mask_is_same_document_and_padding_reads_padding(lengths):
    layout = pack(lengths)
    mask = layout.mask_B1TT()
    segment = layout.segment_BT.tolist()
    for b, row in enumerate(segment):
        for t, mine in enumerate(row):
            assert mask[b, 0, t].tolist() == [mine == other for other in row]
    assert mask.any(-1).all(), "a token that may read nothing"


@FEW
@given(LENGTHS, st.integers(1, 6))
def test_window_is_half_to_each_side_but_never_leaves_padding_alone(lengths, window):
    layout = pack(lengths)
    mask = layout.mask_B1TT(window)[:, 0]
    distance = layout.position_BT[:, :, None] - layout.position_BT[:, None, :]
    real = layout.real_BT
    same = layout.segment_BT[:, :, None] == layout.segment_BT[:, None, :]
    assert torch.equal(mask[real], (same & (distance.abs() <= window // 2))[real])
    assert torch.equal(mask[~real], same[~real])


@FEW
@given(LENGTHS, st.integers(-9, 9))
def test_shift_stays_inside_documents(lengths, by):
    layout = pack(lengths)
    B, T = layout.segment_BT.shape
    x = torch.arange(1.0, B * T + 1).view(B, T, 1)
    y = layout.shift(x, by)
    for b in range(B):
        for t in range(T):
            there = (
                0 <= t + by < T
                and layout.segment_BT[b, t] > 0
                and layout.segment_BT[b, t + by] == layout.segment_BT[b, t]
            )
            assert y[b, t, 0] == (x[b, t + by, 0] if there else 0)


@FEW
@given(LENGTHS)
def test_documents_are_numbered_over_the_batch_and_sums_are_per_document(lengths):
    layout = pack(lengths)
    assert layout.count == len(lengths)
    x = torch.randn(*layout.segment_BT.shape, 3, generator=torch.Generator().manual_seed(0))
    weight = layout.position_BT + 1
    total = layout.sum_CD(x, weight)
    want = torch.zeros(len(lengths), 3)
    for b, row in enumerate(rows_of(lengths)):
        at = 0
        for i in row:
            for t in range(lengths[i]):
                assert layout.document_BT[b, at + t] == i
                want[i] += x[b, at + t] * (t + 1)
            at += lengths[i]
    torch.testing.assert_close(total, want)


@FEW
@given(LENGTHS)
def test_unpack_gives_one_row_a_document(lengths):
    layout = pack(lengths)
    x = torch.randn(*layout.segment_BT.shape, 2, generator=torch.Generator().manual_seed(0))
    y, keep = layout.unpack(x, max(lengths))
    assert y.shape == (len(lengths), max(lengths), 2) and keep.sum(1).tolist() == lengths
    assert torch.equal(y[keep], x[layout.real_BT]) and not y[~keep].any()


def test_padded_is_a_document_a_row():
    layout = Layout.padded(torch.tensor([[1, 1, 0], [1, 1, 1]]))
    assert layout.segment_BT.tolist() == [[1, 1, 0], [1, 1, 1]] and layout.count == 2
    assert layout.document_BT.tolist() == [[0, 0, 0], [1, 1, 1]]
    assert layout.real_BT.tolist() == [[True, True, False], [True] * 3]


def test_no_mask_where_every_row_is_one_whole_document():
    whole = pack([9, 9])
    assert whole.whole and whole.mask_B1TT() is None
    assert whole.mask_B1TT(4) is not None
    assert not pack([9, 8]).whole and pack([9, 8]).mask_B1TT() is not None
    assert not pack([4, 5]).whole


def test_see_narrows_who_may_read_whom_but_not_padding():
    token, layout = padded(documents((3, 2)))
    see = torch.zeros(2, 3, 3, dtype=torch.bool)
    see[:, :, 0] = True
    seeing = Layout(layout.segment_BT, layout.position_BT, layout.before_B, 2, see_BTT=see)
    assert seeing.mask_B1TT()[:, 0].tolist() == [
        [[True, False, False]] * 3,
        [[True, False, False]] * 2 + [[False, False, True]],
    ]
    order = torch.tensor([[2, 0, 1]] * 2)
    taken = seeing.take(order)
    assert torch.equal(taken.mask_B1TT()[:, 0], seeing.mask_B1TT()[:, 0][:, order[0]][:, :, order[0]])


def test_take_keeps_documents_and_places():
    _, layout = packed(documents((4, 3)), [[0, 1]], 8)
    taken = layout.take(torch.tensor([[0, 3, 4, 6]]))
    assert taken.segment_BT.tolist() == [[1, 1, 2, 2]] and taken.position_BT.tolist() == [[0, 3, 0, 2]]
    assert taken.count == 2 and taken.document_BT.tolist() == [[0, 0, 1, 1]]
    whole = pack([9, 9])
    part = whole.take(torch.tensor([[0, 1], [2, 3]]))
    assert part.mask_B1TT() is None or part.mask_B1TT().all()


def test_masks_are_made_once_a_pass_and_never_carried_to_another():
    _, layout = packed(documents((4, 3)), [[0, 1]], 8)
    one = layout.fresh()
    assert one.mask_B1TT() is one.mask_B1TT() and one.mask_B1TT(4) is not one.mask_B1TT()
    assert not layout.scratch and not one.fresh().scratch and not one.to("cpu").scratch
    assert layout == one, "the scratch is no part of what a layout is"
