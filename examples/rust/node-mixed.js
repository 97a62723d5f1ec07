// The Node worker of `node-mixed.rs`: a plain program for node:cluster.
'use strict';

const cluster = require('node:cluster');
const http = require('node:http');

const { worker } = cluster;

process.on('message', (heard) => process.send({ from: 'node', heard }));

const server = http.createServer((request, response) => {
  response.setHeader('x-worker', `node-${worker.id}`);
  // A worker that leaves asks its clients to come again, to another one.
  if (worker.exitedAfterDisconnect) response.setHeader('connection', 'close');
  response.end(`hello from Node, worker ${worker.id}, process ${process.pid}\n`);
});

server.listen(Number(process.env.PORT || 3000), '127.0.0.1');
