"""Which rows go through the model, and which of them share a beginning."""

from __future__ import annotations

from curate.lm.packing import Encoded, make_groups, make_rows, rows_that_fit


def item(ids: list[int], answer: int) -> Encoded:
    """Tokens of which the last `answer` are the answer."""
    return Encoded(tuple(ids), len(ids) - answer, len(ids))


def test_an_input_that_begins_another_is_read_from_its_row() -> None:
    items = [item([1, 2, 3, 9], 1), item([1, 2, 3, 4, 5], 2), item([1, 2, 3, 8], 1), item([7, 2, 9], 1)]
    rows = make_rows(items, range(4))
    assert [(row.ids, set(row.items)) for row in rows] == [((1, 2, 3, 4), {0, 1, 2}), ((7, 2), {3})]


def test_rows_share_what_all_of_them_begin_with() -> None:
    shots = list(range(100))
    items = [item([*shots, 200 + n, 300, 400], 1) for n in range(10)]
    (group,) = make_groups(make_rows(items, range(10)), items)
    assert (group.shared, len(group.rows)) == (100, 10)


def test_the_token_before_an_answer_is_never_in_the_shared_part() -> None:
    prompt = list(range(100))
    items = [item([*prompt, 200 + n, 300 + n], 2) for n in range(10)]
    (group,) = make_groups(make_rows(items, range(10)), items)
    assert group.shared == 99


def test_what_is_not_worth_sharing_is_not_shared() -> None:
    long = [item([0, *range(50, 90), n, n], 1) for n in (1, 2)]  # two rows, 41 tokens alike: too little to save
    short = [item([0, n, n + 1], 1) for n in range(3)]
    (group,) = make_groups(make_rows(long + short, range(5)), long + short)
    assert group.shared == 0
    assert [len(row.ids) for row in group.rows] == [2, 2, 2, 42, 42]


def test_solved_examples_of_two_relations_make_two_groups_whatever_their_header() -> None:
    header = list(range(40))
    items = [item([*header, *range(first, first + 100), 900 + n, 7, 8], 1) for first in (100, 300) for n in range(6)]
    groups = make_groups(make_rows(items, range(12)), items)
    assert [(group.shared, len(group.rows)) for group in groups] == [(140, 6), (140, 6)]


def test_rows_in_a_batch_are_bounded_by_tokens_and_by_the_cache_they_stand_on() -> None:
    assert rows_that_fit(longest=20, shared=0, token_budget=100) == 5
    assert rows_that_fit(longest=200, shared=0, token_budget=100) == 1
    assert rows_that_fit(longest=1010, shared=1000, token_budget=500) == 3
