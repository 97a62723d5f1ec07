'use strict';
// Node's own cluster primary behind the test's interface: commands come as JSON lines on standard input, events
// go as JSON lines to standard output. With it the tests themselves are checked against Node
// (EVERUP_CONFORMANCE_PRIMARY=node).
const cluster = require('node:cluster');

const emit = (event, worker, more) => {
  process.stdout.write(`${JSON.stringify({ event, worker: worker && worker.id, ...more })}\n`);
};
const workers = new Map();
let stopping = false;
let exits = 0;

const stopped = () => {
  if (stopping && exits === workers.size) emit('stopped');
};

// By newlines alone: readline of Node 24 ends lines at U+2028 too.
const byLine = (stream, take) => {
  let rest = '';
  stream.setEncoding('utf8');
  return stream.on('data', (data) => {
    const parts = (rest + data).split('\n');
    rest = parts.pop();
    parts.forEach(take);
  });
};

const lines = (worker, stream) => byLine(stream, (text) => emit('line', worker, { text }));

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

byLine(process.stdin, (line) => {
  const command = JSON.parse(line);
  commands[command.do](command);
}).on('end', () => process.exit());
