// move-peer.js ROLE LIB PORT PREFIX QUEUE [PRELOAD]: one side of a live move, driven over stdin.
//
//   producer LIB  ...  adds PRELOAD jobs, prints "ready", then adds one job after the other between
//                      the lines "go" and "stop"; data is {"n": 1, 2, 3, ...}
//   worker   LIB  ...  prints "ready", then "start N" for every job it starts and "done N" when it
//                      has finished it; one job at a time; LIB is bull, bullmq5 or bullmq6
//
// "quit" (or the end of stdin) closes gracefully and prints "bye". Options come as JSON in PEER_OPTS:
// jobOpts and everyMs (between two jobs) for the producer; workMs, lockMs (how long a lock lasts), fail (how
// often a job throws before it succeeds) and hold (jobs above this number wait for the line "go") for the worker.
const [, , role, lib, port, prefix, queueName, preload] = process.argv;
const opts = JSON.parse(process.env.PEER_OPTS || '{}');
const redis = { host: '127.0.0.1', port: +port, maxRetriesPerRequest: null };
const say = line => process.stdout.write(line + '\n');
const pause = ms => new Promise(r => setTimeout(r, ms));
const problem = e => process.stderr.write(String(e && e.stack || e) + '\n');

const tries = {};
let release;
const released = new Promise(r => { release = r; });
async function work(job) {
  const n = job.data.n;
  say(`start ${n}`);
  if (opts.hold && n > opts.hold) await released;
  if (opts.workMs) await pause(opts.workMs);
  if (opts.fail) {
    tries[n] = (tries[n] || 0) + 1;
    if (tries[n] <= opts.fail) throw new Error('simulated failure');
  }
  say(`done ${n}`);
  return { processed: true };
}

async function produce() {
  let queue;
  if (lib === 'bull') {
    queue = new (require('bull'))(queueName, { redis, prefix });
    await queue.isReady();
  } else {
    queue = new (require(lib).Queue)(queueName, { connection: redis, prefix });
    await queue.waitUntilReady();
  }
  queue.on('error', problem);
  const name = '__default__'; // what Bull calls an unnamed job; BullMQ wants a name
  let n = 0;
  const jobOpts = opts.jobOpts || {};
  while (n < +preload) {
    const size = Math.min(500, +preload - n);
    await queue.addBulk(Array.from({ length: size }, () => ({ name, data: { n: ++n }, opts: jobOpts })));
  }
  say('ready');
  let going = false;
  const loop = async () => {
    while (going) {
      await queue.add(name, { n: ++n }, jobOpts);
      if (opts.everyMs) await pause(opts.everyMs);
    }
    say(`added ${n}`);
  };
  return {
    go: () => { going = true; loop().catch(problem); },
    stop: () => { going = false; },
    quit: async () => { going = false; await queue.close(); },
  };
}

async function consume() {
  if (lib === 'bull') {
    const Queue = require('bull');
    const queue = new Queue(queueName, { redis, prefix, settings: opts.lockMs ? { lockDuration: opts.lockMs } : {} });
    queue.on('error', problem);
    queue.process('*', work);
    await queue.isReady();
    say('ready');
    return { go: () => release(), quit: () => queue.close() };
  }
  const { Worker } = require(lib);
  const worker = new Worker(queueName, work, { connection: redis, prefix, ...(opts.lockMs && { lockDuration: opts.lockMs }) });
  worker.on('error', problem);
  await worker.waitUntilReady();
  say('ready');
  return { go: () => release(), quit: () => worker.close() };
}

(async () => {
  const verbs = await (role === 'producer' ? produce() : consume());
  const leave = async () => { await verbs.quit(); say('bye'); process.exit(0); };
  let text = '';
  process.stdin.on('data', chunk => {
    text += chunk;
    for (let at; (at = text.indexOf('\n')) >= 0;) {
      const verb = text.slice(0, at); text = text.slice(at + 1);
      if (verb === 'quit') leave(); else if (verbs[verb]) verbs[verb]();
    }
  });
  process.stdin.on('end', leave);
})().catch(e => { problem(e); process.exit(1); });
