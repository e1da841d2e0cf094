// Takes the keys of an application from one Redis client to another, a share at a time, as redisopt's control
// document says. Node 18 or newer, nothing else.
//
//   const ramp = new Ramp({ url: 'http://127.0.0.1:8080', token: process.env.REDISOPT_TOKEN, route: 'app-cache' });
//   const cache = ramp.cache(ioredis(oldClient), upstash(newClient));
//   await cache.set('user:42', { name: 'Ada' }, { ttl: 300 });
//   await cache.get('user:42');
//
// Values are written as JSON on both sides, so that JSON.parse(await redis.get(key)) goes on working on the old
// one. On any error, timeout or unknown state the old side is used. Nothing here polls a Redis.
import { createHash } from 'node:crypto';

const BUCKETS = 10_000;
const HASH = 'fnv1a64-fmix64/10000';
const MASK = (1n << 64n) - 1n;
const PRIME = 1099511628211n;

// bucket is the place of key among 10,000 of route; the same in every program that follows the ramp.
export function bucket(route, key) {
  let h = 14695981039346656037n;
  for (const text of [route, key]) {
    for (const byte of Buffer.from(text, 'utf8')) h = ((h ^ BigInt(byte)) * PRIME) & MASK;
    h = ((h ^ 0xffn) * PRIME) & MASK;
  }
  h ^= h >> 33n;
  h = (h * 0xff51afd7ed558ccdn) & MASK;
  h ^= h >> 33n;
  h = (h * 0xc4ceb9fe1a85ec53n) & MASK;
  h ^= h >> 33n;
  return Number(h % BigInt(BUCKETS));
}

// isNew is whether key is on the new side of a route at a percentage.
export function isNew(percent, route, key) {
  if (!(percent > 0)) return false;
  return percent >= 100 || bucket(route, key) < Math.floor(percent * (BUCKETS / 100) + 0.5);
}

// redact is how a key may be shown: its first word and eight digits of its hash.
export function redact(key) {
  const digits = createHash('sha256').update(key).digest('hex').slice(0, 8);
  const [first, ...more] = key.split(':');
  return `${more.length > 0 && /^[\w.-]{0,32}$/.test(first) ? first : '…'}:…#${digits}`;
}

// autoDeserialized is what @upstash/redis makes of a value unless it is told not to.
export function autoDeserialized(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === 'number' && String(value) !== text ? text : value;
  } catch {
    return text;
  }
}

// A side is { get(key), set(key, text, seconds), del(...keys) }: texts in, texts or null out.

// ioredis is the side of an ioredis client. Give it maxRetriesPerRequest, or an outage waits for ever.
export function ioredis(client) {
  return {
    get: (key) => client.get(key),
    set: (key, text, seconds) => (seconds ? client.set(key, text, 'EX', seconds) : client.set(key, text)),
    del: (...keys) => client.del(...keys),
  };
}

// upstash is the side of a client of @upstash/redis that was made with automaticDeserialization: false.
export function upstash(client) {
  if (client.opts?.automaticDeserialization !== false) {
    throw new Error('make the @upstash/redis client with automaticDeserialization: false, so that it gives the text that is stored');
  }
  return {
    get: (key) => client.get(key),
    set: (key, text, seconds) => client.set(key, text, seconds ? { ex: seconds } : undefined),
    del: (...keys) => client.del(...keys),
  };
}

// rest is the side of an Upstash REST address, by fetch alone.
export function rest(url, token, timeout = 2000) {
  const run = async (...command) => {
    const answer = await fetch(url, {
      method: 'POST', body: JSON.stringify(command), signal: AbortSignal.timeout(timeout),
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    });
    const { result, error } = await answer.json();
    if (error || !answer.ok) throw new Error(error ?? `status ${answer.status}`);
    return result;
  };
  return {
    get: (key) => run('GET', key),
    set: (key, text, seconds) => (seconds ? run('SET', key, text, 'EX', seconds) : run('SET', key, text)),
    del: (...keys) => run('DEL', ...keys),
  };
}

