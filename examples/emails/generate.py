"""Write emails.jsonl, the demo's input: the same bytes on every run.

Most lines are good. Some go to a mail server that is away for the first one or two tries (`once.`, `twice.` before
`@flaky.example`), some to one that is always away (`@down.example`), and some are not e-mails at all.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Final

from letters import CITIES, DAYS, DOMAINS, KINDS, PEOPLE

GOOD, FLAKY, DOWN = 330, 36, 10
NOT_UTF8: Final = b'{"sender": "a@shop.example", "to": "b@mail.example", "subject": "Gr\xfc\xdfe", "body": "Latin-1"}'
DEFECTS = (
    '{"sender": "orders@shop.example", "to": "ada@mail.example", "subject": "cut off in the midd',
    "",
    "To: grace@mail.example\\nSubject: not JSON at all",
    '{"sender": "a@shop.example", "to": "b@mail.example", "subject": "NaN is no JSON", "body": NaN}',
    '["a list", "where an object should be"]',
    "null",
    '"just a string"',
    '{"to": "zoe@uni.example", "subject": "no sender", "body": "..."}',
    '{"sender": "orders@shop.example", "subject": "no address", "body": "Dear nobody,"}',
    '{"sender": "orders@shop.example", "to": "ada@mail.example", "subject": "no body"}',
    '{"sender": "orders@shop.example", "to": ["two@mail.example", "three@mail.example"], "subject": "s", "body": "b"}',
    '{"sender": "orders@shop.example", "to": 42, "subject": "a number for an address", "body": "b"}',
    '{"sender": "orders@shop.example", "to": null, "subject": "null for an address", "body": "b"}',
    '{"sender": "orders@shop.example", "to": "nobody", "subject": "an address without @", "body": "b"}',
    '{"sender": "orders@shop.example", "to": "two@@mail.example", "subject": "an address with two", "body": "b"}',
    '{"sender": "orders@shop.example", "to": "ada@", "subject": "an address without a domain", "body": "b"}',
    r'{"sender": "orders@shop.example", "to": "ada@mail.example\nBcc: all@mail.example", "subject": "s", "body": "b"}',
    r'{"sender": "orders@shop.example", "to": "ada@mail.example", "subject": "s\r\nBcc: c@mail.example", "body": ""}',
)


def letter(chance: random.Random, domain: str, prefix: str = "") -> str:
    """Return one good line to somebody at `domain`."""
    kind, (name, mailbox) = chance.choice(KINDS), chance.choice(PEOPLE)
    facts = {
        "name": name,
        "number": f"{chance.randrange(10**6):06}",
        "amount": f"{chance.randrange(500, 90_000) / 100:.2f}",
        "city": chance.choice(CITIES),
        "day": chance.choice(DAYS),
    }
    email = {
        "sender": kind.sender,
        "to": f"{prefix}{mailbox}@{domain}",
        "subject": kind.subject.format(**facts),
        "body": kind.body.format(**facts),
    }
    return json.dumps(email, ensure_ascii=False)


def lines(chance: random.Random) -> list[bytes]:
    """Return every line, shuffled."""
    texts = [letter(chance, chance.choice(DOMAINS)) for _ in range(GOOD)]
    texts += [letter(chance, "flaky.example", ("once.", "twice.")[each % 2]) for each in range(FLAKY)]
    texts += [letter(chance, "down.example") for _ in range(DOWN)]
    made = [*(text.encode() for text in (*texts, *DEFECTS)), NOT_UTF8]
    chance.shuffle(made)
    return made


if __name__ == "__main__":
    chance = random.Random(2026)  # noqa: S311 -- a fixed seed for the same file every time, no secret
    Path(__file__).with_name("emails.jsonl").write_bytes(b"\n".join(lines(chance)) + b"\n")
