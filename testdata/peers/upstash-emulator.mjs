// upstash-emulator.mjs REDIS_URL TOKEN: the REST server of @humanwhocodes/upstash-redis-server, which
// is not ours, in front of a real Redis. It listens on a free port of 127.0.0.1, prints "port N" when
// it does, and ends when its stdin does.
import { serve } from '@hono/node-server';
import { createApp } from '@humanwhocodes/upstash-redis-server';

const [, , redisUrl, token] = process.argv;
if (!redisUrl || !token) {
  process.stderr.write('usage: upstash-emulator.mjs REDIS_URL TOKEN\n');
  process.exit(2);
}
const app = createApp({ token, redisUrl });
serve({ fetch: app.fetch, hostname: '127.0.0.1', port: 0 }, at => process.stdout.write(`port ${at.port}\n`));
process.stdin.on('end', () => process.exit(0)).resume();
