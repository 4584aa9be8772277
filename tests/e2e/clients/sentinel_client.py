"""Writers that find their primary through Sentinel while it is killed and another takes its place.

Usage: sentinel_client.py SENTINEL_PORT,... PRIMARY_PID. Each write is a SET and a WAIT 1 over the same connection; one
that a replica has acknowledged has to be there at the end. After ACKNOWLEDGED of them the primary is killed; it ends when
as many have been acknowledged by the new primary and its replica, and says what it found as JSON.
"""

import json
import os
import signal
import sys
import threading
import time

from redis.exceptions import RedisError
from redis.sentinel import Sentinel

WRITERS = 4
ACKNOWLEDGED = 400
SECONDS = 60

ports = [int(port) for port in sys.argv[1].split(",")]
pid = int(sys.argv[2])
sentinel = Sentinel([("127.0.0.1", port) for port in ports], socket_timeout=1)
acknowledged = []
killed_at = None
resumed_at = None
failed = 0
enough = threading.Event()


def address(client):
    return client.connection_pool.get_master_address()


def write(writer):
    global failed, resumed_at
    client = sentinel.master_for("it", socket_timeout=2)
    number = 0
    while not enough.is_set():
        key = f"w{writer}:{number}"
        number += 1
        try:
            pipe = client.pipeline(transaction=False)
            pipe.set(key, number)
            pipe.execute_command("WAIT", 1, 300)
            _, replicas = pipe.execute()
        except (RedisError, OSError):
            failed += 1
            time.sleep(0.02)
            continue
        if killed_at and resumed_at is None:
            resumed_at = time.monotonic()
        if replicas >= 1:
            acknowledged.append((key, str(number), killed_at is not None))


def count(after):
    return sum(1 for entry in list(acknowledged) if entry[2] == after)


def until(done, what):
    end = time.monotonic() + SECONDS
    while not done():
        if time.monotonic() > end:
            enough.set()
            sys.exit(f"{what}: {len(acknowledged)} acknowledged, {failed} failed")
        time.sleep(0.02)


before = sentinel.discover_master("it")
threads = [threading.Thread(target=write, args=(writer,), daemon=True) for writer in range(WRITERS)]
for thread in threads:
    thread.start()
until(lambda: count(False) >= ACKNOWLEDGED, "no writes acknowledged by the first primary")
os.kill(pid, signal.SIGKILL)
killed_at = time.monotonic()
until(lambda: count(True) >= ACKNOWLEDGED, "no writes acknowledged by the second primary")
enough.set()
for thread in threads:
    thread.join()
client = sentinel.master_for("it", socket_timeout=5)
lost = [key for key, value, _ in acknowledged if (client.get(key) or b"").decode() != value]
after = sentinel.discover_master("it")
print(
    json.dumps(
        {
            "before": before[1],
            "after": after[1],
            "acknowledged": len(acknowledged),
            "failed": failed,
            "lost": lost,
            "paused_ms": round((resumed_at - killed_at) * 1000),
        }
    )
)
