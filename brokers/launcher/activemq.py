"""ActiveMQ Classic, with STOMP.

Debian's start script changes user and hangs on a directory that it may not write, so java runs the jar.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from launcher import certificates, probes
from launcher.broker import Broker
from launcher.place import LOOPBACK, LaunchError
from launcher.processes import Command

if TYPE_CHECKING:
    from launcher.broker import Node

HOME: Final = Path("/usr/share/activemq")
XSTREAM: Final = ("/usr/share/java/xstream.jar", "/usr/share/java/xpp3.jar")
"""What makes a map readable over STOMP: the broker answers questions for its statistics with one."""
PASSWORD: Final = "anyqueue"  # noqa: S105 -- of stores made for tests
JAVA: Final = ("-Xms64m", "-Xmx512m", "-XX:+UseSerialGC")
"""A small heap."""
MORE: Final = "JDK_JAVA_OPTIONS"
"""What java itself reads further options from; tests start it with one compiler."""


class ActiveMQ(Broker):
    """One broker."""

    name = "activemq"
    packages = ("activemq", "libxstream-java", "openssl")
    programs = (str(HOME / "bin" / "activemq.jar"), *XSTREAM, "/usr/bin/openssl")
    offsets = ({"stomp": 40, "stomps": 41, "openwire": 42},)
    main = "stomp"
    tls = True

    def prepare(self, node: Node) -> None:
        """Write its configuration, and the certificates in Java's form."""
        stores = node.folder / "stores"
        _make_stores(certificates.folder(node.place), stores)
        self.render(node, "activemq.xml", stores=stores)
        self.render(node, "log4j.properties")

    def command(self, node: Node) -> Command:
        """Run the jar."""
        properties = {
            "activemq.home": HOME,
            "activemq.base": node.folder,
            "activemq.conf": node.folder,
            "activemq.data": node.data,
            "activemq.classpath": os.pathsep.join([str(node.folder), *XSTREAM]),
            "log4j.configuration": f"file:{node.folder / 'log4j.properties'}",
            "java.io.tmpdir": node.folder,
            "java.awt.headless": "true",
        }
        options = [f"-D{name}={value}" for name, value in properties.items()]
        start = ["-jar", str(HOME / "bin" / "activemq.jar"), "start", f"xbean:file:{node.folder / 'activemq.xml'}"]
        environment = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LANG": "C.UTF-8", "HOME": str(node.folder)}
        if more := os.environ.get(MORE):
            environment[MORE] = more
        return Command(argv=["java", *JAVA, *options, *start], environment=environment)

    def probe(self, node: Node) -> None:
        """Log in."""
        probes.stomp(LOOPBACK, node.ports["stomp"], "anyqueue")

    def urls(self, node: Node) -> dict[str, str]:
        """Return both listeners' of STOMP; OpenWire is for the witness, which alone can delete a queue by it."""
        return {name: f"{name}://anyqueue:anyqueue@127.0.0.1:{node.ports[name]}" for name in ("stomp", "stomps")}


def _make_stores(tls: Path, stores: Path) -> None:
    """Put the server's certificate and the authority into PKCS #12, unless they are there and newer."""
    made = stores / "made"
    if made.exists() and made.stat().st_mtime >= (tls / "made").stat().st_mtime:
        return
    shutil.rmtree(stores, ignore_errors=True)
    stores.mkdir()
    password = ["-passout", f"pass:{PASSWORD}"]
    files = ["-in", str(tls / "server.pem"), "-inkey", str(tls / "server.key"), "-out", str(stores / "server.p12")]
    _run("openssl", "pkcs12", "-export", "-name", "server", *files, *password)
    trust = ["-file", str(tls / "ca.pem"), "-keystore", str(stores / "ca.p12")]
    _run("keytool", "-importcert", "-noprompt", "-alias", "ca", "-storetype", "PKCS12", "-storepass", PASSWORD, *trust)
    made.touch()


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)  # noqa: S603 -- our words
    if done.returncode:
        raise LaunchError(f"{argv[0]} {argv[1]} failed: {(done.stderr or done.stdout).strip()[-500:]}")
