import { Queue, Worker } from 'bullmq';

const connection = { host: 'localhost' };
export const queue = new Queue('sync-queue', {
  connection,
  defaultJobOptions: { attempts: 3, backoff: { type: 'exponential', delay: 1000 } },
});
new Worker('sync-queue', async (job) => job.data, { connection });
