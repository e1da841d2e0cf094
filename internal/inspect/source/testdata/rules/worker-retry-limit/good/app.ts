import IORedis from 'ioredis';
import { Worker } from 'bullmq';

const connection = new IORedis({ host: 'localhost', maxRetriesPerRequest: null });
new Worker('mail', async (job) => job.data, { connection });
