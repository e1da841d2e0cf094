// queue-verbs.js LIB PORT PREFIX QUEUE: a real library does what it is told, one JSON array a line on stdin,
// and answers each with one JSON line. LIB is bull, bullmq5 or bullmq6.
//
//   ["add", NAME, DATA, OPTS]   adds a job, answers its id
//   ["work", N, FAIL]           runs N jobs with a worker of its own; those whose data.fail is true throw when FAIL
//   ["retry", ID, STATE] ["remove", ID] ["state", ID] ["log", ID, TEXT]
//   ["pause"] ["resume"] ["paused"] ["counts"] ["schedule", ID, EVERY_MS, NAME] ["flow", NAME, CHILDREN]
const [, , lib, port, prefix, queueName] = process.argv;
const redis = { host: '127.0.0.1', port: +port, maxRetriesPerRequest: null };
const bull = lib === 'bull';
const queue = bull
  ? new (require('bull'))(queueName, { redis, prefix })
  : new (require(lib).Queue)(queueName, { connection: redis, prefix });
queue.on('error', e => process.stderr.write(`${e.stack}\n`));

function work(n, fail) {
  return new Promise(resolve => {
    let left = n;
    const run = async job => {
      if (fail && job.data.fail) throw new Error('told to fail');
      return { ok: true };
    };
    const ended = () => { if (--left === 0) resolve(n); };
    if (bull) {
      const worker = new (require('bull'))(queueName, { redis, prefix });
      worker.on('failed', ended);
      worker.on('completed', ended);
      worker.process('*', run);
      work.close = () => worker.close();
    } else {
      const worker = new (require(lib).Worker)(queueName, run, { connection: redis, prefix });
      worker.on('error', e => process.stderr.write(`${e.stack}\n`));
      worker.on('failed', ended);
      worker.on('completed', ended);
      work.close = () => worker.close();
    }
  }).then(async done => { await work.close(); return done; });
}

const verbs = {
  add: async (name, data, opts) => (await queue.add(name, data, opts)).id,
  work,
  retry: async (id, from) => (await queue.getJob(id)).retry(...(from ? [from] : [])),
  remove: async id => (await queue.getJob(id)).remove(),
  state: async id => { const job = await queue.getJob(id); return job ? job.getState() : null; },
  log: async (id, text) => (await queue.getJob(id)).log(text),
  pause: () => bull ? queue.pause(false, true) : queue.pause(),
  resume: () => queue.resume(),
  paused: () => queue.isPaused(),
  counts: () => queue.getJobCounts(),
  schedule: async (id, every, name) => bull
    ? (await queue.add(name, {}, { repeat: { every }, jobId: id })).id
    : (await queue.upsertJobScheduler(id, { every }, { name, data: {} })).id,
  flow: async (name, children) => {
    const flows = new (require(lib).FlowProducer)({ connection: redis, prefix });
    const tree = await flows.add({ name, queueName, data: {}, children: children.map(c => ({ name: c, queueName, data: {} })) });
    await flows.close();
    return [tree.job.id, ...tree.children.map(c => c.job.id)];
  },
};

(async () => {
  await (bull ? queue.isReady() : queue.waitUntilReady());
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
  process.stdin.on('end', () => turn.then(() => queue.close()).then(() => process.exit(0)));
})();
