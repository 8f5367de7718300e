"""Everything that can go wrong, drawn once; the type says whose fault it is.

::

    DreamerError                    has .code (stable, for programs) and a message for people
    ├── InputError                  what the user or a local file gave us is wrong
    │   ├── ManifestError           a manifest breaks a rule of the format
    │   ├── NoMatchError            a reference names nothing
    │   └── AmbiguousError          a reference names several models
    ├── LocalError                  our own machine can't do it (disk full, file damaged, held home)
    │   ├── DiskError               the disk refuses now: a pull waits until that is mended
    │   ├── StoppedError            the work was asked to stop before its end
    │   ├── BusyError               as much is asked of it already as it takes: ask again later
    │   └── LocalProtocolError      our own code broke the protocol: a bug
    ├── RemoteError                 somebody else failed (tracker away, origin refused)
    │   ├── RemoteProtocolError     a peer broke the protocol: it is blamed and dropped
    │   └── ConflictError           somebody else changed it first: read it again and retry
    │       └── StaleError          what was decided upon has changed since: decide again
    └── ForbiddenError              a signature, token, role or budget says no

Every message ends with what to do next when a person can do something about it.
"""

from __future__ import annotations


class DreamerError(Exception):
    """The root of every error that Dreamer raises on purpose."""

    code = "error"


class InputError(DreamerError):
    """What the user or a file gave us can't be used."""

    code = "bad_input"


class ManifestError(InputError):
    """A manifest breaks a rule of the format."""

    code = "bad_manifest"


class NoMatchError(InputError):
    """A reference names nothing that is known here."""

    code = "no_match"


class AmbiguousError(InputError):
    """A reference names more than one model."""

    code = "ambiguous"


class LocalError(DreamerError):
    """This machine can't do it now."""

    code = "local"


class DiskError(LocalError):
    """The disk is full, read-only, not ours to write, or has lost what was on it.

    The message is ``problem`` and ``hint``, what to do next. For work that goes on by itself once
    that is mended, ``remedy`` is all there is to do.
    """

    code = "disk"

    def __init__(self, problem: str, hint: str = "", remedy: str = "see to that") -> None:
        super().__init__(f"{problem}: {hint}" if hint else problem)
        self.problem = problem
        self.remedy = remedy


class StoppedError(LocalError):
    """The work was asked to stop; nothing is left half-done that would be taken for whole."""

    code = "stopped"


class BusyError(LocalError):
    """As much is asked of this machine as it takes; ``retry_after_s`` is a guess in seconds."""

    code = "busy"

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class LocalProtocolError(LocalError):
    """We broke the protocol ourselves: a bug of ours, never the peer's fault."""

    code = "bug"


class RemoteError(DreamerError):
    """Another machine failed or can't be reached."""

    code = "remote"


class RemoteProtocolError(RemoteError):
    """A peer broke the protocol; it is to blame."""

    code = "peer_fault"


class ConflictError(RemoteError):
    """What is to be changed was changed by somebody else since it was read."""

    code = "conflict"


class StaleError(ConflictError):
    """What a change was decided upon has changed since: to repeat it would undo another's work."""

    code = "stale"


class ForbiddenError(DreamerError):
    """A signature, a token, a role or a budget says no."""

    code = "forbidden"


def error_from_code(code: str, message: str) -> DreamerError:
    """Rebuild the error that crossed a process or a socket as ``code`` and ``message``."""
    return _BY_CODE.get(code, DreamerError)(message)


def _tree(root: type[DreamerError]) -> list[type[DreamerError]]:
    return [root, *(found for child in root.__subclasses__() for found in _tree(child))]


_BY_CODE: dict[str, type[DreamerError]] = {kind.code: kind for kind in _tree(DreamerError)}
