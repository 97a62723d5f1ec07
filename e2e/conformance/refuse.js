'use strict';
const fs = require('node:fs');
const http = require('node:http');
const net = require('node:net');
const { cases, say, line, obey, greet } = require('./lib');

const where = process.env.SOCKET_PATH || { host: '127.0.0.1', port: Number(process.env.PORT || 0) };

// Holds its connections until the client ends them, saying which worker has them.
const holding = (socket) => {
  socket.on('error', () => {});
  socket.write(`${require('node:cluster').worker.id}`);
  socket.resume();
};

cases({
  greet() {
    net.createServer(greet).listen(where);
    obey({ ping: ({ number }) => say('pong', { number }) });
  },
  hold() {
    const server = net.createServer(holding);
    server.maxConnections = Number(process.env.MAX);
    server.listen(where);
    obey({ release: () => { server.maxConnections = 1000; say('released'); } });
  },
  // The server closes when a connection is on its way to it.
  closing() {
    const server = net.createServer(() => line('connection'));
    server.listen(where);
    process.prependListener('internalMessage', (message, handle) => {
      if (message.act !== 'newconn') return;
      server.close();
      const close = handle.close;
      handle.close = function(...rest) {
        line('handle closed');
        return close.apply(this, rest);
      };
    });
  },
  drop() {
    const server = http.createServer();
    server.maxConnections = 0;
    server.dropMaxConnection = true;
    server.on('connection', () => say('connection'));
    server.on('drop', (data) => say('drop', { local: Boolean(data.localPort) }));
    server.listen(where);
  },
  // Uses up its descriptors, and frees them.
  full() {
    net.createServer(greet).listen(where);
    const taken = [];
    obey({
      fill() {
        try {
          for (;;) taken.push(fs.openSync('/dev/null'));
        } catch (error) {
          say('full', { code: error.code });
        }
      },
      free() {
        for (const fd of taken.splice(0)) fs.closeSync(fd);
        say('free');
      },
    });
  },
  // Four ports, so that four connections can be under way to one worker; big messages before them.
  async ports() {
    const ports = [];
    for (let i = 0; i < 4; i++) {
      const server = net.createServer((socket) => {
        socket.on('error', () => {});
        socket.end(`${server.address().port}`);
      });
      await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
      ports.push(server.address().port);
    }
    process.on('message', (message) => say('size', { size: JSON.stringify(message).length }));
    say('ports', { ports });
  },
});
