import { Redis } from '@upstash/redis';

const httpRedis = Redis.fromEnv();

export async function get(key: string): Promise<unknown> {
  try {
    return await httpRedis.get(key);
  } catch (error) {
    if (['ECONNREFUSED', 'ETIMEDOUT'].includes((error as any).cause?.code)) return null;
    throw error;
  }
}
