'use strict';
const cluster = require('node:cluster');
const fs = require('node:fs');
const http = require('node:http');
const net = require('node:net');
const { cases, say, line, obey, greet } = require('./lib');

const payload = 'a'.repeat(800004);

// Whether a descriptor of ours is non-blocking, as the kernel says.
const nonBlocking = (fd) => {
  const flags = /^flags:\s*([0-7]+)$/m.exec(fs.readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))[1];
  return (parseInt(flags, 8) & 0o4000) !== 0;
};

cases({
  // A socket from the primary, given to an HTTP server that never listened.
  http() {
    const server = http.createServer((_, response) => {
      response.writeHead(200, { connection: 'close' });
      response.end(`worker ${cluster.worker.id}`);
    });
    process.on('message', (message, socket) => {
      say('socket', { message, is: socket instanceof net.Socket, nonBlocking: nonBlocking(socket._handle.fd) });
      server.emit('connection', socket);
    });
    say('up');
  },
  // A server from the primary.
  server() {
    process.on('message', (message, server) => {
      server.on('connection', greet);
      say('server', { message, is: server instanceof net.Server });
    });
    say('up');
  },
  // Sends each handle back.
  reply() {
    process.on('message', (message, handle) => process.send({ say: 'reply', message }, handle));
    say('up');
  },
  // One socket sent twice: the second time it is ours no more.
  twice() {
    const server = net.createServer((socket) => {
      process.send({ say: 'first' }, socket);
      process.send({ say: 'second' }, socket);
    });
    server.listen(0, '127.0.0.1');
    obey({ leave: () => { line('leaving'); cluster.worker.disconnect(); } });
  },
  large() {
    process.on('message', (message, handle) => {
      const same = message.payload === payload;
      process.send({ say: 'large', same, socket: handle instanceof net.Socket, payload }, handle);
    });
    say('up');
  },
  dies() {
    process.on('message', () => process.exit(1));
    say('up');
  },
  // Every connection is sent to the primary; what comes after must not wait for anybody.
  unheard() {
    net.createServer((socket) => {
      process.send({ quiet: true }, socket);
      say('after');
    }).listen(0, '127.0.0.1');
  },
  flags() {
    const server = net.createServer((socket) => {
      socket.on('error', () => {});
      const own = server._handle && server._handle.fd;
      socket.end(JSON.stringify({
        connection: nonBlocking(socket._handle.fd),
        listener: typeof own === 'number' && own >= 0 ? nonBlocking(own) : null,
      }));
    });
    server.listen(0, '127.0.0.1');
  },
});
