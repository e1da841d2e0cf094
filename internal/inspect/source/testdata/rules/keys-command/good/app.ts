import Redis from 'ioredis';

const redis = new Redis();
const seen = new Map<string, string>();

export async function clear(prefix: string): Promise<void> {
  for await (const keys of redis.scanStream({ match: `${prefix}:*` })) {
    for (const key of keys) await redis.unlink(key);
  }
  for (const key of seen.keys()) seen.delete(key);
}
