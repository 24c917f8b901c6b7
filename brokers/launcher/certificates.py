"""Throw-away certificates, made with openssl: an authority, a server, a client, and servers that must be refused."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from launcher.place import LaunchError

if TYPE_CHECKING:
    from pathlib import Path

    from launcher.place import Place

HERE: Final = "DNS:localhost,IP:127.0.0.1,IP:::1"
LONG_AGO: Final = ("20200101000000Z", "20200102000000Z")
LONG: Final = ("20200101000000Z", "20491231235959Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """One of them; a server's where it has names."""

    subject: str
    names: str = ""
    valid: tuple[str, str] = LONG
    authority: str = "ca"


CERTIFICATES: Final = {
    "server": Certificate(subject="localhost", names=HERE),
    "client": Certificate(subject="anyqueue"),
    "expired": Certificate(subject="localhost", names=HERE, valid=LONG_AGO),
    "wrong-host": Certificate(subject="elsewhere.invalid", names="DNS:elsewhere.invalid"),
    "untrusted": Certificate(subject="localhost", names=HERE, authority="stranger"),
}
_AUTHORITY: Final = """
[ca]
default_ca = it
[it]
database = {folder}/index
new_certs_dir = {folder}
serial = {folder}/serial
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
[extensions]
basicConstraints = critical,CA:false
keyUsage = critical,digitalSignature
extendedKeyUsage = {usage}
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
{names}
"""
_SIGNS: Final = "keyUsage=critical,keyCertSign,cRLSign"
"""RFC 5280, 4.2.1.3: of an authority. Python 3.13 and newer verify strictly, and ask for it."""


def folder(place: Place) -> Path:
    """Return where they are."""
    return place.folder / "tls"


def describe(place: Place) -> dict[str, object]:
    """Name the files."""
    where = folder(place)
    pairs = {
        name: {"certificate": str(where / f"{name}.pem"), "key": str(where / f"{name}.key")} for name in CERTIFICATES
    }
    return {"ca": str(where / "ca.pem"), "certificates": pairs}


def ensure(place: Place) -> None:
    """Make them all where one is missing, or where they are not the ones described here."""
    where = folder(place)
    described = {name: repr(certificate) for name, certificate in CERTIFICATES.items()}
    plan = json.dumps({**described, "signed": [_AUTHORITY, _SIGNS]}, indent=1)
    done = where / "made"
    with place.lock("tls"):
        if done.exists() and done.read_text() == plan:
            return
        where.mkdir(mode=0o700, exist_ok=True)
        done.unlink(missing_ok=True)
        for authority in ("ca", "stranger"):
            _make_authority(where, authority)
        for name, certificate in CERTIFICATES.items():
            _make(where, name, certificate)
        done.write_text(plan)


def _make_authority(where: Path, name: str) -> None:
    key = _key(where, name)
    subject = ["-subj", f"/CN=anyqueue test authority {name}", "-days", "9000"]
    _openssl("req", "-x509", "-new", "-key", str(key), *subject, "-addext", _SIGNS, "-out", str(where / f"{name}.pem"))


def _make(where: Path, name: str, certificate: Certificate) -> None:
    """Sign one. `openssl ca` is the command that can set a past date."""
    work = where / "work"
    work.mkdir(exist_ok=True)
    (work / "index").write_text("")
    (work / "serial").write_text(f"{list(CERTIFICATES).index(name) + 16:02x}\n")
    names = f"subjectAltName = {certificate.names}" if certificate.names else ""
    usage = "serverAuth" if certificate.names else "clientAuth"
    configuration = work / "openssl.cnf"
    configuration.write_text(_AUTHORITY.format(folder=work, usage=usage, names=names))
    request = work / f"{name}.csr"
    _openssl("req", "-new", "-key", str(_key(where, name)), "-subj", f"/CN={certificate.subject}", "-out", str(request))
    start, end = certificate.valid
    signer = [
        "-cert",
        str(where / f"{certificate.authority}.pem"),
        "-keyfile",
        str(where / f"{certificate.authority}.key"),
    ]
    dates = ["-startdate", start, "-enddate", end, "-extensions", "extensions"]
    files = ["-in", str(request), "-out", str(where / f"{name}.pem")]
    _openssl("ca", "-batch", "-notext", "-config", str(configuration), *signer, *dates, *files)


def _key(where: Path, name: str) -> Path:
    path = where / f"{name}.key"
    _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(path))
    return path


def _openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)  # noqa: S603, S607 -- fixed words; from PATH
    if done.returncode:
        raise LaunchError(f"openssl {arguments[0]} failed: {done.stderr.strip()[-500:]}")
