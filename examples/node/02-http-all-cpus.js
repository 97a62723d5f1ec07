'use strict';
// node:http on all CPUs, with the events that a cluster's primary hears about its workers.
//
//   node 02-http-all-cpus.js              forks one worker per core and prints online, listening, exit
//   everup run 02-http-all-cpus.js -i 4   everup is the primary and prints these events itself; here only the
//                                         else branch runs

const cluster = require('node:cluster');
const http = require('node:http');
const os = require('node:os');

if (cluster.isPrimary) {
  console.log(`primary ${process.pid} starts`);

  cluster.on('online', (worker) => {
    console.log(`worker ${worker.id} is online (pid ${worker.process.pid})`);
  });
  cluster.on('listening', (worker, address) => {
    console.log(`worker ${worker.id} is listening on ${address.address ?? '*'}:${address.port}`);
  });
  cluster.on('exit', (worker, code, signal) => {
    console.log(`worker ${worker.id} has exited (${signal || `code ${code}`})`);
  });

  const count = Number(process.env.WORKERS || os.availableParallelism?.() || os.cpus().length);
  for (let i = 0; i < count; i += 1) cluster.fork();
} else {
  const server = http.createServer((req, res) => {
    res.end(`Hello from worker ${cluster.worker.id} (pid ${process.pid})\n`);
  });
  // All workers listen on the same port: the primary owns the socket and hands out the connections.
  server.listen(Number(process.env.PORT || 3000), () => {
    console.log(`listening on http://localhost:${server.address().port}`);
  });
}
