"""Schedules: the times are right through spring and autumn, missed runs as said, one leader, whoever is killed.

This file is longer than others: the times of a year, written out, are most of it.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
import signal
import sqlite3
import time
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from places import eventually

import anyqueue
from anyqueue import ConfigError, Queue
from anyqueue.schedule import Entry, due, times
from anyqueue.testing.stopwatch import Stopwatch
from anyqueue.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from places import Place, Program, Shop
    from postgres import Postgres

BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")


def entry(cron: str | None = None, **fields: Any) -> Entry:
    return Entry(**{"name": "x", "address": Queue("q"), "cron": cron, **fields})


def following(found: Entry, after: str, count: int, zone: ZoneInfo = BERLIN) -> list[str]:
    start = dt.datetime.fromisoformat(after).timestamp()
    return [dt.datetime.fromtimestamp(at, zone).isoformat() for at in itertools.islice(times(found, start), count)]


def test_a_run_in_the_hour_that_spring_skips_comes_right_after_it() -> None:
    daily = entry("30 2 * * *", timezone="Europe/Berlin")
    assert following(daily, "2025-03-29T00:00+01:00", 3) == [
        "2025-03-29T02:30:00+01:00",
        "2025-03-30T03:00:00+02:00",
        "2025-03-31T02:30:00+02:00",
    ]
    assert following(daily, "2025-03-30T03:00+02:00", 1) == ["2025-03-31T02:30:00+02:00"], "not again after a restart"


@pytest.mark.parametrize("after", ["2025-10-26T02:30+02:00", "2025-10-26T02:45+02:00", "2025-10-26T02:10+01:00"])
def test_a_run_in_the_hour_that_autumn_repeats_comes_once(after: str) -> None:
    daily = entry("30 2 * * *", timezone="Europe/Berlin")
    assert following(daily, "2025-10-25T12:00+02:00", 1) == ["2025-10-26T02:30:00+02:00"]
    assert following(daily, after, 1) == ["2025-10-27T02:30:00+01:00"]


def test_every_half_hour_follows_the_clock_through_both() -> None:
    often = entry("*/30 * * * *", timezone="America/New_York")
    autumn = following(often, "2025-11-02T00:45-04:00", 5, NEW_YORK)
    assert autumn == [
        "2025-11-02T01:00:00-04:00",
        "2025-11-02T01:30:00-04:00",
        "2025-11-02T01:00:00-05:00",
        "2025-11-02T01:30:00-05:00",
        "2025-11-02T02:00:00-05:00",
    ]
    spring = following(often, "2025-03-09T01:15-05:00", 2, NEW_YORK)
    assert spring == ["2025-03-09T01:30:00-05:00", "2025-03-09T03:00:00-04:00"]


def test_the_same_expression_in_two_zones_is_two_times() -> None:
    seven = [entry("0 7 * * MON-FRI", timezone=zone) for zone in ("Europe/Berlin", "UTC")]
    assert [following(one, "2025-07-04T12:00+00:00", 1, ZoneInfo("UTC")) for one in seven] == [
        ["2025-07-07T05:00:00+00:00"],
        ["2025-07-07T07:00:00+00:00"],
    ]


def test_intervals_mean_the_same_times_to_everybody() -> None:
    quarter = entry(every=900.0)
    assert list(itertools.islice(times(quarter, 900.0), 2)) == [1800.0, 2700.0]
    assert list(itertools.islice(times(quarter, 1799.9), 1)) == [1800.0]


@pytest.mark.parametrize("kind", [{"cron": "* * * * *"}, {"every": 60.0}])
def test_missed_runs_are_sent_as_said(kind: dict[str, Any]) -> None:
    """Ten minutes nobody was there; the last run was three seconds ago."""
    now = 100_003.0 - 100_003.0 % 60 + 3
    last = now - 600
    minutes = [now - 3 - 60 * number for number in range(9, -1, -1)]
    assert due(entry(**kind, missed="all"), last, now) == minutes
    assert due(entry(**kind, missed="once"), last, now) == minutes[-1:]
    assert due(entry(**kind, missed="skip"), last, now) == minutes[-1:]
    assert due(entry(**kind, missed="skip"), last, now + 30) == []
    assert due(entry(**kind, missed="all"), now, now + 30) == []


def test_a_year_of_missed_minutes_is_no_year_of_work() -> None:
    watch, now = Stopwatch(), time.time()
    assert len(due(entry("* * * * *", missed="all"), now - 366 * 86400, now)) == 1000
    assert len(due(entry("@yearly", missed="once"), now - 366 * 86400, now)) == 1
    watch.within(1)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"cron": "0 0 30 2 *"}, "never fires"),
        ({"cron": "61 * * * *"}, "Bad minute"),
        ({"cron": "at noon"}, "Wrong number of fields"),
        ({"cron": "* * * * *", "every": 5.0}, "either a cron expression or an interval"),
        ({"cron": None}, "either a cron expression or an interval"),
        ({"cron": None, "every": 0.0}, "1 second or more"),
        ({"cron": None, "every": float("nan")}, "1 second or more"),
        ({"cron": "* * * * *", "timezone": "Mars/Olympus"}, "unknown time zone"),
        ({"cron": "* * * * *", "timezone": "../../etc/passwd"}, "unknown time zone"),
        ({"cron": "* * * * *", "missed": "never"}, "missed is once, all or skip"),
        ({"cron": "* * * * *", "name": ""}, "printable"),
        ({"cron": "* * * * *", "payload": {1, 2}}, "cannot be sent"),
    ],
)
def test_an_entry_that_cannot_be_meant_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        entry(**fields)
    assert says in str(caught.value)


def write(shop: Shop, place: Place, *entries: str, **options: str) -> None:
    head = "".join(f"{name} = {json.dumps(text)}\n" for name, text in {"url": place.url, **options}.items())
    lines = "".join(f"[[entry]]\n{one}\n" for one in entries)
    (shop.folder / "plan.toml").write_text(head + lines)


def start(shop: Shop) -> Program:
    program = shop.start("schedule", "plan.toml")
    program.ready()
    return program


def ids(place: Place, queue: str = "") -> list[str]:
    with place.client() as client:
        return [message.id for message in client.dead_letters(queue or place.queue, limit=1000)]


def test_a_file_sends_when_it_says(across: Place, shop: Shop) -> None:
    write(
        shop,
        across,
        f'name = "tick"\nevery = 1\nqueue = "{across.queue}"\n'
        'payload = { kind = "tick", n = 1 }\nheaders = { a = "b" }',
    )
    program = start(shop)
    eventually(lambda: len(ids(across)) >= 3)
    program.send(signal.SIGTERM)
    assert program.wait() == 0
    with across.client() as client:
        messages = client.dead_letters(across.queue)
    stamps = [message.headers["scheduled-at"] for message in messages]
    seconds = [dt.datetime.fromisoformat(stamp).timestamp() for stamp in stamps]
    assert [later - earlier for earlier, later in itertools.pairwise(seconds)] == [1.0] * (len(seconds) - 1)
    for message, second in zip(messages, seconds, strict=True):
        assert 0 <= message.timestamp - second < 1
        assert (message.payload, message.headers["a"]) == ({"kind": "tick", "n": 1}, "b")


@pytest.fixture(params=["file", "postgresql"])
def lock(request: pytest.FixtureRequest, shop: Shop) -> str:
    if request.param == "file":
        return str(shop.folder / "the.lock")
    server: Postgres = request.getfixturevalue("postgres")
    return server.database()


def test_one_of_several_leads_and_a_killed_leader_is_followed(across: Place, shop: Shop, lock: str) -> None:
    """Every second is sent once, over the kill -9 of a leader."""
    write(shop, across, f'name = "tick"\nevery = 1\nqueue = "{across.queue}"\nmissed = "all"', lock=lock)
    programs = [start(shop) for _ in range(3)]
    leader = eventually(lambda: [one for one in programs if one.events("leading the schedule")])[0]
    eventually(lambda: len(ids(across)) >= 2)
    assert sum(bool(one.events("leading the schedule")) for one in programs) == 1
    leader.end()
    eventually(lambda: [one for one in programs if one is not leader and one.events("leading the schedule")])
    before = len(ids(across))
    eventually(lambda: len(ids(across)) >= before + 2)
    for one in programs:
        one.end()
    sent = ids(across)
    runs = sorted(dt.datetime.fromisoformat(identity.split(":", 2)[2]).timestamp() for identity in set(sent))
    assert [later - earlier for earlier, later in itertools.pairwise(runs)] == [1.0] * (len(runs) - 1), "none is lost"
    assert len(sent) - len(runs) <= 1, "at most the one that was sent and not yet remembered is there twice"


def test_a_leader_that_is_stopped_is_followed_at_once(across: Place, shop: Shop) -> None:
    write(shop, across, f'name = "tick"\nevery = 3600\nqueue = "{across.queue}"')
    first = start(shop)
    eventually(lambda: first.events("leading the schedule"))
    second = start(shop)
    first.send(signal.SIGINT)
    assert first.wait() == 0
    eventually(lambda: second.events("leading the schedule"), patience=3)
    assert ids(across) == [], "the first start of an entry sends nothing"


@pytest.mark.parametrize(("missed", "count"), [("once", 1), ("all", 5), ("skip", 0)])
def test_what_was_missed_while_nobody_was_there(across: Place, shop: Shop, missed: str, count: int) -> None:
    """Five runs of an hour each were missed, as the memory of the last leader says."""
    write(shop, across, f'name = "hourly"\nevery = "1h"\nqueue = "{across.queue}"\nmissed = "{missed}"')
    now = time.time()
    if now % 3600 < 15:
        now -= 15  # the last run is not to be on time
    (shop.folder / "plan.toml.lock.json").write_text(json.dumps({"hourly": now - now % 3600 - 4.5 * 3600}))
    program = start(shop)
    eventually(lambda: program.events("leading the schedule"))
    eventually(lambda: len(ids(across)) == count)
    program.send(signal.SIGTERM)
    assert program.wait() == 0
    assert len(ids(across)) == count
    again = start(shop)
    eventually(lambda: again.events("leading the schedule"))
    again.send(signal.SIGTERM)
    assert again.wait() == 0
    assert len(ids(across)) == count, "once remembered, it is not sent again"


def test_the_broker_away_delays_and_loses_nothing(shop: Shop, tmp_path: Any) -> None:
    """Here: the queue's file is locked by another program for longer than a send may take."""
    path = tmp_path / "queue.db"
    url = f"sqlite:///{path}?busy_timeout=0.2&send_timeout=0.5"
    (shop.folder / "plan.toml").write_text(
        f'url = "{url}"\n[[entry]]\nname = "tick"\nevery = 1\nqueue = "q"\nmissed = "all"\n'
    )
    program = start(shop)
    with anyqueue.sync.connect(url) as client:
        eventually(lambda: client.depth("q").total)
        with locked(path):
            eventually(lambda: program.events_like("a scheduled message was not sent"))
        eventually(lambda: client.depth("q").total >= 4)
        program.end()
        runs = [message.headers["scheduled-at"] for message in client.dead_letters("q")]
    seconds = sorted({dt.datetime.fromisoformat(stamp).timestamp() for stamp in runs})
    assert [later - earlier for earlier, later in itertools.pairwise(seconds)] == [1.0] * (len(seconds) - 1)


