// idle.js PORT QUEUES: real Bull queues with a worker each and nothing to do, until the list "stop"
// has something.
const [,, port, queues] = process.argv;
const Queue = require('bull');
const Redis = require('ioredis');
const redis = { host: '127.0.0.1', port: +port };
for (let n = 0; n < +queues; n++) {
  const queue = new Queue('queue-' + n, { redis });
  queue.on('error', () => {});
  queue.process(async () => 1);
}
const control = new Redis({ ...redis, connectionName: 'redisopt-control' });
control.blpop('stop', 120).then((hit) => process.exit(hit ? 0 : 1));
