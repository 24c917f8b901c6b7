"""A stream's document as it comes in: read by slixmpp's parser, here, with limits. What comes may be an attack."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree as ET

import slixmpp

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MAX_STANZA: Final = 16 * 1024 * 1024
"""Bytes that may come without a stanza being complete; more is an attack, not a list."""
MAX_LOGIN: Final = 256 * 1024
"""The same, from a server at which we are not logged in."""


class Unwell(Exception):
    """What came is not XMPP."""


class Reading(slixmpp.ClientXMPP):  # type: ignore[misc]  # slixmpp has no types
    """A client that hands each stanza to take(); what is no XML, has a document type or has no end, ends the stream."""

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 -- slixmpp's own
        super().__init__(*arguments, **options)
        self.heard = time.monotonic()
        """When the server said something last."""
        self._living = False
        self._unread = 0
        self._prolog = b""

    def take(self, stanza: Element) -> None:
        """Have a stanza."""
        raise NotImplementedError

    def cut(self, why: Exception | None = None) -> None:
        """End it at once."""
        raise NotImplementedError

    def init_parser(self) -> None:
        """Begin a stream's document; its head may have no document type."""
        super().init_parser()
        self._prolog = b""

    def data_received(self, data: bytes) -> None:
        """Read what came."""
        self.heard = time.monotonic()
        if self.parser is None:
            return
        try:
            self._read(data)
        except (ET.ParseError, Unwell) as error:
            self.cut(error)

    def _read(self, data: bytes) -> None:
        parser = self.parser
        self._unread += len(data)
        if self._unread > (MAX_STANZA if self._living else MAX_LOGIN):
            raise Unwell(f"a stanza that has no end after {self._unread:,} bytes")
        if self.xml_depth == 0:
            self._prolog = (self._prolog + data)[:4096]
            if b"<!" in self._prolog:
                raise Unwell("a document type, which XMPP forbids")
        parser.feed(data)
        if hasattr(parser, "flush"):
            parser.flush()  # newer parsers keep the end of a stanza back until more comes
        for event, element in parser.read_events():
            if event == "start":
                self._begin(element)
            else:
                self._end(element)

    def _begin(self, element: Element) -> None:
        if self.xml_depth == 0:
            self.xml_root = element
            self.start_stream_handler(element)
        self.xml_depth += 1

    def _end(self, element: Element) -> None:
        self.xml_depth -= 1
        if self.xml_depth == 0:
            self.cut()
        elif self.xml_depth == 1:
            self._unread = 0
            self.take(element)
            if self.xml_root is not None:
                self.xml_root.clear()
