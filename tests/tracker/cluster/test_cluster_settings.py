from __future__ import annotations

import pytest

from dreamer.protocol.errors import InputError
from dreamer.tracker.cluster.redis_bus import RedisBus, shown
from dreamer.tracker.config import Given, resolve

URL = "redis://127.0.0.1:6379"


def test_tracker_is_alone_with_one_process_unless_told_otherwise():
    config = resolve(Given(data="d"), {})
    assert (config.redis, config.workers) == ("", 1)


def test_redis_and_workers_come_from_options_environment_and_file(tmp_path):
    config = resolve(Given(data="d", redis=URL, workers="4"), {})
    assert (config.redis, config.workers) == (URL, 4)
    environ = {"DREAMER_TRACKER_REDIS": URL, "DREAMER_TRACKER_WORKERS": "3"}
    config = resolve(Given(data="d"), environ)
    assert (config.redis, config.workers) == (URL, 3)
    file = tmp_path / "tracker.toml"
    file.write_text(f'[tracker]\nredis = "{URL}"\nworkers = 2\n')
    config = resolve(Given(data="d", config=file), {})
    assert (config.redis, config.workers) == (URL, 2)


@pytest.mark.parametrize("count", ["0", "65", "-1", "two", "1.5", "²"])
def test_number_of_workers_that_cannot_be_is_refused(count):
    with pytest.raises(InputError, match="workers must be from 1 to 64"):
        resolve(Given(data="d", redis=URL, workers=count), {})


def test_workers_need_something_that_joins_them():
    with pytest.raises(InputError, match="start a redis-server"):
        resolve(Given(data="d", workers="2"), {})


@pytest.mark.parametrize("url", ["http://lab:1", "lab:6379", "", "redis://lab:port"])
def test_what_is_no_url_of_redis_is_refused(url):
    with pytest.raises(InputError, match="redis must be a URL"):
        RedisBus(url)


def test_password_in_a_url_is_not_shown():
    assert shown("redis://user:secret@lab:6379/1") == "redis://…@lab:6379/1"
    assert shown("redis://:secret@[::1]:6379") == "redis://…@[::1]:6379"
    assert shown(URL) == URL
    assert "secret" not in shown("redis://:secret@[lab")
