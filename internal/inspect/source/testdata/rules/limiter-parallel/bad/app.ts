import { Redis } from '@upstash/redis';

const httpRedis = Redis.fromEnv();

export async function check(key: string, windowMs: number): Promise<number> {
  const now = Date.now();
  const [, count] = await Promise.all([
    httpRedis.zadd(key, { score: now, member: `${now}-${Math.random()}` }),
    httpRedis.zcard(key),
    httpRedis.zremrangebyscore(key, 0, now - windowMs),
  ]);
  return count;
}
