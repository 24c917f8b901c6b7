"""What `anyqueue compare` decides and draws: pure. That it runs is in test_compare_run.py."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser
from typing import Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyqueue import ConfigError, Feature, Limits
from anyqueue.compare import Cell, Guarantee, Latency, Recovery, Report, Row, Settings, page, targets_of
from anyqueue.compare.plan import LEAST_SIZE, main_size, prefix, sizes_of, steps, why_no_kill
from anyqueue.compare.scale import Scale, around, even_step, smoothed
from anyqueue.compare.tally import EDGES, Tally, histogram, latency_of, quantile
from anyqueue.compare.words import duration, rate, short, size, verdict

CONFIRMS: Final = Feature.CONFIRM | Feature.REDELIVER


# Plan


def test_a_url_may_have_a_label_and_no_two_have_one() -> None:
    texts = ["amqp://u:p@a/", "Old one=amqp://u:p@a/?queue_type=classic", "amqp://u:p@a/?heartbeat=1", "memory://a"]
    assert [target.label for target in targets_of(texts)] == [
        "amqp://a",
        "Old one",
        "amqp://a?heartbeat=1",
        "memory://a",
    ]
    assert [target.label for target in targets_of(["memory://a"] * 3)] == [
        "memory://a",
        "memory://a (2)",
        "memory://a (3)",
    ]


@pytest.mark.parametrize("text", ["amqp://u:secret@[/", "x=amqp://ada:secret@a:b:c/", "secret", "://secret", ""])
def test_what_is_no_url_is_a_target_that_fails_and_tells_nothing(text: str) -> None:
    (target,) = targets_of([text])
    assert "secret" not in target.shown
    assert "secret" not in target.label


def test_passwords_are_not_shown() -> None:
    (target,) = targets_of(["amqp://ada:secret@host/"])
    assert (target.shown, target.label) == ("amqp://ada:***@host/", "amqp://host")


def test_sizes_over_the_limit_are_left_out() -> None:
    settings = Settings(sizes=(100, 1024, 16384))
    assert sizes_of(settings, Limits(max_body=1024)) == [100, 1024]
    assert {step.size for step in steps(settings, CONFIRMS, Limits(max_body=1024))} == {100, 1024}
    assert list(steps(settings, CONFIRMS, Limits(max_body=10))) == []


def test_what_nobody_confirms_is_measured_with_a_receiver_only() -> None:
    weak = {step.operation for step in steps(Settings(), Feature.COMPETING, Limits())}
    assert weak == {"through", "slow"}
    assert {step.operation for step in steps(Settings(), CONFIRMS, Limits())} == weak | {"send", "send_many"}


@settings(deadline=None)
@given(st.lists(st.integers(LEAST_SIZE, 10**7), min_size=1, max_size=6))
def test_one_of_the_sizes_is_the_main_one(sizes: list[int]) -> None:
    assert main_size(sizes) in sizes


def test_a_kill_needs_another_process_and_redelivery() -> None:
    memory, other = targets_of(["memory://a", "sqlite:///a"])
    assert "one process only" in why_no_kill(memory, CONFIRMS, Settings())
    assert "refused" in why_no_kill(other, Feature.CONFIRM, Settings())
    assert why_no_kill(other, CONFIRMS, Settings()) == ""
    assert why_no_kill(other, CONFIRMS, Settings(kill=False))


def test_a_run_has_names_of_its_own() -> None:
    assert prefix() != prefix()


@pytest.mark.parametrize(
    "wrong",
    [
        {"sizes": ()},
        {"sizes": (LEAST_SIZE - 1,)},
        {"concurrency": (0,)},
        {"seconds": 0.0},
        {"pause": -1.0},
        {"held": 0},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Settings(**wrong)  # type: ignore[arg-type]


# Tally


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), max_size=40), st.integers(LEAST_SIZE, 200))
def test_lost_and_duplicated_are_counted(came: list[int], length: int) -> None:
    tally = Tally(length)
    bodies = tally.bodies(4) + tally.bodies(6)
    assert {len(body) for body in bodies} == {length}
    for number in came:
        tally.took(bodies[number])
    assert (tally.handled, tally.waiting) == (len(set(came)), 10 - len(set(came)))
    assert tally.duplicated == len(came) - len(set(came))


def test_strangers_are_not_counted() -> None:
    tally, other = Tally(100), Tally(100)
    mine = tally.bodies(1)[0]
    assert not tally.took(other.bodies(1)[0])
    assert not tally.took(b"")
    assert not tally.took(mine[:20])
    assert tally.took(mine)
    assert (tally.handled, tally.duplicated) == (1, 0)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_every_latency_is_in_a_bin_and_the_quantiles_are_in_order(times: list[float]) -> None:
    assert sum(histogram(times)) == len(times)
    found = latency_of(times, 100)
    assert found is not None
    assert min(times) <= found.median <= found.p90 <= found.p99 <= found.most == max(times)


def test_the_quantiles_are_the_nearest_there_are() -> None:
    ordered = [float(number) for number in range(1, 101)]
    assert [quantile(ordered, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1.0, 50.0, 99.0, 100.0]
    assert latency_of([], 100) is None


# Words and axes


def test_figures_have_the_digits_that_count() -> None:
    assert [rate(value) for value in (0.04, 9.44, 217.3, 999.4, 4567, 45_678)] == [
        *("0.0", "9.4", "217", "999", "4,570", "45,700"),
    ]
    assert [short(value) for value in (217, 1234, 45_678)] == ["217", "1.2k", "46k"]
    assert [duration(value) for value in (84e-6, 1.24e-3, 0.0996, 0.9996, 3.14, 120.4)] == [
        *("84 µs", "1.2 ms", "100 ms", "1.0 s", "3.1 s", "120 s"),
    ]
    assert [size(value) for value in (100, 1024, 16384, 1536, 2**20)] == [
        "100 B",
        "1 KiB",
        "16 KiB",
        "1.5 KiB",
        "1 MiB",
    ]
    assert verdict(Recovery(held=3, first=0.1, lost=2)) == "2 lost"
    assert verdict(Recovery(note="why")) == "-"


@settings(deadline=None)
@given(st.lists(st.floats(1e-6, 1e6), min_size=1))
def test_an_axis_holds_every_value_and_has_lines(values: list[float]) -> None:
    low, high = around(values, (1, 10))
    assert low <= min(values)
    assert high >= max(values) * 0.998
    scale = Scale(low, high, 10, 110)
    assert all(10 <= scale.at(value) <= 110 for value in values)
    assert 1 <= len(scale.ticks()) <= 13
    assert scale.at(0) == 10


def test_an_even_axis_begins_at_zero() -> None:
    scale = Scale(0, 1600, 0, 100, logarithmic=False)
    assert scale.ticks() == [0, 500, 1000, 1500]
    assert (scale.at(0), scale.at(800), scale.at(1e9)) == (0, 50, 100)
    assert around([], (1, 7)) == (1, 7)
    assert even_step(0.03) == pytest.approx(0.05)


def test_a_hill_stays_as_high_as_it_is_wide() -> None:
    assert sum(smoothed([0, 0, 0, 10, 0, 0, 0])) == pytest.approx(10)


# Page


def report(*rows: Row) -> Report:
    return Report(
        anyqueue="1",
        python="3",
        machine="Linux",
        cores=2,
        at=time.time(),
        seconds=12.0,
        sizes=[100, 1024],
        concurrency=[1, 32],
        pause=0.02,
        rows=list(rows),
    )


def whole_row(label: str) -> Row:
    """Return a row with everything."""
    cells = [
        Cell(operation=operation, size=length, concurrency=at_once, messages=100, seconds=0.1)
        for operation in ("send", "send_many", "through", "slow")
        for length in (100, 1024)
        for at_once in (1, 32)
    ]
    counts = [0] * (len(EDGES) - 1)
    counts[20:24] = [1, 5, 3, 1]
    return Row(
        label=label,
        url="x://host",
        guarantees=[
            Guarantee(feature=feature.name or "", kind=kind, note=f"because of {feature.name}")
            for feature, kind in zip(Feature, ("native", "emulated", "refused") * 9, strict=False)
        ],
        cells=cells,
        latency=Latency(size=1024, samples=10, median=1e-3, p90=2e-3, p99=3e-3, most=4e-3, counts=counts),
        recovery=Recovery(held=10, first=0.1, last=0.2),
    )


class Reader(HTMLParser):
    """Checks that every element is closed, and gathers what the page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.count: dict[str, int] = {}
        self.fetched: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Count it; note what it names."""
        self.count[tag] = self.count.get(tag, 0) + 1
        self.fetched += [value for name, value in attrs if name in {"src", "href", "srcset", "data", "action"}]
        if tag not in {"meta", "link", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Count it."""
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        """See that it closes the last that was opened."""
        assert self.open.pop() == tag


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    return reader


