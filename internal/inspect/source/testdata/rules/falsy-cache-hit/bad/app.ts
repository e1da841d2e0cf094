import { Redis } from '@upstash/redis';

const httpRedis = Redis.fromEnv();

export async function cachedCount(key: string, load: () => Promise<number>): Promise<number> {
  const cached = await httpRedis.get<number>(key);
  if (cached) return cached;
  return load();
}
