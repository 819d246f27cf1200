"""How many requests are in flight, and how long a refused one waits."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from cohobate.teachers.endpoint.rate_limit import Pace, backoff, retry_after


def reply_rounds(pace: Pace, rounds: int) -> None:
    for _ in range(rounds):
        for _ in range(int(pace.limit)):
            pace.count_reply()


def test_the_limit_is_that_of_the_recipe_until_a_server_refuses() -> None:
    pace = Pace(64)
    assert pace.limit == 64
    reply_rounds(pace, 2)
    assert pace.limit == 64


def test_failures_before_the_first_reply_give_no_room_to_other_requests() -> None:
    pace = Pace(64)
    limits = []
    for _ in range(70):
        pace.count_early_failure()
        limits.append(pace.limit)
    assert limits == [*range(63, 0, -1), *[1] * 7]
    pace.count_reply()
    assert pace.limit == 64
    assert Pace(1).limit == 1


def test_many_refusals_halve_the_limit_once_for_all_that_was_sent_before() -> None:
    pace = Pace(64)
    reply_rounds(pace, 3)
    for _ in range(64):
        pace.count_refusal(sent=1.0, now=2.0)
    assert pace.limit == 32
    for _ in range(32):
        pace.count_refusal(sent=3.0, now=4.0)
    assert pace.limit == 16


def test_after_a_cut_the_limit_grows_by_steps() -> None:
    pace = Pace(64)
    reply_rounds(pace, 3)
    for _ in range(64):
        pace.count_refusal(sent=1.0, now=2.0)
    reply_rounds(pace, 4)
    assert 36 <= pace.limit <= 40  # two a round, not twice as many


def test_a_refusal_now_and_then_is_no_reason_to_slow_down() -> None:
    pace = Pace(100)
    reply_rounds(pace, 4)
    for at in range(2000):
        if at % 20 == 0:
            pace.count_refusal(sent=float(at), now=at + 0.5)
        else:
            pace.count_reply()
    assert pace.limit == 100


def test_a_server_that_refuses_everything_is_asked_one_at_a_time() -> None:
    pace = Pace(256)
    for at in range(200):
        pace.count_refusal(sent=float(at), now=at + 0.5)
    assert pace.limit == 1


def test_backoff_doubles_up_to_a_bound_and_is_half_random() -> None:
    for attempt, longest in ((1, 0.5), (2, 1.0), (4, 4.0), (12, 30.0), (500, 30.0)):
        waits = {backoff(attempt) for _ in range(50)}
        assert longest / 2 <= min(waits) and max(waits) <= longest and len(waits) > 10


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
)
def test_retry_after_is_seconds_milliseconds_or_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_a_date_to_come_is_so_many_seconds_away() -> None:
    wait = retry_after({"retry-after": format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)})
    assert wait is not None and 85 < wait <= 90
