import { Worker } from 'bullmq';

const worker = new Worker('mail', async (job) => job.data, { connection: { host: 'localhost' } });
worker.on('error', (err) => console.warn(err.message));
