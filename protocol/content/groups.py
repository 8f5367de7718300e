"""Groups: named subsets of a model (``layer.3.expert.5``, ``tokenizer``), as ranges of files."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from dreamer.protocol.errors import ManifestError
from dreamer.protocol.limits import GROUP_NAME_MAX_BYTES, GROUP_RANGES_MAX, GROUPS_MAX


@dataclass(frozen=True)
class Range:
    """``length`` bytes at ``offset`` of the manifest's file number ``file_index``."""

    file_index: int
    offset: int
    length: int

    @property
    def end(self) -> int:
        """The offset just past the range."""
        return self.offset + self.length


@dataclass(frozen=True)
class Group:
    """A named subset; its ranges are in order and don't touch."""

    name: str
    ranges: tuple[Range, ...]


def check_groups(groups: Sequence[Group], sizes: Sequence[int]) -> None:
    """Refuse groups that don't fit files of ``sizes`` bytes, or could be written another way.

    Raises:
        ManifestError: the message names the group.
    """
    if len(groups) > GROUPS_MAX:
        raise ManifestError(f"more than {GROUPS_MAX} groups")
    # Together, not each: the product of two bounds would be no bound.
    if sum(len(group.ranges) for group in groups) > GROUP_RANGES_MAX:
        raise ManifestError(f"more than {GROUP_RANGES_MAX} ranges in all groups")
    for group in groups:
        _check_group(group, sizes)
    # One order only, or the same model could have two ids.
    if any(one.name >= other.name for one, other in pairwise(groups)):
        raise ManifestError("groups are not sorted by name, or a name is there twice")


def _check_group(group: Group, sizes: Sequence[int]) -> None:
    if not 0 < len(group.name.encode(errors="replace")) <= GROUP_NAME_MAX_BYTES:
        raise ManifestError(f"a group's name must have 1 to {GROUP_NAME_MAX_BYTES} bytes")
    if any(unicodedata.category(character)[0] == "C" for character in group.name):
        raise ManifestError(f"group {group.name!r} holds a control or invisible character")
    if not group.ranges:
        raise ManifestError(f"group {group.name!r} is empty")
    for part in group.ranges:
        _check_range(group.name, part, sizes)
    for one, other in pairwise(group.ranges):
        # Ranges that meet are one range, and must be written as one.
        if (one.file_index, one.end) >= (other.file_index, other.offset):
            raise ManifestError(f"group {group.name!r} has ranges that meet or are not sorted")


def _check_range(name: str, part: Range, sizes: Sequence[int]) -> None:
    in_file = 0 <= part.file_index < len(sizes) and part.offset >= 0 and part.length > 0
    if not in_file or part.end > sizes[part.file_index]:
        raise ManifestError(f"group {name!r} has a range outside its file: {part}")
