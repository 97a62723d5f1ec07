'use strict';
// An app with a bug: every second request of a process throws, which ends the process.
//
//   node 04-throws.js                one good answer, then it is down
//   everup run 04-throws.js -i 2     a worker that dies is replaced, the port stays open

const http = require('node:http');

let requests = 0;

const server = http.createServer((req, res) => {
  requests += 1;
  if (requests % 2 === 0) throw new Error(`request ${requests} hit the bug`);
  res.end(`answer from pid ${process.pid}\n`);
});

server.listen(Number(process.env.PORT || 3000), () => {
  console.log(`listening on http://localhost:${server.address().port}`);
});
