import { Redis } from '@upstash/redis';

const httpRedis = Redis.fromEnv();

export async function check(key: string, script: string): Promise<number> {
  return httpRedis.eval(script, [key], [Date.now()]) as Promise<number>;
}
