"""Requests for URLs and their answers, to JSON and back."""

from __future__ import annotations

import pytest

from dreamer.protocol.errors import InputError
from dreamer.protocol.presign import (
    Operation,
    SignedUrls,
    UrlRequest,
    parse_requests,
    parse_signed,
    requests_to_json,
)

REQUESTS = (
    UrlRequest(Operation.GET, "k"),
    UrlRequest(Operation.HEAD, "k"),
    UrlRequest(Operation.PUT, "k"),
    UrlRequest(Operation.CREATE_UPLOAD, "k"),
    UrlRequest(Operation.PUT_PART, "k", "upload", 7),
    UrlRequest(Operation.LIST_PARTS, "k", "upload"),
    UrlRequest(Operation.LIST_PARTS, "k", "upload", 7),
    UrlRequest(Operation.COMPLETE_UPLOAD, "k", "upload"),
    UrlRequest(Operation.ABORT_UPLOAD, "k", "upload"),
    UrlRequest(Operation.READ_REGISTRY, "k"),
    UrlRequest(Operation.WRITE_REGISTRY, "k"),
    UrlRequest(Operation.WRITE_REGISTRY, "k", etag='"abc"'),
)


def test_requests_come_back_as_they_were_sent():
    assert parse_requests(requests_to_json(REQUESTS)) == REQUESTS


def test_registry_is_written_on_a_condition_whatever_is_asked_for():
    first = UrlRequest(Operation.WRITE_REGISTRY, "k")
    next_one = UrlRequest(Operation.WRITE_REGISTRY, "k", etag='"abc"')
    assert first.condition == {"If-None-Match": "*"}
    assert next_one.condition == {"If-Match": '"abc"'}
    assert UrlRequest(Operation.READ_REGISTRY, "k").condition == {}


@pytest.mark.parametrize(
    "etag", ["", "*", '"a","b"', '"a" ', '"a', 'a"', 'W/"a', "ä", "a\n", '""', "x" * 200]
)
def test_etag_that_is_not_one_tag_is_refused(etag):
    with pytest.raises(InputError):
        UrlRequest(Operation.WRITE_REGISTRY, "k", etag=etag)


@pytest.mark.parametrize("operation", [each for each in Operation if not each.of_registry])
def test_etag_is_for_the_registry_alone(operation):
    with pytest.raises(InputError):
        UrlRequest(operation, "k", etag='"abc"')


def test_every_operation_has_its_method_and_few_read():
    assert {each.method for each in Operation} == {"GET", "HEAD", "PUT", "POST", "DELETE"}
    reading = [Operation.GET, Operation.HEAD, Operation.READ_REGISTRY]
    assert [each for each in Operation if each.reads] == reading


@pytest.mark.parametrize(
    ("operation", "upload", "part"),
    [
        (Operation.GET, "u", None),
        (Operation.GET, None, 1),
        (Operation.PUT_PART, "u", None),
        (Operation.PUT_PART, None, 1),
        (Operation.PUT_PART, "u", 0),
        (Operation.PUT_PART, "u", 10_001),
        (Operation.COMPLETE_UPLOAD, "u", 1),
        (Operation.ABORT_UPLOAD, None, None),
        (Operation.ABORT_UPLOAD, "", None),
        (Operation.ABORT_UPLOAD, "u\n", None),
        (Operation.ABORT_UPLOAD, "u" * 1025, None),
    ],
)
def test_upload_and_part_are_there_where_they_belong(operation, upload, part):
    with pytest.raises(InputError):
        UrlRequest(operation, "k", upload, part)


def test_answer_comes_back_as_it_was_sent_and_shows_no_url():
    signed = SignedUrls(("http://h/secret", "http://h/other"), 60)
    assert parse_signed(signed.to_json(), 2) == signed
    assert "secret" not in repr(signed)
    with pytest.raises(InputError):
        parse_signed(signed.to_json(), 3)
