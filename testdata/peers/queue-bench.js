// queue-bench.js LIB PORT QUEUES: Bull or BullMQ as a contender of the queue benchmark, with the same work and the
// same words as the others: one JSON array a line on stdin, one JSON line on stdout for each. LIB is bull,
// bullmq5 or bullmq6. Jobs do nothing, and nothing is kept of them.
//
//   ["open"]             makes the QUEUES queues, for adding
//   ["enqueue", N, C]    adds N jobs over all queues, C callers at a time; answers the seconds it took
//   ["work", N]          starts a worker a queue and answers how long N jobs took, the start included
//   ["alone", N, MS]     adds N jobs one after the other, each after up to MS of rest; answers microseconds:
//                        [until it was added, until it was picked up] of each
//   ["usage"]            answers the processor time of this process so far, in microseconds
//   ["price"]            answers null: these libraries do not know what idling costs
//   ["stop"]             closes everything
const { performance } = require('node:perf_hooks');
const [, , lib, port, count] = process.argv;
const redis = { host: '127.0.0.1', port: +port, maxRetriesPerRequest: null };
const bull = lib === 'bull';
const options = { removeOnComplete: true, removeOnFail: true };
const names = Array.from({ length: +count }, (_, i) => `q${i}`);
let queues = [], workers = [], left = 0, ended = () => {}, begun = () => {};

const complain = e => process.stderr.write(`${e.stack}\n`);
const run = async () => { begun(performance.now()); };
const completed = () => { if (--left === 0) ended(performance.now()); };
const rest = ms => new Promise(resolve => setTimeout(resolve, ms));

const verbs = {
  open: async () => {
    queues = names.map(name => bull
      ? new (require('bull'))(name, { redis })
      : new (require(lib).Queue)(name, { connection: redis }));
    for (const queue of queues) queue.on('error', complain);
    await Promise.all(queues.map(queue => bull ? queue.isReady() : queue.waitUntilReady()));
  },
  enqueue: async (n, callers) => {
    const begin = performance.now();
    let next = 0;
    await Promise.all(Array.from({ length: callers }, async () => {
      for (let i; (i = next++) < n;) await queues[i % queues.length].add('noop', {}, options);
    }));
    return (performance.now() - begin) / 1000;
  },
  work: async n => {
    left = n;
    const begin = performance.now();
    const over = new Promise(resolve => { ended = resolve; });
    if (bull) {
      for (const queue of queues) {
        queue.on('completed', completed);
        queue.process('*', 1, run).catch(complain);
      }
    } else {
      workers = names.map(name => new (require(lib).Worker)(name, run, { connection: redis }));
      for (const worker of workers) {
        worker.on('error', complain);
        worker.on('completed', completed);
      }
    }
    return (await over - begin) / 1000;
  },
  alone: async (n, ms) => {
    const all = [];
    for (let i = 0; i < n; i++) {
      await rest(Math.random() * ms);
      left = 1;
      const over = new Promise(resolve => { ended = resolve; });
      const picked = new Promise(resolve => { begun = resolve; });
      const begin = performance.now();
      await queues[i % queues.length].add('noop', {}, options);
      const added = performance.now() - begin;
      all.push([added * 1000, (await picked - begin) * 1000]);
      await over;
    }
    begun = () => {};
    return all;
  },
  usage: () => { const { user, system } = process.cpuUsage(); return user + system; },
  price: () => null,
  stop: async () => {
    await Promise.all(workers.map(worker => worker.close(true)));
    await Promise.all(queues.map(queue => bull ? queue.close(true) : queue.close()));
    queues = workers = [];
  },
};

let text = '', turn = Promise.resolve();
const answer = line => turn = turn.then(async () => {
  const [verb, ...args] = JSON.parse(line);
  let said;
  try { said = { ok: (await verbs[verb](...args)) ?? null }; } catch (e) { said = { error: e.message }; }
  process.stdout.write(JSON.stringify(said) + '\n');
});
process.stdin.on('data', chunk => {
  text += chunk;
  for (let at; (at = text.indexOf('\n')) >= 0; text = text.slice(at + 1)) answer(text.slice(0, at));
});
process.stdin.on('end', () => turn.then(() => process.exit(0)));
