// An idle worker of Bull and one of BullMQ for some seconds, then one job each.
'use strict';

const Bull = require('bull');
const { Queue, Worker } = require('bullmq');

const [idleFor] = process.argv.slice(2).map(Number);
// In steps: a machine that stands still for a moment then owes one step, and what waited has its turn before the next.
const pause = async (ms) => { for (; ms > 0; ms -= 100) await new Promise((done) => setTimeout(done, Math.min(ms, 100))); };
const url = new URL(process.env.REDIS_URL);
const connection = { host: url.hostname, port: Number(url.port), maxRetriesPerRequest: null };

(async () => {
  const bull = new Bull('old', process.env.REDIS_URL, { settings: { drainDelay: 1, guardInterval: 1000, stalledInterval: 1000 } });
  bull.process(async () => {});
  const queue = new Queue('new', { connection });
  const worker = new Worker('new', async () => {}, { connection, drainDelay: 1, stalledInterval: 1000 });
  await Promise.all([bull.isReady(), worker.waitUntilReady(), queue.waitUntilReady()]);
  await pause(3000); // what they do once at their start
  await queue.client.then((c) => c.echo('redisopt:test:idle'));
  await pause(idleFor);
  await queue.client.then((c) => c.echo('redisopt:test:jobs'));
  const done = Promise.all([
    new Promise((resolve) => bull.once('completed', resolve)),
    new Promise((resolve) => worker.once('completed', resolve)),
  ]);
  await bull.add({});
  await queue.add('job', {});
  await done;
  process.exit(0);
})();
