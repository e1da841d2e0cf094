// upstash-redis.js LIB URL TOKEN READONLY_TOKEN: everything an application does with @upstash/redis,
// in the version installed as LIB. Prints one JSON object per line: {"name", "error"}, the error absent
// when it went as it does on Upstash itself, and ends with exit code 0 either way.
//
// A case that an older version of the library has no API for names the first version that has.
const assert = require('node:assert/strict');
const [, , lib, url, token, readOnlyToken] = process.argv;
const { Redis } = require(lib);
const version = JSON.parse(require('node:fs').readFileSync(`${__dirname}/node_modules/${lib}/package.json`)).version.replace(/^v/, '');
const say = line => process.stdout.write(JSON.stringify(line) + '\n');

const connect = (more = {}) => new Redis({ url, token, retry: false, enableTelemetry: true, ...more });
const encodings = { base64: connect(), plain: connect({ responseEncoding: false }) };
const newer = (a, b) => {
  const [x, y] = [a, b].map(v => v.split('.').map(Number));
  for (let i = 0; i < 3; i++) if (x[i] !== y[i]) return x[i] > y[i];
  return true;
};

const cases = [];
const test = (name, run, since = '0.0.0') => { if (newer(version, since)) cases.push([name, run]); };
const each = (name, run, since) => {
  for (const [how, redis] of Object.entries(encodings)) {
    test(`${name} (${how})`, () => run(redis, `${name.replace(/\W+/g, '-')}:${how}`), since);
  }
};
const later = (what, ms = 60000) => {
  let timer;
  return Promise.race([what, new Promise((_, no) => { timer = setTimeout(() => no(new Error(`nothing within ${ms} ms`)), ms); })])
    .finally(() => clearTimeout(timer));
};
const rejects = (promise, text) => promise.then(
  value => { throw new assert.AssertionError({ message: `got ${JSON.stringify(value)}, want an error with ${text}` }); },
  e => {
    if (e instanceof assert.AssertionError) throw e;
    assert.equal(e.name, 'UpstashError');
    assert.ok(e.message.includes(text), `got ${e.message}, want ${text} in it`);
  });

