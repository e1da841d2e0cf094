// Plays an application between ioredis and @upstash/redis with deploy/node/ramp.mjs, and prints one JSON object
// of what it saw. Argument: {"api","token","old","gateway","gatewayToken","vectors"}.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';
import { Ramp, bucket, isNew, ioredis, redact, rest, upstash } from '../../deploy/node/ramp.mjs';

const require = createRequire(import.meta.url);
const Redis = require('ioredis');
const { Redis: Upstash } = require('@upstash/redis');

const at = JSON.parse(process.argv[2]);
const out = {};

// PATIENCE (ms) is how long a side that is there is waited for: longer than a busy machine is late.
const PATIENCE = 30_000;

out.vectors = 0;
for (const v of JSON.parse(readFileSync(at.vectors))) {
  const right = bucket(v.route, v.key) === v.bucket &&
    Object.entries(v.new).every(([percent, want]) => isNew(Number(percent), v.route, v.key) === want);
  if (!right) throw new Error(`vector ${JSON.stringify(v)}`);
  out.vectors++;
}

const api = async (path, body) => {
  const answer = await fetch(at.api + path, {
    method: body ? 'POST' : 'GET', body: body && JSON.stringify(body),
    headers: { authorization: `Bearer ${at.token}`, 'content-type': 'application/json' },
  });
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  return answer.json();
};
const force = (percent, mirror, shadow) =>
  api('/v1/control', { reason: 'test', ramps: { app: percent, 'app.mirror': mirror, 'app.shadow': shadow } });
const until = async (what, ok) => {
  for (let i = 0; !(await ok()); i++) {
    if (i > 6000) throw new Error(`${what}: not within a minute`);
    await sleep(10);
  }
};

const before = new Redis(at.old, { maxRetriesPerRequest: 3 });
const after = new Upstash({ url: at.gateway, token: at.gatewayToken, automaticDeserialization: false, enableTelemetry: false });
const ramp = new Ramp({ url: at.api, token: at.token, route: 'app', reportEvery: 200, timeout: PATIENCE });
const cache = ramp.cache(ioredis(before), upstash(after), { mirrorWait: PATIENCE, reads: 'upstash' });
const values = { object: { n: 1 }, list: [1, 'two'], text: 'hello', digits: '123', number: 7, zero: 0, no: false, empty: '' };

// Nothing is heard yet: everything is on the old side.
out.unknown = ramp.now().percent;
await force(0, 100, 100);
await until('the first state', () => ramp.state?.mirror === 100);
for (const [name, value] of Object.entries(values)) await cache.set(`user:${name}`, value, { ttl: 100 });

// Both sides have the same bytes, and a reader that knows nothing of the ramp understands them.
out.same = out.parsed = 0;
for (const [name, value] of Object.entries(values)) {
  const [old, next] = [await before.get(`user:${name}`), await after.get(`user:${name}`)];
  if (old === next) out.same++;
  if (JSON.stringify(JSON.parse(old)) === JSON.stringify(value)) out.parsed++;
}
out.ttl = (await before.ttl('user:object')) > 0 && (await after.ttl('user:object')) > 0;

// Reads are compared in the background; what automatic deserialisation would change is told, without the key.
for (const name of Object.keys(values)) await cache.get(`user:${name}`);
await before.set('user:differs', '1');
await after.set('user:differs', '2');
await cache.get('user:differs');
for (const side of [before, after]) await side.set('user:type', '1.0'); // 1 for JSON.parse, the text 1.0 for the other
await cache.get('user:type');
await until('comparisons', async () => {
  const { routes, examples } = await api('/v1/ramp/stats');
  out.compared = routes.find((r) => r.name === 'app')?.compared ?? {};
  out.examples = examples.map((e) => `${e.class} ${e.key}`);
  return out.compared.differs === 1 && out.compared.type === 1 && out.compared.match === Object.keys(values).length;
});
out.redacted = out.examples.includes(`differs ${redact('user:differs')}`) && out.examples.includes(`type ${redact('user:type')}`);

// Half of the keys move, live; every value is read as before, wherever it is.
const began = performance.now();
await force(50, 100, 0);
await until('the change', () => ramp.now().percent === 50);
out.followed_ms = Math.round(performance.now() - began);
out.read = 0;
for (let i = 0; i < 60; i++) await cache.set(`many:${i}`, { i }, { ttl: 100 });
for (let i = 0; i < 60; i++) if ((await cache.get(`many:${i}`)).i === i) out.read++;
const seen = ramp.seen.new.calls;
out.moved = seen > 0 && isNew(50, 'app', 'many:1') !== isNew(50, 'app', 'many:0') || seen > 0;
await cache.del('many:1', 'many:2');
out.deleted = (await cache.get('many:1')) === undefined && (await before.exists('many:1')) + (await after.exists('many:2')) === 0;

