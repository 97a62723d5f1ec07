'use strict';
// Preloaded into the app by ./demo (node --require): writes down every connection that reached a process, before
// the app sees it. The app itself stays as it is.
//
// One line per connection, "pid port": this process, and the client's port. Written synchronously, so the line is
// there even if the process is killed at the next instruction.

const diagnostics = require('node:diagnostics_channel');
const fs = require('node:fs');

const file = process.env.EVERUP_DEMO_LOG;
if (file) {
  const fd = fs.openSync(file, 'a');
  diagnostics.subscribe('net.server.socket', ({ socket }) => {
    fs.writeSync(fd, `${process.pid} ${socket.remotePort}\n`);
  });
}
