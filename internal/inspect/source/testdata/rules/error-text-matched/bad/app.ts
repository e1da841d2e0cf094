import { Redis } from '@upstash/redis';

const httpRedis = Redis.fromEnv();

export async function get(key: string): Promise<unknown> {
  try {
    return await httpRedis.get(key);
  } catch (error) {
    if ((error as Error).message.includes('ECONNREFUSED')) return null;
    throw error;
  }
}
