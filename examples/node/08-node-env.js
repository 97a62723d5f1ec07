'use strict';
// Shows which NODE_ENV the app sees.
//
//   NODE_ENV=production node 08-node-env.js
//   everup run 08-node-env.js --env NODE_ENV=production

const http = require('node:http');

const mode = process.env.NODE_ENV ?? 'not set';

const server = http.createServer((req, res) => {
  res.end(`NODE_ENV is ${mode}\n`);
});

server.listen(Number(process.env.PORT || 3000), () => {
  console.log(`NODE_ENV is ${mode}`);
  console.log(`listening on http://localhost:${server.address().port}`);
});
