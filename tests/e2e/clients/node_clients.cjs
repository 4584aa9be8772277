// ioredis and node-redis, unpatched, against a cache: what their users lean on.
//
// usage: NODE_PATH=... node node_clients.cjs PORT     prints the name of each story that came out well; the first that
// doesn't ends it with an exception.
'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const Redis = require('ioredis');
const { createClient, RESP_TYPES } = require('redis');

const port = Number(process.argv[2]);

const ioredis = {
  async types(r) {
    assert.equal(await r.set('k', 'v', 'EX', 100), 'OK');
    assert.equal(await r.get('k'), 'v');
    assert.deepEqual(await r.getBuffer('k'), Buffer.from('v'));
    assert.equal(await r.hset('h', { a: 1, b: 2 }), 2);
    assert.deepEqual({ ...(await r.hgetall('h')) }, { a: '1', b: '2' });
    assert.deepEqual((await r.smembers('nothing')), []);
    assert.equal(await r.zadd('z', 1, 'one', 2, 'two'), 2);
    assert.deepEqual(await r.zrange('z', 0, -1), ['one', 'two']);
    const all = [];
    for await (const keys of r.scanStream({ count: 2 })) all.push(...keys);
    assert.deepEqual([...new Set(all)].sort(), ['h', 'k', 'z']);
    await assert.rejects(r.incr('h'), /WRONGTYPE/);
  },
  async pipelines(r) {
    const pipeline = r.pipeline();
    for (let n = 0; n < 500; n++) pipeline.set(`n:${n}`, n);
    const replies = await pipeline.get('n:499').exec();
    assert.deepEqual(replies[500], [null, '499']);
    assert.deepEqual(await r.multi().incr('c').incr('c').exec(), [[null, 1], [null, 2]]);
    await r.watch('c');
    await r.duplicate().set('c', 9);
    assert.equal(await r.multi().incr('c').exec(), null);
  },
  async channels(r) {
    const subscriber = r.duplicate();
    assert.equal(await subscriber.subscribe('news', 'more'), 2);
    assert.equal(await subscriber.psubscribe('w*'), 3);
    const message = once(subscriber, 'message');
    assert.equal(await r.publish('news', 'hello'), 1);
    assert.deepEqual(await message, ['news', 'hello']);
    const pattern = once(subscriber, 'pmessage');
    await r.publish('weather', 'rain');
    assert.deepEqual(await pattern, ['w*', 'weather', 'rain']);
    assert.equal(await subscriber.unsubscribe('news', 'more'), 1);
  },
  async scripts(r) {
    r.defineCommand('add', { numberOfKeys: 1, lua: "return redis.call('incrby', KEYS[1], ARGV[1])" });
    assert.equal(await r.add('sum', 5), 5);
    assert.equal(await r.add('sum', 6), 11);
    assert.deepEqual(await r.pipeline().add('sum', 1).exec(), [[null, 12]]);
  },
  async waiting(r) {
    const popped = r.duplicate().blpop('queue', 10);
    await r.rpush('queue', 'job');
    assert.deepEqual(await popped, ['queue', 'job']);
    const id = await r.xadd('stream', '*', 'f', 'v');
    await r.xgroup('CREATE', 'stream', 'g', '0');
    const read = await r.xreadgroup('GROUP', 'g', 'me', 'BLOCK', 1000, 'STREAMS', 'stream', '>');
    assert.match(JSON.stringify(read), new RegExp(`stream.*${id}.*"f","v"`));
    assert.equal(await r.xack('stream', 'g', id), 1);
  },
  async monitor(r) {
    const monitor = await r.monitor();
    const seen = once(monitor, 'monitor');
    await r.set('watched', 1);
    assert.deepEqual((await seen)[1], ['set', 'watched', '1']);
    monitor.disconnect();
  },
  async reconnecting(r) {
    const other = r.duplicate();
    const ready = once(other, 'ready');
    const id = await other.client('ID');
    await ready;
    const again = once(other, 'ready');
    await r.client('KILL', 'ID', id);
    await again;
    assert.equal(await other.ping(), 'PONG');
  },
};

