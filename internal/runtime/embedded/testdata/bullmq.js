// bullmq.js PORT COUNT LIBRARY: the real BullMQ adds COUNT jobs (some delayed, prioritized, failing
// once), works them off and says how often each ran. NODE_PATH points at the installed libraries.
const [,, port, count, library] = process.argv;
const { Queue, Worker } = require(library);
const connection = { host: '127.0.0.1', port: +port, maxRetriesPerRequest: null };
const runs = {};
const done = new Set();
const fail = (err) => { console.error(err.message); process.exit(1); };
const queue = new Queue('embedded', { connection });
queue.on('error', fail);
const worker = new Worker('embedded', async (job) => {
  runs[job.data.n] = (runs[job.data.n] || 0) + 1;
  if (job.data.n % 10 === 3 && job.attemptsMade === 0) throw new Error('once');
  return job.data.n;
}, { connection });
worker.on('error', fail);
worker.on('completed', async (job) => {
  done.add(job.data.n);
  if (done.size < +count) return;
  const counts = await queue.getJobCounts();
  console.log(JSON.stringify({ runs, counts }));
  process.exit(0);
});
(async () => {
  for (let n = 0; n < +count; n++) {
    await queue.add('work', { n }, { attempts: 2, delay: n % 5 === 1 ? 50 : 0, priority: n % 7 === 2 ? 3 : undefined });
  }
  await queue.upsertJobScheduler('yearly', { pattern: '0 3 1 1 *' }, { name: 'yearly' });
})().catch(fail);
setTimeout(() => { console.error('not done after 150s: ' + done.size); process.exit(1); }, 150_000);
