import { Worker } from 'bullmq';

const connection = { host: 'localhost' };

for (const name of ['mail', 'sms']) {
  new Worker(name, async (job) => job.data, { connection, drainDelay: 300, stalledInterval: 300_000 });
}
