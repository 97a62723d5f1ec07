'use strict';
// Express middleware that tells which worker served a request: in the log, and in two headers of the answer.
//
//   X-Worker: 2            the worker's number (0 when the app runs alone)
//   X-Worker-Pid: 4711     its process

const cluster = require('node:cluster');

module.exports = function workerStamp() {
  // Also set under everup, which speaks the protocol of Node's cluster.
  const worker = cluster.isWorker ? cluster.worker.id : 0;
  return (req, res, next) => {
    res.set('X-Worker', String(worker));
    res.set('X-Worker-Pid', String(process.pid));
    console.log(`worker ${worker} (pid ${process.pid}): ${req.method} ${req.originalUrl}`);
    next();
  };
};
