// Tests whose commands redisopt record attributes: run by node:test with the hooks of deploy/node.
import { test, describe, after } from 'node:test';
import IORedis from 'ioredis';
import { Redis } from '@upstash/redis';

const redis = new IORedis(process.env.REDIS_URL);
const http = new Redis({ url: process.env.UPSTASH_REDIS_REST_URL, token: process.env.UPSTASH_REDIS_REST_TOKEN, enableTelemetry: false });

test('reads three users', async () => {
  await redis.get('user:1');
  await redis.mget('user:2', 'user:3');
  await redis.get('user:4');
});

describe('orders', () => {
  test('counts an order', async () => {
    await redis.eval("redis.call('incr', KEYS[1]) return redis.call('expire', KEYS[1], 10)", 1, 'order:17');
  });
});

test('reads over HTTP', async () => {
  await http.set('a', '1');
  await http.get('a');
});

after(() => redis.quit());
