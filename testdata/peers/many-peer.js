// many-peer.js LIB PORT PREFIX: producers and workers of many queues at once, each of which is begun and ended
// by itself, driven over stdin. LIB is bull, bullmq5 or bullmq6. PEER_OPTS is JSON:
//
//   queues   the names; verbs and lines call a queue by its index; one called control is this
//            side's own, whatever the prefix
//   side     a letter that every job carries: who added it
//   everyMs  between two jobs of one queue
//   workMs   how long a job takes
//
// Of ten jobs of a queue one has a priority of 1 to 3, two are put off by 0.8 to 2.3 s, five in every third queue, and
// the others are plain.
//
//   go Q, stop Q        adds one job after the other; says "stopped Q N" with the number of the last
//   burst Q N           adds N plain jobs at once, in their turn; says "burst Q"
//   late Q              the same with delayed jobs alone
//   schedule Q MS       adds a job that repeats; says "scheduled Q"
//   work Q, rest Q      begins and ends a worker, which runs one job at a time; says "works Q", "rests Q"
//   quit
//
// A worker says "start Q SIDE N KIND DUE NOW", where KIND is p, h1 to h3 or d, and DUE and NOW are milliseconds;
// of what repeats "tick Q DUE NOW".
const [, , lib, port, prefix] = process.argv;
const opts = JSON.parse(process.env.PEER_OPTS);
const redis = { host: '127.0.0.1', port: +port, maxRetriesPerRequest: null };
const say = line => process.stdout.write(line + '\n');
const pause = ms => new Promise(r => setTimeout(r, ms));
const problem = e => process.stderr.write(String(e && e.stack || e) + '\n');
const bull = lib === 'bull';
const name = '__default__'; // what Bull calls an unnamed job; BullMQ wants a name

const prefixOf = q => opts.queues[q] === 'control' ? 'control-' + opts.side : prefix;

const work = q => async job => {
  const now = Date.now(), d = job.data;
  if (d.k === 't') say(`tick ${q} ${String(job.id).split(':').pop()} ${now}`);
  else say(`start ${q} ${d.s} ${d.n} ${d.k} ${d.due} ${now}`);
  if (opts.workMs) await pause(opts.workMs);
};

function open(q) {
  const one = { n: 0, going: false, burst: 0 };
  one.queue = bull ? new (require('bull'))(opts.queues[q], { redis, prefix: prefixOf(q) })
    : new (require(lib).Queue)(opts.queues[q], { connection: redis, prefix: prefixOf(q) });
  one.queue.on('error', problem);
  one.ready = () => bull ? one.queue.isReady() : one.queue.waitUntilReady();
  return one;
}

// next is the next job of a queue: its data and options.
function next(q, one, plain, late) {
  const n = ++one.n, data = { s: opts.side, n, k: 'p', due: 0 }, o = { removeOnComplete: n % 2 === 0 };
  if (!plain && n % 10 === 3) { o.priority = 1 + Math.floor(n / 10) % 3; data.k = 'h' + o.priority; }
  if (!plain && (late || n % 10 === 5 || n % 10 === 8 || q % 3 === 0 && n % 10 === 0)) {
    o.timestamp = Date.now(); // counted from the same instant as due is
    o.delay = 800 + n * 37 % 1500; data.k = 'd'; data.due = o.timestamp + o.delay;
  }
  return { name, data, opts: o };
}

async function produce(q, one, late) {
  one.going = true;
  for (let due = Date.now(); one.going; due += opts.everyMs) {
    if (one.burst) {
      await one.queue.addBulk(Array.from({ length: one.burst }, () => next(q, one, true)));
      one.burst = 0;
      say(`burst ${q}`);
    }
    const j = next(q, one, false, late);
    await one.queue.add(j.name, j.data, j.opts);
    await pause(Math.max(0, due + opts.everyMs - Date.now()));
  }
  say(`stopped ${q} ${one.n}`);
}

async function begin(q, one) {
  if (bull) {
    one.worker = new (require('bull'))(opts.queues[q], { redis, prefix: prefixOf(q) });
    one.worker.on('error', problem);
    one.worker.process('*', work(q));
    await one.worker.isReady();
  } else {
    one.worker = new (require(lib).Worker)(opts.queues[q], work(q), { connection: redis, prefix: prefixOf(q) });
    one.worker.on('error', problem);
    await one.worker.waitUntilReady();
  }
  say(`works ${q}`);
}

(async () => {
  const all = opts.queues.map((_, q) => open(q));
  await Promise.all(all.map(one => one.ready()));
  say('ready');
  const verbs = {
    go: (q, one) => produce(q, one),
    late: (q, one) => produce(q, one, true),
    stop: (q, one) => { one.going = false; },
    burst: (q, one, n) => { one.burst = +n; },
    work: begin,
    rest: async (q, one) => { await one.worker.close(); one.worker = null; say(`rests ${q}`); },
    schedule: async (q, one, ms) => {
      const data = { k: 't' }, o = { removeOnComplete: true };
      if (bull) await one.queue.add('tick', data, { ...o, repeat: { every: +ms } });
      else await one.queue.upsertJobScheduler('tick', { every: +ms }, { name: 'tick', data, opts: o });
      say(`scheduled ${q}`);
    },
  };
  const leave = async () => {
    await Promise.all(all.map(async one => {
      one.going = false;
      if (one.worker) await one.worker.close();
      await one.queue.close();
    }));
    process.exit(0);
  };
  let text = '';
  process.stdin.on('data', chunk => {
    text += chunk;
    for (let at; (at = text.indexOf('\n')) >= 0;) {
      const [verb, q, arg] = text.slice(0, at).split(' ');
      text = text.slice(at + 1);
      if (verb === 'quit') leave(); else Promise.resolve(verbs[verb](+q, all[q], arg)).catch(problem);
    }
  });
  process.stdin.on('end', leave);
})().catch(e => { problem(e); process.exit(1); });
