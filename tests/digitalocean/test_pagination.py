"""Pages are read while something says that there are more, and a listing is complete only if they add up."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from exporter.digitalocean.errors import (
    ApiError,
    Incomplete,
    OutOfBudget,
    ServerError,
    Throttled,
    Unauthorized,
    Unreachable,
    Unreadable,
)
from exporter.digitalocean.pagination import MAX_PAGES, PageCollector, Pages
from exporter.digitalocean.records import Page

CONCURRENCY = 8
Serve = Callable[[int], Page[str]]


def page(
    ids: range | list[int],
    *,
    total: int | None = None,
    following: bool = False,
    last: int | None = None,
    rejected: frozenset[int] = frozenset(),
    unidentified: int = 0,
) -> Page[str]:
    return Page(
        records=dict.fromkeys(ids, ""),
        rejected=rejected,
        unidentified=unidentified,
        reason=None,
        length=len(ids) + len(rejected) + unidentified,
        total=total,
        next_page=following,
        last_page=last,
    )


def read(serve: Serve) -> tuple[Pages[str], list[int]]:
    """Read as the client does; the listing, and every page that was asked for."""
    gathering: PageCollector[str] = PageCollector("droplets", "GET /v2/droplets")
    asked: list[int] = []
    number = 1
    while gathering.wants(number):
        last = min(gathering.ahead(number), number + CONCURRENCY - 1)
        asked += [each for each in range(number, last + 1) if each not in asked]
        try:
            gathering.add(number, serve(number))
        except ApiError as error:
            gathering.fail(number, error)
        number += 1
    return gathering.listing(1.0), asked


def honest(count: int, per_page: int = 200, *, links: bool = True, total: bool = True) -> Serve:
    pages = max(1, math.ceil(count / per_page))

    def serve(number: int) -> Page[str]:
        ids = range(count)[(number - 1) * per_page : number * per_page]
        more = links and number < pages
        return page(ids, total=count if total else None, following=more, last=pages if more else None)

    return serve


@given(
    count=st.integers(0, 2500),
    per_page=st.sampled_from([200, 200, 20, 7]),
    style=st.sampled_from([(True, True), (False, True), (True, False)]),
)
def test_an_honest_api_is_read_whole_with_no_page_too_many(count: int, per_page: int, style: tuple[bool, bool]) -> None:
    """With links, a count, or both, and pages of any size, each page is asked for once."""
    links, total = style
    assume(total or count != 200)  # a single full page, no links, no count: nothing says that it is the last
    listing, asked = read(honest(count, per_page, links=links, total=total))
    assert listing.complete
    assert set(listing.records) == set(range(count))
    assert asked == list(range(1, max(1, math.ceil(count / per_page)) + 1))


@pytest.mark.parametrize(("count", "pages"), [(0, 1), (3, 1), (199, 1), (200, 2), (400, 3), (401, 3)])
def test_without_links_and_count_a_full_page_asks_for_another(count: int, pages: int) -> None:
    """Where nothing is announced, a page that is not full is the last."""
    listing, asked = read(honest(count, links=False, total=False))
    assert listing.complete
    assert len(listing.records) == count
    assert len(asked) == pages


def test_a_count_that_lies_low_does_not_cut_the_listing_short() -> None:
    """More records than counted, and a full page: there may be more."""
    listing, asked = read(lambda number: page(range(450)[(number - 1) * 200 : number * 200], total=3))
    assert listing.complete
    assert len(listing.records) == 450
    assert asked == [1, 2, 3]


@pytest.mark.parametrize(("total", "last"), [(10**9, None), (10**9, 10**8), (1000, 5)])
def test_a_count_that_lies_high_costs_few_requests_and_is_incomplete(total: int, last: int | None) -> None:
    """If a page of three records counts a thousand, one more page is tried, and the listing is incomplete."""
    listing, asked = read(
        lambda number: page([1, 2, 3] if number == 1 else [], total=total, last=last if number == 1 else None)
    )
    assert len(listing.records) == 3
    assert isinstance(listing.error, Incomplete)
    assert str(listing.error).startswith(f"GET /v2/droplets counts {total} records, and its pages have 3")
    assert asked == [1, 2]


def test_a_last_page_that_lies_high_is_bounded_by_the_count() -> None:
    """Of the two announcements the lower one decides how far to look ahead."""
    listing, asked = read(
        lambda number: page(
            range(400)[(number - 1) * 200 : number * 200], total=400, last=10**8 if number == 1 else None
        )
    )
    assert listing.complete
    assert asked == [1, 2]


def test_pages_that_repeat_themselves_end_the_listing() -> None:
    """An API that ignores `page` is asked for one more page; the count shows whether the listing is complete."""
    listing, asked = read(lambda number: page(range(3), total=3, following=True))
    assert listing.complete
    assert asked == [1, 2]
    listing, asked = read(lambda number: page(range(3), following=True))
    assert isinstance(listing.error, Incomplete)
    assert "links to more pages" in str(listing.error)
    assert asked == [1, 2]


def test_an_endless_pagination_ends_and_is_incomplete() -> None:
    """If every page has new ids for ever, reading ends some pages after the announced ones."""
    listing, asked = read(lambda number: page(range(number * 5, number * 5 + 5), total=10, following=True))
    assert isinstance(listing.error, Incomplete)
    assert "does not end: 52 pages with 260 records were read" in str(listing.error)
    assert len(asked) == 52


def test_an_endless_pagination_that_announces_itself_ends_at_the_absolute_limit() -> None:
    """No announcement makes a listing longer than the limit."""
    listing, asked = read(
        lambda number: page(range(number * 200, number * 200 + 200), total=10**12, following=True, last=10**9)
    )
    assert not listing.complete
    assert len(asked) == MAX_PAGES


def test_one_old_page_within_the_announced_ones_does_not_end_the_listing() -> None:
    """Records added while the pages are read shift a whole page: the next ones are still new."""
    shifted = {1: range(200), 2: range(200), 3: range(200, 400), 4: range(400, 450)}
    listing, asked = read(lambda number: page(shifted[number], total=650, last=4 if number < 4 else None))
    assert set(listing.records) == set(range(450))
    assert asked == [1, 2, 3, 4]
    assert isinstance(listing.error, Incomplete)


def test_records_that_shift_between_pages_are_counted_once() -> None:
    """A record on two pages counts once, so the listing lacks another one and is incomplete."""
    listing, _ = read(lambda number: page(range(200) if number == 1 else range(199, 250), total=251))
    assert len(listing.records) == 250
    assert not listing.complete


def test_rejected_records_count_towards_completeness() -> None:
    """A record that cannot be understood still counts as listed."""
    listing, _ = read(lambda number: page([1, 2], total=5, rejected=frozenset({3}), unidentified=2))
    assert listing.complete
    assert (listing.rejected, listing.unidentified, listing.total) == (frozenset({3}), 2, 5)


def test_a_page_of_nothing_but_nulls_does_not_end_the_listing() -> None:
    """Unidentified records within the announced pages are no sign of the end."""
    listing, asked = read(
        lambda number: (
            page([], unidentified=200, total=450) if number == 1 else page(range(number * 200, 450), total=450)
        )
    )
    assert asked == [1, 2, 3]
    assert listing.unidentified == 200


def test_a_record_rejected_on_one_page_and_good_on_another_is_good() -> None:
    """The reading that could be understood counts."""
    pages = [page([1], total=3, rejected=frozenset({2}), following=True), page([2, 3], total=3)]
    listing, _ = read(lambda number: pages[number - 1])
    assert listing.complete
    assert (set(listing.records), listing.rejected) == ({1, 2, 3}, frozenset())


def test_the_greatest_count_decides() -> None:
    """Where the pages disagree on the total, the listing must reach the greatest."""
    listing, _ = read(lambda number: page(range(200), total=260) if number == 1 else page(range(200, 250), total=250))
    assert (listing.total, len(listing.records), listing.complete) == (260, 250, False)


def failing(at: set[int], error: ApiError, count: int = 1000) -> Serve:
    serve = honest(count)

    def fail(number: int) -> Page[str]:
        if number in at:
            raise error
        return serve(number)

    return fail


def test_one_bad_page_costs_only_itself() -> None:
    """The pages after it are read; the listing is incomplete and says why."""
    error = Unreadable("droplets", "half a page")
    listing, _ = read(failing({2}, error))
    assert len(listing.records) == 800
    assert listing.error is error


def test_after_a_second_bad_page_the_rest_is_left_alone() -> None:
    """After two pages that fail, the other pages are not asked for; the first error is reported."""
    listing, asked = read(failing({2, 3}, ServerError("droplets", "500"), count=10_000))
    assert len(listing.records) == 200
    assert max(asked) <= 2 + CONCURRENCY


@pytest.mark.parametrize(
    "error",
    [
        Unauthorized("droplets", "401"),
        Throttled("droplets", "429", 0.0),
        OutOfBudget("droplets", "spent", 0.0),
        Unreachable("droplets", "reset"),
    ],
)
def test_an_error_that_the_next_page_would_meet_too_ends_the_listing(error: ApiError) -> None:
    """What was read is returned with the error, nothing is raised."""
    listing, asked = read(failing({2}, error, count=10_000))
    assert len(listing.records) == 200
    assert listing.error is error
    assert max(asked) <= 2 + CONCURRENCY


def test_a_first_page_that_fails_is_the_whole_listing() -> None:
    """Nothing is known, not even how many pages there are."""
    listing, asked = read(failing({1}, Unreadable("droplets", "HTML")))
    assert (listing.records, listing.complete, asked) == ({}, False, [1])


@given(
    pages=st.lists(
        st.builds(
            page,
            st.lists(st.integers(0, 30), max_size=6, unique=True),
            total=st.none() | st.integers(0, 40) | st.just(10**15),
            following=st.booleans(),
            last=st.none() | st.integers(1, 12) | st.just(10**8),
            rejected=st.frozensets(st.integers(31, 35), max_size=2),
            unidentified=st.integers(0, 2),
        )
        | st.just(ServerError("droplets", "500")),
        min_size=1,
        max_size=8,
    ),
    endless=st.booleans(),
)
def test_whatever_the_pages_say_the_reading_ends_and_claims_no_more_than_it_has(
    pages: list[Page[str] | ServerError], endless: bool
) -> None:
    """Any sequence of pages: a bounded end, every record from a page, complete only with all that is counted."""

    def serve(number: int) -> Page[str]:
        one = pages[(number - 1) % len(pages)] if endless or number <= len(pages) else page([])
        if isinstance(one, ApiError):
            raise one
        return one

    listing, asked = read(serve)
    assert len(asked) <= MAX_PAGES
    served = [serve(number) for number in asked if not isinstance(pages[(number - 1) % len(pages)], ApiError)]
    assert set(listing.records) <= {each for one in served for each in one.records}
    assert not listing.rejected & listing.records.keys()
    if listing.complete:
        assert len(listing.records) + len(listing.rejected) + listing.unidentified >= (listing.total or 0)
        assert listing.records or listing.rejected or listing.unidentified or not listing.total