each('strings come back as they were', async (r, k) => {
  for (const text of ['plain', '', 'OK', 'ünïcödé 😀', 'with "quotes" \\ and \n lines', ' spaces ', 'a,b', '/slash?&=']) {
    assert.equal(await r.set(k, text), 'OK');
    assert.equal(await r.get(k), text);
  }
});
each('values are JSON on the way in and out', async (r, k) => {
  for (const value of [{ a: [1, 'x', null, { deep: true }], 'ключ': 'значение' }, [1, 2, 3], true, false, 12.5, -3, 0]) {
    await r.set(k, value);
    assert.deepEqual(await r.get(k), value);
  }
  assert.equal(await r.get(`${k}:none`), null);
});
each('numbers too large for JavaScript stay strings', async (r, k) => {
  for (const n of ['101600000000150081467', '9223372036854775807', '-9223372036854775808']) {
    await r.set(k, n);
    assert.equal(await r.get(k), n);
  }
  await r.set(k, '9007199254740990');
  assert.equal(await r.incr(k), 9007199254740991);
});
each('options of SET are understood', async (r, k) => {
  assert.equal(await r.set(k, 'one', { ex: 100, nx: true }), 'OK');
  assert.equal(await r.set(k, 'two', { nx: true }), null);
  assert.equal(await r.set(k, 'three', { xx: true, get: true, keepTtl: true }), 'one');
  const ttl = await r.ttl(k);
  assert.ok(ttl > 0 && ttl <= 100, `ttl ${ttl}`);
  assert.equal(await r.getdel(k), 'three');
});
each('several keys at once', async (r, k) => {
  assert.equal(await r.mset({ [`${k}:a`]: 'x', [`${k}:b`]: { n: 1 } }), 'OK');
  assert.deepEqual(await r.mget(`${k}:a`, `${k}:b`, `${k}:c`), ['x', { n: 1 }, null]);
  assert.equal(await r.exists(`${k}:a`, `${k}:b`, `${k}:c`), 2);
  assert.equal(await r.del(`${k}:a`, `${k}:b`), 2);
});
each('counters count', async (r, k) => {
  assert.equal(await r.incrby(k, 41), 41);
  assert.equal(await r.incr(k), 42);
  assert.equal(await r.decr(k), 41);
  assert.equal(await r.incrbyfloat(k, 0.5), 41.5);
});
each('hashes', async (r, k) => {
  assert.equal(await r.hset(k, { a: 1, b: { c: 2 }, d: 'text', big: '101600000000150081467' }), 4);
  // Version 1.28 leaves the numbers of a whole hash as they are.
  assert.deepEqual(await r.hgetall(k), { a: newer(version, '1.34.0') ? 1 : '1', b: { c: 2 }, d: 'text', big: '101600000000150081467' });
  assert.deepEqual(await r.hmget(k, 'a', 'none'), { a: 1, none: null });
  assert.equal(await r.hincrby(k, 'a', 4), 5);
  assert.deepEqual((await r.hkeys(k)).sort(), ['a', 'b', 'big', 'd']);
  assert.equal(await r.hget(k, 'none'), null);
  assert.equal(await r.hgetall(`${k}:none`), null);
});
each('lists', async (r, k) => {
  assert.equal(await r.rpush(k, 'a', { b: 1 }, 3), 3);
  assert.deepEqual(await r.lrange(k, 0, -1), ['a', { b: 1 }, 3]);
  assert.equal(await r.lpop(k), 'a');
  assert.equal(await r.lrem(k, 0, 3), 1);
  assert.equal(await r.llen(k), 1);
});
each('sets', async (r, k) => {
  assert.equal(await r.sadd(k, 'a', 'b', 'OK'), 3);
  assert.deepEqual((await r.smembers(k)).sort(), ['OK', 'a', 'b']);
  assert.equal(await r.sismember(k, 'a'), 1);
  assert.deepEqual(await r.smismember(k, ['a', 'x']), [1, 0]);
});
each('sorted sets', async (r, k) => {
  assert.equal(await r.zadd(k, { score: 1, member: 'one' }, { score: 2.5, member: 'two' }), 2);
  assert.equal(await r.zadd(k, { ch: true, gt: true }, { score: 3, member: 'two' }), 1);
  assert.deepEqual(await r.zrange(k, 0, -1), ['one', 'two']);
  assert.deepEqual(await r.zrange(k, 0, -1, { withScores: true }), ['one', 1, 'two', 3]);
  assert.deepEqual(await r.zrange(k, 2, '+inf', { byScore: true }), ['two']);
  assert.equal(await r.zscore(k, 'two'), 3);
  assert.equal(await r.zscore(k, 'none'), null);
  assert.equal(await r.zrank(k, 'two'), 1);
  assert.equal(await r.zincrby(k, 1.5, 'one'), 2.5);
  assert.deepEqual(await r.zpopmin(k), ['one', 2.5]);
});
each('streams', async (r, k) => {
  const id = await r.xadd(k, '*', { name: 'x', n: 1 });
  assert.match(id, /^\d+-\d+$/);
  assert.deepEqual(await r.xrange(k, '-', '+'), { [id]: { name: 'x', n: 1 } });
  assert.equal(await r.xlen(k), 1);
}, '1.34.0');
each('bits and HyperLogLog', async (r, k) => {
  assert.equal(await r.setbit(k, 7, 1), 0);
  assert.equal(await r.bitcount(k, 0, -1), 1);
  assert.equal(await r.pfadd(`${k}:hll`, 'a', 'b'), 1);
  assert.equal(await r.pfcount(`${k}:hll`), 2);
});
each('a large value makes the round trip', async (r, k) => {
  const text = 'abcdefghij'.repeat(100_000);
  await r.set(k, text);
  assert.equal(await r.get(k), text);
});
each('many calls of one tick become one request, in order', async (r, k) => {
  const auto = connect({ enableAutoPipelining: true });
  const out = await Promise.all(Array.from({ length: 300 }, (_, i) => auto.incr(`${k}:n`).then(n => [i, n])));
  out.forEach(([i, n]) => assert.equal(n, i + 1));
  const mixed = await Promise.allSettled([auto.set(k, 'x'), auto.lpush(k, 'y'), auto.get(k)]);
  assert.equal(mixed[0].value, 'OK');
  assert.ok(mixed[1].reason.message.includes('WRONGTYPE'), mixed[1].reason.message);
  assert.equal(await auto.get(k), 'x');
}, '1.34.0');
each('a pipeline answers in order', async (r, k) => {
  const out = await r.pipeline().set(k, { a: 1 }).get(k).incr(`${k}:n`).get(`${k}:none`).hset(`${k}:h`, { f: 'v' }).hgetall(`${k}:h`).exec();
  assert.deepEqual(out, ['OK', { a: 1 }, 1, null, 1, { f: 'v' }]);
});
each('a pipeline of a thousand', async (r, k) => {
  const p = r.pipeline();
  for (let i = 0; i < 1000; i++) p.incr(k);
  assert.equal((await p.exec())[999], 1000);
});
each('a failing command of a pipeline is named', async (r, k) => {
  await rejects(r.pipeline().set(k, 'x').lpush(k, 'y').exec(), 'WRONGTYPE');
  const out = await r.pipeline().set(k, 'x').lpush(k, 'y').get(k).exec({ keepErrors: true });
  assert.equal(out[0].result, 'OK');
  assert.ok(out[1].error.includes('WRONGTYPE'), JSON.stringify(out[1]));
  assert.equal(out[2].result, 'x');
}, '1.34.1');
each('a transaction is all or nothing', async (r, k) => {
  assert.deepEqual(await r.multi().set(k, 'x').get(k).incr(`${k}:n`).exec(), ['OK', 'x', 1]);
  const busy = await Promise.all(Array.from({ length: 50 }, () => {
    const m = r.multi();
    for (let i = 0; i < 5; i++) m.incr(`${k}:shared`);
    return m.exec();
  }));
  const all = busy.flat().sort((a, b) => a - b);
  assert.deepEqual(all, Array.from({ length: 250 }, (_, i) => i + 1));
  for (const five of busy) five.forEach((n, i) => assert.equal(n, five[0] + i, 'another client came in between'));
});
each('iterators walk over everything once', async (r, k) => {
  const p = r.pipeline();
  for (let i = 0; i < 250; i++) p.set(`${k}:${String(i).padStart(3, '0')}`, i).hset(`${k}h`, { [`f${i}`]: i }).sadd(`${k}s`, `m${i}`).zadd(`${k}z`, { score: i, member: `m${i}` });
  await p.exec();
  const walk = async step => {
    const seen = new Set();
    let cursor = 0, rounds = 0;
    do {
      const [next, items] = await step(cursor);
      items.forEach(x => seen.add(x));
      cursor = next;
      assert.ok(++rounds < 1000, 'the iterator never ends');
    } while (Number(cursor) !== 0);
    return seen;
  };
  assert.equal((await walk(c => r.scan(c, { match: `${k}:*`, count: 40 }))).size, 250);
  assert.equal((await walk(c => r.hscan(`${k}h`, c, { count: 40 }).then(([n, flat]) => [n, flat.filter((_, i) => i % 2 === 0)]))).size, 250);
  assert.equal((await walk(c => r.sscan(`${k}s`, c, { count: 40 }))).size, 250);
  assert.equal((await walk(c => r.zscan(`${k}z`, c, { count: 40 }).then(([n, flat]) => [n, flat.filter((_, i) => i % 2 === 0)]))).size, 250);
});
each('a scan can say the types', async (r, k) => {
  await r.set(`${k}:s`, 'x');
  await r.hset(`${k}:h`, { a: 1 });
  const found = {};
  let cursor = '0';
  do {
    const [next, keys] = await r.scan(cursor, { match: `${k}:*`, withType: true, count: 100 });
    for (const one of keys) found[one.key] = one.type;
    cursor = String(next);
  } while (cursor !== '0');
  assert.deepEqual(found, { [`${k}:s`]: 'string', [`${k}:h`]: 'hash' });
}, '1.38.0');
each('scripts run by text and by digest', async (r, k) => {
  assert.deepEqual(await r.eval('return {KEYS[1], ARGV[1], ARGV[2]}', [k], ['a', 'b']), [k, 'a', 'b']);
  const script = r.createScript(`return redis.call('INCRBY', KEYS[1], ARGV[1]) -- ${k}`);
  assert.equal(await script.exec([k], ['5']), 5);
  assert.equal(await script.exec([k], ['5']), 10);
  const sha = await r.scriptLoad('return ARGV[1]');
  assert.equal(await r.evalsha(sha, [], ['hello']), 'hello');
  assert.deepEqual(await r.scriptExists(sha, '0'.repeat(40)), [1, 0]);
  await rejects(r.evalsha('f'.repeat(40), [], []), 'NOSCRIPT');
});
each('scripts with the flag that only Upstash knows', async (r, k) => {
  const text = `#!lua flags=allow-key-locking\nreturn redis.call('INCR', KEYS[1]) -- ${k}`;
  assert.equal(await r.eval(text, [k], []), 1);
  assert.equal(await r.evalsha(await r.scriptLoad(text), [k], []), 2);
  const digest = require('node:crypto').createHash('sha1').update(text).digest('hex');
  assert.equal(await r.evalsha(digest, [k], []), 3);
  assert.deepEqual(await r.scriptExists(digest), [1]);
});
each('a write is seen by the read that follows', async (r, k) => {
  for (let i = 0; i < 20; i++) {
    await r.set(k, i);
    assert.equal(await r.get(k), i);
  }
});
const alone = []; // cases that the others must not run beside
alone.push(['the sync token of an answer comes back with the next request', async () => {
  const seen = [];
  const real = globalThis.fetch;
  globalThis.fetch = async (where, init) => {
    const sent = new Headers(init.headers).get('upstash-sync-token');
    const answer = await real(where, init);
    seen.push([sent, answer.headers.get('upstash-sync-token')]);
    return answer;
  };
  try {
    const r = connect({ readYourWrites: true, enableAutoPipelining: false });
    await r.set('sync', 1);
    await r.get('sync');
    await r.get('sync'); // before 1.39 the library is one request late
  } finally {
    globalThis.fetch = real;
  }
  assert.equal(seen.length, 3);
  assert.ok(seen[0][1], 'no sync token in the answer');
  assert.equal(seen[2][0], seen[0][1]);
}]);
test('errors carry the text of Redis and the command', async () => {
  const r = connect({ enableAutoPipelining: false });
  await r.set('errors', 'x');
  await rejects(r.lpush('errors', 'y'), 'WRONGTYPE Operation against a key holding the wrong kind of value, command was: ["lpush","errors","y"]');
  await rejects(r.incr('errors'), 'ERR value is not an integer or out of range');
  await rejects(r.eval('return redis.error_reply("MY own error")', [], []), 'MY own error');
  await rejects(r.eval('this is not lua', [], []), 'ERR');
});
test('what Upstash refuses is refused at once', async () => {
  const r = connect({ enableAutoPipelining: false });
  await rejects(r.flushall(), 'ERR');
  await rejects(r.keys('*'), 'ERR');
  await rejects(r.exec ? r.exec(['BLPOP', 'errors:none', '0']) : r.eval('', [], []), 'ERR');
}, '1.35.0');
test('a wrong token is told so', async () => {
  await rejects(connect({ token: `${token}x`, enableAutoPipelining: false }).get('x'), 'WRONGPASS');
  await rejects(connect({ token: `${token}x` }).get('x'), 'WRONGPASS');
  await rejects(connect({ token: `${token}x` }).pipeline().get('x').exec(), 'WRONGPASS');
});
test('a read-only token reads and does not write', async () => {
  await connect().set('read-only', 'seen');
  const r = connect({ token: readOnlyToken, enableAutoPipelining: false });
  assert.equal(await r.get('read-only'), 'seen');
  await rejects(r.set('read-only', 'changed'), 'NOPERM this user has no permissions to run the \'set\' command');
  await rejects(r.eval("return redis.call('SET', 'read-only', 'changed')", [], []), 'NOPERM');
  assert.equal(await connect().get('read-only'), 'seen');
});
test('subscribers hear what is published', async () => {
  // Before 1.38 the library takes nothing but JSON, and no more than two commas.
  const text = newer(version, '1.38.0') ? 'text, with a comma' : { text: 'ünï' };
  const r = connect();
  const got = [];
  const sub = r.subscribe(['news', 'sport']);
  let enough;
  const heard = new Promise(yes => { enough = yes; });
  const fail = new Promise((_, no) => sub.on('error', no));
  sub.on('message', m => { got.push([m.channel, m.message]); if (got.length === 4) enough(); });
  let ready = 0;
  const subscribed = new Promise(yes => sub.on('subscribe', () => { if (++ready === 2) yes(); }));
  await later(Promise.race([subscribed, fail]));
  assert.equal(await r.publish('news', { a: 1 }), 1);
  assert.equal(await r.publish('news', text), 1);
  assert.equal(await r.publish('sport', 7), 1);
  assert.equal(await r.publish('other', 'nobody'), 0);
  assert.equal(await r.publish('sport', { b: null }), 1);
  await later(Promise.race([heard, fail]));
  // Each channel has a stream of its own: only within one is there an order.
  const of = channel => got.filter(([c]) => c === channel).map(([, message]) => message);
  assert.deepEqual(of('news'), [{ a: 1 }, text]);
  assert.deepEqual(of('sport'), [7, { b: null }]);
  await sub.unsubscribe();
}, '1.34.4');
test('subscribers to patterns hear what is published', async () => {
  const r = connect();
  const sub = r.psubscribe(['user:*']);
  const fail = new Promise((_, no) => sub.on('error', no));
  const subscribed = new Promise(yes => sub.on('psubscribe', yes));
  const heard = new Promise(yes => sub.on('pmessage', yes));
  await later(Promise.race([subscribed, fail]));
  assert.equal(await r.publish('user:7', { n: 7 }), 1);
  const m = await later(Promise.race([heard, fail]));
  assert.deepEqual([m.pattern, m.channel, m.message], ['user:*', 'user:7', { n: 7 }]);
  await sub.unsubscribe();
}, '1.34.4');

(async () => {
  if (cases.length === 0) throw new Error('no cases');
  say({ version });
  const tell = async ([name, run]) => {
    try {
      await run();
      say({ name });
    } catch (e) {
      say({ name, error: String((e && e.stack) || e).slice(0, 2000) });
    }
  };
  await Promise.all(cases.map(tell));
  if (newer(version, '1.34.0')) for (const one of alone) await tell(one);
  process.stdout.write('', () => process.exit(0));
})();
