'use strict';
// The cluster twin of app.js: Node's own way to put an app on every core.
//
// Under `everup run cluster.js -i 4` this process is already a worker: cluster.isPrimary is false, so it forks
// nothing and just serves. With everup you do not need this file; app.js is enough.

const cluster = require('node:cluster');
const os = require('node:os');

if (cluster.isPrimary) {
  const count = Number(process.env.WORKERS || os.availableParallelism?.() || os.cpus().length);
  for (let i = 0; i < count; i += 1) cluster.fork();

  const served = new Set();
  cluster.on('listening', (worker) => served.add(worker.id));
  cluster.on('exit', (worker, code, signal) => {
    console.error(`worker ${worker.id} (pid ${worker.process.pid}) ended: ${signal || `code ${code}`}`);
    // A worker that never came as far as listening would fail again: do not fork for ever.
    if (served.delete(worker.id) && !worker.exitedAfterDisconnect) cluster.fork();
    else process.exitCode = 1;
  });
} else {
  require('./app').serve();
}
