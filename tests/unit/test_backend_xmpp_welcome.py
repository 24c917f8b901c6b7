"""A refusal of credentials that were taken before passes for a while; any other is final at once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from anyqueue.backends.xmpp import welcome
from anyqueue.backends.xmpp.welcome import GRACE, Welcome, log_in
from anyqueue.errors import AuthFailed, ConnectFailed


def test_only_what_was_taken_before_may_be_refused_for_a_while() -> None:
    known = Welcome()
    assert not known.may_pass(1, 0.0)
    known.taken = 1
    assert not known.may_pass(2, 0.0)
    assert known.may_pass(1, 100.0)
    assert known.may_pass(1, 100.0 + GRACE - 0.1)
    assert not known.may_pass(1, 100.0 + GRACE)


async def test_a_client_outlives_a_server_that_refuses_it_while_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(welcome, "AGAIN", 0.0)
    monkeypatch.setattr(welcome, "_welcomes", {})
    answers: list[Exception | None] = []

    class Server:
        url = "xmpp://model"
        target = SimpleNamespace(service="pubsub", username="u", domain="d", password="secret")  # noqa: S106 -- a model's

        async def open(self) -> None:
            if (answer := answers.pop(0)) is not None:
                raise answer

    server: Any = Server()
    answers[:] = [AuthFailed("no"), None, AuthFailed("starting"), ConnectFailed("away"), None]
    with pytest.raises(AuthFailed):
        await log_in(server)
    await log_in(server)
    with pytest.raises(ConnectFailed, match="were taken before") as caught:
        await log_in(server)
    assert isinstance(caught.value.__cause__, AuthFailed)
    with pytest.raises(ConnectFailed, match="away"):
        await log_in(server)
    await log_in(server)
    monkeypatch.setattr(welcome, "GRACE", 0.0)
    answers[:] = [AuthFailed("revoked")]
    with pytest.raises(AuthFailed, match="revoked"):
        await log_in(server)
