"""``GET /metrics``: where Prometheus looks, and behind the same door as the API."""

from __future__ import annotations


def ask(served, headers=None, *, by_tcp=False):
    connection = served.connection(by_tcp=by_tcp)
    try:
        connection.request("GET", "/metrics", headers=headers or {})
        with connection.getresponse() as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    finally:
        connection.close()


def test_metrics_are_text_that_prometheus_reads(served):
    kind = "text/plain; version=0.0.4; charset=utf-8"
    assert ask(served) == (200, kind, "dreamer_up 1\n")


def test_metrics_over_tcp_need_the_token(served_by_tcp):
    assert ask(served_by_tcp, by_tcp=True)[0] == 401
    token = {"Authorization": "Bearer s3cret"}
    assert ask(served_by_tcp, token, by_tcp=True)[0] == 200


def test_page_of_another_site_reads_no_metrics(served):
    assert ask(served, {"Origin": "http://evil.example"})[0] == 403
