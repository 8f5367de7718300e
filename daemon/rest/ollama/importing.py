"""A GGUF file made into a model directory, by a process of its own that is watched from here."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

from dreamer.protocol.canonical import Json, loads_lenient
from dreamer.protocol.errors import InputError, LocalError, error_from_code

MODULE = "dreamer.daemon.inference.gguf"
# No credentials: only what finds libraries and temporary space.
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "TEMP", "SYSTEMROOT", "PYTHONPATH")


async def import_steps(source: Path, output: Path) -> AsyncGenerator[tuple[int, int], None]:
    """Import ``source`` as the new directory ``output``; yield steps done, and steps in all.

    Closing the generator ends the process.

    Raises:
        InputError: the file can't be imported.
        LocalError: the disk is full, or the process died.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", MODULE, str(source), str(output)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
    )
    assert process.stdout is not None
    done = False
    try:
        async for line in process.stdout:
            said = _said(line)
            done = done or "report" in said
            if isinstance(error := said.get("error"), dict):
                raise error_from_code(str(error.get("code")), str(error.get("message")))
            if not done:
                yield int(said["done"]), int(said["total"])
        if not done:
            raise LocalError(
                "the import died half-way, maybe for want of memory: try 'dreamer import'"
            )
    finally:
        # What has closed its end is gone, or as good as gone.
        if not process.stdout.at_eof():
            process.kill()
            # A pipe that isn't read to its end stays open.
            await process.stdout.read()
        await process.wait()


def _said(line: bytes) -> Json:
    try:
        return loads_lenient(line)
    except InputError as error:
        raise LocalError(f"the import said what nobody understands: {error}") from error
