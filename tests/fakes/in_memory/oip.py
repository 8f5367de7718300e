"""The Open Inference Protocol over HTTP as a small client would speak it, for tests."""

import json

HEADER_LENGTH = "Inference-Header-Content-Length"


def infer(served, value, blobs=b"", *, model="echo", headers=None, by_tcp=False):
    """Return status, headers, JSON and what follows it of one inference."""
    head = json.dumps(value).encode()
    headers = {"Content-Type": "application/octet-stream"} | (headers or {})
    if blobs:
        headers[HEADER_LENGTH] = str(len(head))
    status, told, body = served.request(
        "POST", f"/v2/models/{model}/infer", head + blobs, headers, by_tcp=by_tcp
    )
    length = int(told.get(HEADER_LENGTH, len(body)))
    return status, told, json.loads(body[:length]), body[length:]


def tensor(datatype, shape, data=None, name="x", **parameters):
    value = {"name": name, "datatype": datatype, "shape": shape}
    if data is not None:
        value["data"] = data
    return value | ({"parameters": parameters} if parameters else {})


def one(value):
    return {"inputs": [value]}


def get(served, path):
    status, _, body = served.request("GET", path)
    return status, json.loads(body)


def post(served, path, value=None, headers=None):
    status, _, body = served.request("POST", path, value, headers)
    return status, json.loads(body)
