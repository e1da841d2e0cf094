// phase2-peer.js LIB PORT PREFIX QUEUE [every MS]: a worker of one queue that is paused and resumed, and a
// producer of it, driven over stdin. LIB is bull, bullmq5 or bullmq6; with "every" a schedule is added that
// runs each so many milliseconds.
//
// Prints "ready", then "start N" and "done N" for every job. "add N" adds jobs up to number N and prints
// "added N"; "quit", or the end of stdin, closes and prints "bye". Runs of the schedule have the number 0.
const [, , lib, port, prefix, queueName, every] = process.argv;
const redis = { host: '127.0.0.1', port: +port, maxRetriesPerRequest: null };
const say = line => process.stdout.write(line + '\n');
const problem = e => process.stderr.write(String(e && e.stack || e) + '\n');
const work = async job => { say(`start ${job.data.n || 0}`); say(`done ${job.data.n || 0}`); };

async function open() {
  if (lib === 'bull') {
    const queue = new (require('bull'))(queueName, { redis, prefix });
    queue.on('error', problem);
    queue.process('*', work);
    await queue.isReady();
    if (every) await queue.add('tick', { n: 0 }, { repeat: { every: +every }, removeOnComplete: true });
    return { queue, close: () => queue.close() };
  }
  const { Queue, Worker } = require(lib);
  const queue = new Queue(queueName, { connection: redis, prefix });
  const worker = new Worker(queueName, work, { connection: redis, prefix });
  for (const one of [queue, worker]) one.on('error', problem);
  await Promise.all([queue.waitUntilReady(), worker.waitUntilReady()]);
  if (every) await queue.upsertJobScheduler('tick', { every: +every }, { name: 'tick', data: { n: 0 }, opts: { removeOnComplete: true } });
  return { queue, close: async () => { await worker.close(); await queue.close(); } };
}

(async () => {
  const { queue, close } = await open();
  say('ready');
  const leave = async () => { await close(); say('bye'); process.exit(0); };
  let text = '', n = 0;
  process.stdin.on('data', async chunk => {
    text += chunk;
    for (let at; (at = text.indexOf('\n')) >= 0;) {
      const [verb, arg] = text.slice(0, at).split(' ');
      text = text.slice(at + 1);
      if (verb === 'quit') { leave(); return; }
      while (n < +arg) await queue.add('job', { n: ++n });
      say(`added ${n}`);
    }
  });
  process.stdin.on('end', leave);
})().catch(e => { problem(e); process.exit(1); });
