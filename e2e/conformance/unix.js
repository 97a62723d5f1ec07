'use strict';
const fs = require('node:fs');
const http = require('node:http');
const net = require('node:net');
const { cases, say, obey, greet } = require('./lib');

const path = process.env.SOCKET_PATH;

const report = (server) => server
  .on('error', (error) => say('error', { code: error.code, syscall: error.syscall }))
  .on('listening', () => say('listening', { address: server.address() }));

cases({
  path() {
    report(net.createServer(greet)).listen(path);
  },
  all() {
    report(net.createServer(greet)).listen({ path, readableAll: true, writableAll: true });
  },
  http() {
    const server = http.createServer((request, response) => {
      const { remoteAddress, localAddress, remotePort, localPort } = request.socket;
      const seen = [remoteAddress, localAddress, remotePort, localPort];
      response.writeHead(200, { connection: 'close' });
      response.end(seen.every((value) => value === undefined) ? 'no addresses' : JSON.stringify(seen));
    });
    report(server).listen(path);
  },
  // A relative path counts from where the worker is, not from where the primary is.
  relative() {
    process.chdir(process.env.DIRECTORY);
    const server = net.createServer(greet);
    server.on('error', (error) => say('error', { code: error.code }));
    server.listen(path, () => {
      say('listening', { exists: fs.existsSync(path) });
      obey({ leave: () => process.disconnect() });
    });
  },
  abstract() {
    report(net.createServer(greet)).listen(`\0${process.env.NAME}`);
  },
});
