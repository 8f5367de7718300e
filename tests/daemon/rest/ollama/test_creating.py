import hashlib
import json
import os
import time

import pytest
from in_memory.inference import MODEL_ID

from dreamer.daemon.inference.requests import Message
from dreamer.daemon.rest.ollama import recipe
from dreamer.daemon.rest.ollama.recipe import FILE_NAME, Recipe
from dreamer.simulations.loopback import until
from dreamer.simulations.tiny_model import write_tiny_gguf

FILE = b"GGUF and more" * 100_000


def _digest(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _put(ollama, data, digest=None, **headers):
    path = f"/api/blobs/{digest or _digest(data)}"
    status, _, said = ollama.request("POST", path, data, headers)
    return status, said.decode()


def _has(ollama, data):
    return ollama.request("HEAD", f"/api/blobs/{_digest(data)}")[0]


def _left(ollama):
    place = ollama.home / "blobs"
    return sorted(path.name for path in place.iterdir()) if place.is_dir() else []


def test_blob_is_there_once_it_was_sent(ollama):
    assert _has(ollama, FILE) == 404
    assert _put(ollama, FILE)[0] == 201
    assert _has(ollama, FILE) == 200
    assert _put(ollama, FILE, **{"Content-Type": "application/json"})[0] == 200
    assert _left(ollama) == [_digest(FILE).replace(":", "-")]


def test_blob_that_is_something_else_is_refused_and_gone(ollama):
    status, said = _put(ollama, FILE, _digest(b"other"))
    assert status == 400
    assert "digest mismatch" in said
    assert _left(ollama) == []


def test_empty_blob_is_one(ollama):
    assert _put(ollama, b"")[0] == 201


@pytest.mark.parametrize("digest", ["sha256:12", "md5:" + "ab" * 16, "..%2f..%2fetc", "x"])
def test_digest_that_is_none_is_refused(ollama, digest):
    status, said = _put(ollama, FILE, digest)
    assert status in (400, 404)
    assert "error" in json.loads(said)
    assert not (ollama.home / "blobs").exists()


def test_blob_for_which_there_is_no_room_is_refused_before_it_is_read(ollama):
    connection = ollama.connection()
    connection.putrequest("POST", f"/api/blobs/{_digest(FILE)}")
    connection.putheader("Content-Length", str(10**18))
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, "no room" in json.loads(answer.read())["error"]) == (503, True)
    connection.close()


