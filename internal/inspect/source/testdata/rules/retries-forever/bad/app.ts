import Redis from 'ioredis';

const redis = new Redis({ host: 'localhost', maxRetriesPerRequest: null });

export const load = (key: string) => redis.get(key);
