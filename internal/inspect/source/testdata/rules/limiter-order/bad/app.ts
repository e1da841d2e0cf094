import { Redis } from '@upstash/redis';

const httpRedis = Redis.fromEnv();

export async function checkRateLimit(userId: string, windowMs: number, max: number): Promise<boolean> {
  const key = `rate_limit:${userId}`;
  const now = Date.now();
  await httpRedis.zadd(key, { score: now, member: `${now}-${Math.random()}` });
  const count = await httpRedis.zcard(key);
  await httpRedis.zremrangebyscore(key, 0, now - windowMs);
  await httpRedis.expire(key, Math.ceil(windowMs / 1000));
  return count <= max;
}
