"""Installs Dreamer from a clone of this checkout's last commit, and uses it.

Usage: python tests/fresh_clone.py            (or: make fresh)

Everything happens in a temporary directory with an environment that holds next to nothing; all of
it is removed at the end. Exits 0 when the clone can be installed, explains itself, packs into a
wheel with every package, and moves a model between two nodes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
FOLDERS = ("daemon", "protocol", "simulations", "tracker")
STEP_TIMEOUT_S = 900.0
MIB = 2**20

# What a machine needs to reach its package index is its own affair.
KEPT = ("PATH", "HOME", "LANG")
KEPT_PREFIXES = ("PIP_", "SSL_", "REQUESTS_", "HTTP", "NO_PROXY", "http", "no_proxy")


class FreshCloneError(Exception):
    """A step did not do what it should."""


def main() -> None:
    """Take all steps, saying each; exit 1 at the first that fails."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dreamer-fresh-") as scratch:
        try:
            check(Path(scratch))
        except FreshCloneError as error:
            sys.exit(f"fresh clone: {error}")
    say(f"done in {time.monotonic() - began:.0f} s")


def check(scratch: Path) -> None:
    """Clone, install and use; raises FreshCloneError."""
    clone = scratch / "dreamer"
    (scratch / "tmp").mkdir()
    environ = clean_environment(scratch / "tmp")
    commit = run(["git", "rev-parse", "--short", "HEAD"], CHECKOUT, environ).strip()
    changed = run(["git", "status", "--porcelain"], CHECKOUT, environ)
    note = " (this checkout has changes that are not in it)" if changed else ""
    say(f"cloning commit {commit}{note}")
    run(["git", "clone", "--quiet", str(CHECKOUT), str(clone)], scratch, environ)
    say("make install")
    # The base interpreter, known to be new enough, and not the virtual environment we run in.
    python = getattr(sys, "_base_executable", sys.executable)
    run(["make", "--silent", "install", f"PYTHON={python}"], clone, environ)
    check_commands(clone, environ)
    check_wheel(clone, scratch / "wheel", environ)
    say("push and pull between two nodes")
    pair = [str(clone / ".venv/bin/python"), str(Path(__file__).resolve()), "--pair"]
    say(run([*pair, str(scratch / "pair")], scratch, environ).strip())


def check_commands(clone: Path, environ: dict[str, str]) -> None:
    """Run what explains itself."""
    for argv, word in {
        ("dreamer", "--help"): "pull",
        ("dreamerd", "--help"): "--with-tracker",
        ("dreamer-tracker", "--help"): "--listen",
        ("dreamerd", "--print-default-config"): "[node]",
    }.items():
        say(" ".join(argv))
        said = run([str(clone / ".venv/bin" / argv[0]), *argv[1:]], clone, environ)
        if word not in said:
            raise FreshCloneError(f"{' '.join(argv)} does not mention {word}:\n{said}")


def check_wheel(clone: Path, target: Path, environ: dict[str, str]) -> None:
    """Build a wheel; every module must be in it, below ``dreamer`` and nowhere else."""
    say("pip wheel --no-deps .")
    pip = [str(clone / ".venv/bin/python"), "-m", "pip", "--disable-pip-version-check"]
    run([*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", str(target), "."], clone, environ)
    (wheel,) = target.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    wanted = {
        f"dreamer/{path.relative_to(clone)}"
        for folder in FOLDERS
        for path in (clone / folder).rglob("*.py")
    }
    if missing := sorted(wanted - packed):
        raise FreshCloneError(f"the wheel lacks {', '.join(missing)}: see packages in pyproject")
    tops = {name.split("/")[0] for name in packed}
    if strangers := sorted(t for t in tops if t != "dreamer" and not t.endswith(".dist-info")):
        raise FreshCloneError(f"the wheel would install {', '.join(strangers)} at the top level")
    say(f"the wheel holds all {len(wanted)} modules, below dreamer alone")


def move_a_model(root: Path) -> None:
    """Run two nodes of the Python that this runs in, and pull from one to the other."""
    from dreamer.simulations.loopback import Node, tracker

    root.mkdir()
    source = root / "model"
    source.mkdir()
    content = os.urandom(3 * MIB)
    (source / "weights.bin").write_bytes(content)
    with tracker(root / "tracker") as url, Node(root / "A") as a, Node(root / "B") as b:
        a.dreamer("room", "create", "lab", "--tracker", url)
        b.dreamer("room", "join", a.dreamer("room", "invite", "lab")["token"])
        a.dreamer("push", str(source), "--room", "lab", "--alias", "fresh")
        receipt = b.dreamer("pull", "fresh", "--room", "lab")
    same = (Path(receipt["path"]) / "weights.bin").read_bytes() == content
    if not same or receipt["bytes"]["direct"] != len(content):
        raise FreshCloneError(f"the pull did not bring the model from the peer: {receipt}")
    say(f"3 MiB from the peer in {receipt['seconds']:.2f} s")


def clean_environment(scratch: Path) -> dict[str, str]:
    """Return an environment with little in it, whose temporary files go to ``scratch``."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in KEPT or name.startswith(KEPT_PREFIXES)
    }
    return {**kept, "TMPDIR": str(scratch), "PYTHONDONTWRITEBYTECODE": "1"}


def run(argv: list[str], where: Path, environ: dict[str, str]) -> str:
    """Run a program to its end; return what it wrote to stdout.

    Raises:
        FreshCloneError: it failed or took too long.
    """
    try:
        done = subprocess.run(
            argv,
            cwd=where,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=STEP_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise FreshCloneError(f"{argv[0]} took longer than {STEP_TIMEOUT_S:.0f} s") from error
    if done.returncode != 0:
        command = " ".join(argv)
        raise FreshCloneError(f"{command} exited {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def say(text: str) -> None:
    """Print a line of progress, now."""
    print(text, flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--pair"]:
        move_a_model(Path(sys.argv[2]))
    else:
        main()
