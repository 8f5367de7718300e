"""Running a model: here, on a peer that serves it, or nowhere, and the command says which."""

from __future__ import annotations

import pytest

from dreamer.daemon.client import Dreamer
from dreamer.daemon.surfaces.inference import RunEnded, RunStarted, RunText
from dreamer.simulations.loopback import until
from dreamer.simulations.tiny_model import write_tiny_gguf

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

PROMPT = ("talker", "Say something.", "--room", "lab")
TOKENS = ("--max-tokens", "12")


@pytest.fixture(scope="module")
def talker(team, lab):
    """A tiny decoder that A imported and pushed; A runs it for nobody else."""
    gguf, directory = team.root / "tiny.gguf", team.root / "talker"
    write_tiny_gguf(gguf)
    lab[0].dreamer("import", str(gguf), "--output", str(directory))
    return lab[0].dreamer("push", str(directory), "--room", "lab", "--alias", "talker")


@pytest.fixture(scope="module")
def server(team, lab, talker):
    """A node that runs models for others."""
    node = team.member("server", lab[0], env={"DREAMER_INFERENCE_SERVE_PEERS": "true"})
    node.dreamer("pull", "talker", "--room", "lab")
    return node


@pytest.fixture(scope="module")
def spoken(lab, talker):
    """What A says to the prompt, running the model itself."""
    return lab[0].dreamer("run", *PROMPT, *TOKENS, "--where", "local")


def test_nobody_serves_unless_told_to(lab, talker, watch):
    answer = lab[1].try_dreamer("run", *PROMPT, "--where", "peer")
    watch.one_line(answer, "serve")
    assert all(peer["serves"] == [] for peer in lab[1].dreamer("peers")["peers"])


def test_run_where_the_model_is_says_that_it_is_here(lab, spoken):
    assert (spoken["where"], spoken["node"]) == ("local", lab[0].dreamer("status")["node_id"])
    assert spoken["completion_tokens"] == 12
    assert spoken["finish_reason"] == "length"
    assert spoken["text"].strip()
    assert lab[0].dreamer("status")["inference"]["loaded"]


def test_text_goes_to_stdout_and_the_rest_to_stderr(lab, spoken):
    answer = lab[0].try_dreamer("run", *PROMPT, *TOKENS)
    assert answer.status == 0
    assert answer.out.rstrip("\n") == spoken["text"].rstrip("\n")
    assert "12 tokens in" in answer.err


def test_run_of_a_model_that_is_elsewhere_says_to_pull_it(lab, talker, watch):
    answer = lab[1].try_dreamer("run", *PROMPT, "--where", "local")
    watch.one_line(answer, "pull")


def test_nothing_leaves_a_node_that_was_not_told_to_ask(lab, server, watch):
    answer = lab[1].try_dreamer("run", *PROMPT)
    line = watch.one_line(answer, "--where peer", "[offload] ask = auto")
    assert "server" not in line
    assert "talker" in line


def test_a_node_told_to_asks_by_itself(team, lab, server, spoken):
    node = team.member("laptop", lab[0], env={"DREAMER_OFFLOAD_ASK": "auto"})
    said = node.dreamer("run", *PROMPT, *TOKENS)
    assert (said["node_name"], said["text"]) == ("server", spoken["text"])
    said = node.dreamer("run", "talker@lab", "Say something.", *TOKENS)
    assert (said["node_name"], said["text"]) == ("server", spoken["text"])


def test_the_rooms_admins_say_who_may_ask_whom(lab, server, spoken, watch):
    # The server came by an invitation for members and publishers; A made the room.
    def rules() -> list[str] | None:
        return lab[2].dreamer("room", "offload", "lab")["allow"]

    lab[0].dreamer("room", "offload", "lab", "--allow", "admin=worker")
    try:
        until(lambda: rules() == ["admin=worker"], "the rules")
        answer = lab[2].try_dreamer("run", *PROMPT, *TOKENS, "--where", "peer")
        watch.one_line(answer, "room's rules")
    finally:
        lab[0].dreamer("room", "offload", "lab", "--clear")
    until(lambda: rules() is None, "the end of the rules")
    asked = (*PROMPT, *TOKENS, "--where", "peer")
    # The server tells of its models again only once it knows it, too.
    until(lambda: lab[2].try_dreamer("run", *asked).status == 0, "the server serves again")
    assert lab[2].dreamer("run", *asked)["text"] == spoken["text"]


@pytest.mark.parametrize("where", ["peer", "fastest"])
def test_tokens_come_from_the_peer_that_serves(lab, server, spoken, where):
    said = lab[2].dreamer("run", *PROMPT, *TOKENS, "--where", where)
    assert said["where"] == "peer"
    assert said["node"] == server.dreamer("status")["node_id"]
    assert said["node_name"] == "server"
    # The same weights say the same wherever they run.
    assert said["text"] == spoken["text"]
    answer = lab[2].try_dreamer("run", *PROMPT, *TOKENS, "--where", where)
    assert answer.err.count("server") == 1


def test_tokens_stream_to_the_python_client(lab, server, spoken):
    events = list(Dreamer(lab[2].home).run_events(*PROMPT[:2], "lab", 12, "peer"))
    assert isinstance(events[0], RunStarted)
    assert isinstance(events[-1], RunEnded)
    texts = [event.text for event in events if isinstance(event, RunText)]
    assert len(texts) > 1
    assert "".join(texts) == spoken["text"]


def test_server_that_dies_half_way_is_a_clear_failure(lab, server, watch):
    with lab[2].begin("run", *PROMPT, "--max-tokens", "450", "--where", "peer") as run:
        assert run.stdout.read(1)
        server.process.kill()
        _, err = run.communicate(timeout=60)
    # All of it may have been under way already.
    assert run.returncode in (0, 1)
    assert "Traceback" not in err
    assert (run.returncode == 1) == err.splitlines()[-1].startswith("dreamer: ")
    watch.without(lab[2], server)
    watch.one_line(lab[2].try_dreamer("run", *PROMPT, "--where", "peer"), "serve")