// A Ramp knows what is in force, and reports what its caches saw. It listens to one replica of redisopt serve.
export class Ramp {
  // url and token are those of the API (scopes control:read and cache:write); route is the name in the control
  // document. timeout (ms) bounds a call of the new side; staleAfter (ms) is how long the last state is believed
  // without a word from redisopt; reportEvery (ms) is how often it is told what was seen.
  constructor({ url, token, route, timeout = 500, staleAfter = 60_000, reportEvery = 10_000 }) {
    Object.assign(this, { url: url.replace(/\/+$/, ''), token, route, timeout, staleAfter });
    this.state = undefined; // { percent, mirror, shadow }
    this.heard = 0;
    this.stopped = new AbortController();
    this.seen = counts();
    this.following = this.#follow();
    this.reporting = setInterval(() => this.report(), reportEvery);
    this.reporting.unref();
  }

  // close ends listening and sends the last report.
  async close() {
    clearInterval(this.reporting);
    this.stopped.abort();
    await this.following;
    await this.report();
  }

  // now is what is in force. Of a state that is no longer believed, what is mirrored is on the old side; where
  // nothing is mirrored the new side has what the old one has not, so what was known last stays.
  now() {
    const known = this.state ?? { percent: 0, mirror: 0, shadow: 0 };
    const stale = Date.now() - this.heard > this.staleAfter;
    return stale && known.mirror > 0 ? { percent: 0, mirror: known.mirror, shadow: 0 } : known;
  }

  cache(before, after, options) {
    return new RampCache(this, before, after, options);
  }

  // take believes a state of GET /v1/ramp. One that is hashed in another way is unknown, and all keys stay.
  take(text) {
    const { hash, routes } = JSON.parse(text);
    const mine = hash === HASH ? routes.find((r) => r.name === this.route) : undefined;
    this.state = mine
      ? { percent: mine.percent, mirror: mine.mirror_percent, shadow: mine.shadow_percent }
      : { percent: 0, mirror: this.state?.mirror ?? 0, shadow: 0 };
    this.heard = Date.now();
  }

  async #follow() {
    for (let pause = 250; !this.stopped.signal.aborted; pause = Math.min(2 * pause, 15_000)) {
      try {
        const answer = await fetch(`${this.url}/v1/ramp`, {
          headers: { authorization: `Bearer ${this.token}`, accept: 'text/event-stream' }, signal: this.stopped.signal,
        });
        if (!answer.ok) throw new Error(`status ${answer.status}`);
        let text = '';
        for await (const chunk of answer.body.pipeThrough(new TextDecoderStream())) {
          this.heard = Date.now();
          text += chunk;
          for (let end; (end = text.indexOf('\n\n')) >= 0; text = text.slice(end + 2)) {
            const data = text.slice(0, end).split('\n').find((line) => line.startsWith('data: '));
            if (data) this.take(data.slice(6));
            pause = 250;
          }
        }
      } catch {
        // it is tried again; meanwhile what was heard last counts, see now
      }
      if (!this.stopped.signal.aborted) await sleep(pause, this.stopped.signal);
    }
  }

  // report tells redisopt what was seen since the last report. What cannot be told is told with the next one.
  async report() {
    const seen = this.seen;
    if (seen.total === 0) return;
    this.seen = counts();
    const { total, ...body } = seen;
    try {
      const answer = await fetch(`${this.url}/v1/ramp/report`, {
        method: 'POST', body: JSON.stringify({ route: this.route, ...body }), signal: AbortSignal.timeout(5000),
        headers: { authorization: `Bearer ${this.token}`, 'content-type': 'application/json' },
      });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
    } catch {
      merge(this.seen, seen);
    }
  }
}

// A RampCache is one cache between two sides.
export class RampCache {
  // reads is how the new application will read: 'json' (JSON.parse, as here), or 'upstash' for automatic
  // deserialisation, where values that come out as another type are reported.
  constructor(ramp, before, after, { reads = 'json', mirrorWait = 25, waiting = 10_000 } = {}) {
    Object.assign(this, { ramp, before, after, reads, mirrorWait, waiting });
    this.behind = { before: new Map(), after: new Map() }; // writes that a side has not taken yet
    this.flushing = { before: false, after: false };
    this.taken = { before: 0, after: 0 }; // how many of them it has
    this.sending = {}; // what is on its way to a side: { key, ended }
    this.turns = new Map(); // of keys that are written just now
    this.comparing = 0;
  }

