// A BullMQ queue, unpatched, on a cache: workers, delayed, repeated, prioritised and failing jobs, flows, events.
//
// usage: NODE_PATH=... node bullmq.cjs PORT     prints the name of each story that came out well; the first that doesn't
// ends it with an exception.
'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const { FlowProducer, Queue, QueueEvents, UnrecoverableError, Worker } = require('bullmq');

const connection = { port: Number(process.argv[2]), maxRetriesPerRequest: null };
const open = [];

function opened(it) {
  it.setMaxListeners(0);
  it.on('error', (error) => { throw error; });
  open.push(it);
  return it;
}

const queue = (name) => opened(new Queue(name, { connection }));
const worker = (name, work, options = {}) => opened(new Worker(name, work, { connection, ...options }));
const events = (name) => opened(new QueueEvents(name, { connection }));

const stories = {
  async work() {
    const q = queue('work'), heard = events('work');
    await heard.waitUntilReady();
    worker('work', async (job) => job.data.n * 2, { concurrency: 5 });
    worker('work', async (job) => job.data.n * 2, { concurrency: 5 });
    const jobs = await q.addBulk(Array.from({ length: 200 }, (_, n) => ({ name: 'double', data: { n } })));
    const results = await Promise.all(jobs.map((job) => job.waitUntilFinished(heard, 20000)));
    assert.deepEqual(results, jobs.map((job) => job.data.n * 2));
    assert.equal((await q.getJobCounts()).completed, 200);
    assert.equal((await q.getCompleted(0, 9)).length, 10);
  },
  async delays() {
    const q = queue('delays');
    await q.addBulk([300, 50, 0].map((delay) => ({ name: 'timed', data: { delay }, opts: { delay } })));
    assert.equal(await q.getDelayedCount(), 2);
    let done = 0;
    await new Promise((resolve) => {
      worker('delays', async (job) => {
        const waited = job.processedOn - job.timestamp;
        assert.ok(waited >= job.data.delay, `${waited} of ${job.data.delay} ms`);
        if (++done === 3) resolve();
      });
    });
  },
  async repeats() {
    const q = queue('repeats');
    await q.upsertJobScheduler('tick', { every: 60 }, { name: 'tick', data: { from: 'scheduler' } });
    let count = 0;
    await new Promise((resolve) => {
      worker('repeats', async (job) => {
        assert.equal(job.data.from, 'scheduler');
        if (++count === 4) resolve();
      });
    });
    assert.equal((await q.getJobSchedulers()).length, 1);
    assert.equal(await q.removeJobScheduler('tick'), true);
  },
  async failures() {
    const q = queue('failures'), heard = events('failures');
    await heard.waitUntilReady();
    const tries = {};
    worker('failures', async (job) => {
      tries[job.name] = (tries[job.name] || 0) + 1;
      if (job.name === 'hopeless') throw new UnrecoverableError('no use');
      if (job.name === 'never' || tries[job.name] < 3) throw new Error(`try ${tries[job.name]}`);
      return 'at last';
    });
    const options = { attempts: 3, backoff: { type: 'exponential', delay: 20 } };
    const third = await q.add('third', {}, options);
    assert.equal(await third.waitUntilFinished(heard, 20000), 'at last');
    const never = await q.add('never', {}, options);
    await assert.rejects(never.waitUntilFinished(heard, 20000), /try 3/);
    const hopeless = await q.add('hopeless', {}, options);
    await assert.rejects(hopeless.waitUntilFinished(heard, 20000), /no use/);
    assert.deepEqual(tries, { third: 3, never: 3, hopeless: 1 });
    assert.equal(await q.getFailedCount(), 2);
    await never.retry();
    await assert.rejects(never.waitUntilFinished(heard, 20000), /try 4/);
  },
  async priorities() {
    const q = queue('priorities'), order = [];
    await q.add('last', {}, { priority: 10 });
    await q.add('second', {}, { priority: 1 });
    await q.add('first', {});
    await q.pause();
    await q.resume();
    await new Promise((resolve) => {
      worker('priorities', async (job) => { if (order.push(job.name) === 3) resolve(); });
    });
    assert.deepEqual(order, ['first', 'second', 'last']);
  },
  async flows() {
    const flow = opened(new FlowProducer({ connection })), heard = events('parents');
    await heard.waitUntilReady();
    worker('children', async (job) => job.data.part);
    worker('parents', async (job) => Object.values(await job.getChildrenValues()).sort().join(''));
    const tree = await flow.add({
      name: 'sum', queueName: 'parents', children: ['a', 'b', 'c'].map((part) => ({ name: 'part', data: { part }, queueName: 'children' })),
    });
    assert.equal(await tree.job.waitUntilFinished(heard, 20000), 'abc');
  },
  async limits() {
    const q = queue('limits');
    let done = 0;
    const start = Date.now();
    const finished = new Promise((resolve) => {
      worker('limits', async () => { if (++done === 6) resolve(); }, { limiter: { max: 2, duration: 100 } });
    });
    await q.addBulk(Array.from({ length: 6 }, () => ({ name: 'slow', data: {} })));
    await finished;
    assert.ok(Date.now() - start >= 150, 'two jobs at most in 100 ms');
    await q.obliterate({ force: true });
    assert.equal((await q.getJobCounts()).completed, 0);
  },
  async progress() {
    const q = queue('progress'), heard = events('progress');
    await heard.waitUntilReady();
    const seen = once(heard, 'progress');
    worker('progress', async (job) => { await job.updateProgress(50); await job.log('half'); return 'done'; });
    const job = await q.add('watched', {}, { removeOnComplete: { age: 60 }, jobId: 'mine', deduplication: { id: 'one' } });
    assert.equal((await seen)[0].data, 50);
    assert.equal(await job.waitUntilFinished(heard, 20000), 'done');
    assert.deepEqual((await q.getJobLogs('mine')).logs, ['half']);
    await q.drain();
    await q.clean(0, 100, 'completed');
    assert.equal(await q.getJob('mine'), undefined);
  },
};

async function main() {
  const only = process.argv.slice(3);
  await Promise.all(Object.entries(stories).filter(([name]) => !only.length || only.includes(name)).map(async ([name, story]) => {
    await story();
    console.log('bullmq', name);
  }));
  await Promise.all(open.map((it) => it.close()));
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
