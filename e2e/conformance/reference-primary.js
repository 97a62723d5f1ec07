'use strict';
// Node's own cluster primary behind the test's interface: commands come as JSON lines on standard input, events
// go as JSON lines to standard output. With it the tests themselves are checked against Node
// (EVERUP_CONFORMANCE_PRIMARY=node).
const cluster = require('node:cluster');
const readline = require('node:readline');

const emit = (event, worker, more) => {
  process.stdout.write(`${JSON.stringify({ event, worker: worker && worker.id, ...more })}\n`);
};
const workers = new Map();
let stopping = false;
let exits = 0;

const stopped = () => {
  if (stopping && exits === workers.size) emit('stopped');
};

const lines = (worker, stream) => {
  readline.createInterface({ input: stream }).on('line', (text) => emit('line', worker, { text }));
};

const fork = ({ env }) => {
  const worker = cluster.fork(env);
  workers.set(worker.id, worker);
  emit('fork', worker, { pid: worker.process.pid });
  lines(worker, worker.process.stdout);
  lines(worker, worker.process.stderr);
  worker.on('online', () => emit('online', worker));
  worker.on('listening', (address) => emit('listening', worker, address));
  worker.on('disconnect', () => emit('disconnect', worker));
  worker.on('message', (message, handle) => {
    emit(handle ? 'handle' : 'message', worker, { message });
    if (handle && handle.destroy) handle.destroy();
  });
  worker.on('error', (error) => emit('error', worker, { what: error.message }));
  worker.on('exit', (code, signal) => {
    emit('exit', worker, { code, signal, voluntary: worker.exitedAfterDisconnect === true });
    exits += 1;
    stopped();
  });
};

const commands = {
  setup({ script, args, cwd, env, advanced }) {
    Object.assign(process.env, env);
    cluster.setupPrimary({
      exec: script, args, silent: true,
      ...(cwd ? { cwd } : {}),
      ...(advanced ? { serialization: 'advanced' } : {}),
    });
  },
  fork,
  send: ({ worker, message }) => workers.get(worker).send(message, () => {}),
  disconnect: ({ worker }) => {
    const known = workers.get(worker);
    if (known.isConnected()) known.disconnect();
  },
  cut: ({ worker }) => workers.get(worker).process.disconnect(),
  kill: ({ worker, signal }) => workers.get(worker).process.kill(signal),
  stop: () => cluster.disconnect(() => { stopping = true; stopped(); }),
};

readline.createInterface({ input: process.stdin })
  .on('line', (line) => {
    const command = JSON.parse(line);
    commands[command.do](command);
  })
  .on('close', () => process.exit());
