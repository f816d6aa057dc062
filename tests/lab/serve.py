"""A binhost: PKGDIR over HTTP on a free local port."""

import contextlib
import functools
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer


class _Quiet(SimpleHTTPRequestHandler):
    def send_head(self):
        """Answers whole: Portage asks for what is newer than its copy by five seconds, and tests are faster than that."""
        del self.headers["If-Modified-Since"]
        return super().send_head()

    def log_message(self, *_words):
        """Says nothing."""


@contextlib.contextmanager
def served(directory):
    """Serves a directory; gives its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(directory)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
