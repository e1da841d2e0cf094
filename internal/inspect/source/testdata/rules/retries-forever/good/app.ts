import Redis from 'ioredis';

const redis = new Redis({ host: 'localhost', maxRetriesPerRequest: 3 });

export const load = (key: string) => redis.get(key);
