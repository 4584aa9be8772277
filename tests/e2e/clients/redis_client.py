"""redis-py, unpatched, against a cache: what its users lean on, in RESP2 and RESP3, waiting and asyncio.

usage: redis_client.py PORT     prints the name of each story that came out well; the first that doesn't ends it.
"""

import asyncio
import sys
import threading
import warnings

import redis
import redis.asyncio
from redis.cache import CacheConfig

PORT = int(sys.argv[1])
# Of redis-py, that some of its own methods are new.
warnings.simplefilter("ignore", UserWarning)


def connect(protocol, **options):
    options = {"decode_responses": True, "socket_timeout": 20, **options}
    return redis.Redis(port=PORT, protocol=protocol, **options)


def types(r, protocol):
    assert r.ping()
    assert r.set("s", "v", ex=100, nx=True) and r.set("s", "w", nx=True) is None
    assert r.get("s") == "v" and 90 < r.ttl("s") <= 100 and r.getdel("s") == "v"
    assert r.mset({"a": 1, "b": 2}) and r.mget("a", "b", "c") == ["1", "2", None]
    assert r.incrbyfloat("a", 0.5) == 1.5
    assert r.rpush("l", *"abcde") == 5 and r.lpop("l", 2) == ["a", "b"] and r.lmpop(1, "l", direction="RIGHT")
    assert r.hset("h", mapping={"x": 1, "y": 2}) == 2 and r.hgetall("h") == {"x": "1", "y": "2"}
    assert r.hexpire("h", 100, "x") == [1] and r.httl("h", "x", "y") == [100, -1]
    assert r.sadd("t", "p", "q") == 2 and r.smembers("t") == {"p", "q"} and r.smismember("t", ["p", "z"]) == [1, 0]
    assert r.zadd("z", {"one": 1, "two": 2.5}) == 2 and r.zscore("z", "two") == 2.5
    pairs = [tuple(pair) for pair in r.zrange("z", 0, -1, withscores=True)]
    assert pairs == [("one", 1.0), ("two", 2.5)], pairs
    assert r.zrank("z", "two", withscore=True) == [1, 2.5] and r.bzpopmin("z", 1)[1:] in (("one", 1.0), ["one", 1.0])
    assert r.geoadd("g", (13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania")) == 2
    assert 166 < r.geodist("g", "Palermo", "Catania", unit="km") < 167
    assert r.geosearch("g", longitude=15, latitude=37, radius=200, unit="km", sort="ASC") == ["Catania", "Palermo"]
    assert r.pfadd("p", *"abc") and r.pfcount("p") == 3
    assert r.setbit("bits", 7, 1) == 0 and r.bitcount("bits") == 1
    assert r.bitfield("bits").set("u8", 0, 200).get("u8", 0).execute() == [1, 200]
    assert sorted(r.scan_iter("*", count=3)) == sorted(r.keys())
    assert dict(r.hscan_iter("h")) == {"x": "1", "y": "2"} and set(r.sscan_iter("t")) == {"p", "q"}
    assert r.object("encoding", "a") and r.memory_usage("h") > 0 and r.type("z") == "zset"
    assert r.restore("copy", 0, connect(protocol, decode_responses=False).dump("h")) and r.hlen("copy") == 2
    assert r.sort("l", alpha=True, desc=True) == ["d", "c"]
    try:
        r.incr("l")
        raise AssertionError("a list was counted up")
    except redis.ResponseError as error:
        assert "WRONGTYPE" in str(error) or "wrong kind" in str(error), error


def server(r, protocol):
    info = r.info()
    assert info["redis_version"].startswith("7.") and info["role"] == "master" and "db0" in info
    assert r.config_get("maxmemory*")["maxmemory"] == "0" and r.config_set("slowlog-log-slower-than", 10000)
    assert r.command_count() > 200 and r.command_getkeys("MSET", "a", 1, "b", 2) == ["a", "b"]
    assert r.command()["get"]["arity"] == 2
    assert r.client_setname("me") and r.client_getname() == "me"
    me = [client for client in r.client_list() if client["id"] == str(r.client_id())]
    assert me[0]["name"] == "me" and me[0]["lib-name"].startswith("redis-py") and me[0]["resp"] == str(protocol), me
    assert r.client_info()["name"] == "me" and r.time()[0] > 0 and r.dbsize() > 5 and r.lastsave()
    assert r.acl_whoami() == "default" and "default" in r.acl_users() and "string" in r.acl_cat()
    assert r.acl_setuser("eve", enabled=True, passwords=["+pw"], keys=["e:*"], commands=["+get", "+@hash"])
    assert "~e:*" in str(r.acl_getuser("eve")) and r.acl_deluser("eve") == 1
    assert r.slowlog_get(5) is not None and r.slowlog_len() >= 0 and r.latency_latest() is not None
    assert r.memory_stats()["keys.count"] > 0
    assert r.module_list() == []


def pipelines(r, protocol):
    with r.pipeline(transaction=False) as pipe:
        for index in range(1000):
            pipe.set("n:%d" % index, index)
        pipe.get("n:999")
        assert pipe.execute()[-1] == "999"
    with r.pipeline() as pipe:
        pipe.incr("t1").incr("t1").lpush("t1", "x").get("t1")
        replies = pipe.execute(raise_on_error=False)
        assert replies[:2] == [1, 2] and isinstance(replies[2], redis.ResponseError) and replies[3] == "2"


def transactions(r, protocol):
    other = connect(protocol)
    r.set("balance", 10)
    with r.pipeline() as pipe:
        pipe.watch("balance")
        other.set("balance", 20)
        pipe.multi()
        pipe.set("balance", 0)
        try:
            pipe.execute()
            raise AssertionError("a watched key had changed")
        except redis.WatchError:
            pass

    def add(pipe):
        value = int(pipe.get("balance"))
        pipe.multi()
        pipe.set("balance", value + 1)

    assert r.transaction(add, "balance") == [True] and r.get("balance") == "21"


def channels(r, protocol):
    p = r.pubsub()
    p.subscribe("news")
    p.psubscribe("w*")
    assert [p.get_message(timeout=10)["type"] for _ in "12"] == ["subscribe", "psubscribe"]
    other = connect(protocol)
    assert other.publish("news", "hello") == 1 and other.publish("weather", "rain") == 1
    first, second = p.get_message(timeout=10), p.get_message(timeout=10)
    assert (first["type"], first["data"]) == ("message", "hello"), first
    assert (second["type"], second["pattern"], second["data"]) == ("pmessage", "w*", "rain"), second
    assert other.pubsub_numsub("news") == [("news", 1)] and other.pubsub_numpat() == 1
    if protocol == 2:
        # In RESP3 redis-py takes PONG for three words, with any server.
        p.ping()
        assert p.get_message(timeout=10)["type"] == "pong"
    p.unsubscribe()
    p.punsubscribe()
    assert [p.get_message(timeout=10)["type"] for _ in "12"] == ["unsubscribe", "punsubscribe"]
    p.close()
    shard = r.pubsub()
    shard.ssubscribe("s")
    assert shard.get_message(timeout=10)["type"] == "ssubscribe"
    assert other.spublish("s", "x") == 1 and shard.get_message(timeout=10)["data"] == "x"
    shard.close()


def events(r, protocol):
    r.config_set("notify-keyspace-events", "KEA")
    p = r.pubsub()
    p.psubscribe("__keyspace@0__:ev*")
    p.get_message(timeout=10)
    r.set("ev1", "x", px=1)
    heard = [p.get_message(timeout=10)["data"] for _ in range(3)]
    assert heard == ["set", "expire", "expired"], heard
    r.config_set("notify-keyspace-events", "")
    p.close()


def monitor(r, protocol):
    with r.monitor() as m:
        connect(protocol).set("seen", "by a monitor")
        while "SET seen" not in m.next_command()["command"]:
            pass


def scripts(r, protocol):
    add = r.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    assert add(keys=["sum"], args=[5]) == 5 and add(keys=["sum"], args=[6]) == 11
    with r.pipeline() as pipe:
        add(keys=["sum"], args=[1], client=pipe)
        assert pipe.execute() == [12]
    assert r.eval("return {1, 2.9, 'x', false, {ok='fine'}}", 0) == [1, 2, "x", None, "fine"]
    assert r.script_exists(add.sha) == [True]
    assert r.function_load("#!lua name=lib\nredis.register_function('double', function(k, a) return a[1] * 2 end)", replace=True) == "lib"
    assert r.fcall("double", 0, 21) == 42 and r.function_list()[0] is not None and r.function_flush()
    try:
        r.eval("return redis.call('nothing')", 0)
        raise AssertionError("an unknown command ran")
    except redis.ResponseError as error:
        assert "nknown" in str(error), error


def blocking(r, protocol):
    got = []
    waiting = threading.Thread(target=lambda: got.append(connect(protocol).blpop(["q1", "q2"], timeout=10)))
    waiting.start()
    while r.info("clients")["blocked_clients"] == 0:
        pass
    r.rpush("q2", "job")
    waiting.join()
    assert tuple(got[0]) == ("q2", "job") and r.brpop("q1", timeout=0.01) is None
    r.rpush("from", "x")
    assert r.blmove("from", "to", 1, "LEFT", "RIGHT") == "x" and r.brpoplpush("to", "from", 1) == "x"


def streams(r, protocol):
    ids = [r.xadd("st", {"n": n}) for n in range(5)]
    assert r.xlen("st") == 5 and [entry[0] for entry in r.xrange("st")] == ids
    assert r.xgroup_create("st", "g", id="0")
    read = r.xreadgroup("g", "alice", {"st": ">"}, count=3)
    entries = read["st"][0] if isinstance(read, dict) else read[0][1]
    assert [entry[0] for entry in entries] == ids[:3], read
    assert r.xack("st", "g", ids[0]) == 1 and r.xpending("st", "g")["pending"] == 2
    assert [entry[0] for entry in r.xclaim("st", "g", "bob", 0, [ids[1]])] == [ids[1]]
    assert r.xautoclaim("st", "g", "carol", 0)[1][0][0] == ids[1]
    assert r.xinfo_stream("st")["length"] == 5 and r.xinfo_groups("st")[0]["pending"] == 2
    assert {consumer["name"] for consumer in r.xinfo_consumers("st", "g")} == {"alice", "bob", "carol"}
    assert r.xpending_range("st", "g", "-", "+", 10)[0]["times_delivered"] == 3
    assert r.xtrim("st", maxlen=2, approximate=False) == 3
    assert not r.xread({"st": "$"}, block=10)


def locks(r, protocol):
    lock = r.lock("lock", timeout=10)
    assert lock.acquire() and not r.lock("lock", timeout=10).acquire(blocking=False)
    assert lock.extend(5) and lock.owned() and lock.reacquire()
    lock.release()
    with r.lock("lock", timeout=10, blocking_timeout=1):
        pass
    try:
        lock.release()
        raise AssertionError("somebody else's lock was given up")
    except redis.exceptions.LockError:
        pass


def caching(r, protocol):
    if protocol != 3:
        return
    near = connect(3, cache_config=CacheConfig())
    r.set("cached", "old")
    assert near.get("cached") == "old" and near.get_cache().size == 1
    assert near.get("cached") == "old"
    r.set("cached", "new")
    while near.get("cached") != "new":
        pass
    near.close()


def newer(r, protocol):
    r.set("cas", "1")
    assert r.set("cas", "2", ifeq="1") and r.set("cas", "3", ifeq="1") is None
    assert r.delex("cas", ifeq="1") == 0 and r.delex("cas", ifeq="2") == 1
    r.hset("hx", "f", "v")
    assert r.hgetex("hx", "f", ex=100) == ["v"] and r.hsetex("hx", "g", "w", ex=100) == 1 and r.hgetdel("hx", "g") == ["w"]
    assert r.msetex({"m1": 1, "m2": 2}, ex=100) == 1


async def waiting_for_nobody(protocol):
    r = redis.asyncio.Redis(port=PORT, protocol=protocol, decode_responses=True, socket_timeout=20)
    await r.flushall()
    assert await asyncio.gather(*(r.incr("n") for _ in range(100)))
    assert await r.get("n") == "100"
    async with r.pipeline(transaction=True) as pipe:
        assert (await pipe.set("a", 1).get("a").execute())[1] == "1"
    popped = asyncio.create_task(r.blpop(["queue"], timeout=10))
    while (await r.info("clients"))["blocked_clients"] == 0:
        pass
    await r.rpush("queue", "x")
    assert tuple(await popped) == ("queue", "x")
    async with r.pubsub() as p:
        await p.subscribe("c")
        await p.get_message(timeout=10)
        assert await r.publish("c", "hello") == 1
        assert (await p.get_message(timeout=10))["data"] == "hello"
    async with r.lock("alock", timeout=5):
        assert await r.exists("alock") == 1
    await r.aclose()


STORIES = [types, server, pipelines, transactions, channels, events, monitor, scripts, blocking, streams, locks, caching, newer]
for protocol in (2, 3):
    client = connect(protocol)
    client.flushall()
    for story in STORIES:
        story(client, protocol)
        print(protocol, story.__name__, flush=True)
    asyncio.run(waiting_for_nobody(protocol))
    print(protocol, "asyncio", flush=True)
