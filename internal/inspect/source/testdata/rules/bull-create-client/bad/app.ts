import Queue from 'bull';
import Redis from 'ioredis';

const client = new Redis({ host: 'localhost' });
const queue = new Queue('mail', {
  createClient: (type) => (type === 'client' ? client : new Redis({ host: 'localhost' })),
});
queue.process(async (job) => job.data);
