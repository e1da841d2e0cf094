import { Worker } from 'bullmq';

const worker = new Worker('mail', async (job) => job.data, { connection: { host: 'localhost' } });
worker.on('ioredis:reconnecting' as any, () => console.warn('reconnecting'));