  // get is the value, or undefined where there is none.
  async get(key) {
    const text = await this.getText(key);
    return text === null || text === undefined ? undefined : JSON.parse(text);
  }

  // set writes a value that has a JSON form; ttl is in whole seconds, none means that it does not expire.
  async set(key, value, { ttl } = {}) {
    const text = JSON.stringify(value);
    if (text === undefined) throw new TypeError(`${typeof value} has no JSON form, so it cannot be stored`);
    return this.setText(key, text, { ttl });
  }

  // getText is the text that is stored, or null.
  async getText(key) {
    const began = performance.now();
    const { side, mirrored } = this.#where(key);
    try {
      if (side === 'before') {
        const text = await this.#call('before', () => this.before.get(key), true);
        this.#shadow(key, text);
        return text;
      }
      let failed = false;
      let text = null;
      try {
        text = await this.#call('after', () => this.after.get(key), true);
      } catch (error) {
        if (!mirrored && this.ramp.now().percent >= 100) throw error; // the old side knows nothing of it
        failed = true;
      }
      if (text !== null && text !== undefined) return text;
      if (!failed && !mirrored) return null;
      const write = this.behind.before.get(key); // that the old side has not taken yet
      if (write) return write.remove || expired(write) ? null : write.text;
      const old = await this.#call('before', () => this.before.get(key), true);
      if (failed || old !== null) this.ramp.seen.new.fell_back++;
      return old;
    } finally {
      sample(this.ramp.seen.answers_ms, performance.now() - began);
    }
  }

  // setText writes text on the key's side, and where it is mirrored on the other one too.
  async setText(key, text, { ttl } = {}) {
    if (typeof text !== 'string') throw new TypeError(`got ${typeof text}, want a text`);
    if (ttl !== undefined && !(Number.isInteger(ttl) && ttl > 0)) throw new RangeError(`ttl: got ${ttl}, want whole seconds of 1 or more, or none`);
    const { taken } = await this.#inTurn(key, () => this.#set(key, text, ttl));
    await taken;
  }

  async #set(key, text, ttl) {
    const { side, mirrored } = this.#where(key);
    const write = { text, until: ttl && Date.now() + 1000 * ttl };
    try {
      await this.#call(side, () => this[side].set(key, text, ttl));
    } catch (error) {
      if (!mirrored) throw error;
      if (side === 'after') {
        await this.#fallBack(key, text, ttl, error);
        return {};
      }
      // Nobody knows whether the side has taken it, so the other one must not keep what may be older.
      this.#put('after', key, { remove: true });
      throw error;
    }
    return { taken: mirrored && this.#later(other(side), key, write) };
  }

