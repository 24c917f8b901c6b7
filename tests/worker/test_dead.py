"""`anyqueue dead`, as a shell sees it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from places import Place, Shop

    from anyqueue import sync


def bury(client: sync.Client, queue: str) -> list[str]:
    """Send three messages and let each die of something else; return their ids."""
    sent = [
        client.send(queue, {"to": "ada", "n": 1}, headers={"tenant": "eu"}),
        client.send(queue, {"to": "bob", "n": 2}, headers={"tenant": "us"}),
        client.send(queue, b"\xff\x1b[31m"),
    ]
    with client.consumer(queue, retry=None) as messages:
        for message in messages.receive(3, timeout=10):
            if message.headers.get("tenant") == "eu":
                message.reject("timeout after 30 s")
            else:
                with message:
                    raise OSError("no route to [bold]host\x1b[31m")
    return sent


def test_list_shows_when_how_often_and_why(across: Place, shop: Shop) -> None:
    with across.client() as client:
        sent = bury(client, across.queue)
    dead = f"{across.queue}.dead"
    rows = [json.loads(line) for line in shop.run("dead", "list", across.url, dead, "--json").splitlines()]
    assert {row["id"] for row in rows} == set(sent)
    assert {row["reason"] for row in rows} == {"timeout after 30 s", "failed: OSError: no route to [bold]host\x1b[31m"}
    assert {(row["attempts"], row["origin"]) for row in rows} == {(1, across.queue)}
    table = shop.run("dead", "list", across.url, dead, COLUMNS="200")
    assert "no route to [bold]host" in table
    assert "\x1b" not in table
    limited = shop.run("dead", "list", across.url, dead, "--json", "--limit", "2")
    assert "stopped at 2" in limited


@pytest.mark.parametrize(
    ("match", "count"),
    [
        (["reason=*timeout*"], 1),
        (["exception=OSError*"], 2),
        (["header.tenant=?s"], 1),
        (["payload.to=ada"], 1),
        (["payload.n=2", "payload.to=bob"], 1),
        (["payload.n=2", "payload.to=ada"], 0),
        (["payload.to.deeper=*"], 0),
        (["attempts=1"], 3),
        (["body=*31m"], 1),
        (["id=*"], 3),
    ],
)
def test_match_chooses(across: Place, shop: Shop, match: list[str], count: int) -> None:
    with across.client() as client:
        bury(client, across.queue)
    options = [option for each in match for option in ("--match", each)]
    assert len(shop.run("dead", "show", across.url, f"{across.queue}.dead", *options).splitlines()) == count


def test_show_is_the_whole_record(across: Place, shop: Shop) -> None:
    with across.client() as client:
        sent = bury(client, across.queue)
    out = shop.run("dead", "show", across.url, f"{across.queue}.dead", "--match", f"id={sent[1]}")
    record = json.loads(out)
    assert record["payload"] == {"to": "bob", "n": 2}
    assert record["headers"] == {"tenant": "us"}
    assert record["death"]["exception"].startswith("OSError")
    assert "test_dead.py" in record["death"]["traceback"]


def test_redrive_and_purge_do_it_to_those_that_match(across: Place, shop: Shop) -> None:
    dead = f"{across.queue}.dead"
    with across.client() as client:
        bury(client, across.queue)
        with client.consumer(f"{across.queue}-other"):
            pass  # these commands make no queue
        assert (
            shop.run("dead", "redrive", across.url, dead, "-m", "payload.to=bob") == f"redrove 1 message from {dead}\n"
        )
        (message,) = client.dead_letters(across.queue)
        assert (message.payload["to"], message.attempt, message.death) == ("bob", 1, None)
        assert shop.run("dead", "redrive", across.url, dead, "-n", "1", "--to", f"{across.queue}-other")
        across.counts(f"{across.queue}-other", total=1)
        assert shop.run("dead", "purge", across.url, dead) == f"purged 1 message from {dead}\n"
        across.counts(dead, total=0)


@pytest.mark.parametrize("command", ["list", "show", "redrive", "purge"])
def test_a_queue_that_does_not_exist_is_one_clear_line(across: Place, shop: Shop, command: str) -> None:
    with across.client() as client:
        client.send(across.queue, "x")
    said = shop.fails("dead", command, across.url, f"{across.queue}.dad")
    assert "no such queue" in said or "no queue" in said
    assert f"{across.queue}.dad" in said


@pytest.mark.parametrize("match", ["reason", "=x", "cause=x", "header=x"])
def test_a_match_that_is_none_is_one_clear_line(across: Place, shop: Shop, match: str) -> None:
    assert "is not NAME=PATTERN" in shop.fails("dead", "list", across.url, across.queue, "--match", match)


def test_what_is_no_dead_letter_of_ours_is_not_sent_anywhere(across: Place, shop: Shop) -> None:
    with across.client() as client:
        client.send(across.queue, "x")
        assert "name the queue with to=" in shop.fails("dead", "redrive", across.url, across.queue)
        across.counts(across.queue, ready=1)
