"""What the owner of a tracker sets: TURN servers, their secret, and the buckets of rooms."""

from __future__ import annotations

import json

import pytest

from dreamer.protocol.errors import InputError
from dreamer.protocol.origin import parse_origin
from dreamer.tracker.config import Given, resolve
from dreamer.tracker.room.lends import Lends

ROOM = "ab" * 32
URI = "turn:turn.lab:3478"


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret"
    path.touch(mode=0o600)
    path.write_bytes(b" s3cret\n")
    return path


def from_file(tmp_path, text: str) -> Lends:
    file = tmp_path / "config.toml"
    file.write_text(text)
    return resolve(Given(data="d", config=file), {}).lends


def test_nothing_is_lent_unless_it_is_set():
    assert resolve(Given(data="d"), {}).lends == Lends()


def test_turn_servers_come_from_the_file_or_the_environment(tmp_path, secret):
    text = f'[tracker]\nturn_urls = ["{URI}"]\nturn_secret_file = "{secret}"\nturn_ttl_s = 90\n'
    found = from_file(tmp_path, text).turn
    assert (found.uris, found.secret, found.ttl_s) == ((URI,), b"s3cret", 90)
    environ = {
        "DREAMER_TRACKER_TURN_URLS": f"{URI}, turns:turn.lab",
        "DREAMER_TRACKER_TURN_SECRET_FILE": str(secret),
    }
    found = resolve(Given(data="d"), environ).lends.turn
    assert (found.uris, found.ttl_s) == ((URI, "turns:turn.lab"), 600)


def test_secret_that_others_can_read_is_refused(tmp_path, secret):
    text = f'[tracker]\nturn_urls = ["{URI}"]\nturn_secret_file = "{secret}"\n'
    for mode in (0o640, 0o604, 0o620):
        secret.chmod(mode)
        with pytest.raises(InputError, match="chmod 600"):
            from_file(tmp_path, text)
    secret.chmod(0o600)
    for content in (b"", b"\n", b"x" * 5000):
        secret.write_bytes(content)
        with pytest.raises(InputError, match="static-auth-secret"):
            from_file(tmp_path, text)
    secret.unlink()
    with pytest.raises(InputError, match="can't read turn_secret_file"):
        from_file(tmp_path, text)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (f'turn_urls = ["{URI}"]', "belong together"),
        ('turn_secret_file = "SECRET"', "belong together"),
        ('turn_urls = ["http://h"]\nturn_secret_file = "SECRET"', "TURN URI"),
        (f'turn_urls = ["{URI}"]\nturn_secret_file = "SECRET"\nturn_ttl_s = 5', "60 to 86400"),
        (f'turn_urls = ["{URI}"]\nturn_secret_file = "SECRET"\nturn_ttl_s = 1.5', "whole number"),
        (f'turn_urls = ["{URI}"]\nturn_secret_file = "SECRET"\nturn_ttl_s = true', "whole number"),
        ('origins = "s3://models"', "must be a table"),
        (f'[tracker.origins]\n{ROOM} = "s3://models"', "table of tables"),
        (f"[tracker.origins.{ROOM}]", "missing or unknown fields: url"),
        (f'[tracker.origins.{ROOM}]\nurl = "s3://models"\nbucket = "x"', "bucket"),
        (f'[tracker.origins.{ROOM}]\nurl = "http://models"', "s3://BUCKET"),
        (f"[tracker.origins.{ROOM}]\nurl = 5", "url must be text"),
        ('[tracker.origins.lab]\nurl = "s3://models"', "64 lower-case hex"),
        (f'[tracker.origins.{ROOM}]\nurl = "s3://models"\nendpoint_url = "h"', "https://HOST"),
    ],
)
def test_mistake_is_named(tmp_path, secret, lines, words):
    with pytest.raises(InputError, match=words):
        from_file(tmp_path, "[tracker]\n" + lines.replace("SECRET", str(secret)))


def test_rooms_have_their_buckets_from_the_file_or_as_json_from_the_environment(tmp_path):
    text = (
        f'[tracker.origins.{ROOM}]\nurl = "s3://models/lab"\n'
        f'[tracker.origins.{"cd" * 32}]\nurl = "s3://other"\nendpoint_url = "http://m:9000"\n'
    )
    wanted = {
        bytes.fromhex(ROOM): parse_origin("s3://models/lab", None),
        b"\xcd" * 32: parse_origin("s3://other", "http://m:9000"),
    }
    assert from_file(tmp_path, text).origins == wanted
    table = {ROOM: {"url": "s3://models/lab"}}
    environ = {"DREAMER_TRACKER_ORIGINS": json.dumps(table)}
    found = resolve(Given(data="d"), environ).lends.origins
    assert found == {bytes.fromhex(ROOM): parse_origin("s3://models/lab", None)}
    with pytest.raises(InputError):
        resolve(Given(data="d"), {"DREAMER_TRACKER_ORIGINS": "[]"})
