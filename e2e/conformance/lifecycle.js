'use strict';
const cluster = require('node:cluster');
const http = require('node:http');
const net = require('node:net');
const { cases, say, line, obey, greet } = require('./lib');

cases({
  // What a worker sees of its own start.
  basic() {
    say('start', {
      worker: cluster.isWorker,
      id: cluster.worker.id,
      left: Object.keys(process.env).filter((name) => /^NODE_(UNIQUE_ID|CHANNEL_)/.test(name)),
      args: process.argv.slice(3),
      cwd: process.cwd(),
      given: process.env.GIVEN,
      home: process.env.CONFORMANCE_BASE,
    });
    http.createServer().listen(0, '127.0.0.1');
  },

  // Listens; leaves when told, with the code it is told.
  exit() {
    net.createServer(greet).listen(0, '127.0.0.1');
    obey({ exit: ({ code }) => process.exit(code) });
  },

  // Reports every message it gets.
  echo() {
    process.on('message', (message) => say('got', { message }));
  },

  idle() {
    say('up', { connected: cluster.worker.isConnected(), dead: cluster.worker.isDead() });
    process.on('disconnect', () => line(`connected ${cluster.worker.isConnected()}`));
  },

  // An endless loop, after its message is out.
  loop() {
    process.send({ say: 'looping' }, () => setImmediate(() => { for (;;); }));
  },

  // The same, but listening before.
  listenAndLoop() {
    net.createServer(greet).listen(0, '127.0.0.1', () => {
      process.send({ say: 'looping' }, () => setImmediate(() => { for (;;); }));
    });
  },

  destroyAfterDisconnect() {
    process.on('disconnect', () => {
      cluster.worker.destroy();
      line('destroyed');
    });
    if (cluster.worker.disconnect() !== cluster.worker) process.exit(9);
  },

  destroy() {
    cluster.worker.destroy();
  },

  // One message must reach both objects, and an error of the process the worker object too.
  events() {
    const seen = [];
    const check = (from, message) => {
      seen.push(from);
      if (message !== 'SOME MESSAGE') process.exit(8);
      if (seen.length < 2) return;
      if (seen[0] === seen[1]) process.exit(7);
      cluster.worker.once('error', (error) => process.exit(error === 'HI' ? 2 : 6));
      process.emit('error', 'HI');
    };
    process.on('message', (message) => check('process', message));
    cluster.worker.on('message', (message) => check('worker', message));
  },

  // Copies what comes on descriptor 4 back to it.
  stdio() {
    const pipe = new net.Socket({ fd: 4 });
    pipe.unref();
    pipe.on('data', (data) => pipe.write(data));
    say('up');
  },

  // Cuts its own channel after it listens.
  processDisconnect() {
    net.createServer(greet).listen(0, '127.0.0.1', () => obey({ leave: () => process.disconnect() }));
  },

  // Does what the message says, if it still can.
  concurrent() {
    process.on('message', (what) => {
      if (cluster.worker.isConnected()) cluster.worker[what]();
    });
    say('up');
  },
});
