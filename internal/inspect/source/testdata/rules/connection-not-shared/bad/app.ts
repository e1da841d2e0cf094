import { Queue, Worker } from 'bullmq';

const connection = {
  host: 'localhost',
};

for (const name of ['mail', 'sms', 'push']) {
  new Queue(name, { connection });
  new Worker(name, async (job) => job.data, { connection });
}
