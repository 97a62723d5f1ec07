'use strict';
const fs = require('node:fs');
const https = require('node:https');
const path = require('node:path');
const tls = require('node:tls');
const cluster = require('node:cluster');
const { cases, say } = require('./lib');

const read = (name) => fs.readFileSync(path.join(__dirname, 'tls', name));
const options = { key: read('key.pem'), cert: read('cert.pem') };

cases({
  // Says of every connection whether its session was known.
  ticket() {
    const server = tls.createServer(options, (socket) => {
      socket.on('error', () => {});
      say('connection', { reused: socket.isSessionReused() });
      socket.end(`${cluster.worker.id}`);
    });
    server.listen(0, '127.0.0.1', () => say('listening', { port: server.address().port }));
  },
  https() {
    const server = https.createServer(options, (_, response) => {
      response.writeHead(200, { connection: 'close' });
      response.end(`${cluster.worker.id}`);
    });
    server.listen(0, '127.0.0.1', () => say('listening', { port: server.address().port }));
  },
});
