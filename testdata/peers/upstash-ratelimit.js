// upstash-ratelimit.js LIB REDIS_LIB URL TOKEN: what an application does with @upstash/ratelimit, in the
// version installed as LIB over the @upstash/redis installed as REDIS_LIB. Prints one JSON object per
// line: {"name", "error"}, the error absent when all is well, and ends with exit code 0 either way.
const assert = require('node:assert/strict');
const [, , lib, redisLib, url, token] = process.argv;
const { Ratelimit } = require(lib);
const { Redis } = require(redisLib);
const version = JSON.parse(require('node:fs').readFileSync(`${__dirname}/node_modules/${lib}/package.json`)).version.replace(/^v/, '');
const [major, minor] = version.split('.').map(Number);
const redis = new Redis({ url, token, retry: false });
const say = line => process.stdout.write(JSON.stringify(line) + '\n');

const cases = [];
const test = (name, run, since = 1) => { if (major >= since) cases.push([name, run]); };
const make = (prefix, limiter, more = {}) =>
  new Ratelimit({ redis, limiter, prefix: `${lib}:${prefix}`, ephemeralCache: false, analytics: false, timeout: 0, ...more });
const admitted = results => results.filter(r => r.success).length;
const hundred = (limiter, id) => Promise.all(Array.from({ length: 100 }, () => limiter.limit(id)));

// Windows are longer than the whole run, so that none ends within a case; but one may begin in it.
const fresh = async seconds => {
  const into = Date.now() % (seconds * 1000);
  if (seconds * 1000 - into < 15000) await new Promise(r => setTimeout(r, seconds * 1000 - into + 50));
};

test('a fixed window admits exactly its limit of a hundred at once', async () => {
  await fresh(3600);
  const results = await hundred(make('fixed', Ratelimit.fixedWindow(40, '1 h')), 'u');
  assert.equal(admitted(results), 40);
  for (const r of results) assert.equal(r.limit, 40);
  assert.deepEqual(results.filter(r => r.success).map(r => r.remaining).sort((a, b) => a - b), Array.from({ length: 40 }, (_, i) => i));
});
test('a sliding window admits exactly its limit of a hundred at once', async () => {
  await fresh(3600);
  const results = await hundred(make('sliding', Ratelimit.slidingWindow(40, '1 h')), 'u');
  assert.equal(admitted(results), 40);
  const last = results[0].reset;
  assert.ok(last > Date.now() && last <= Date.now() + 3600000, `reset ${last}`);
});
test('a token bucket admits exactly what is in it of a hundred at once', async () => {
  assert.equal(admitted(await hundred(make('bucket', Ratelimit.tokenBucket(1, '1 h', 40)), 'u')), 40);
});
test('a cached window admits its limit and then answers by itself', async () => {
  await fresh(3600);
  const limiter = make('cached', Ratelimit.cachedFixedWindow(40, '1 h'), { ephemeralCache: new Map() });
  let n = 0;
  for (let i = 0; i < 60; i++) if ((await limiter.limit('u')).success) n++;
  // Before 2.2 the library itself refuses the last one from memory.
  assert.equal(n, major > 2 || major === 2 && minor >= 2 ? 40 : 39);
});
test('two limiters over one key share the limit', async () => {
  await fresh(3600);
  const [a, b] = [1, 2].map(() => make('shared', Ratelimit.slidingWindow(30, '1 h')));
  const results = (await Promise.all([hundred(a, 'u'), hundred(b, 'u')])).flat();
  assert.equal(admitted(results), 30);
});
test('two users have two limits', async () => {
  await fresh(3600);
  const limiter = make('users', Ratelimit.slidingWindow(10, '1 h'));
  const [a, b] = await Promise.all([hundred(limiter, 'a'), hundred(limiter, 'b')]);
  assert.deepEqual([admitted(a), admitted(b)], [10, 10]);
});
test('who is blocked is refused from memory', async () => {
  await fresh(3600);
  const limiter = make('blocked', Ratelimit.fixedWindow(1, '1 h'), { ephemeralCache: new Map() });
  assert.equal((await limiter.limit('u')).success, true);
  assert.equal((await limiter.limit('u')).success, false);
  const third = await limiter.limit('u');
  assert.equal(third.success, false);
  if (major >= 2) assert.equal(third.reason, 'cacheBlock');
});
test('blockUntilReady gives up in time', async () => {
  await fresh(3600);
  const limiter = make('until', Ratelimit.fixedWindow(1, '1 h'));
  assert.equal((await limiter.blockUntilReady('u', 1000)).success, true);
  assert.equal((await limiter.blockUntilReady('u', 100)).success, false);
});
test('what remains is told and can be given back', async () => {
  await fresh(3600);
  const kinds = { fixed: Ratelimit.fixedWindow(10, '1 h'), sliding: Ratelimit.slidingWindow(10, '1 h'), bucket: Ratelimit.tokenBucket(1, '1 h', 10) };
  for (const [kind, algorithm] of Object.entries(kinds)) {
    const limiter = make(`remaining-${kind}`, algorithm);
    const left = async () => { const r = await limiter.getRemaining('u'); return typeof r === 'number' ? r : r.remaining; };
    assert.equal(await left(), 10);
    for (let i = 0; i < 3; i++) await limiter.limit('u');
    assert.equal(await left(), 7);
    await limiter.resetUsedTokens('u');
    assert.equal(await left(), 10);
  }
});
test('a request can weigh more than one', async () => {
  await fresh(3600);
  const limiter = make('rate', Ratelimit.slidingWindow(10, '1 h'));
  assert.equal((await limiter.limit('u', { rate: 7 })).remaining, 3);
  assert.equal((await limiter.limit('u', { rate: 3 })).success, true);
  assert.equal((await limiter.limit('u', { rate: 1 })).success, false);
});
test('analytics are written beside', async () => {
  await fresh(3600);
  const limiter = make('analytics', Ratelimit.fixedWindow(10, '1 h'), { analytics: true });
  const r = await limiter.limit('u');
  assert.equal(r.success, true);
  await r.pending;
});
test('two limits can be checked one after the other', async () => {
  await fresh(3600);
  const second = make('both-1', Ratelimit.fixedWindow(100, '1 h'));
  const minute = make('both-2', Ratelimit.slidingWindow(5, '1 h'));
  let n = 0;
  for (let i = 0; i < 10; i++) {
    const both = await Promise.all([second.limit('u'), minute.limit('u')]);
    if (both.every(r => r.success)) n++;
  }
  assert.equal(n, 5);
});
test('several regions agree in the end', async () => {
  await fresh(3600);
  const { MultiRegionRatelimit } = require(lib);
  const limiter = new MultiRegionRatelimit({
    redis: [redis, redis], limiter: MultiRegionRatelimit.fixedWindow(10, '1 h'), prefix: `${lib}:regions`, ephemeralCache: false, timeout: 0,
  });
  let n = 0;
  for (let i = 0; i < 15; i++) {
    const r = await limiter.limit('u');
    await r.pending;
    if (r.success) n++;
  }
  assert.equal(n, major >= 2 ? 10 : 9); // 1.x counts a request before it looks
});

(async () => {
  say({ version });
  for (const [name, run] of cases) { // one after the other: each sends a hundred requests at once
    try {
      await run();
      say({ name });
    } catch (e) {
      say({ name, error: String((e && e.stack) || e).slice(0, 2000) });
    }
  }
  process.stdout.write('', () => process.exit(0));
})();