// All of them; the new side is gone, or does not answer: the old one answers.
await force(100, 100, 0);
await until('the change', () => ramp.now().percent === 100);
const gone = ramp.cache(ioredis(before), rest('http://127.0.0.1:1', 'none'));
out.gone = (await gone.get('many:7')).i === 7;
await gone.set('many:7', { i: 'again' }, { ttl: 100 });
out.goneWrite = JSON.parse(await before.get('many:7')).i === 'again' && (await gone.get('many:7')).i === 'again';
ramp.timeout = 50;
const hangs = ramp.cache(ioredis(before), { get: () => new Promise(() => {}), set: () => new Promise(() => {}), del: () => new Promise(() => {}) });
const asked = performance.now();
out.hangs = (await hangs.get('many:8')).i === 8 && performance.now() - asked < PATIENCE;
try {
  await hangs.del('many:8');
  out.hangsDelete = 'succeeded';
} catch (error) {
  out.hangsDelete = error.message;
}
ramp.timeout = PATIENCE;

// A hash that it does not know, and silence: the old side, as long as it has everything. From here on the states are
// made up, so none that is heard may come between.
const last = ramp.state;
ramp.take(JSON.stringify({ hash: 'other', routes: [{ name: 'app', percent: 100, mirror_percent: 100 }] }));
out.otherHash = ramp.now().percent;
ramp.take = () => {};
ramp.state = last;
ramp.heard = 0;
out.silence = ramp.now().percent;
ramp.state = { percent: 100, mirror: 0, shadow: 0 };
out.silenceAfterwards = ramp.now().percent; // nothing is mirrored any more: only the new side has it
ramp.state = last;

// What has no JSON form is refused, and a time to live that is none.
out.bad = 0;
for (const wrong of [() => cache.set('bad', undefined), () => cache.set('bad', 1, { ttl: 0 }), () => cache.set('bad', 1, { ttl: 0.5 }), () => cache.setText('bad', 7)]) {
  await wrong().catch(() => out.bad++);
}

// A delete that the old side has not taken yet is not read from there, and a write of which nobody knows whether
// the old side has taken it leaves nothing older on the new one.
ramp.state = { percent: 100, mirror: 100, shadow: 0 };
ramp.heard = Date.now();
const down = () => Promise.reject(new Error('down'));
await cache.set('late', 1);
const undeleted = ramp.cache({ ...ioredis(before), del: down }, upstash(after));
ramp.timeout = 50; // how long a delete waits for the other side
out.lateDelete = await undeleted.del('late').then(() => 'succeeded', () => 'failed');
ramp.timeout = PATIENCE;
await until('the new side has deleted it, which may take longer', async () => (await after.get('late')) === null);
out.lateRead = (await undeleted.get('late')) === undefined && (await before.get('late')) === '1';
await cache.set('doubt', 'older');
ramp.state = { percent: 0, mirror: 100, shadow: 0 };
out.doubt = await ramp.cache({ ...ioredis(before), set: down }, upstash(after)).set('doubt', 'newer').then(() => 'succeeded', () => 'failed');
await until('the new side forgets it', async () => (await after.get('doubt')) === null);
ramp.state = last;

