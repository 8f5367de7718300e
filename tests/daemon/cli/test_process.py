import json
import os
import signal
import subprocess
import sys
import time

import pytest

WAIT_S = 30.0
DREAMER = [sys.executable, "-m", "dreamer.daemon.cli"]


def start(*words, home):
    environ = {**os.environ, "DREAMER_HOME": str(home)}
    return subprocess.Popen(
        [*DREAMER, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ
    )


def finish(process):
    try:
        out, err = process.communicate(timeout=WAIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return process.returncode, out, err


def test_pull_as_json_keeps_stdout_to_one_document(served):
    status, out, err = finish(start("pull", "prod", "--json", home=served.home))
    assert status == 0
    assert json.loads(out)["bytes"]["webrtc"] == 3 * 2**20
    assert "pull: fetch" in err


def test_failure_is_a_line_and_a_status(served):
    status, out, err = finish(start("pull", "away", home=served.home))
    assert (status, out) == (1, "")
    assert err.splitlines()[-1] == "dreamer: the tracker is away; try again"


@pytest.mark.parametrize("words", [["pull", "slow"], ["run", "slow", "tell me"]])
def test_ctrl_c_cancels_the_work_and_says_how_to_go_on(served, words):
    process = start(*words, home=served.home)
    assert served.node.begun.wait(WAIT_S)
    process.send_signal(signal.SIGINT)
    status, _, err = finish(process)
    assert status == 130
    last = err.splitlines()[-1]
    assert last.startswith("dreamer: interrupted; to go on, run again: dreamer")
    assert served.node.cancelled.wait(WAIT_S)


def test_ctrl_c_under_json_is_still_one_document(served):
    process = start("pull", "slow", "--json", home=served.home)
    assert served.node.begun.wait(WAIT_S)
    process.send_signal(signal.SIGINT)
    status, out, _ = finish(process)
    assert (status, json.loads(out)["error"]["code"]) == (130, "interrupted")


def test_text_of_a_run_arrives_as_it_comes(served):
    process = start("run", "slow", "hi", home=served.home)
    assert process.stdout.read(6) == "Hello "
    process.send_signal(signal.SIGINT)
    assert finish(process)[0] == 130


def test_reader_that_has_enough_is_no_traceback(served):
    process = start("run", "prod", "hi", home=served.home)
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=WAIT_S)
    assert "Traceback" not in err
    assert process.returncode in (0, 1)


def test_help_starts_without_the_heavy_parts():
    heavy = ("rich", "aiohttp", "numpy", "onnx", "asyncio", "http.client")
    code = (
        "import sys; from dreamer.daemon.cli.entry import run; run(['--help']);"
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    )
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT_S
    )
    assert done.stderr.strip() == "[]"
    assert time.monotonic() - began < 5.0