const node_redis = {
  async types(r, protocol) {
    assert.equal(await r.set('k', 'v', { EX: 100 }), 'OK');
    assert.equal(await r.get('k'), 'v');
    assert.equal(await r.hSet('h', { a: '1', b: '2' }), 2);
    assert.deepEqual({ ...(await r.hGetAll('h')) }, { a: '1', b: '2' });
    assert.deepEqual(await r.hpExpire('h', 'a', 100000), [1]);
    await r.zAdd('z', [{ score: 1, value: 'one' }, { score: 2.5, value: 'two' }]);
    assert.deepEqual(await r.zRangeWithScores('z', 0, -1), [{ value: 'one', score: 1 }, { value: 'two', score: 2.5 }]);
    assert.equal(await r.zScore('z', 'two'), 2.5);
    const keys = [];
    for await (const page of r.scanIterator()) keys.push(...page);
    assert.deepEqual(keys.sort(), ['h', 'k', 'z']);
    const buffers = r.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
    assert.deepEqual(await buffers.get('k'), Buffer.from('v'));
    await assert.rejects(r.incr('h'), /WRONGTYPE/);
  },
  async transactions(r) {
    assert.deepEqual(await r.multi().set('a', '1').incr('a').get('a').exec(), ['OK', 2, '2']);
    await Promise.all(Array.from({ length: 500 }, (_, n) => r.set(`n:${n}`, `${n}`)));
    assert.equal(await r.get('n:499'), '499');
    const other = await r.duplicate().connect();
    await r.watch('a');
    await other.set('a', '9');
    await assert.rejects(r.multi().incr('a').exec(), /watched keys/i);
    other.destroy();
  },
  async channels(r) {
    const subscriber = await r.duplicate().connect();
    const heard = new Promise((resolve) => {
      subscriber.subscribe('news', (...words) => resolve(words)).then(() => r.publish('news', 'hello'));
    });
    assert.deepEqual(await heard, ['hello', 'news']);
    const pattern = new Promise((resolve) => {
      subscriber.pSubscribe('w*', (...words) => resolve(words)).then(() => r.publish('weather', 'rain'));
    });
    assert.deepEqual(await pattern, ['rain', 'weather']);
    const shard = new Promise((resolve) => {
      subscriber.sSubscribe('s', (...words) => resolve(words)).then(() => r.sPublish('s', 'x'));
    });
    assert.deepEqual(await shard, ['x', 's']);
    subscriber.destroy();
  },
  async scripts(r) {
    assert.equal(await r.eval("return redis.call('incrby', KEYS[1], ARGV[1])", { keys: ['sum'], arguments: ['5'] }), 5);
    const sha = await r.scriptLoad('return 42');
    assert.equal(await r.evalSha(sha), 42);
    await r.functionLoad("#!lua name=lib\nredis.register_function('two', function() return 2 end)", { REPLACE: true });
    assert.equal(await r.fCall('two'), 2);
    await r.functionFlush();
  },
  async waiting(r) {
    const other = await r.duplicate().connect();
    const popped = other.blPop('queue', 10);
    await r.rPush('queue', 'job');
    assert.deepEqual({ ...(await popped) }, { key: 'queue', element: 'job' });
    await r.xGroupCreate('stream', 'g', '0', { MKSTREAM: true });
    const id = await r.xAdd('stream', '*', { f: 'v' });
    const read = await r.xReadGroup('g', 'me', { key: 'stream', id: '>' }, { BLOCK: 1000, COUNT: 1 });
    assert.equal(read[0].messages[0].id, id);
    assert.deepEqual({ ...read[0].messages[0].message }, { f: 'v' });
    assert.equal(await r.xAck('stream', 'g', id), 1);
    other.destroy();
  },
  async server(r) {
    assert.match(await r.info(), /redis_version:7/);
    assert.equal((await r.configGet('maxmemory')).maxmemory, '0');
    assert.equal((await r.clientInfo()).libName, 'node-redis');
    assert.ok((await r.commandCount()) > 200);
    assert.ok((await r.command()).length > 200);
    assert.equal(await r.aclWhoAmI(), 'default');
  },
  async caching(r, protocol) {
    if (protocol !== 3) return;
    const near = createClient({ socket: { port }, RESP: 3, clientSideCache: { ttl: 0, maxEntries: 0 } });
    near.on('error', (error) => { throw error; });
    await near.connect();
    await r.set('near', 'old');
    assert.equal(await near.get('near'), 'old');
    assert.equal(await near.get('near'), 'old');
    await r.set('near', 'new');
    while ((await near.get('near')) !== 'new') {
      // Answers from the cache alone would never let the message in that ends them.
      await new Promise((resolve) => setImmediate(resolve));
    }
    near.destroy();
  },
};

async function main() {
  for (const protocol of [2, 3]) {
    const r = new Redis({ port, ...(protocol === 2 ? { protocol: 2 } : {}) });
    for (const [name, story] of Object.entries(ioredis)) {
      await r.flushall();
      await story(r);
      console.log('ioredis', protocol, name);
    }
    const n = createClient({ socket: { port }, RESP: protocol });
    n.on('error', (error) => { throw error; });
    await n.connect();
    for (const [name, story] of Object.entries(node_redis)) {
      await n.flushAll();
      await story(n, protocol);
      console.log('node-redis', protocol, name);
    }
  }
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
