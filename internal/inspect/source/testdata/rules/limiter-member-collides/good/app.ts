import { randomUUID } from 'node:crypto';
import { redis } from './redis-client';

export async function checkSMSRateLimit(phoneNumber: string): Promise<boolean> {
  const key = `sms_rate_limit:${phoneNumber}`;
  const now = Date.now();
  await redis.zremrangebyscore(key, 0, now - 3600000);
  const count = await redis.zcard(key);
  await redis.zadd(key, now, `${now}-${randomUUID()}`);
  return count <= 20;
}
