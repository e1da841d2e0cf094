import { Job, Queue, Worker, type ConnectionOptions } from 'bullmq';
import { QUEUES, type QueueName } from './names';

const connection: ConnectionOptions = {
  host: process.env.REDIS_HOST || '127.0.0.1',
  port: Number(process.env.REDIS_PORT ?? 6379),
  password: process.env.REDIS_PASSWORD,
  tls: process.env.REDIS_TLS === 'true' ? {} : undefined,
  maxRetriesPerRequest: null,
};

export const queues = new Map<QueueName, Queue>();
const workers: Worker[] = [];

for (const name of Object.values(QUEUES)) {
  queues.set(name, new Queue(name, { connection }));
  workers.push(
    new Worker(name, async (job: Job) => job.data, {
      connection,
      concurrency: 1,
      drainDelay: Number(process.env.DRAIN_DELAY || 5),
      stalledInterval: Number(process.env.STALLED_INTERVAL || 30000),
    }),
  );
}

void Promise.all([...queues.values(), ...workers].map((it) => it.waitUntilReady())).then(() => console.log('ready'));
