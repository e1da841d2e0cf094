"""Takes jobs that redisopt pushes over HTTP. Python 3.9 or newer, nothing else.

    REDISOPT_PUSH_SECRETS=secret[,next-secret] PORT=3000 python3 receiver.py

What a handler returns is the job's result. Raise Dead for a job that can never succeed, Later for one that
is to be tried again after a while; anything else that is raised is a failed attempt.
"""

import hashlib
import hmac
import json
import os
import re
import signal
import threading
import time
from collections import OrderedDict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

WINDOW_SECONDS = 300
MAX_BODY = 1 << 20
REMEMBERED = 1000


class Dead(Exception):
    pass


class Later(Exception):
    def __init__(self, seconds, message="try again later"):
        super().__init__(message)
        self.seconds = seconds


def verify(secrets, headers, body, now=None):
    """Whether one of secrets (bytes) signed these headers and this body within 5 minutes of now."""
    at, given = "", []
    for part in (headers.get("Redisopt-Signature") or "").split(","):
        key, _, value = part.strip().partition("=")
        if key == "t" and re.fullmatch("[0-9]{1,15}", value):
            at = value
        if key == "v1" and re.fullmatch("[0-9a-fA-F]{64}", value) and len(given) < 4:
            given.append(bytes.fromhex(value))
    matched = False
    for secret in secrets:
        mac = hmac.new(secret, f"v1\n{at}\n".encode(), hashlib.sha256)
        for name in ("Redisopt-Queue", "Redisopt-Job-Id", "Redisopt-Job-Name", "Redisopt-Attempt"):
            mac.update((headers.get(name) or "").encode("latin-1") + b"\n")
        mac.update(body)
        want = mac.digest()
        for signature in given:
            matched = hmac.compare_digest(want, signature) or matched
    now = time.time() if now is None else now
    return matched and at != "" and abs(now - int(at)) <= WINDOW_SECONDS


def serve(address, secrets, handlers):
    """A server that answers pushed jobs with handlers by name: (payload, job) -> result."""
    finished, lock = OrderedDict(), threading.Lock()  # results by Idempotency-Key

    class Receiver(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 65

        def answer(self, code, value, **headers):
            body = json.dumps(value).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            for name, text in headers.items():
                self.send_header(name.replace("_", "-"), text)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self):
            length = self.headers.get("Content-Length") or ""
            if not length.isdigit() or int(length) > MAX_BODY:
                self.close_connection = True
                return self.answer(413, {"error": "too large, or of unknown length"})
            body = self.rfile.read(int(length))
            h = self.headers
            if not verify(secrets, h, body):
                return self.answer(401, {"error": "not signed"})
            key = h["Idempotency-Key"]
            with lock:
                if key in finished:
                    return self.answer(200, finished[key])
            job = {
                "queue": unquote(h["Redisopt-Queue"]),
                "id": unquote(h["Redisopt-Job-Id"]),
                "name": unquote(h["Redisopt-Job-Name"]),
                "attempt": int(h["Redisopt-Attempt"]),
                "attempts": int(h["Redisopt-Attempts"]),
                "deadline": h["Redisopt-Deadline"],
                "traceparent": h["traceparent"],
            }
            try:
                handler = handlers.get(job["name"])
                if handler is None:
                    raise Dead(f"no handler for {job['name']}")
                result = handler(json.loads(body) if h["Content-Type"] == "application/json" else body, job)
            except Dead as error:
                return self.answer(422, {"error": str(error)})
            except Later as error:
                return self.answer(503, {"error": str(error)}, Retry_After=str(error.seconds))
            except Exception as error:  # a failed attempt, whatever it is
                return self.answer(500, {"error": str(error)})
            with lock:
                finished[key] = result
                if len(finished) > REMEMBERED:
                    finished.popitem(last=False)
            return self.answer(200, result)

        def log_message(self, *_):
            pass

    return ThreadingHTTPServer(address, Receiver)


def busy(_payload, _job):
    raise Later(7, "the mail server is busy")


def broken(_payload, _job):
    raise RuntimeError("it broke")


if __name__ == "__main__":
    keys = [s.encode() for s in os.environ.get("REDISOPT_PUSH_SECRETS", "").split(",") if s]
    if not keys:
        raise SystemExit("REDISOPT_PUSH_SECRETS is not set")
    where = (os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "3000")))
    server = serve(where, keys, {"echo": lambda payload, _job: payload, "busy": busy, "broken": broken})
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"listening on {server.server_address[1]}", flush=True)
    server.serve_forever()
