"""A client of OpenAI's API, over the node in memory."""

import json
from http import HTTPStatus

import pytest

CHAT = {"model": "prod", "messages": [{"role": "user", "content": "hi"}]}


class OpenAI:
    """Sends requests and reads answers as OpenAI's documentation has them."""

    def __init__(self, served):
        self.served = served
        self.inference = served.node.inference

    def request(self, path, body, headers=None, method="POST"):
        """Return status, headers and bytes."""
        return self.served.request(method, f"/v1{path}", body, headers)

    def json(self, path, body=None, headers=None, method="POST"):
        """Return status and parsed JSON."""
        status, _, data = self.request(path, body, headers, method)
        return status, json.loads(data)

    def chat(self, **fields):
        """Return the answer to a chat that must succeed."""
        status, value = self.json("/chat/completions", {**CHAT, **fields})
        assert status == HTTPStatus.OK, value
        return value

    def complete(self, **fields):
        """Return the answer to a completion that must succeed."""
        status, value = self.json("/completions", {"model": "prod", "prompt": "a", **fields})
        assert status == HTTPStatus.OK, value
        return value

    def stream(self, path, **fields):
        """Return the parsed events of a stream; the word DONE stays one."""
        base = CHAT if path.startswith("/chat") else {"model": "prod", "prompt": "a"}
        status, headers, data = self.request(path, {**base, "stream": True, **fields})
        assert status == HTTPStatus.OK, data
        assert headers["Content-Type"] == "text/event-stream"
        events = data.decode().split("\n\n")
        assert events.pop() == ""
        lines = [event.removeprefix("data: ") for event in events]
        return [line if line == "[DONE]" else json.loads(line) for line in lines]

    def refused(self, path, **fields):
        """Return the error of a request that is at fault."""
        base = {"model": "prod", "prompt": "a"} if path == "/completions" else CHAT
        status, value = self.json(path, {**base, **fields})
        assert status == HTTPStatus.BAD_REQUEST, value
        assert self.inference.asked == []
        return value["error"]

    @property
    def asked(self):
        """The generation that the node was asked for, the only one."""
        ((_, _, request, _),) = self.inference.asked
        return request


@pytest.fixture
def openai(served):
    return OpenAI(served)