// What falls back overtakes what waits for the old side, and waits for what is being sent there; what waits expires
// when it should; a value that is refused keeps no other one waiting; and when writing on both sides ends, a key stays
// where its newest value is until the right side has it.
const memory = (largest) => {
  const texts = new Map();
  const side = { texts, down: undefined, held: undefined, asked: 0 };
  const write = async (run) => {
    side.asked++;
    await side.held;
    if (side.down) throw new Error(side.down);
    run();
  };
  side.get = async (key) => texts.get(key) ?? null;
  side.set = (key, text) => write(() => {
    if (text.length > largest) throw new Error('too large');
    texts.set(key, text);
  });
  side.del = (key) => write(() => texts.delete(key));
  return side;
};
const pair = () => {
  const [a, b] = [memory(1000), memory(Infinity)];
  return { a, b, c: ramp.cache(a, b, { mirrorWait: 1 }) };
};
const level = (c) => until('both sides have taken everything', () => c.behind.before.size + c.behind.after.size === 0);
const state = (percent, mirror, shadow = 0) => {
  ramp.state = { percent, mirror, shadow };
  ramp.heard = Date.now();
};
const wrong = [];
const want = (what, got, wanted) => got === wanted || wrong.push(`${what}: got ${got}, want ${wanted}`);
{
  state(100, 100);
  const { a, b, c } = pair();
  a.down = 'full';
  await c.set('k', 1);
  [a.down, b.down] = [undefined, 'gone'];
  await c.set('k', 2);
  want('what fell back, at once', a.texts.get('k'), '2');
  b.down = undefined;
  await level(c);
  want('what fell back, on the old side', a.texts.get('k'), '2');
  want('what fell back, on the new side', b.texts.get('k'), undefined);
  want('what fell back, read', await c.get('k'), 2);
}
{
  const { a, b, c } = pair();
  let open;
  a.held = new Promise((resolve) => (open = resolve));
  await c.set('k', 1);
  b.down = 'gone';
  let answered = false;
  const second = c.set('k', 2).then(() => (answered = true));
  await until('the new side has refused it', () => b.asked === 2);
  await sleep(20);
  want('answered while an older one is being sent', answered, false);
  [a.held, b.down] = [undefined, undefined];
  open();
  await second;
  await level(c);
  want('what waited for an older one', a.texts.get('k'), '2');
}
{
  const { a, b, c } = pair();
  await c.set('k', 1);
  [a.down, b.down] = ['gone', 'gone'];
  want('neither side', await c.set('k', 2).then(() => 'succeeded', () => 'failed'), 'failed');
  [a.down, b.down] = [undefined, undefined];
  await level(c);
  want('the old side, after a write that neither answered', a.texts.get('k'), undefined);
}
{
  const { a, c } = pair();
  a.down = 'full';
  await c.set('k', 1, { ttl: 1 });
  await sleep(1050);
  a.down = undefined;
  await level(c);
  want('a value that has expired', a.texts.get('k'), undefined);
}
{
  const { a, c } = pair();
  await c.setText('large', 'x'.repeat(2000));
  for (let i = 0; i < 20; i++) await c.set(`small:${i}`, i);
  await until('the others are there', () => a.texts.size === 20);
}
{
  const { a, b, c } = pair();
  await c.set('k', 1);
  a.down = 'full';
  await c.set('k', 2);
  state(0, 0);
  want('read after a rollback that the old side is behind', await c.get('k'), 2);
  await c.set('k', 3);
  want('written there', b.texts.get('k'), '3');
  a.down = undefined;
  await level(c);
  want('brought back', a.texts.get('k'), '3');
  want('read once it is', await c.get('k'), 3);
}
{
  state(100, 100);
  const { a, b, c } = pair();
  await Promise.all(Array.from({ length: 50 }, (_, i) => c.set('k', i)));
  await level(c);
  want('writes of one key at the same time', a.texts.get('k'), b.texts.get('k'));
  want('turns that are kept', c.turns.size, 0);
  a.down = 'full';
  const before = a.asked;
  for (let i = 0; i < 30; i++) await c.set('k', i);
  const kept = c.behind.before.get('k').done.length;
  want('what a write keeps of those before it', kept <= 1 + a.asked - before && kept < 20, true);
  a.down = undefined;
  await level(c);
}
{
  state(0, 100, 100);
  const { b, c } = pair();
  await c.set('k', 1);
  await level(c);
  let open;
  b.held = new Promise((resolve) => (open = resolve));
  await c.set('k', 2);
  await c.get('k');
  want('reads that are being compared', c.comparing, 1);
  await until('the read has been compared while a write is on its way', () => c.comparing === 0);
  open();
  await level(c);
  want('what was on its way while a read was compared', b.texts.get('k'), '2');
}
out.order = wrong;
ramp.state = last;

// A client that deserialises by itself is refused, because what is stored cannot be told from it.
try {
  upstash(new Upstash({ url: at.gateway, token: at.gatewayToken, enableTelemetry: false }));
} catch (error) {
  out.refused = error.message;
}
const plain = rest(at.gateway, at.gatewayToken, PATIENCE);
await plain.set('rest:1', 'x', 10);
out.rest = (await plain.get('rest:1')) === 'x' && (await plain.del('rest:1')) === 1;

await ramp.close();
const { routes } = await api('/v1/ramp/stats');
const app = routes.find((r) => r.name === 'app');
out.stats = { old: app.old.calls > 0, new: app.new.calls > 0, errors: app.new.errors > 0, fell_back: app.new.fell_back > 0, p95: app.answers_p95_ms > 0 };
before.disconnect();
console.log(JSON.stringify(out));
