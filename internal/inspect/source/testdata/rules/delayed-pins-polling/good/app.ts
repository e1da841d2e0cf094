import { Queue, Worker } from 'bullmq';

const connection = { host: 'localhost' };
export const queue = new Queue('reports', { connection });
new Worker('reports', async (job) => job.data, { connection, drainDelay: 300, stalledInterval: 300_000 });
