'use strict';
// Node's own primary for the parity tests. It starts the Rust program of its first argument as workers (and Node
// scripts beside it), does what lines of JSON on standard input say, and tells as lines of JSON what happens.
const cluster = require('node:cluster');
const childProcess = require('node:child_process');
const dgram = require('node:dgram');
const fs = require('node:fs');
const net = require('node:net');

const program = process.argv[2];
const interpreter = process.execPath;
const tell = (event, more) => fs.writeSync(1, `${JSON.stringify({ event, ...more })}\n`);
const workers = new Map();
let child;

for (const name of ['fork', 'online', 'listening', 'disconnect']) {
  cluster.on(name, (worker, address) => tell(name, { worker: worker.id, address, pid: worker.process.pid }));
}
cluster.on('exit', (worker, code, signal) => tell('exit', {
  worker: worker.id, code, signal, voluntary: worker.exitedAfterDisconnect,
}));
cluster.on('message', (worker, message, handle) => received({ worker: worker.id }, message, handle));
cluster.on('setup', ({ exec, serialization }) => tell('setup', { exec, serialization }));

// A socket that came is used: so we know that it works.
const received = (from, message, handle) => {
  const type = handle && handle.constructor.name;
  tell('message', { ...from, message, type });
  if (handle instanceof net.Server) handle.on('connection', (socket) => socket.end('node'));
  else if (handle instanceof net.Socket) handle.end('node');
  else if (handle instanceof dgram.Socket) handle.on('message', (_, to) => handle.send('node', to.port, to.address));
};

// A server, a connection of it, or a UDP socket of ours, for `send`.
const kinds = {
  server: (use) => {
    const server = net.createServer().listen(0, '127.0.0.1', () => use(server, server.address().port));
  },
  socket: (use) => {
    const server = net.createServer((socket) => {
      use(socket, server.address().port);
      server.close(() => tell('server closed'));
    });
    server.listen(0, '127.0.0.1', () => {
      const client = net.connect(server.address().port, '127.0.0.1');
      let text = '';
      client.on('data', (data) => { text += data; });
      client.on('close', () => tell('client heard', { text }));
    });
  },
  dgram: (use) => {
    const socket = dgram.createSocket('udp4');
    socket.bind(0, '127.0.0.1', () => use(socket, socket.address().port));
  },
};
const give = (to, { message, handle }) => kinds[handle]((socket, port) => {
  to.send(message, socket, (error) => tell('given', { port, error: error && error.message }));
});

const value = ({ message, special, long }) => {
  if (special) return { when: new Date(0), many: new Map([[1, 2]]) };
  return long ? 'x'.repeat(long) : message;
};

const commands = {
  setup({ settings }) {
    cluster.setupPrimary({ exec: program, execArgv: [], args: [], ...settings });
  },
  // `node`: a script of Node's instead of the Rust program.
  fork({ node, env }) {
    process.execPath = node ? interpreter : program;
    if (node) cluster.setupPrimary({ exec: node });
    else if (cluster.settings.exec !== program) cluster.setupPrimary({ exec: program });
    const worker = cluster.fork(env);
    workers.set(worker.id, worker);
    worker.on('error', (error) => tell('error', { worker: worker.id, what: error.message }));
  },
  send: (order) => workers.get(order.worker).send(value(order), (error) => {
    if (error) tell('unsent', { worker: order.worker, what: error.message });
  }),
  give: (order) => give(workers.get(order.worker), order),
  disconnect: ({ worker }) => workers.get(worker).disconnect(),
  all: () => cluster.disconnect(() => tell('all disconnected')),
  kill: ({ worker, signal }) => workers.get(worker).kill(signal),
  cut: ({ worker }) => workers.get(worker).process.disconnect(),
  look({ worker }) {
    const it = workers.get(worker);
    tell('look', {
      pid: it.process.pid,
      worker, connected: it.isConnected(), dead: it.isDead(), voluntary: it.exitedAfterDisconnect,
      known: Object.keys(cluster.workers),
    });
  },
  // `child_process.fork` and its channel.
  child({ serialization }) {
    child = childProcess.fork(program, [], {
      execPath: program, execArgv: [], serialization, env: { ...process.env, FIXTURE: 'parent' },
    });
    child.on('message', (message, handle) => received({ child: true }, message, handle));
    child.on('disconnect', () => tell('child disconnect'));
    child.on('exit', (code, signal) => tell('child exit', { code, signal }));
  },
  'child send': (order) => child.send(value(order)),
  'child give': (order) => give(child, order),
  'child disconnect': () => child.disconnect(),
};

let rest = '';
process.stdin.setEncoding('utf8').on('data', (data) => {
  const lines = (rest + data).split('\n');
  rest = lines.pop();
  for (const line of lines) {
    const order = JSON.parse(line);
    commands[order.do](order);
  }
}).on('end', () => process.exit());
tell('primary', { pid: process.pid, policy: cluster.schedulingPolicy });
