"""JSON Lines -> messages. Lines are handed on as they arrive, so that a slow pipe is not waited for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from io import BufferedReader

CHUNK: Final = 1024 * 1024
MAX_LINE: Final = 32 * 1024 * 1024
"""More than any message may be; what is longer is no line at all."""
Numbered = tuple[int, bytes]
"""A line's number, from 1, and the line without its end."""


def batches(file: BufferedReader) -> Iterator[list[Numbered]]:
    """Yield the lines that are there, in lists, empty lines left out; wait for more until the end of the file."""
    number, rest = 0, b""
    while chunk := file.read1(CHUNK):
        *lines, rest = (rest + chunk).split(b"\n")
        yield _numbered(lines, number)
        number += len(lines)
        if len(rest) > MAX_LINE:
            raise ValueError(f"line {number + 1} is longer than {MAX_LINE:,} bytes")
    yield _numbered([rest], number)


def _numbered(lines: Iterable[bytes], before: int) -> list[Numbered]:
    return [(number, line) for number, line in enumerate(lines, before + 1) if line.strip()]


def defect(line: bytes, max_body: int) -> str | None:
    """Say why a line cannot be sent as JSON; None: it can."""
    if len(line) > max_body:
        return f"{len(line):,} bytes, over the limit of {max_body:,}"
    try:
        json.loads(line.decode(), parse_constant=_refuse)
    except UnicodeDecodeError:
        return "not UTF-8"
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"
    return None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"JSON has no {constant}")