def test_upload_that_is_cut_off_leaves_nothing(ollama):
    connection = ollama.connection()
    connection.putrequest("POST", f"/api/blobs/{_digest(FILE)}")
    connection.putheader("Content-Length", str(len(FILE)))
    connection.endheaders(FILE[: len(FILE) // 2])
    until(lambda: _left(ollama), "the upload to begin")
    connection.close()
    until(lambda: not _left(ollama), "its remains to go")
    assert _has(ollama, FILE) == 404


def test_form_of_a_web_page_is_no_blob(ollama):
    headers = {"Content-Type": "multipart/form-data"}
    assert _put(ollama, FILE, **headers)[0] == 415


def test_blobs_go_an_hour_after_their_last_use(ollama):
    _put(ollama, FILE)
    (old,) = (ollama.home / "blobs").iterdir()
    os.utime(old, (0, time.time() - 3700))
    _put(ollama, b"another")
    assert _has(ollama, FILE) == 404
    assert _has(ollama, b"another") == 200


def test_work_that_another_run_left_behind_goes_at_the_first_upload(ollama):
    (ollama.home / "blobs" / "work-abc").mkdir(parents=True)
    _put(ollama, FILE)
    assert len(_left(ollama)) == 1


def test_new_system_prompt_is_a_file_beside_the_same_ones(ollama, directory):
    body = {
        "model": "mario:v2", "from": "prod", "system": "You are Mario.",
        "parameters": {"temperature": 0.5}, "messages": [{"role": "user", "content": "who?"}],
        "license": ["A", "B"],
    }  # fmt: skip
    lines = ollama.lines("/api/create", body)
    assert lines[0] == {"status": "reading model metadata"}
    assert lines[-1]["status"] == "success"
    (files,) = ollama.node.pushed
    assert files["model.onnx"] == b"graph"
    assert files["LICENSE"] == b"A\n\nB"
    assert recipe.decode(files[FILE_NAME]) == Recipe(
        "You are Mario.", {"temperature": 0.5}, (Message("user", "who?"),)
    )
    _, room, request = ollama.node.calls[-1]
    assert (room, request.name, request.aliases) == ("lab", "mario:v2", ("mario-v2",))
    assert request.tags == (recipe.TAG,)
    assert not (directory / FILE_NAME).exists()
    assert _left(ollama) == []


def test_what_is_not_said_anew_stays(ollama, directory):
    first = Recipe("You are Mario.", {"temperature": 0.5, "top_k": 3}, (Message("user", "who?"),))
    (directory / FILE_NAME).write_bytes(first.encode())
    body = {"model": "x", "from": "prod", "parameters": {"temperature": 1}, "stream": False}
    assert ollama.ask("/api/create", body)[1]["status"] == "success"
    made = recipe.decode(ollama.node.pushed[0][FILE_NAME])
    assert made == Recipe(first.system, {"temperature": 1, "top_k": 3}, first.messages)


def test_new_template_goes_where_the_tokenizer_has_it(ollama, directory):
    body = {"model": "x", "from": "prod", "template": "{% for m in messages %}{% endfor %}"}
    (directory / "chat_template.jinja").write_text("old")
    ollama.lines("/api/create", body)
    (files,) = ollama.node.pushed
    assert json.loads(files["tokenizer_config.json"])["chat_template"] == body["template"]
    assert "chat_template.jinja" not in files
    # The files of the model that it came from are untouched.
    assert (directory / "chat_template.jinja").read_text() == "old"
    assert "messages }}" in (directory / "tokenizer_config.json").read_text()


def test_a_new_name_alone_is_an_alias(ollama):
    assert ollama.lines("/api/create", {"model": "x", "from": "prod"})[-1]["status"] == "success"
    assert ollama.node.calls[-1] == ("set_alias", "lab", "x", MODEL_ID)
    assert ollama.node.pushed == []


def test_model_is_made_of_a_gguf(ollama, tmp_path):
    write_tiny_gguf(tmp_path / "tiny.gguf")
    data = (tmp_path / "tiny.gguf").read_bytes()
    _put(ollama, data)
    body = {"model": "x@lab", "files": {"a b/tiny 1.gguf": _digest(data)}, "system": "S"}
    lines = ollama.lines("/api/create", body)
    assert lines[0] == {"status": "parsing GGUF"}
    assert {"status": "converting model", "completed": 2, "total": 2} in lines
    assert lines[-1]["status"] == "success"
    (files,) = ollama.node.pushed
    assert {"model.onnx", "tokenizer.json", "config.json", FILE_NAME} <= set(files)
    assert b"tiny-1.gguf" in files["NOTICE"]
    assert ollama.node.calls[-1][1] == "lab"
    # The blob stays for a while, and nothing else.
    assert len(_left(ollama)) == 1


def test_gguf_that_is_none_is_an_error_line(ollama):
    _put(ollama, FILE)
    lines = ollama.lines("/api/create", {"model": "x", "files": {"x.gguf": _digest(FILE)}})
    assert "GGUF" in lines[-1]["error"]
    assert len(_left(ollama)) == 1
    assert ollama.node.pushed == []


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        ({"from": "prod"}, 400, "model is required"),
        ({"model": "x"}, 400, "neither 'from' or 'files' was specified"),
        ({"model": "x", "from": "prod", "files": {"x.gguf": "y"}}, 400, "not both"),
        ({"model": "latest", "from": "prod"}, 400, "reserved"),
        ({"model": "x", "from": "nope"}, 404, "model 'nope' not found"),
        ({"model": "x", "from": "prod", "quantize": "q4_0"}, 400, "not quantized here"),
        ({"model": "x", "from": "prod", "adapters": {"a": "b"}}, 400, "merge it"),
        ({"model": "x", "modelfile": "FROM prod"}, 400, "not a Modelfile"),
        ({"model": "x", "files": {"x.gguf": "nope"}}, 400, "is not sha256:"),
        ({"model": "x", "files": {"x.gguf": _digest(b"no")}}, 404, "upload it"),
        ({"model": "x", "files": {"x.safetensors": _digest(b"no")}}, 400, "no GGUF"),
        ({"model": "x", "files": {"a.gguf": "1", "b.gguf": "2"}}, 400, "one GGUF file"),
        ({"model": "x", "from": "prod", "parameters": {"top_p": 2}}, 400, "top_p must be"),
        ({"model": "x", "from": "prod", "parameters": {"temprature": 2}}, 400, "'temprature'"),
        ({"model": "../x", "from": "prod"}, 400, "no name"),
        ({"model": "x", "from": "prod", "messages": [{"role": "x"}]}, 400, "role must be"),
        ({"model": "x", "from": "prod", "template": "{{ .Prompt }}"}, 400, "the template is Go's"),
        ({"model": "x", "from": "prod", "template": "{% for %}"}, 400, "no good Jinja"),
        ({"model": "x", "from": "prod", "template": "{" * 300_000}, 400, "longer than"),
        ({"model": "x", "from": "prod", "license": 5}, 400, "field 'license'"),
    ],
)
def test_what_can_not_be_made_is_refused_by_its_name(ollama, body, status, named):
    found, answer = ollama.ask("/api/create", body)
    assert (found, named in answer["error"]) == (status, True), answer
    assert ollama.node.pushed == []


def test_model_that_is_elsewhere_is_to_be_pulled_first(ollama):
    ollama.node.name_tiny("prod", here=False)
    lines = ollama.lines("/api/create", {"model": "x", "from": "prod", "system": "S"})
    assert lines[-1] == {"error": "tiny is not on this node: pull it first"}


def test_recipe_that_is_too_long_is_refused(ollama):
    lines = ollama.lines("/api/create", {"model": "x", "from": "prod", "system": "S" * 300_000})
    assert "shorten them" in lines[-1]["error"]
    assert _left(ollama) == []