def test_the_page_is_whole_and_fetches_nothing() -> None:
    text = page(report(whole_row("one"), whole_row("two"), Row(label="dead", url="y://", error="nobody answers")))
    reader = read(text)
    assert reader.fetched == ["data:,"]
    assert not re.search(r"@import|url\(|<script", text)
    assert reader.count["svg"] == 4
    assert reader.count["circle"] >= 2 * 2 * 2
    assert len(text.encode()) <= 1_000_000
    assert "prefers-color-scheme: dark" in text
    for said in ("nobody answers", "because of DELAY", "100 B", "1 KiB", "median"):
        assert said in text


def test_a_page_of_hundreds_of_backends_is_small_enough() -> None:
    assert len(page(report(*(whole_row(f"backend {number}") for number in range(80)))).encode()) <= 1_000_000


@pytest.mark.parametrize("rows", [[], [Row(label="a", url="b", error="c")], [Row(label="a", url="b")]])
def test_a_page_of_nothing_is_a_page(rows: list[Row]) -> None:
    read(page(report(*rows)))


def test_what_others_wrote_is_text() -> None:
    evil = "<script>alert(1)</script>\"'&"
    row = whole_row(evil)
    row.url, row.error, row.left = evil, evil, [evil]
    row.recovery = Recovery(note=evil)
    assert "<script" not in page(report(row))


def test_a_report_is_read_back() -> None:
    made = report(whole_row("one"))
    assert msgspec.json.decode(msgspec.json.encode(made), type=Report) == made
