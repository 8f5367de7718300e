"""The few XML documents of S3 that presigned requests need, read and written.

Read by expression, not by a parser: they are flat, and no entity can be made to explode.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.sax.saxutils import escape, unescape

from dreamer.daemon.origin.faults import OriginError
from dreamer.daemon.origin.listing import ListedPart
from dreamer.daemon.origin.ranges import declared_size

_CODE = re.compile(r"<Code>([A-Za-z0-9.]{1,64})</Code>")
_UPLOAD = re.compile(r"<Upload>(.*?)</Upload>", re.DOTALL)
_PART = re.compile(r"<Part>(.*?)</Part>", re.DOTALL)
_S3_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_ENTITIES = {"&quot;": '"', "&#34;": '"'}


def code(said: str) -> str:
    """Return the code of an error; empty if there is none."""
    found = _CODE.search(said)
    return found[1] if found else ""


def field(said: str, name: str) -> str:
    """Return the text of the first element of a name; empty if there is none."""
    found = re.search(rf"<{name}>([^<]*)</{name}>", said)
    return unescape(found[1], _ENTITIES) if found else ""


def uploads_of(said: str, key: str) -> list[str]:
    """Return the ids of a key's uploads in a ListMultipartUploadsResult, the last begun first."""
    found = [each for each in _UPLOAD.findall(said) if field(each, "Key") == key]
    # ISO 8601 in UTC: what is later sorts later.
    found.sort(key=lambda each: field(each, "Initiated"), reverse=True)
    return [field(each, "UploadId") for each in found]


def parts_of(what: str, said: str) -> list[ListedPart]:
    """Return the parts in a page of a ListPartsResult.

    Raises:
        OriginError: it can't be read; ``what`` it is about.
    """
    return [_listed_part(what, each) for each in _PART.findall(said)]


def _listed_part(what: str, said: str) -> ListedPart:
    number, size = field(said, "PartNumber"), field(said, "Size")
    if declared_size(number) is None or declared_size(size) is None:
        raise OriginError(f"{what}: a list of parts that can't be read; check the endpoint URL")
    return ListedPart(int(number), int(size), field(said, "ETag"))


def part_list(etags: Sequence[str]) -> bytes:
    """Return the body of CompleteMultipartUpload for parts from number 1."""
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag></Part>"
        for number, etag in enumerate(etags, 1)
    )
    document = f'<CompleteMultipartUpload xmlns="{_S3_NAMESPACE}">{parts}</CompleteMultipartUpload>'
    return document.encode()
