'use strict';
// The Node worker beside the Rust one: `{do: 'listen', port}` is answered like `rust_worker` does it.
const cluster = require('node:cluster');
const dgram = require('node:dgram');
const net = require('node:net');

const id = `${cluster.worker ? cluster.worker.id : 'child'}`;
const say = (what, more, handle) => process.send({ say: what, ...more }, handle);
// A client that is gone does not matter here.
const greet = (socket) => socket.on('error', () => {}).end(id);
const obey = {
  listen({ port, at }) {
    const server = net.createServer(greet);
    const listening = () => say('listening', { port: server.address().port });
    if (at) server.listen(port, at, listening);
    else server.listen(port, listening);
  },
  unix({ path }) {
    net.createServer(greet).listen(path, () => say('listening', { path }));
  },
  udp({ port }) {
    const socket = dgram.createSocket('udp4').bind(port, '127.0.0.1', () => say('bound', socket.address()));
    socket.on('message', (_, from) => socket.send(id, from.port, from.address));
  },
  give() {
    const server = net.createServer(greet);
    server.listen({ port: 0, host: '127.0.0.1', exclusive: true }, () => say('gift', server.address(), server));
  },
  leave: () => (cluster.worker ? cluster.worker.disconnect() : process.disconnect()),
  exit: ({ code }) => process.exit(code),
};

process.on('message', (order, handle) => {
  if (handle instanceof net.Socket) {
    handle.end(id);
    say('took', { with: order });
  } else if (order && obey[order.do]) obey[order.do](order);
  else say('echo', { message: order });
});
say('up', { id, unique: process.env.NODE_UNIQUE_ID, channel: process.env.NODE_CHANNEL_FD });
