import { Queue, Worker } from 'bullmq';

const connection = { host: 'localhost' };
const queue = new Queue('reports', { connection });
new Worker('reports', async (job) => job.data, { connection, drainDelay: 300, stalledInterval: 300_000 });

void queue.upsertJobScheduler('daily', { pattern: '0 6 * * *' });
