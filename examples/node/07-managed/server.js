'use strict';
// A server as an operator likes it: settings in a file, a log, a pid file, and an orderly end for every cause.
//
//   node server.js [config.json]            PORT in the environment wins over the file
//   everup run server.js -i 2               worker 0 writes managed.pid, worker 1 managed.1.pid
//
//   curl localhost:3000/slow?ms=3000        then press Ctrl-C: the answer still comes
//   curl localhost:3000/throw               an uncaught exception: logged, then exit code 1
//   curl localhost:3000/reject              an unhandled rejection: the same

const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');

const configFile = path.resolve(process.argv[2] ?? path.join(__dirname, 'config.json'));
const config = JSON.parse(fs.readFileSync(configFile, 'utf8'));
const port = Number(process.env.PORT || config.port);
const instance = Number(process.env.NODE_APP_INSTANCE || 0);

// Paths in the file are relative to the file. All workers append to one log; each has its own pid file.
const logFile = path.resolve(path.dirname(configFile), config.logFile);
const pidFile = numbered(path.resolve(path.dirname(configFile), config.pidFile), instance);

function numbered(file, number) {
  if (number === 0) return file;
  const { dir, name, ext } = path.parse(file);
  return path.join(dir, `${name}.${number}${ext}`);
}

fs.mkdirSync(path.dirname(logFile), { recursive: true });
fs.mkdirSync(path.dirname(pidFile), { recursive: true });

function log(text) {
  // Synchronous: the line is in the file even when the process ends right after.
  fs.appendFileSync(logFile, `${new Date().toISOString()} [${process.pid}] ${text}\n`);
}

function removePidFile() {
  try {
    // A successor may have written its own pid already: that file is not ours.
    if (Number(fs.readFileSync(pidFile, 'utf8')) === process.pid) fs.unlinkSync(pidFile);
  } catch (error) {
    if (error.code !== 'ENOENT') log(`cannot remove ${pidFile}: ${error.message}`);
  }
}

const server = http.createServer((req, res) => {
  log(`${req.method} ${req.url}`);
  const url = new URL(req.url, 'http://localhost');
  switch (url.pathname) {
    case '/':
      res.end(`managed server, pid ${process.pid}\n`);
      break;
    case '/slow': {
      const ms = Math.min(Number(url.searchParams.get('ms')) || 1000, 60_000);
      setTimeout(() => res.end(`waited ${ms} ms in pid ${process.pid}\n`), ms);
      break;
    }
    case '/throw':
      throw new Error('thrown by /throw');
    case '/reject':
      Promise.reject(new Error('rejected by /reject'));
      break;
    default:
      res.writeHead(404).end('not found\n');
  }
});

server.listen(port, config.host, () => {
  fs.writeFileSync(pidFile, `${process.pid}\n`);
  const address = `http://localhost:${server.address().port}`;
  log(`listening on ${address}`);
  console.log(`listening on ${address}`);
});

let stopping = false;

function stop(reason) {
  if (stopping) return;
  stopping = true;
  log(`stopping: ${reason}`);
  console.log(`stopping: ${reason}`);

  // Take no new connections, finish the open requests, and do not wait for ever. Explicit exits, because the
  // channel to a primary would keep the process alive.
  server.close(() => process.exit(0));
  server.closeIdleConnections();
  setTimeout(() => {
    log(`not finished after ${config.graceMs} ms`);
    process.exit(1);
  }, config.graceMs).unref();
}

process.on('SIGINT', () => stop('SIGINT'));
process.on('SIGTERM', () => stop('SIGTERM'));
// From a primary or process manager (everup run --shutdown-with-message).
process.on('message', (message) => {
  if (message === 'shutdown') stop('shutdown message');
});
// The primary let go of this worker: Node has closed its servers already (cluster's own way to stop a worker).
process.on('disconnect', () => stop('disconnected from the primary'));

// Runs last on every way out but kill -9.
process.on('exit', (code) => {
  log(`ended with code ${code}`);
  removePidFile();
});

// After such an error nothing about this process is certain any more: say why, and end. Starting again is
// the work of whoever watches over us.
process.on('uncaughtException', (error) => {
  console.error(error);
  log(`uncaught exception: ${error.stack}`);
  process.exit(1);
});
process.on('unhandledRejection', (reason) => {
  console.error(reason);
  log(`unhandled rejection: ${reason?.stack ?? reason}`);
  process.exit(1);
});
