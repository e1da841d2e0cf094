// audit-queues.js <port> <library> <what> <sharing> [settings JSON] [count]
//
// Opens the design's eleven queues on 127.0.0.1:<port> with the real library and stays until its standard
// input closes. Prints "ready" once every connection stands.
//   library   bull | bullmq5 | bullmq6
//   what      letters: q a Queue, w a worker (Bull: process()), e a QueueEvents, a add one job each,
//             d one far delayed job each, l one job every 50 ms over all queues
//   sharing   plain (options object per queue) | shared (one instance where the library allows it)
const names = ['suggestion-generation', 'batch-notifications', 'calendar-sync', 'suggestion-regeneration',
  'google-contacts-sync', 'token-health-reminder', 'token-refresh', 'webhook-renewal',
  'notification-reminder', 'adaptive-sync', 'webhook-health-check'];
const [, , port, library, what, sharing, settingsJSON, count] = process.argv;
const IORedis = require('ioredis');
const settings = JSON.parse(settingsJSON || '{}');
const base = { host: '127.0.0.1', port: +port, maxRetriesPerRequest: null };
const dayAway = { delay: 86400000 };

async function bull(queues) {
  const Bull = require('bull');
  const options = { settings };
  if (sharing === 'shared') {
    const lazy = { ...base, enableReadyCheck: false };
    const client = new IORedis(base);
    const subscriber = new IORedis(lazy);
    options.createClient = (type) => (
      type === 'client' ? client : type === 'subscriber' ? subscriber : new IORedis(lazy));
  } else {
    options.redis = base;
  }
  const made = [];
  for (const name of queues) {
    const queue = new Bull(name, options);
    queue.on('error', (err) => console.error(err.message));
    if (what.includes('w')) queue.process(async () => 1);
    await queue.isReady();
    if (what.includes('a')) await queue.add({});
    if (what.includes('d')) await queue.add({}, dayAway);
    made.push(queue);
  }
  return made;
}

async function bullmq(queues) {
  const { Queue, Worker, QueueEvents } = require(library);
  const connection = sharing === 'shared' ? new IORedis(base) : base;
  const made = [];
  for (const name of queues) {
    if (what.includes('q')) {
      const queue = new Queue(name, { connection });
      await queue.waitUntilReady();
      if (what.includes('a')) await queue.add('job', {});
      if (what.includes('d')) await queue.add('later', {}, dayAway);
      made.push(queue);
    }
    if (what.includes('w')) {
      const worker = new Worker(name, async () => 1, { connection, ...settings });
      worker.on('error', (err) => console.error(err.message));
      await worker.waitUntilReady();
    }
    if (what.includes('e')) await new QueueEvents(name, { connection }).waitUntilReady();
  }
  return made;
}

(async () => {
  const queues = names.slice(0, +(count || names.length));
  const made = library === 'bull' ? await bull(queues) : await bullmq(queues);
  if (what.includes('l')) {
    let turn = 0;
    setInterval(() => {
      const queue = made[turn++ % made.length];
      (library === 'bull' ? queue.add({}) : queue.add('job', {})).catch(() => {});
    }, 50);
  }
  console.log('ready');
  process.stdin.resume();
  process.stdin.on('end', () => process.exit(0));
})().catch((err) => { console.error(err); process.exit(1); });
