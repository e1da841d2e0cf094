import { Redis } from '@upstash/redis';

const httpRedis = Redis.fromEnv();

export async function touch(key: string): Promise<void> {
  await httpRedis.incr(key);
  httpRedis.expire(key, 60).catch((err) => console.warn('expire failed', err.message));
}
