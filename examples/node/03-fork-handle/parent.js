'use strict';
// A parent that shares its work with a child process by sending it handles (open sockets).
//
//   node parent.js               sends the listening socket: parent and child both accept from it
//   everup run parent.js -i 2    two parents, each with its child
//
// In a worker of a cluster (Node's or everup's) the listening socket belongs to the primary. The worker's
// server object is only a stand-in and must not be sent; connections can be. So there the parent hands every
// second connection to its child.

const { fork } = require('node:child_process');
const cluster = require('node:cluster');
const http = require('node:http');
const net = require('node:net');
const path = require('node:path');

const child = fork(path.join(__dirname, 'child.js'));
// A parent whose child is gone is of no use: end, and let whoever started us start both again.
child.once('exit', () => process.exit(1));

const web = http.createServer((req, res) => {
  res.end(`handled by parent (pid ${process.pid})\n`);
});

// Paused: not a byte is read here before it is known which process handles the connection.
const server = net.createServer({ pauseOnConnect: true });
let turn = 0;

server.on('connection', (socket) => {
  turn += 1;
  if (cluster.isWorker && turn % 2 === 0) {
    child.send('connection', socket);
    return;
  }
  web.emit('connection', socket);
  socket.resume();
});

server.listen(Number(process.env.PORT || 3000), () => {
  if (cluster.isPrimary) child.send('server', server);
  console.log(`listening on http://localhost:${server.address().port}`);
});
