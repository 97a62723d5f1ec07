'use strict';
const cluster = require('node:cluster');
const dgram = require('node:dgram');
const http = require('node:http');
const net = require('node:net');
const { cases, say, line, obey, greet } = require('./lib');

const listen = (port = 0) => net.createServer(greet).listen(port, '127.0.0.1');

cases({
  twoServers() {
    const first = listen(Number(process.env.PORT));
    first.on('listening', () => {
      const second = listen(Number(process.env.PORT2));
      second.on('listening', () => say('ports', { ports: [first.address().port, second.address().port] }));
    });
  },

  idle() {
    say('up');
  },

  listen() {
    listen();
  },

  udp() {
    dgram.createSocket('udp4').bind(0, '127.0.0.1');
  },

  // 'disconnect' must wait for the primary's answer.
  ack() {
    cluster.worker.on('disconnect', () => line('disconnect'));
    cluster.worker.disconnect();
    process.nextTick(() => line('tick'));
  },

  // Leaves with 42 when its channel closes in order.
  handler42() {
    process.once('disconnect', () => process.exit(42));
    listen();
  },

  forced() {
    process.on('disconnect', () => setTimeout(() => process.exit(42), 10));
    say('up');
  },

  self() {
    cluster.worker[process.env.ACTION]();
  },

  // Keeps a connection of its own.
  client() {
    obey({ connect: ({ port }) => net.connect(port, '127.0.0.1').on('error', () => {}).resume() });
    say('up');
  },

  waitServerClose() {
    const server = net.createServer((socket) => {
      socket.on('error', () => {});
      socket.write('.');
      socket.resume();
    }).listen(0, '127.0.0.1');
    server.once('close', () => line('server closed'));
    const hold = setInterval(() => {}, 9999);
    process.once('disconnect', () => {
      line('disconnect');
      clearInterval(hold);
    });
  },

  onError() {
    const server = http.createServer();
    server.on('error', (error) => {
      say('error', { code: error.code });
      cluster.worker.disconnect();
    });
    obey({ listen: ({ port }) => server.listen(port, '127.0.0.1') });
    say('up');
  },

  // Opens and closes a server on port 0 twice, then leaves.
  restart() {
    const server = net.createServer(greet);
    server.listen(0, '127.0.0.1', () => {
      if (process.env.RESTART !== 'y') return;
      server.close(() => server.listen(0, '127.0.0.1', () => server.close(() => process.disconnect())));
    });
  },

  bye() {
    net.createServer((socket) => {
      socket.on('error', () => {});
      socket.end('bye');
    }).listen(Number(process.env.PORT), '127.0.0.1');
  },
});
