import Queue, { QueueOptions } from 'bull';
import Redis from 'ioredis';

const NAMES = [
  'suggestion-generation',
  'batch-notifications',
  'calendar-sync',
  'suggestion-regeneration',
  'google-contacts-sync',
  'token-health-reminder',
  'token-refresh',
  'webhook-renewal',
  'notification-reminder',
  'adaptive-sync',
  'webhook-health-check',
] as const;

const redis = {
  host: process.env.REDIS_HOST || '127.0.0.1',
  port: parseInt(process.env.REDIS_PORT || '6379'),
  enableReadyCheck: false,
  maxRetriesPerRequest: null,
};

const client = new Redis(redis);
const subscriber = new Redis(redis);

const options: QueueOptions = {
  createClient(type) {
    switch (type) {
      case 'client':
        return client;
      case 'subscriber':
        return subscriber;
      default:
        return new Redis(redis);
    }
  },
  settings: {
    drainDelay: Number(process.env.DRAIN_DELAY || 5),
    guardInterval: Number(process.env.GUARD_INTERVAL || 5000),
    stalledInterval: Number(process.env.STALLED_INTERVAL || 30000),
  },
};

const queues = NAMES.map((name) => new Queue(name, options));
queues.forEach((queue) => queue.process(async (job) => job.data));

void Promise.all(queues.map((queue) => queue.isReady())).then(() => console.log('ready'));
