import { Redis } from '@upstash/redis';

const httpRedis = Redis.fromEnv();

export async function get(key: string): Promise<unknown> {
  const value = await httpRedis.get<string>(key);
  return value ? JSON.parse(value) : null;
}
