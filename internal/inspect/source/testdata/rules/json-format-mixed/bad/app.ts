import IORedis from 'ioredis';
import { Redis } from '@upstash/redis';

const tcp = new IORedis();
const http = Redis.fromEnv();

export async function read(key: string): Promise<unknown> {
  const value = await tcp.get(key);
  return value === null ? null : JSON.parse(value);
}

export async function write(key: string, value: unknown): Promise<void> {
  await http.set(key, value, { ex: 60 });
}
