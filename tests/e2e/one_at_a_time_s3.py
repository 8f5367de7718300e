"""moto's S3 server, serving one request after the other.

moto looks at a precondition in one step and writes in another, and serves each connection in a
thread: two writers can both pass the look. S3 itself can't let that happen, so neither may what
stands in for it where tests are about writers that lose nothing.
"""

from __future__ import annotations

import sys
import threading

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server


def main(serial: bool = True) -> None:
    moto = DomainDispatcherApplication(create_backend_app)
    lock = threading.Lock()

    def one_at_a_time(environ, start_response):
        # moto's answers are whole when it returns them, so nothing happens after the lock.
        with lock:
            return moto(environ, start_response)

    server = make_server("127.0.0.1", 0, one_at_a_time if serial else moto, threaded=True)
    print(f"Running on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(serial="--threads" not in sys.argv)
