import { Redis } from '@upstash/redis';

const httpRedis = Redis.fromEnv();

export async function touch(key: string): Promise<void> {
  await httpRedis.incr(key);
  await httpRedis.expire(key, 60);
  const pipeline = httpRedis.pipeline();
  pipeline.incr(key);
  pipeline.expire(key, 60);
  await pipeline.exec();
}
