import { Redis } from '@upstash/redis';

const httpRedis = Redis.fromEnv();

export async function get(key: string): Promise<unknown> {
  return httpRedis.get(key);
}
