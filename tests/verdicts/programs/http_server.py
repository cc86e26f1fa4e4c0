"""http.server answers each request in a thread of its own; another thread rebuilds an index."""

# /// verdict
# kind = "convoy"
# thread = ["client", "server", "Thread-*"]
# ///

import http.client
import http.server
import threading
import time


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # one packet an answer

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *words):
        pass


def index(end):
    words = {}
    while time.monotonic() < end:  # CULPRIT
        for n in range(2_000):  # CULPRIT
            words.setdefault(n % 97, []).append(n)  # CULPRIT
        words.clear()  # CULPRIT


def client(port, end):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    while time.monotonic() < end:
        connection.request("GET", "/")
        connection.getresponse().read()
    connection.close()


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
serving = threading.Thread(target=server.serve_forever, args=(0.05,), name="server")
serving.start()
end = time.monotonic() + 1.3
threads = [
    threading.Thread(target=client, args=(server.server_port, end), name="client"),
    threading.Thread(target=index, args=(end,), name="index"),
]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
server.shutdown()
serving.join()
