import { Worker } from 'bullmq';

const connection = { host: 'localhost' };

for (const name of ['mail', 'sms']) {
  new Worker(name, async (job) => job.data, { connection, stalledInterval: 30_000 });
}