  // fallBack has the old side take what the new one did not, past what waits for it. Whatever becomes of it, what is
  // older must go from there, and what the new side has when the old one has taken it.
  async #fallBack(key, text, ttl, error) {
    const hold = { remove: true, held: true };
    if (!this.#put('before', key, hold)) throw error;
    let taken = false;
    try {
      if (this.sending.before?.key === key) await this.sending.before.ended;
      await this.#call('before', () => this.before.set(key, text, ttl));
      taken = true;
      if (!this.#put('after', key, { remove: true })) throw error;
      this.ramp.seen.new.fell_back++;
    } finally {
      hold.held = false;
      if (taken) this.#drop('before', key, hold);
      else void this.#flush('before');
    }
  }

  // del removes keys. It fails where a side has not taken it, and the key is read from the other one until then.
  async del(...keys) {
    for (const key of keys) {
      const { taken } = await this.#inTurn(key, async () => {
        const { side, mirrored } = this.#where(key);
        const taken = mirrored ? this.#later(other(side), key, { remove: true }, this.ramp.timeout) : true;
        await this.#call(side, () => this[side].del(key));
        return { taken };
      });
      if (!(await taken)) throw new Error('the other side of the ramp has not taken the delete yet');
    }
  }

  // where is the side on which a key is, and whether it is written on both. While a side is behind, the key is on the
  // other one, also when writing on both has ended meanwhile.
  #where(key) {
    const { percent, mirror } = this.ramp.now();
    const home = isNew(percent, this.ramp.route, key) ? 'after' : 'before';
    const late = this.#late(home, key);
    const mirrored = isNew(mirror, this.ramp.route, key) || late || this.#late(other(home), key);
    return { side: late ? other(home) : home, mirrored };
  }

  // late is whether something of key is on its way to a side. What waits for a side that is not to have it is dropped.
  #late(side, key) {
    const write = this.behind[side].get(key);
    if (write && !write.held && this.sending[side]?.key !== key && !this.#kept(side, key)) this.#drop(side, key, write);
    return this.behind[side].has(key);
  }

  #kept(side, key) {
    const { percent, mirror } = this.ramp.now();
    return isNew(mirror, this.ramp.route, key) || isNew(percent, this.ramp.route, key) === (side === 'after');
  }

  // inTurn does something with a key while nobody else here writes it.
  #inTurn(key, run) {
    const turn = (this.turns.get(key) ?? Promise.resolve()).then(run);
    const over = turn.catch(() => {}).then(() => {
      if (this.turns.get(key) === over) this.turns.delete(key);
    });
    this.turns.set(key, over);
    return turn;
  }

  // call has a side do something, in time, and counts it; reads says that a caller waits for what it finds.
  async #call(side, run, reads = false) {
    const seen = this.ramp.seen[side === 'before' ? 'old' : 'new'];
    const began = performance.now();
    seen.calls++;
    this.ramp.seen.total++;
    try {
      const value = await (side === 'after' ? within(this.ramp.timeout, run) : run());
      if (reads) value === null || value === undefined ? seen.misses++ : seen.hits++;
      return value;
    } catch (error) {
      seen.errors++;
      throw error;
    } finally {
      sample(seen.took_ms, performance.now() - began);
    }
  }

  // later brings a write to a side, and is whether it was taken in time; it goes on afterwards.
  #later(side, key, write, patience = this.mirrorWait) {
    if (!this.#put(side, key, write)) return Promise.resolve(false);
    return Promise.race([write.taken, sleep(patience).then(() => false)]);
  }

  // put has a write brought to a side in place of what waits there. It is false where too many wait.
  #put(side, key, write) {
    const map = this.behind[side];
    const before = map.get(key);
    if (!before && map.size >= this.waiting) {
      this.#class('lost', key);
      return false;
    }
    if (before && !before.flying) {
      write.taken = before.taken;
      write.done = before.done;
    } else {
      write.taken = new Promise((resolve) => (write.done = [resolve]));
    }
    map.delete(key);
    map.set(key, write);
    void this.#flush(side);
    return true;
  }

  // drop has a write wait no more: it was taken, or something newer.
  #drop(side, key, write) {
    if (this.behind[side].get(key) === write) this.behind[side].delete(key);
    for (const done of write.done) done(true);
  }

  async #flush(side) {
    if (this.flushing[side]) return;
    this.flushing[side] = true;
    const map = this.behind[side];
    for (let pause = 100; ; ) {
      const [key, write] = first(map, (write) => !write.held);
      if (!write) break;
      if (!this.#kept(side, key)) {
        this.#drop(side, key, write);
        continue;
      }
      write.flying = true;
      const sent = within(this.ramp.timeout, () => this.#bring(side, key, write));
      this.sending[side] = { key, ended: sent.catch(() => {}) };
      try {
        await sent;
        this.sending[side] = undefined;
        this.#drop(side, key, write);
        this.taken[side]++;
        pause = 100;
      } catch {
        this.sending[side] = undefined;
        this.#again(side, key, write);
        await sleep(pause);
        pause = Math.min(2 * pause, 5000);
      }
    }
    this.flushing[side] = false;
  }

  async #bring(side, key, write) {
    if (write.remove || expired(write)) return this[side].del(key);
    return this[side].set(key, write.text, write.until && Math.ceil((write.until - Date.now()) / 1000));
  }

  // again has a write that was not taken wait behind the others, unless something newer does. What is never taken while
  // others are, such as a value that is too large there, is removed in the end.
  #again(side, key, write) {
    write.flying = false;
    const newer = this.behind[side].get(key);
    if (newer !== write) {
      newer.done.push(...write.done);
      return;
    }
    if (write.others !== this.taken[side]) write.tries = (write.tries ?? 0) + 1;
    write.others = this.taken[side];
    if (write.tries >= 5) write.remove = true;
    this.behind[side].delete(key);
    this.behind[side].set(key, write);
  }

  // shadow compares a read of the old side with the new one, in the background, if it is sampled.
  #shadow(key, text) {
    const { shadow } = this.ramp.now();
    if (!(shadow > 0) || Math.random() * 100 >= shadow) return;
    if (this.comparing >= 64) return this.#class('dropped');
    this.comparing++;
    void this.#compare(key, text)
      .then((c) => this.#class(c, key), () => this.#class('failed'))
      .finally(() => this.comparing--);
  }

  async #compare(key, text) {
    const there = await this.#call('after', () => this.after.get(key));
    if (there === text && this.reads === 'upstash' && text !== null && !same(text)) return 'type';
    if (there === text) return 'match';
    if (there === null) return 'absent';
    await sleep(250); // writes go on meanwhile
    return this.#inTurn(key, () => this.#anew(key));
  }

  // anew reads both sides while nobody here writes the key. A write that is still on its way to the new side is no
  // difference. What is wrong there is given up, since it is not to be read from there.
  async #anew(key) {
    if (this.#late('after', key)) return 'dropped';
    const there = await this.#call('after', () => this.after.get(key));
    const here = await within(this.ramp.timeout, () => this.before.get(key));
    const { side, mirrored } = this.#where(key);
    if (side !== 'before') return 'dropped'; // it has moved meanwhile
    if (there === here) return 'late';
    if (there === null) return 'absent';
    if (mirrored) this.#put('after', key, { remove: true });
    return here === null ? 'extra' : 'differs';
  }

  #class(name, key) {
    const { seen } = this.ramp;
    seen.total++;
    seen.compared[name] = (seen.compared[name] ?? 0) + 1;
    if (key && ['differs', 'extra', 'type', 'lost'].includes(name) && seen.examples.length < 20) {
      seen.examples.push({ class: name, key: redact(key) });
    }
  }
}

