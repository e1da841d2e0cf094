'use strict';

// Names the tests of a Node program to `redisopt record`, which then says what each of them spent.
// Without a recorder (REDISOPT_RECORD is not set) every function does nothing. No dependencies.

const net = require('node:net');

const address = process.env.REDISOPT_RECORD;
let socket;
let waiting = [];

// connected is the one connection to the recorder. It is how the recorder knows the process, and it
// carries marks only, which cost no command. It does not keep the process alive.
function connected() {
  if (socket && !socket.destroyed) return socket;
  const { hostname, port } = new URL(address);
  const opened = net.connect({ host: hostname, port: Number(port) });
  let text = Buffer.alloc(0);
  const fail = (err) => {
    if (socket === opened) socket = undefined;
    for (const { reject } of waiting.splice(0)) reject(err);
  };
  opened.on('data', (chunk) => {
    text = Buffer.concat([text, chunk]);
    while (waiting.length > 0) {
      const line = text.indexOf('\r\n');
      if (line < 0) return;
      const end = line + 2 + Number(text.subarray(1, line)) + 2;
      if (text[0] !== 0x24 || text.length < end) return;
      text = text.subarray(end);
      waiting.shift().resolve();
    }
    if (waiting.length === 0) opened.unref();
  });
  opened.on('error', fail);
  opened.on('close', () => fail(new Error('the recorder closed the connection')));
  opened.unref();
  socket = opened;
  return opened;
}

// mark sends one mark and resolves when the recorder has taken it: what is sent afterwards counts under
// the new name.
function mark(what, name) {
  if (!address) return Promise.resolve();
  let safe = Buffer.from(String(name)).subarray(0, 250).toString();
  safe = safe.replace(/\uFFFD$/, '');
  const text = Buffer.from(`redisopt:${what}:${safe}`);
  return new Promise((resolve, reject) => {
    const to = connected();
    to.ref(); // until it is answered
    waiting.push({ resolve, reject });
    to.write(Buffer.concat([Buffer.from(`*2\r\n$4\r\nECHO\r\n$${text.length}\r\n`), text, Buffer.from('\r\n')]));
  });
}

// test says that this process runs the test called name from now on.
const test = (name) => mark('test', name);

// end says that the test is over.
const end = () => mark('test', '');

// source says what this process is called.
const source = (name) => mark('source', name);

// hooks marks every test of a runner: give it the runner's beforeEach and afterEach, and how a test is
// called, which is asked with the arguments of beforeEach.
function hooks({ beforeEach, afterEach, name }) {
  if (!address) return;
  beforeEach((...args) => test(name(...args)));
  afterEach(() => end());
}

module.exports = { mark, test, end, source, hooks };
