import { Worker } from 'bullmq';

new Worker('sync-queue', async (job) => job.data, {
  connection: { host: 'localhost' },
  attempts: 3,
  backoff: { type: 'exponential', delay: 1000 },
} as any);
