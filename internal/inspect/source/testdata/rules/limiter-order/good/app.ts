import { Redis } from '@upstash/redis';

const httpRedis = Redis.fromEnv();

export async function checkRateLimit(userId: string, windowMs: number, max: number): Promise<boolean> {
  const key = `rate_limit:${userId}`;
  const now = Date.now();
  const tx = httpRedis.multi();
  tx.zremrangebyscore(key, 0, now - windowMs);
  tx.zcard(key);
  const [, count] = await tx.exec<[number, number]>();
  if (count >= max) return false;
  await httpRedis.zadd(key, { score: now, member: `${now}-${Math.random()}` });
  return true;
}
