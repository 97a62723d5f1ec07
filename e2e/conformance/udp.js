'use strict';
const cluster = require('node:cluster');
const dgram = require('node:dgram');
const { cases, say, line, obey } = require('./lib');

const port = Number(process.env.PORT);
const second = Number(process.env.PORT2);
const host = '127.0.0.1';

// Answers each packet with the worker's id.
const answering = (socket) => socket
  .on('error', (error) => say('error', { code: error.code, syscall: error.syscall }))
  .on('message', (_, from) => socket.send(`${cluster.worker.id}`, from.port, from.address));

const open = (options, bind) => new Promise((resolve, reject) => {
  const socket = dgram.createSocket(options);
  socket.once('error', reject);
  socket.bind(bind, () => resolve(socket));
});
const close = (socket) => new Promise((resolve) => socket.close(resolve));

cases({
  shared() {
    answering(dgram.createSocket('udp4')).bind(port, host);
  },
  // Sends to the test from port 0.
  sender() {
    const socket = answering(dgram.createSocket('udp4'));
    socket.bind(0, host, () => socket.send(`${cluster.worker.id}`, port, host));
  },
  fd() {
    const socket = answering(dgram.createSocket('udp4'));
    socket.bind({ fd: Number(process.env.FD) }, () => say('listening', { address: socket.address() }));
  },
  async index() {
    for (let round = 0; round < 4; round++) {
      const sockets = await Promise.all([0, 1, 2].map(() => open('udp4', { port: 0, address: host })));
      const ports = sockets.map((socket) => socket.address().port);
      await close(sockets[1]);
      sockets[1] = await open('udp4', { port: 0, address: host });
      await Promise.all(sockets.map(close));
      say('round', { ports });
    }
    say('done');
  },
  async ipv6Only() {
    const six = await open({ type: 'udp6', ipv6Only: true }, { port, address: '::' });
    const four = await open('udp4', { port, address: '0.0.0.0' });
    say('both', { ports: [six.address().port, four.address().port] });
    obey({ leave: () => Promise.all([close(six), close(four)]).then(() => cluster.worker.disconnect()) });
  },
  async reuse() {
    const first = await open({ type: 'udp4', reuseAddr: true }, { port: 0 });
    const again = await open({ type: 'udp4', reuseAddr: true }, { port: first.address().port });
    say('both', { ports: [first.address().port, again.address().port] });
    obey({ leave: () => Promise.all([close(first), close(again)]).then(() => cluster.worker.disconnect()) });
  },
  async reusePort() {
    const socket = await open({ type: 'udp4', reusePort: true }, { port, address: host });
    answering(socket);
    say('bound', { port: socket.address().port });
  },
  // The error of a bind reaches the socket, which can be bound again.
  error() {
    const socket = dgram.createSocket('udp4');
    socket.once('error', (error) => {
      say('error', { code: error.code, syscall: error.syscall });
      socket.bind(0, host, () => {
        say('bound');
        socket.close(() => cluster.worker.disconnect());
      });
    });
    socket.bind(port, host);
  },
  closeInListening() {
    const socket = dgram.createSocket('udp4');
    socket.on('close', () => {
      line('closed');
      cluster.worker.disconnect();
    });
    socket.bind(0, host, () => socket.close());
  },
  // An implicit bind, by sending, is this worker's own; an explicit one is shared.
  implicit() {
    const socket = dgram.createSocket('udp4');
    const send = () => socket.send(`${cluster.worker.id}`, port, host);
    obey({ leave: () => process.exit(0) });
    if (process.env.BOUND === 'y') socket.bind(0, host, send);
    else send();
  },
  async ports() {
    await open('udp4', { address: host, port: 0, exclusive: false });
    await open('udp4', { address: host, port, exclusive: false });
    await open('udp4', { address: host, port: second, exclusive: true }).then(
      () => say('exclusive', { code: null }),
      (error) => say('exclusive', { code: error.code }));
    // A server of its own is not closed by a disconnect.
    obey({ leave: () => process.exit(0) });
  },
});
