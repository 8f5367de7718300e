"""What goes with imported weights: a NOTICE of what they were made from, and their licence."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from dreamer.daemon.inference.gguf.reading import MetadataValue

_FIELDS = {
    "general.name": "Model",
    "general.organization": "Organization",
    "general.author": "Author",
    "general.license": "Licence",
    "general.license.name": "Licence name",
    "general.license.link": "Licence text",
    "general.source.url": "Source",
    "general.url": "Home page",
}


_LICENCE_NAMES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "COPYING")


def write_notice(directory: Path, metadata: Mapping[str, MetadataValue], source: Path) -> None:
    """Write NOTICE from the GGUF's metadata, and copy the licence that lies beside the GGUF.

    Raises:
        OSError: the disk is full or fails.
    """
    lines = [
        "The weights in this directory were repacked by Dreamer from the GGUF file",
        f"{source.name} into the ONNX format. The quantised values are unchanged;",
        "only their arrangement, and the order of the query and key rows, differ.",
        "",
    ]
    lines += [f"{label}: {metadata[key]}" for key, label in _FIELDS.items() if key in metadata]
    if "general.license" not in metadata:
        lines.append("The GGUF names no licence: ask its publisher before passing it on.")
    (directory / "NOTICE").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name in _LICENCE_NAMES:
        if (source.parent / name).is_file():
            shutil.copyfile(source.parent / name, directory / name)
