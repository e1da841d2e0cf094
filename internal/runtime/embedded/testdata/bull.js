// bull.js PORT COUNT: real Bull adds COUNT jobs (some delayed, some failing once), works them off and
// says how often each ran. NODE_PATH points at the installed libraries.
const [,, port, count] = process.argv;
const Queue = require('bull');
const queue = new Queue('embedded', { redis: { host: '127.0.0.1', port: +port } });
const runs = {};
const done = new Set();
queue.on('error', (err) => { console.error(err.message); process.exit(1); });
queue.process(async (job) => {
  runs[job.data.n] = (runs[job.data.n] || 0) + 1;
  if (job.data.n % 10 === 3 && job.attemptsMade === 0) throw new Error('once');
  return job.data.n;
});
queue.on('completed', async (job) => {
  done.add(job.data.n);
  if (done.size < +count) return;
  const counts = await queue.getJobCounts();
  console.log(JSON.stringify({ runs, counts }));
  await queue.close();
  process.exit(0);
});
(async () => {
  for (let n = 0; n < +count; n++) {
    await queue.add({ n }, { attempts: 2, delay: n % 5 === 1 ? 50 : 0, priority: n % 7 === 2 ? 3 : undefined });
  }
})();
setTimeout(() => { console.error('not done after 150s: ' + done.size); process.exit(1); }, 150_000);
