"""A release: both archives are built from the tree, hold what belongs in them, and install with each extra alone."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path
from typing import Any, Final

import pytest
from blocks import filled
from blocks import run as run_block

from anyqueue import registry

ROOT: Final = Path(__file__).parents[2]
PROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: Final[dict[str, list[str]]] = PROJECT["optional-dependencies"]
NOBODY: Final = (
    "amqp://127.0.0.1:1/",
    "stomp://127.0.0.1:1/",
    "zmq://127.0.0.1:1",
    "xmpp://ada:secret@127.0.0.1:1/",
    "gearman://127.0.0.1:1/",
)
OPENS: Final = {registry.EXTRAS[scheme]: url for url in NOBODY if (scheme := url.partition(":")[0]) in registry.EXTRAS}
"""Extra -> what opens its backend, where nobody answers: a failed connection with the extra, a hint without."""
TRY: Final = """
import sys, anyqueue.sync

for url in sys.argv[1:]:
    try:
        anyqueue.sync.connect(url, connect_timeout=2).__enter__()
    except (anyqueue.ConnectFailed, anyqueue.MissingBackend) as error:
        print(type(error).__name__, str(error).replace("\\n", " "))
"""
pytestmark = [pytest.mark.xdist_group("release"), pytest.mark.timeout(300)]


def run(*command: str | Path) -> str:
    """Run a command that must end well; return what it printed."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, cwd="/")  # noqa: S603 -- ours
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    return folder


def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


def test_an_index_would_take_both(built: Path) -> None:
    assert "PASSED" in run(sys.executable, "-m", "twine", "check", "--strict", *built.iterdir())
    assert {path.name for path in built.iterdir()} == {
        f"anyqueue-{PROJECT['version']}.tar.gz",
        f"anyqueue-{PROJECT['version']}-py3-none-any.whl",
    }


def test_the_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    source = ROOT / "src"
    ours = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    ours = {name for name in ours if "__pycache__" not in name and ".egg-info" not in name}
    with zipfile.ZipFile(wheel(built)) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == ours
    assert {Path(name).suffix for name in names if not name.endswith("py.typed")} <= {".py", *DATA}


DATA: Final = frozenset({".escript"})
"""Files of the package that are no Python."""


def test_the_source_archive_can_be_tested(built: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    for needed in ("Makefile", "LICENSE", "tests/conftest.py", "brokers/launch.py", "docs/index.md", ".ci/run"):
        assert needed in names
    assert not {name for name in names if name.startswith((".venv", ".brokers")) or "__pycache__" in name}


@pytest.mark.parametrize("extra", sorted({*EXTRAS} - {"dev", "bench", "docs"}))
def test_an_extra_installs_alone_from_the_wheel(built: Path, extra: str, tmp_path: Path) -> None:
    python = installed(f"{wheel(built)}[{extra}]", tmp_path)
    assert run(python, "-c", "import anyqueue; print(anyqueue.__version__)").strip() == PROJECT["version"]
    said = run(python, "-c", TRY, *OPENS.values()).splitlines()
    for backend, line in zip(OPENS, said, strict=True):
        if extra in {backend, "all"}:
            assert line.startswith("ConnectFailed"), line
        else:
            assert line.startswith("MissingBackend"), line
            assert f"anyqueue[{backend}]" in line
    if extra in {"cli", "all"}:
        assert PROJECT["version"] in run(tmp_path / "bin" / "anyqueue", "--version")


@pytest.mark.block("docs/tutorial.md", "pip install '.[cli]'")
def test_the_tutorial_installs_what_it_uses(block: str, tmp_path: Path) -> None:
    """From this checkout, into an environment that is no part of it."""
    here = filled(block, {"python3": sys.executable, ".venv": tmp_path / "venv"})
    assert run_block(f"{here}\ncommand -v anyqueue\nanyqueue --version", ROOT).splitlines()[-2:] == [
        str(tmp_path / "venv" / "bin" / "anyqueue"),
        f"anyqueue {PROJECT['version']}",
    ]


def installed(what: str, folder: Path) -> Path:
    """Install into a new environment; return its Python."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--no-compile",
        "--quiet",
        "--disable-pip-version-check",
        what,
    )
    return python