class locked:  # noqa: N801 -- a context manager
    """Holds the lock of a queue's file, as another writer does."""

    def __init__(self, path: Any) -> None:
        self.path = path

    def __enter__(self) -> None:
        import fcntl  # noqa: PLC0415 -- only here
        import os  # noqa: PLC0415 -- only here

        self.file = os.open(f"{self.path}-lock", os.O_RDWR)
        fcntl.flock(self.file, fcntl.LOCK_EX)
        self.connection = sqlite3.connect(self.path, isolation_level=None)
        self.connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, *_: object) -> None:
        import os  # noqa: PLC0415 -- only here

        self.connection.execute("ROLLBACK")
        self.connection.close()
        os.close(self.file)


def test_list_shows_the_next_times(across: Place, shop: Shop) -> None:
    write(shop, across, 'name = "a"\ncron = "0 12 * * *"\nqueue = "q"\ntimezone = "Europe/Berlin"')
    (line,) = shop.run("schedule", "plan.toml", "--list", "--after", "1742900000").splitlines()
    assert json.loads(line)["next"] == ["2025-03-25T11:00:00Z", "2025-03-26T11:00:00Z", "2025-03-27T11:00:00Z"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "missing required field `url`"),
        ("url = 1", "Expected `str`"),
        ("not toml", "plan.toml: "),
        ('url = "sqlite:///q.db"\nentry = []', "there is no [[entry]]"),
        ('url = "sqlite:///q.db"\n[[entry]]\nname = "a"\nqueue = "q"\ncron = "0 0 31 2 *"', "never fires"),
        ('url = "sqlite:///q.db"\n[[entry]]\nname = "a"\nqueue = "q"\nevery = "often"', "an interval is"),
        ('url = "sqlite:///q.db"\n[[entry]]\nname = "a"\nqueue = "q"\nevry = 1', "unknown field `evry`"),
        ('url = "sqlite:///q.db"\n[[entry]]\nname = "a"\nevery = 1', "either a queue or a topic"),
        (
            'url = "sqlite:///q.db"\n[[entry]]\nname = "a"\nqueue = "q"\nevery = 1\npayload = 2025-01-01',
            "cannot be sent",
        ),
        ('url = "sqlite:///q.db"\nlock = "oracle://x"\n[[entry]]\nname = "a"\nqueue = "q"\nevery = 1', "lock"),
        ('url = "sqlite:///q.db"\nlock = "sqlite:///x"\n[[entry]]\nname = "a"\nqueue = "q"\nevery = 1', "PostgreSQL"),
        ('url = "sqlite:///q.db"\nlock = "/no/such/x"\n[[entry]]\nname = "a"\nqueue = "q"\nevery = 1', "/no/such/x"),
    ],
)
def test_a_bad_file_is_one_clear_line(shop: Shop, text: str, says: str) -> None:
    (shop.folder / "plan.toml").write_text(text)
    assert says in shop.fails("schedule", "plan.toml")


