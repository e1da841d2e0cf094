import { Queue, Worker } from 'bullmq';
import { getConnection } from './connection';

const names = (
  'suggestion-generation batch-notifications calendar-sync suggestion-regeneration google-contacts-sync ' +
  'token-health-reminder token-refresh webhook-renewal notification-reminder adaptive-sync webhook-health-check'
).split(' ');

const defaults = {
  drainDelay: Number(process.env.DRAIN_DELAY || 5),
  stalledInterval: Number(process.env.STALLED_INTERVAL || 30000),
};

const ready = names.map(async (name) => {
  const queue = new Queue(name, { connection: getConnection() });
  const worker = new Worker(name, async (job) => job.data, { ...defaults, connection: getConnection() });
  await queue.waitUntilReady();
  await worker.waitUntilReady();
});

void Promise.all(ready).then(() => console.log('ready'));
