"""The same scenario and seed are the same run in any process and on any Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
NEEDS = ("blake3", "cryptography", "msgpack", "msgspec", "numpy")
"""What the engine and the core import; a whole installation would take minutes."""

RUN = """
from dreamer.simulations.engine.outcome import simulate
from dreamer.simulations.scenario.model import Group, ModelSpec, OriginSpec, Scenario, Wish
takers = Group("takers", 8, pulls=(Wish("m", 0, 1),), nat="port_restricted", slow_share=0.2)
liar = Group("liar", 1, holds=("m",), misdeed="bad_blocks")
room = Scenario("any", "", (ModelSpec("m", 1),), (takers, liar), block_mib=16,
                origin=OriginSpec(holds=("m",)), until_s=3600)
print(simulate(room).engine.trace_hash)
"""


def trace_hash(python: Path, hash_seed: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(ROOT / ".typing"), "PYTHONHASHSEED": hash_seed}
    command = [str(python), "-W", "error", "-c", RUN]
    return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout


def other_pythons() -> dict[str, Path]:
    """Return an interpreter of each later version that there is, by its name."""
    names = [f"python3.{minor}" for minor in range(11, 15)]
    places = [Path(found) for name in names if (found := shutil.which(name))]
    places += sorted(Path.home().glob(".pyenv/versions/3.*/bin/python"))
    own, found = f"{sys.version_info[0]}.{sys.version_info[1]}", dict[str, Path]()
    for place in places:
        asked = [str(place), "-c", "import sys; print(*sys.version_info[:2], sep='.')"]
        version = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
        if version != own and version.startswith("3.") and int(version[2:]) >= 11:
            found.setdefault(version, place)
    return found


def test_run_does_not_depend_on_how_python_hashes() -> None:
    assert len({trace_hash(Path(sys.executable), seed) for seed in ("0", "1", "2")}) == 1


def test_run_is_the_same_on_another_python(tmp_path) -> None:
    found = other_pythons()
    if not found:
        pytest.skip("there is no other Python from 3.11 on on this machine")
    _, python = max(found.items())
    subprocess.run([str(python), "-m", "venv", str(tmp_path)], check=True)
    install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    pinned = ("--constraint", str(ROOT / "constraints.txt"))
    other = tmp_path / "bin" / "python"
    subprocess.run([str(other), *install, *pinned, *NEEDS], check=True)
    assert trace_hash(other, "0") == trace_hash(Path(sys.executable), "0")
