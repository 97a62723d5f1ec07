'use strict';
const cluster = require('node:cluster');
const http = require('node:http');
const net = require('node:net');
const { cases, say, obey, greet } = require('./lib');

const port = Number(process.env.PORT);
const second = Number(process.env.PORT2);

// Listens; reports the error or, when told to, the address.
const report = (server, name = 'server') => server
  .on('error', (error) => say('error', { server: name, code: error.code, syscall: error.syscall, port: error.port }))
  .on('listening', () => say('listening', { server: name, address: server.address() }));

const open = (...where) => new Promise((resolve, reject) => {
  const server = net.createServer(greet);
  server.once('error', reject);
  server.listen(...where, () => resolve(server));
});
const close = (server) => new Promise((resolve) => server.close(resolve));

cases({
  zero() {
    report(net.createServer(greet)).listen(0, '127.0.0.1');
  },
  none() {
    report(net.createServer(greet)).listen();
  },
  any() {
    report(net.createServer(greet)).listen(port);
  },
  port() {
    report(net.createServer(greet)).listen(port, '127.0.0.1');
  },
  // The second argument is no number: backlog goes over the wire as `false`.
  backlogFalse() {
    report(net.createServer(greet)).listen(port, 'localhost', () => {});
  },
  backlog() {
    report(net.createServer(greet)).listen({ host: '127.0.0.1', port: 0, backlog: 3 });
  },
  dual() {
    report(net.createServer(greet)).listen({ host: '::', port: 0 });
  },
  ipv6Only() {
    report(net.createServer(greet)).listen({ host: '::', port, ipv6Only: true });
  },
  reusePort() {
    report(net.createServer(greet)).listen({ host: '127.0.0.1', port, reusePort: true });
  },
  exclusive() {
    report(net.createServer(greet)).listen({ host: '127.0.0.1', port: 0, exclusive: true });
  },
  // One shared port, then one that only one worker can have.
  sharedAndExclusive() {
    report(net.createServer(greet), 'shared').listen({ host: '127.0.0.1', port, exclusive: false }, () => {
      report(net.createServer(greet), 'exclusive').listen({ host: '127.0.0.1', port: second, exclusive: true });
    });
  },
  // Several servers on port 0, opened and closed again and again.
  async index() {
    for (let round = 0; round < 4; round++) {
      const servers = await Promise.all([open(0, '127.0.0.1'), open(0, '127.0.0.1'), open(0, '127.0.0.1')]);
      const ports = servers.map((server) => server.address().port);
      await close(servers[1]);
      servers[1] = await open(0, '127.0.0.1');
      await Promise.all(servers.map(close));
      say('round', { ports });
    }
    say('done');
  },
  // The error callback throws, after it has asked to leave.
  throws() {
    process.on('uncaughtException', (error) => process.stdout.write(`caught ${error.code}\n`));
    const server = http.createServer();
    server.listen(port, '127.0.0.1');
    server.on('error', (error) => {
      cluster.worker.disconnect();
      throw error;
    });
  },
  // Listens, fails to listen again, closes; later once more.
  async reuse() {
    const first = await open({ host: '::', port });
    if (process.env.FAIL === 'y') {
      await open({ host: '::', port }).then(
        () => say('second', { code: null }),
        (error) => say('second', { code: error.code }));
      await close(first);
      say('closed');
    } else {
      say('started');
    }
    obey({
      async again() {
        await open({ host: '::', port }).then(close).then(
          () => say('again', { code: null }),
          (error) => say('again', { code: error.code }));
      },
    });
  },
  fd() {
    report(net.createServer(greet)).listen({ fd: Number(process.env.FD) });
  },
  // A handle that is bound already. Node 18 asks the primary all the same, with nothing to go by.
  handle() {
    const own = net.createServer();
    own.listen({ host: '127.0.0.1', port: 0, exclusive: true }, () => {
      report(net.createServer(greet)).listen(own._handle);
    });
  },
  // Closes before the primary has answered.
  closeAtOnce() {
    const send = process.send;
    process.send = function(message, ...rest) {
      if (message.act === 'close') {
        send.call(process, { say: 'close sent' });
        setImmediate(() => process.disconnect());
      }
      return send.call(this, message, ...rest);
    };
    net.createServer().listen(0, () => send.call(process, { say: 'listening' })).close();
  },
});
