"""Install Debian packages without starting what is in them.

Debian starts a service as it installs it, unless /usr/sbin/policy-rc.d forbids (invoke-rc.d(8)). That file is ours
while apt runs, and whoever's it was gets it back; launchers of several folders take turns.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from launcher.place import LaunchError, locked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

POLICY: Final = Path("/usr/sbin/policy-rc.d")
ASIDE: Final = Path("/usr/sbin/policy-rc.d.before-anyqueue")
OURS: Final = "#!/bin/sh\n# anyqueue's launcher: nothing starts while it installs\nexit 101\n"
LOCK: Final = Path("/run/lock/anyqueue-apt.lock")
PATIENCE: Final = 1800.0
"""Seconds that another launcher may take to install."""
LISTS: Final = Path("/var/lib/apt/lists")
FRESH: Final = 24 * 3600.0
"""Seconds for which the package lists are good enough."""
OPTIONS: Final = ("-y", "-qq", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3")


def installed(programs: Sequence[str]) -> bool:
    """Say whether every file, given as an absolute glob, exists."""
    return all(any(Path("/").glob(program.removeprefix("/"))) for program in programs)


def version(package: str) -> str | None:
    """Return a package's version, as Debian counts; None where it is not installed."""
    argv = ["dpkg-query", "--show", "--showformat", "${Version}", package]
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout or None  # noqa: S603 -- our words
    except (OSError, subprocess.CalledProcessError):
        return None


def ensure(programs: Sequence[str], packages: Sequence[str]) -> None:
    """Install the packages where a program of theirs is missing; say the command where that is not allowed."""
    if installed(programs):
        return
    command = f"apt-get install {' '.join(packages)}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise LaunchError(f"{packages[0]} is not installed; run: sudo {command} (on Debian 12 or like it)")
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with locked(LOCK, PATIENCE), nothing_starts():
        if not installed(programs):
            _install(packages)
    if not installed(programs):
        raise LaunchError(f"{command} did not bring all of {', '.join(programs)}: use Debian 12, or docker compose")


@contextlib.contextmanager
def nothing_starts() -> Iterator[None]:
    """Forbid services to start; put back what was there, also after a run that was killed."""
    _restore()
    if POLICY.exists():
        POLICY.rename(ASIDE)
    POLICY.write_text(OURS)
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        _restore()


def _restore() -> None:
    if POLICY.exists() and POLICY.read_text() == OURS:
        POLICY.unlink()
    if ASIDE.exists() and not POLICY.exists():
        ASIDE.rename(POLICY)


def _install(packages: Sequence[str]) -> None:
    """Install; with new lists first where they are old, or where the old ones name what is no longer there."""
    if _old():
        _apt("update")
    try:
        _apt("install", "--no-install-recommends", *packages)
    except LaunchError:
        _apt("update")
        _apt("install", "--no-install-recommends", *packages)


def _old() -> bool:
    times = [path.stat().st_mtime for path in LISTS.glob("*_Packages*")]
    return not times or time.time() - LISTS.stat().st_mtime > FRESH


def _apt(*arguments: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    argv = ["apt-get", *OPTIONS, *arguments]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 -- our words
    if done.returncode:
        raise LaunchError(f"{' '.join(argv)} failed:\n{(done.stdout + done.stderr).strip()[-2000:]}")
