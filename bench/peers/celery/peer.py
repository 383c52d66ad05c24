"""Celery over RabbitMQ as a peer of the farm's queue. Prints one line of JSON.

    python peer.py throughput AMQP_URL TASKS as_it_comes|acks_late
    python peer.py pickup AMQP_URL SAMPLES PAUSE_MS

Times are of the monotonic clock, which all processes of a machine share.
"""

import json
import multiprocessing
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import uuid

from celery import Celery

MODE, URL = sys.argv[1:3]
QUEUE = os.environ.setdefault("PEER_QUEUE", f"peer-{uuid.uuid4().hex}")
REPORTS = os.environ.get("PEER_REPORTS")
WARM_UP = 20

app = Celery("peer", broker=URL)
app.conf.task_default_queue = QUEUE
app.conf.task_ignore_result = True
app.conf.broker_connection_retry_on_startup = True
# An enqueue is over when the broker has it, as it is elsewhere when it is committed.
app.conf.broker_transport_options = {"confirm_publish": True}
# Made before the workers' processes, which inherit it.
done = multiprocessing.Value("q", 0)


@app.task(name="noop")
def noop(n):
    with done.get_lock():
        done.value += 1


@app.task(name="tell")
def tell(n):
    at = time.monotonic_ns()
    reports = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    reports.sendto(struct.pack("qq", n, at), REPORTS)
    reports.close()


def work():
    options = ["worker", "--loglevel=CRITICAL", "--without-gossip", "--without-mingle"]
    with open(os.devnull, "w") as nowhere:
        sys.stdout, stdout = nowhere, sys.stdout
        try:
            app.worker_main(options)
        except SystemExit:
            pass
        finally:
            sys.stdout = stdout


def throughput(tasks, variant):
    app.conf.task_acks_late = variant == "acks_late"
    with app.producer_pool.acquire(block=True) as producer:
        for n in range(tasks):
            noop.apply_async((n,), producer=producer)
    begun = time.monotonic_ns()
    ended = []

    def watch():
        while done.value < tasks:
            time.sleep(0.005)
        ended.append(time.monotonic_ns())
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
    work()
    return {"seconds": (ended[0] - begun) / 1e9}


def pickup(samples, pause):
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "reports")
        reports = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        reports.bind(path)
        reports.settimeout(60)
        worker = subprocess.Popen(
            [sys.executable, __file__, "worker", URL],
            env={**os.environ, "PEER_REPORTS": path},
            stdout=subprocess.DEVNULL,
        )
        from_call, from_commit = [], []
        try:
            for n in range(samples + WARM_UP):
                time.sleep(pause / 1000)
                called = time.monotonic_ns()
                tell.apply_async((n,))
                committed = time.monotonic_ns()
                _, at = struct.unpack("qq", reports.recv(16))
                if n >= WARM_UP:
                    from_call.append((at - called) / 1e6)
                    from_commit.append((at - committed) / 1e6)
        finally:
            worker.terminate()
            worker.wait()
    return {"from_call": from_call, "from_commit": from_commit}


if MODE == "throughput":
    print(json.dumps(throughput(int(sys.argv[3]), sys.argv[4])))
elif MODE == "pickup":
    print(json.dumps(pickup(int(sys.argv[3]), float(sys.argv[4]))))
else:
    work()
