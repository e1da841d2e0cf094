// Fetches jobs from redisopt over HTTP and runs them. Node 18 or newer, nothing else.
//
//   REDISOPT_URL=http://127.0.0.1:8080 REDISOPT_TOKEN=... node worker.mjs QUEUE
//
// What a handler returns is the job's result. Throw Dead for a job that can never succeed, Later for one
// that is to be tried again after a while; anything else that is thrown is a failed attempt.
import { pathToFileURL } from 'node:url';

export class Dead extends Error {}

export class Later extends Error {
  constructor(seconds, message = 'try again later') {
    super(message);
    this.seconds = seconds;
  }
}

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

// Gone means that the lease has ended: somebody else has the job.
class Gone extends Error {}

export class Worker {
  constructor({ url, token, queue, handlers, waitMs = 30000 }) {
    Object.assign(this, { url: url.replace(/\/$/, ''), token, queue, handlers, waitMs, stopping: new AbortController() });
  }

  // stop lets run end when the job under way has ended.
  stop() { this.stopping.abort(); }

  async post(path, body, signal) {
    const headers = { 'content-type': 'application/json' };
    if (this.token) headers.authorization = `Bearer ${this.token}`;
    const response = await fetch(`${this.url}/v1/queues/${encodeURIComponent(this.queue)}/${path}`, {
      method: 'POST', headers, body: JSON.stringify(body), signal, redirect: 'error',
    });
    const text = await response.text();
    if (response.ok) return text ? JSON.parse(text) : undefined;
    // 404: no such lease; 410: it ended. Nothing more can be said about this job.
    const error = (response.status === 404 && path !== 'lease') || response.status === 410 ? new Gone(text) : new Error(`${response.status}: ${text}`);
    error.final = response.status < 500 && response.status !== 429;
    throw error;
  }

  // run fetches and runs one job after the other until stop. Start several for more at a time.
  async run() {
    let pause = 1000;
    while (!this.stopping.signal.aborted) {
      try {
        const wait = AbortSignal.any ? AbortSignal.any([this.stopping.signal, AbortSignal.timeout(this.waitMs + 10000)]) : this.stopping.signal;
        const { jobs } = await this.post('lease', { max: 1, wait_ms: this.waitMs }, wait);
        pause = 1000;
        for (const job of jobs) await this.handle(job);
      } catch (error) {
        if (this.stopping.signal.aborted) return;
        console.error(`lease: ${error.message}`);
        await sleep(pause * (0.5 + Math.random()));
        pause = Math.min(2 * pause, 30000);
      }
    }
  }

  async handle(job) {
    const lost = new AbortController(); // a handler that looks at it stops when the lease is lost
    const beat = setInterval(async () => {
      try {
        await this.post(`leases/${job.lease}/extend`, { ms: job.lease_ms });
      } catch (error) {
        if (error instanceof Gone) lost.abort();
      }
    }, Math.max(1000, job.lease_ms / 3));
    let path = 'complete';
    let body;
    try {
      const handler = Object.hasOwn(this.handlers, job.name) ? this.handlers[job.name] : undefined;
      if (!handler) throw new Dead(`no handler for ${job.name}`);
      const payload = job.payload_base64 === undefined ? job.payload : Buffer.from(job.payload_base64, 'base64');
      const progress = (value) => this.post(`leases/${job.lease}/progress`, { progress: value });
      body = { result: (await handler(payload, { ...job, signal: lost.signal, progress })) ?? null };
    } catch (error) {
      path = 'fail';
      body = { reason: String(error?.message || error).slice(0, 1000) };
      if (error instanceof Dead) body.dead = true;
      if (error instanceof Later) body.retry_after_ms = Math.round(error.seconds * 1000);
    } finally {
      clearInterval(beat);
    }
    await this.tell(`leases/${job.lease}/${path}`, body, Date.now() + job.lease_ms);
  }

  // tell repeats what failed on the way until the lease would have ended; the job is tried again then.
  async tell(path, body, until) {
    for (let pause = 200; ; pause *= 2) {
      try {
        return await this.post(path, body);
      } catch (error) {
        if (error instanceof Gone || error.final || Date.now() + pause > until) {
          console.error(`${path}: ${error.message}`);
          return undefined;
        }
        await sleep(pause);
      }
    }
  }
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const worker = new Worker({
    url: process.env.REDISOPT_URL ?? 'http://127.0.0.1:8080', token: process.env.REDISOPT_TOKEN, queue: process.argv[2] ?? 'default',
    handlers: {
      echo: async (payload, job) => { await job.progress(50); return payload; },
      busy: async () => { throw new Later(7, 'the mail server is busy'); },
      broken: async () => { throw new Error('it broke'); },
    },
  });
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => worker.stop());
  await worker.run();
}
