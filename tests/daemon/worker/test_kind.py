"""Which kind of worker a node is, by what it sees of where it runs."""

from __future__ import annotations

import pytest

from dreamer.daemon.worker.kind import Facts, Worker, decide
from dreamer.daemon.worker.surroundings import Mount, parse_mountinfo, read_facts

DISK = Facts(cluster="", writable=True, fs_type="ext4")
POD = Facts(cluster="Kubernetes", writable=True, fs_type="ext4")

MOUNTS = r"""22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
600 22 0:52 / /pod rw,relatime - overlay overlay rw,lowerdir=/a,upperdir=/b
601 600 0:53 / /pod/memory rw - tmpfs tmpfs rw,size=1024k
602 600 254:1 /kubelet/pods/1/volumes/kubernetes.io~empty-dir/work /pod/work rw - ext4 /dev/vda1 rw
603 600 0:60 /claim /pod/claim rw,relatime shared:7 master:2 - nfs4 server:/claim rw
604 600 254:2 / /pod/with\040space rw - xfs /dev/vdb rw
605 601 254:2 / /pod/memory rw - xfs /dev/vdb rw
rubbish
"""


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        (DISK, "persistent"),
        (Facts(cluster="", writable=True, fs_type="tmpfs"), "persistent"),
        (Facts(cluster="", writable=False), "persistent"),
        (POD, "persistent"),
        (Facts("Kubernetes", writable=True, fs_type="nfs4"), "persistent"),
        (Facts("Kubernetes", writable=False, fs_type="ext4"), "ephemeral"),
        (Facts("Kubernetes", writable=True, fs_type="overlay"), "ephemeral"),
        (Facts("Run:ai", writable=True, fs_type="tmpfs"), "ephemeral"),
        (Facts("Kubernetes", writable=True, fs_type="ext4", empty_dir=True), "ephemeral"),
        (Facts("Kubernetes", writable=True, fs_type=""), "persistent"),
    ],
)
def test_auto_means_ephemeral_where_the_home_goes_with_the_pod(facts, kind):
    assert decide("auto", facts).kind == kind


def test_setting_wins_over_what_is_seen():
    gone = Facts("Kubernetes", writable=True, fs_type="tmpfs")
    assert decide("persistent", gone).kind == "persistent"
    assert decide("ephemeral", DISK) == Worker("ephemeral", "[worker] kind says so")


def test_reason_names_cluster_and_home():
    assert decide("auto", Facts("Run:ai", writable=False)).why == (
        "it runs in Run:ai, and its home can't be written"
    )
    assert "tmpfs" in decide("auto", Facts("Kubernetes", writable=True, fs_type="tmpfs")).why
    assert "emptyDir" in decide("auto", Facts("Kubernetes", True, "ext4", empty_dir=True)).why


def test_only_an_ephemeral_worker_gets_another_home():
    unwritable = Facts("Kubernetes", writable=False)
    assert decide("auto", unwritable).session
    assert decide("ephemeral", unwritable).session
    assert not decide("persistent", unwritable).session
    assert not decide("auto", Facts("", writable=False)).session
    assert not decide("ephemeral", DISK).session


def test_mounts_are_read_as_the_kernel_writes_them():
    found = parse_mountinfo(MOUNTS)
    assert len(found) == 7
    assert found[5] == Mount("/", type(found[5].point)("/pod/with space"), "xfs")


@pytest.mark.parametrize(
    ("home", "fs_type", "empty_dir"),
    [
        ("root/dreamer", "ext4", False),
        ("pod/home", "overlay", False),
        ("pod/work/home", "ext4", True),
        ("pod/claim", "nfs4", False),
        ("pod/memory/home", "xfs", False),  # the last mount at a point covers the others
    ],
)
def test_home_belongs_to_the_deepest_mount_around_it(tmp_path, home, fs_type, empty_dir):
    table = tmp_path / "mountinfo"
    table.write_text(MOUNTS.replace(" /pod", f" {tmp_path}/pod"))
    facts = read_facts(tmp_path / home, {}, table, tmp_path / "none")
    assert (facts.fs_type, facts.empty_dir, facts.writable) == (fs_type, empty_dir, True)


@pytest.mark.parametrize(
    ("environ", "account", "cluster"),
    [
        ({}, False, ""),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, False, "Kubernetes"),
        ({}, True, "Kubernetes"),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "RUNAI_JOB_NAME": "train"}, True, "Run:ai"),
    ],
)
def test_cluster_is_known_by_environment_or_service_account(tmp_path, environ, account, cluster):
    mounted = tmp_path / "serviceaccount"
    if account:
        mounted.mkdir()
    assert read_facts(tmp_path / "home", environ, service_account=mounted).cluster == cluster


def test_home_that_can_not_be_made_is_not_writable(tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert not read_facts(tmp_path / "file" / "home", {}).writable


def test_trying_the_home_leaves_nothing_in_it(tmp_path):
    assert read_facts(tmp_path / "home", {}).writable
    assert list((tmp_path / "home").iterdir()) == []
