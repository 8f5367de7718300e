import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamer.protocol.durations import DAY_S
from dreamer.protocol.errors import InputError
from dreamer.protocol.garbage.keys import (
    ContentKey,
    CopyKey,
    Folder,
    PushKey,
    RegistryKey,
    TemporaryKey,
    check_member_key,
    collection_key,
    expiry_after,
    folder_prefix,
    lease_key,
    parse_key,
    temporary_prefix,
)
from dreamer.protocol.ids import Digest, RoomId
from dreamer.protocol.origin import OriginAddress
from dreamer.protocol.origin_limits import (
    LIFETIMES_DAYS,
    TEMPORARY_MAX_TTL_S,
    TEMPORARY_MIN_TTL_S,
)

ROOM, OTHER = RoomId(b"R" * 32), RoomId(b"O" * 32)
HEX = "ab" * 32
LAB, ROOT = OriginAddress("bucket", "lab", None), OriginAddress("bucket", "", None)


@pytest.mark.parametrize(
    ("folder", "name", "own"),
    [
        (Folder.FILES, HEX, ContentKey(Digest(b"\xab" * 32), is_file=True)),
        (Folder.FILES, f"{HEX}.zst", ContentKey(Digest(b"\xab" * 32), is_file=True)),
        (Folder.OBJECTS, HEX, ContentKey(Digest(b"\xab" * 32), is_file=False)),
        (Folder.COPIES, "dreamer-0123abcd/a/b.bin", CopyKey("0123abcd")),
        (Folder.TEMPORARY, f"7/1800000000/files/{HEX}", TemporaryKey(1_800_000_000)),
        (Folder.TEMPORARY, f"7/1800000000/files/{HEX}.zst", TemporaryKey(1_800_000_000)),
        (Folder.PUSHES, f"{ROOM.hex()}/{'01' * 16}", PushKey(ROOM)),
        (Folder.ROOMS, f"{ROOM.hex()}/manifest.json", RegistryKey(ROOM, probe=False)),
        (Folder.ROOMS, f"{ROOM.hex()}/probe-0123456789abcdef", RegistryKey(ROOM, probe=True)),
        (Folder.FILES, HEX.upper(), None),
        (Folder.FILES, f"{HEX}.gz", None),
        (Folder.FILES, f"files/{HEX}", None),
        (Folder.COPIES, "model/a.bin", None),
        (Folder.TEMPORARY, f"7/1800000000/{HEX}", None),
        (Folder.TEMPORARY, f"7/0/files/{HEX}", None),
        (Folder.PUSHES, ROOM.hex(), None),
        (Folder.ROOMS, f"{ROOM.hex()}/other.json", None),
    ],
)
def test_keys_are_told_apart_below_any_prefix(folder, name, own):
    for address in (LAB, ROOT):
        assert parse_key(address, folder, f"{folder_prefix(address, folder)}{name}") == own


def test_keys_of_other_prefixes_are_not_ours():
    for key in (f"labs/files/{HEX}", f"files/{HEX}", f"x/lab/files/{HEX}", f"lab/x/files/{HEX}"):
        assert parse_key(LAB, Folder.FILES, key) is None


def test_members_reach_content_and_their_own_rooms_leases_only():
    below = temporary_prefix(LAB, expiry_after(60.0, 1_800_000_000.0))
    for key in (f"lab/files/{HEX}", f"{below}/objects/{HEX}", lease_key(LAB, ROOM, b"p" * 16)):
        check_member_key(LAB, ROOM, key, reads=False)
    check_member_key(LAB, ROOM, collection_key(LAB), reads=True)
    for key in (
        collection_key(LAB),
        lease_key(LAB, OTHER, b"p" * 16),
        f"lab/rooms/{ROOM.hex()}/manifest.json",
        f"{below}/../files/{HEX}",
        "lab/torrents/dreamer-0123abcd/a",
    ):
        with pytest.raises(InputError):
            check_member_key(LAB, ROOM, key, reads=False)


@given(st.floats(TEMPORARY_MIN_TTL_S, TEMPORARY_MAX_TTL_S), st.floats(1_700_000_000, 4_000_000_000))
def test_a_stores_rule_never_removes_an_upload_before_its_time(ttl_s, now):
    expires_at = expiry_after(ttl_s, now)
    assert now + ttl_s <= expires_at < now + ttl_s + 5
    days = int(temporary_prefix(LAB, expires_at).split("/")[2])
    assert days in LIFETIMES_DAYS
    # What is written from now on, goes after so many whole days at the soonest.
    assert days * DAY_S >= ttl_s
    smaller = [one for one in LIFETIMES_DAYS if one < days]
    assert all(one * DAY_S < ttl_s for one in smaller)


@pytest.mark.parametrize("ttl_s", [0.0, 0.5, TEMPORARY_MAX_TTL_S + 1, float("inf"), float("nan")])
def test_impossible_times_are_refused(ttl_s):
    with pytest.raises(InputError, match="1s to 30d"):
        expiry_after(ttl_s, 1_800_000_000.0)
