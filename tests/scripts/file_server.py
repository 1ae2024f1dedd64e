# SPDX-License-Identifier: Apache-2.0
"""Serves the current folder on a free port of loopback, which it prints. Understands "Range: bytes=N-"; a file whose
name ends in ".broken" is cut off after half of what was asked for, the first time. Every request is a line on stderr."""
import http.server
import os
import sys

broken_once = set()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"

    def do_GET(self):
        path = self.path.lstrip("/")
        cut = os.path.isfile(path + ".broken") and path not in broken_once
        if not os.path.isfile(path):
            self.send_error(404)
            return
        with open(path, "rb") as file:
            body = file.read()
        begin = 0
        asked = self.headers.get("Range", "")
        if asked.startswith("bytes=") and not path.startswith("no-ranges/"):
            begin = int(asked[6:].split("-")[0])
            if begin >= len(body):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", "bytes %d-%d/%d" % (begin, len(body) - 1, len(body)))
        else:
            self.send_response(200)
        body = body[begin:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        sys.stderr.write("GET %s from %d\n" % (path, begin))
        sys.stderr.flush()
        if cut:
            broken_once.add(path)
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
