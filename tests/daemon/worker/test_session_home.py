"""Where a worker lives whose own home can't be written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dreamer.daemon.config_file import load_config
from dreamer.daemon.identity import NodeIdentity
from dreamer.daemon.places import find_home, find_places
from dreamer.daemon.worker import session_home
from dreamer.daemon.worker.secrets_given import Invitation, keep_given_identity
from dreamer.daemon.worker.session_home import (
    existing_session_homes,
    in_session,
    open_session_home,
    remove_session_home,
)
from dreamer.daemon.worker.settling import settle
from dreamer.protocol.errors import InputError, LocalError

HOME = Path("/unwritable/home")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An environment whose temporary directory is the test's."""
    monkeypatch.setattr(session_home, "_TEMPORARY", ())
    place = tmp_path / "tmp"
    place.mkdir()
    return {"TMPDIR": str(place)}


def test_session_home_is_for_its_user_alone_and_found_again(here):
    made = open_session_home(HOME, here)
    assert made.stat().st_mode & 0o777 == 0o700
    assert open_session_home(HOME, here) == made
    assert existing_session_homes(HOME, here) == [made]
    assert existing_session_homes(Path("/another"), here) == []


def test_what_another_user_put_there_is_not_taken(here, tmp_path):
    made = open_session_home(HOME, here)
    made.rmdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    made.symlink_to(elsewhere)
    with pytest.raises(LocalError, match="mount an emptyDir at /tmp"):
        open_session_home(HOME, here)
    made.unlink()
    made.mkdir()
    made.chmod(0o770)
    assert existing_session_homes(HOME, here) == []
    with pytest.raises(LocalError, match="TMPDIR"):
        open_session_home(HOME, here)


def test_next_directory_is_taken_where_the_first_can_not_be_used(here, tmp_path):
    (tmp_path / "run").mkdir()
    given = {**here, "XDG_RUNTIME_DIR": str(tmp_path / "run")}
    first = open_session_home(HOME, given)
    assert first.parent == tmp_path / "run"
    first.chmod(0o755)
    assert open_session_home(HOME, given).parent == tmp_path / "tmp"


def test_store_of_a_session_goes_with_it_unless_it_was_named(tmp_path):
    own = in_session(find_places(HOME, ""), tmp_path / "s")
    assert (own.home, own.models_dir) == (tmp_path / "s", tmp_path / "s" / "models")
    named = in_session(find_places(HOME, "/volume/models"), tmp_path / "s")
    assert named.models_dir == Path("/volume/models")


def test_session_home_is_removed_whole(here):
    made = open_session_home(HOME, here)
    (made / "identity").mkdir()
    (made / "identity" / "node.key").write_text("secret")
    remove_session_home(made)
    assert not made.exists()


def test_ephemeral_node_settles_in_its_session_and_a_persistent_one_does_not(here, tmp_path):
    (tmp_path / "file").write_text("in the way")
    home = str(tmp_path / "file" / "home")
    environ = {**here, "DREAMER_WORKER_KIND": "ephemeral"}
    settled = settle(home, None, environ)
    assert settled.worker.session
    assert settled.places.home.parent == tmp_path / "tmp"
    assert settle(home, None, here).places.home == Path(home)


def test_identity_from_the_environment_is_kept_and_taken_out_of_it(tmp_path):
    seed = os.urandom(32).hex()
    environ = {"DREAMER_IDENTITY": seed}
    keep_given_identity(tmp_path, environ)
    assert environ == {}
    assert (tmp_path / "identity" / "node.key").stat().st_mode & 0o777 == 0o600
    assert NodeIdentity.load_or_create(tmp_path).key.public
    keep_given_identity(tmp_path, {"DREAMER_IDENTITY": seed})
    with pytest.raises(LocalError, match="names another node"):
        keep_given_identity(tmp_path, {"DREAMER_IDENTITY": os.urandom(32).hex()})


def test_malformed_identity_is_refused_and_not_repeated(tmp_path):
    with pytest.raises(InputError, match="64 lower-case hex digits") as caught:
        keep_given_identity(tmp_path, {"DREAMER_IDENTITY": "0123secret"})
    assert "0123secret" not in str(caught.value)


def test_invitation_of_the_environment_is_taken_out_of_it(tmp_path):
    environ = {"DREAMER_JOIN_TOKEN": " dreamer1.abc\n"}
    invitation = Invitation("", environ)
    assert environ == {}
    assert invitation.read() == "dreamer1.abc"


def test_invitation_in_a_file_is_read_anew_each_time(tmp_path):
    file = tmp_path / "token"
    invitation = Invitation(str(file), {"DREAMER_JOIN_TOKEN": "dreamer1.other"})
    with pytest.raises(InputError, match="can't be read"):
        invitation.read()
    file.write_text("dreamer1.first\n")
    assert invitation.read() == "dreamer1.first"
    file.write_text("dreamer1.second\n")
    assert invitation.read() == "dreamer1.second"


def test_user_without_a_home_has_a_place_for_one(monkeypatch):
    monkeypatch.setattr("platformdirs.user_data_dir", lambda _: "~no-such-user-here/share")
    assert find_home(None, {}) == Path("/.local/share/dreamer")


def test_home_that_is_another_users_holds_no_settings_of_ours(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refused)
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert load_config(tmp_path / "config.toml", {}).worker.kind == "auto"
    with pytest.raises(InputError, match="can't be read"):
        load_config(tmp_path / "config.toml", {}, must_exist=True)
    monkeypatch.setattr(os, "access", lambda *_: True)
    with pytest.raises(InputError, match="can't be read"):
        load_config(tmp_path / "config.toml", {})
