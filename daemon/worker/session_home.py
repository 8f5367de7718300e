"""A home for one session: where an ephemeral worker keeps its state if its own can't be written.

It lies in a temporary directory, at a name that follows from the home, so that the ``dreamer``
command finds the daemon there without being told; so does the next ``dreamerd`` after a crash.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from dreamer.daemon.places import Places
from dreamer.daemon.worker.surroundings import can_write
from dreamer.protocol.errors import LocalError

# The last one is memory, and there even where nothing of the file system can be written.
_TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - each is checked before it is used
_NAME_DIGITS = 8


def session_homes(home: Path, environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield where the session's home for ``home`` may be, the best place first."""
    digest = hashlib.blake2s(str(home).encode()).hexdigest()[:_NAME_DIGITS]
    name = f"dreamer-{os.getuid()}-{digest}"
    given = (environ.get("XDG_RUNTIME_DIR"), environ.get("TMPDIR"), *_TEMPORARY)
    return (Path(base) / name for base in given if base and Path(base).is_dir())


def open_session_home(home: Path, environ: Mapping[str, str]) -> Path:
    """Return a directory for this user alone, made or taken over.

    Raises:
        LocalError: there is no place for one.
    """
    for place in session_homes(home, environ):
        # Looked at again when it is there: somebody may have made it a moment before us.
        if _ours(place) and can_write(place) and _ours(place):
            return place
    raise LocalError(
        f"the home {home} can't be written, nor can any temporary directory: mount an emptyDir "
        "at /tmp, or name a directory in TMPDIR"
    )


def existing_session_homes(home: Path, environ: Mapping[str, str]) -> list[Path]:
    """Return the session homes for ``home`` that are there and this user's."""
    return [
        place for place in session_homes(home, environ) if os.path.lexists(place) and _ours(place)
    ]


def remove_session_home(place: Path) -> None:
    """Remove a session's home with all that is in it."""
    shutil.rmtree(place, ignore_errors=True)


def in_session(places: Places, session: Path) -> Places:
    """Return the places of a node whose home is that of its session.

    A store that would lie in the home goes with it; one that was named elsewhere stays there.
    """
    inside = places.models_dir.is_relative_to(places.home)
    return Places(session, session / "models" if inside else places.models_dir)


def _ours(place: Path) -> bool:
    """Return whether nobody else could have put something in a place; not there is ours, too."""
    # Anybody can make any name in a temporary directory: a link, or a directory of their own.
    try:
        found = place.lstat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return (
        stat.S_ISDIR(found.st_mode)
        and found.st_uid == os.getuid()
        and not found.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    )
