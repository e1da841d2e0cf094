// Takes jobs that redisopt pushes over HTTP. Node 18 or newer, nothing else.
//
//   REDISOPT_PUSH_SECRETS=secret[,next-secret] PORT=3000 node receiver.mjs
//
// What a handler returns is the job's result. Throw Dead for a job that can never succeed, Later for one
// that is to be tried again after a while; anything else that is thrown is a failed attempt.
import { createHmac, timingSafeEqual } from 'node:crypto';
import { createServer } from 'node:http';
import { pathToFileURL } from 'node:url';

const WINDOW_SECONDS = 300;
const MAX_BODY = 1 << 20;
const REMEMBERED = 1000;

export class Dead extends Error {}

export class Later extends Error {
  constructor(seconds, message = 'try again later') {
    super(message);
    this.seconds = seconds;
  }
}

// verify is whether one of secrets signed these headers (as node:http gives them) and this body (a Buffer)
// within 5 minutes of now (in Unix seconds).
export function verify(secrets, headers, body, now = Date.now() / 1000) {
  let time = '';
  const given = [];
  for (const part of String(headers['redisopt-signature'] ?? '').split(',')) {
    const [key, value = ''] = part.trim().split('=');
    if (key === 't' && /^[0-9]{1,15}$/.test(value)) time = value;
    if (key === 'v1' && /^[0-9a-f]{64}$/i.test(value) && given.length < 4) given.push(Buffer.from(value, 'hex'));
  }
  let matched = false;
  for (const secret of secrets) {
    const mac = createHmac('sha256', secret).update(`v1\n${time}\n`);
    for (const name of ['queue', 'job-id', 'job-name', 'attempt']) mac.update(`${headers[`redisopt-${name}`] ?? ''}\n`);
    const want = mac.update(body).digest();
    for (const signature of given) matched = timingSafeEqual(want, signature) || matched;
  }
  return matched && time !== '' && Math.abs(now - Number(time)) <= WINDOW_SECONDS;
}

// serve answers pushed jobs with handlers by name: async (payload, job) => result.
export function serve(secrets, handlers) {
  const finished = new Map(); // results by Idempotency-Key: a repetition is not run again
  return createServer(async (request, response) => {
    const answer = (code, value, headers = {}) => {
      response.writeHead(code, { 'content-type': 'application/json', ...headers });
      response.end(JSON.stringify(value ?? null));
    };
    try {
      const chunks = [];
      let length = 0;
      for await (const chunk of request) {
        if ((length += chunk.length) > MAX_BODY) return answer(413, { error: 'too large' });
        chunks.push(chunk);
      }
      const body = Buffer.concat(chunks);
      const h = request.headers;
      if (request.method !== 'POST' || !verify(secrets, h, body)) return answer(401, { error: 'not signed' });
      const key = h['idempotency-key'];
      if (finished.has(key)) return answer(200, finished.get(key));
      const job = {
        queue: decodeURIComponent(h['redisopt-queue']),
        id: decodeURIComponent(h['redisopt-job-id']),
        name: decodeURIComponent(h['redisopt-job-name']),
        attempt: Number(h['redisopt-attempt']),
        attempts: Number(h['redisopt-attempts']),
        deadline: new Date(h['redisopt-deadline']),
        traceparent: h.traceparent,
      };
      const handler = Object.hasOwn(handlers, job.name) ? handlers[job.name] : undefined;
      if (!handler) throw new Dead(`no handler for ${job.name}`);
      const json = h['content-type'] === 'application/json';
      const result = await handler(json ? JSON.parse(body) : body, job);
      finished.set(key, result);
      if (finished.size > REMEMBERED) finished.delete(finished.keys().next().value);
      answer(200, result);
    } catch (error) {
      if (error instanceof Dead) answer(422, { error: error.message });
      else if (error instanceof Later) answer(503, { error: error.message }, { 'retry-after': String(error.seconds) });
      else answer(500, { error: String(error?.message ?? error) });
    }
  });
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const secrets = (process.env.REDISOPT_PUSH_SECRETS ?? '').split(',').filter(Boolean);
  if (secrets.length === 0) throw new Error('REDISOPT_PUSH_SECRETS is not set');
  const server = serve(secrets, {
    echo: async (payload) => payload,
    busy: async () => { throw new Later(7, 'the mail server is busy'); },
    broken: async () => { throw new Error('it broke'); },
  });
  server.listen(Number(process.env.PORT ?? 3000), process.env.HOST ?? '127.0.0.1', () => {
    console.log(`listening on ${server.address().port}`);
  });
  process.once('SIGTERM', () => server.close());
}
