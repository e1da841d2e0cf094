import Redis from 'ioredis';

const redis = new Redis();

export async function clear(prefix: string): Promise<void> {
  const keys = await redis.keys(`${prefix}:*`);
  for (const key of keys) await redis.unlink(key);
}
