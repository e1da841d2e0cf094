"""Fetches jobs from redisopt over HTTP and runs them. Python 3.9 or newer, nothing else.

    REDISOPT_URL=http://127.0.0.1:8080 REDISOPT_TOKEN=... python3 worker.py QUEUE

What a handler returns is the job's result. Raise Dead for a job that can never succeed, Later for one that
is to be tried again after a while; anything else that is raised is a failed attempt.
"""

import base64
import json
import os
import random
import signal
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request


class Dead(Exception):
    pass


class Later(Exception):
    def __init__(self, seconds, message="try again later"):
        super().__init__(message)
        self.seconds = seconds


class Gone(Exception):
    """The lease has ended: somebody else has the job."""


class Refused(Exception):
    """What was asked is wrong, and will not be right the next time."""


class Worker:
    def __init__(self, url, queue, handlers, token=None, wait_ms=30000):
        self.base = f"{url.rstrip('/')}/v1/queues/{urllib.parse.quote(queue, safe='')}/"
        self.handlers, self.token, self.wait_ms = handlers, token, wait_ms
        self.stopping = threading.Event()

    def post(self, path, body, timeout=10):
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(self.base + path, json.dumps(body).encode(), headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:
                text = response.read()
                return json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            text = error.read(1000).decode(errors="replace")
            if error.code == 410 or error.code == 404 and path != "lease":
                raise Gone(text) from error
            if error.code < 500 and error.code != 429:
                raise Refused(f"{error.code}: {text}") from error
            raise

    def run(self):
        """Fetch and run one job after the other until stopping is set. Start several threads for more."""
        pause = 1.0
        while not self.stopping.is_set():
            try:
                jobs = self.post("lease", {"max": 1, "wait_ms": self.wait_ms}, self.wait_ms / 1000 + 10)["jobs"]
            except Exception as error:  # the replica is away, or says no: ask again, more and more rarely
                print(f"lease: {error}", file=sys.stderr)
                self.stopping.wait(pause * (0.5 + random.random()))
                pause = min(2 * pause, 30.0)
                continue
            pause = 1.0
            for job in jobs:
                self.handle(job)

    def handle(self, job):
        lease, done = f"leases/{job['lease']}/", threading.Event()
        job["lost"] = threading.Event()  # a handler that looks at it stops when the lease is lost
        job["progress"] = lambda value: self.post(lease + "progress", {"progress": value})

        def beat():
            while not done.wait(max(1.0, job["lease_ms"] / 3000)):
                try:
                    self.post(lease + "extend", {"ms": job["lease_ms"]})
                except Gone:
                    job["lost"].set()
                    return
                except Exception:  # the next one may arrive
                    continue

        beating = threading.Thread(target=beat, daemon=True)
        beating.start()
        try:
            handler = self.handlers.get(job["name"])
            if handler is None:
                raise Dead(f"no handler for {job['name']}")
            payload = base64.b64decode(job["payload_base64"]) if "payload_base64" in job else job.get("payload")
            path, body = "complete", {"result": handler(payload, job)}
        except Exception as error:
            path, body = "fail", {"reason": (str(error) or type(error).__name__)[:1000]}
            if isinstance(error, Dead):
                body["dead"] = True
            if isinstance(error, Later):
                body["retry_after_ms"] = round(error.seconds * 1000)
        finally:
            done.set()
        self.tell(lease + path, body, time.monotonic() + job["lease_ms"] / 1000)

    def tell(self, path, body, until):
        """Repeat what failed on the way until the lease would have ended; the job is tried again then."""
        pause = 0.2
        while True:
            try:
                return self.post(path, body)
            except Exception as error:
                if isinstance(error, (Gone, Refused)) or time.monotonic() + pause > until:
                    print(f"{path}: {error}", file=sys.stderr)
                    return None
            time.sleep(pause)
            pause *= 2


def echo(payload, job):
    job["progress"](50)
    return payload


def busy(_payload, _job):
    raise Later(7, "the mail server is busy")


def broken(_payload, _job):
    raise RuntimeError("it broke")


if __name__ == "__main__":
    worker = Worker(
        os.environ.get("REDISOPT_URL", "http://127.0.0.1:8080"),
        sys.argv[1] if len(sys.argv) > 1 else "default",
        {"echo": echo, "busy": busy, "broken": broken},
        os.environ.get("REDISOPT_TOKEN"),
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: worker.stopping.set())
    worker.run()
