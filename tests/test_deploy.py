"""The samples in ``deploy/`` say what the program understands."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dreamer.daemon.config_file import parse_config
from dreamer.daemon.main import _parser
from dreamer.daemon.setting_checks import split_address
from dreamer.protocol.cache_limits import WORKER_STOP_MARGIN_S
from dreamer.protocol.limits import SHUTDOWN_MAX_S

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"


@pytest.fixture(scope="module")
def pod():
    """The pod of the deployment."""
    (deployment,) = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    return deployment["spec"]["template"]["spec"]


def containers(pod):
    return [*pod["initContainers"], *pod["containers"]]


def settings(container):
    environ = {one["name"]: one.get("value", "by the cluster") for one in container["env"]}
    return parse_config("", environ)


def test_pod_sets_what_the_node_understands(pod):
    for container in containers(pod):
        config = settings(container)
        assert config.models.preload
        assert config.worker.kind == "auto"
        _parser().parse_args(container.get("args", []))


def test_pod_lasts_as_long_as_the_node_was_told(pod):
    (container,) = pod["containers"]
    assert pod["terminationGracePeriodSeconds"] == settings(container).worker.grace_s
    assert settings(container).worker.grace_s > WORKER_STOP_MARGIN_S


def test_probes_ask_where_the_node_answers(pod):
    (container,) = pod["containers"]
    (port,) = container["ports"]
    listen = split_address(settings(container).api.probe_listen)
    assert listen == ("0.0.0.0", port["containerPort"])
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness")}
    assert all(one == {"path": "/ready", "port": port["name"]} for one in probes.values())
    assert container["livenessProbe"]["httpGet"] == {"path": "/health", "port": port["name"]}


def test_pod_mounts_what_it_names_and_can_write_nothing_else(pod):
    volumes = {one["name"]: one for one in pod["volumes"]}
    for container in containers(pod):
        mounts = {one["mountPath"]: one for one in container["volumeMounts"]}
        assert {one["name"] for one in mounts.values()} == volumes.keys()
        config = settings(container)
        token = Path(config.worker.join_token_file)
        assert mounts[str(token.parent)]["readOnly"]
        assert config.node.models_dir in mounts
        # Where the session's home is made when the image's can't be written.
        assert "/tmp" in mounts
        assert container["securityContext"]["readOnlyRootFilesystem"]


def test_unit_is_what_systemd_understands(tmp_path):
    if not (verify := shutil.which("systemd-analyze")):
        pytest.skip("no systemd-analyze here")
    text = (DEPLOY / "dreamerd.service").read_text()
    program = re.search(r"(?m)^ExecStart=(\S+)", text)[1]
    here = tmp_path / "dreamerd.service"
    # Verified is whether the program is there, too.
    here.write_text(text.replace(program, str(Path(sys.executable).parent / "dreamerd")))
    said = subprocess.run(
        [verify, "verify", "--man=no", "--recursive-errors=no", str(here)],
        capture_output=True,
        text=True,
    )
    ours = [line for line in said.stderr.splitlines() if "dreamerd" in line]
    assert (said.returncode, ours) == (0, []), said.stderr


def test_unit_waits_for_the_node_and_lets_it_end():
    text = (DEPLOY / "dreamerd.service").read_text()
    found = dict(re.findall(r"(?m)^(\w+)=(.*)$", text))
    assert (found["Type"], found["TimeoutStartSec"]) == ("notify", "infinity")
    assert float(found["TimeoutStopSec"]) > SHUTDOWN_MAX_S


def test_image_copies_what_is_there_and_starts_the_node():
    text = (DEPLOY / "Dockerfile").read_text()
    copied = re.findall(r"(?m)^COPY (?!--from)(.+) \S+$", text)
    missing = [name for line in copied for name in line.split() if not (ROOT / name).exists()]
    assert missing == []
    # Every package that setuptools is to install is copied.
    assert {"daemon", "protocol", "simulations", "tracker"} <= {
        w for c in copied for w in c.split()
    }
    assert 'ENTRYPOINT ["dreamerd"]' in text
    known = {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "EXPOSE"}
    known |= {"STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT"}
    lines = re.sub(r"\\\n", " ", text).splitlines()
    assert [one for one in lines if one and one[0] != "#" and one.split()[0] not in known] == []