def test_a_file_that_is_not_there_is_one_clear_line(shop: Shop) -> None:
    assert "plan.toml" in shop.fails("schedule", "plan.toml")


TASKS = """
import os
from anyqueue import Retry
from anyqueue.worker import Worker
worker = Worker(os.environ["QUEUE_URL"], schedule_lock="the.lock")

@worker.cron(every=1, retry=Retry(attempts=2, initial=0.05))
async def tick(message):
    with open(os.environ["JOURNAL"], "a") as journal:
        journal.write(f"tick {message.id} {message.attempt}\\n")
    if message.attempt == 1 and message.id.endswith("0Z"):
        raise ValueError("every tenth fails once")
"""


@pytest.fixture
def ticking(across: Place, shop: Shop) -> Iterator[Shop]:
    (shop.folder / "tasks.py").write_text(TASKS)
    yield shop.at(across)
    across.delete("cron.tick", "cron.tick.dead")


def test_cron_in_a_worker_is_sent_by_one_process_and_handled_by_one(ticking: Shop) -> None:
    program = ticking.worker("--processes", "2")
    program.ready(2)
    eventually(lambda: len(ticking.wrote("tick")) >= 4)
    program.send(signal.SIGTERM)
    assert program.wait() == 0
    assert len(program.events("leading the schedule")) == 1
    runs = [line.split()[0] for line in ticking.wrote("tick") if line.endswith(" 1")]
    assert len(runs) == len(set(runs)), "each run is handled once"


def test_a_cron_handler_that_cannot_be_meant_is_refused() -> None:
    worker = Worker("memory://refused")
    for arguments, says in (
        ({"expression": "never"}, "Wrong number of fields"),
        ({}, "either a cron expression or an interval"),
        ({"every": "soon"}, "an interval is"),
        ({"every": 5, "timezone": "Nowhere"}, "unknown time zone"),
    ):
        with pytest.raises(ConfigError, match=says):
            worker.cron(**arguments)(print)
    assert worker.handlers == worker.entries == []


def test_a_memory_that_cannot_be_written_stops_nothing_and_is_said(across: Place, shop: Shop) -> None:
    """As on a full disk: here a folder is where the file is to be."""
    write(shop, across, f'name = "tick"\nevery = 1\nqueue = "{across.queue}"')
    (shop.folder / "plan.toml.lock.json.new").mkdir()
    program = start(shop)
    eventually(lambda: len(ids(across)) >= 2)
    assert program.events_like("the schedule's memory could not be written")
    (shop.folder / "plan.toml.lock.json").write_text("[1]")
    program.end()
    assert "no memory of a scheduler" in shop.fails("schedule", "plan.toml")