const expired = (write) => write.until !== undefined && write.until <= Date.now();

// first is the first entry of a map of which something is so, or nothing.
function first(map, is) {
  for (const entry of map) if (is(entry[1])) return entry;
  return [];
}

const other = (side) => (side === 'before' ? 'after' : 'before');

// same is whether JSON.parse and automatic deserialisation make the same of a text.
function same(text) {
  try {
    return JSON.stringify(JSON.parse(text)) === JSON.stringify(autoDeserialized(text));
  } catch {
    return false;
  }
}

function counts() {
  const side = () => ({ calls: 0, errors: 0, hits: 0, misses: 0, fell_back: 0, took_ms: [] });
  return { total: 0, compared: {}, old: side(), new: side(), answers_ms: [], examples: [] };
}

function merge(into, from) {
  into.total += from.total;
  for (const [name, n] of Object.entries(from.compared)) into.compared[name] = (into.compared[name] ?? 0) + n;
  for (const side of ['old', 'new']) {
    for (const field of ['calls', 'errors', 'hits', 'misses', 'fell_back']) into[side][field] += from[side][field];
    for (const ms of from[side].took_ms) sample(into[side].took_ms, ms);
  }
  for (const ms of from.answers_ms) sample(into.answers_ms, ms);
  into.examples.push(...from.examples.slice(0, Math.max(0, 20 - into.examples.length)));
}

// sample keeps at most 1,000 of many numbers, each as likely as the others.
function sample(list, ms) {
  list.seen = (list.seen ?? 0) + 1;
  if (list.length < 1000) list.push(ms);
  else if (Math.random() * list.seen < 1000) list[Math.floor(Math.random() * 1000)] = ms;
}

function sleep(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    timer.unref?.();
    signal?.addEventListener('abort', () => (clearTimeout(timer), resolve()), { once: true });
  });
}

async function within(ms, run) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([run(), late]);
  } finally {
    clearTimeout(timer);
  }
}
