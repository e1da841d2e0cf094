import IORedis from 'ioredis';
import { Worker } from 'bullmq';

const connection = new IORedis({ host: 'localhost' });
new Worker('mail', async (job) => job.data, { connection });
