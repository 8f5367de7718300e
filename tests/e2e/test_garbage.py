"""What a room keeps, and what of its origin goes: real daemons, an S3 server, pushes meanwhile."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from blake3 import blake3

from dreamer.daemon.client import Dreamer
from dreamer.simulations.loopback import until

pytestmark = pytest.mark.e2e

BUCKET = "models"
MIB = 2**20


@pytest.fixture(scope="module")
def nodes(team):
    """Two nodes with credentials in a room with an origin; the prefix of the room's keys."""
    a = team.node("A")
    team.room(a, "tidy", origin=True)
    b = team.member("B", a, room="tidy")
    # By a room without a registry nothing is ever collected.
    Dreamer(a.home).push(team.model("first", 3), "tidy", aliases=["first"])
    return a, b, f"{team.root.name}-tidy"


@pytest.fixture(scope="module")
def s3(team):
    client = team.s3()
    yield client
    client.close()


def keys(s3, prefix):
    found = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    return {each["Key"] for page in found for each in page.get("Contents", [])}


def an_hour_later(s3, prefix):
    """Take away the leases of pushes, which hold their content for an hour."""
    for key in keys(s3, f"{prefix}/pushes/"):
        s3.delete_object(Bucket=BUCKET, Key=key)


def file_key(prefix, data):
    return f"{prefix}/files/{blake3(data).hexdigest()}"


def test_only_what_no_model_has_goes_and_only_when_it_is_asked_for(team, s3, nodes):
    a, b, prefix = nodes
    source, other = team.model("stays", 9 * MIB, 5), team.model("goes", MIB)
    client = Dreamer(a.home)
    client.push(source, "tidy", aliases=["prod"])
    gone = client.push(other, "tidy")
    foreign = (f"{prefix}/files/notes.txt", f"{prefix}x/files/{'ab' * 32}", "somebody/else")
    for key in foreign:
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"not ours")
    client.catalogue.withdraw(gone.short_id, "tidy")
    lost = file_key(prefix, (other / "part-0.bin").read_bytes())
    # Withdrawn just now, and held by the lease of its push.
    assert client.retention.collect("tidy", apply=True).removed_keys == 0
    assert client.retention.collect("tidy", apply=True, grace_s=0).held_keys > 0
    assert lost in keys(s3, prefix)
    an_hour_later(s3, prefix)
    told = a.dreamer("room", "gc", "tidy", "--grace", "0")
    assert lost in keys(s3, prefix)
    assert told["foreign"] == [foreign[0]]
    done = b.dreamer("room", "gc", "tidy", "--apply", "--grace", "0")
    # A file, an outboard, a manifest.
    assert [(kind["keys"]) for kind in told["garbage"]] == [3] == [done["removed_keys"]]
    assert lost not in keys(s3, prefix)
    assert set(foreign) <= keys(s3, "")
    rules = s3.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
    ours = [rule for rule in rules if rule["Filter"]["Prefix"].startswith(f"{prefix}/temporary/")]
    assert sorted(rule["Expiration"]["Days"] for rule in ours) == [1, 3, 7, 30]
    lasting = [file_key(prefix, path.read_bytes()) for path in source.iterdir()]
    assert set(lasting) <= keys(s3, prefix)


def test_pushes_in_the_midst_of_collections_lose_nothing(team, s3, nodes):
    a, b, prefix = nodes
    rounds = 2
    with ThreadPoolExecutor(1) as pool:
        for number in range(rounds):
            source = team.model(f"again-{number}", 5000, 6000, 7000)
            # What a model that was withdrawn long ago left: the push finds some of it there.
            relied = [path.read_bytes() for path in sorted(source.iterdir())[:2]]
            litter = [f"{number}-{each}".encode() for each in range(60)]
            for data in (*relied, *litter):
                s3.put_object(Bucket=BUCKET, Key=file_key(prefix, data), Body=data)
            before = keys(s3, f"{prefix}/files/")
            gc = pool.submit(Dreamer(b.home).retention.collect, "tidy", apply=True, grace_s=0)
            until(
                lambda: gc.done() or len(keys(s3, f"{prefix}/files/")) < len(before),  # noqa: B023
                "the first key to go",
            )
            pushed = Dreamer(a.home).push(source, "tidy", aliases=[f"r{number}"])
            assert pushed.origin_state == "stored"
            assert gc.result().removed_keys >= len(litter)
            there = keys(s3, f"{prefix}/files/")
            for path in source.iterdir():
                assert file_key(prefix, path.read_bytes()) in there, path.name
            for data in litter:
                assert file_key(prefix, data) not in there


def test_rules_are_set_by_an_admin_and_told(team, watch, nodes):
    a, b, _ = nodes
    assert a.dreamer("room", "policy", "tidy")["said"] == []
    refused = b.try_dreamer("room", "policy", "tidy", "--keep-last", "3")
    watch.one_line(refused, "admin")
    set_to = a.dreamer("room", "policy", "tidy", "--keep-last", "3", "--max-age", "90d")
    assert set_to["rules"]["max_age_s"] == 90 * 86_400
    assert b.dreamer("room", "policy", "tidy")["rules"]["keep_last"] == 3
    found = b.dreamer("room", "retain", "tidy", "--apply")
    # All of it was published within the hour.
    assert found["going"] == []
    assert any("alias prod" in one["reasons"] for one in found["kept"])
    assert Dreamer(a.home).retention.policy("tidy").said[0] == "the last 3 of each alias"
    assert a.dreamer("room", "policy", "tidy", "--clear")["said"] == []
