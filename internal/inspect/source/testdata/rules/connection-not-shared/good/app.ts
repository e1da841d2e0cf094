import IORedis from 'ioredis';
import { Queue, Worker } from 'bullmq';

const connection = new IORedis({ maxRetriesPerRequest: null, host: 'localhost' });

for (const name of ['mail', 'sms', 'push']) {
  new Queue(name, { connection });
  new Worker(name, async (job) => job.data, { connection });
}
