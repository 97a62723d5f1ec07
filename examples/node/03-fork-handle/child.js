'use strict';
// Started by parent.js. Serves what the parent sends: its whole server, or single connections.

const http = require('node:http');

const web = http.createServer((req, res) => {
  res.end(`handled by child (pid ${process.pid})\n`);
});

process.on('message', (message, handle) => {
  // The client may have gone while its connection was on the way: then there is no handle.
  if (!handle) return;
  if (message === 'server') {
    handle.on('connection', (socket) => web.emit('connection', socket));
  } else if (message === 'connection') {
    web.emit('connection', handle);
    handle.resume();
  }
});

// No child without its parent.
process.on('disconnect', () => process.exit());
