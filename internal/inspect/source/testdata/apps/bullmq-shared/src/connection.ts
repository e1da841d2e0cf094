import IORedis from 'ioredis';

let shared: IORedis | undefined;

export function getConnection(): IORedis {
  if (!shared) {
    shared = new IORedis({
      host: process.env.REDIS_HOST || '127.0.0.1',
      port: Number(process.env.REDIS_PORT || 6379),
      maxRetriesPerRequest: null,
    });
  }
  return shared;
}
