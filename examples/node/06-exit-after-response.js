'use strict';
// One worker that ends after each response, and is started again: no request sees what another one left behind.
//
//   node 06-exit-after-response.js         Node's cluster starts the next worker
//   everup run 06-exit-after-response.js   everup does

const cluster = require('node:cluster');
const http = require('node:http');

if (cluster.isPrimary) {
  cluster.on('exit', (worker, code) => {
    // Code 0 is the plan. Anything else (the port is taken, say) would only repeat itself.
    if (code === 0) cluster.fork();
    else process.exitCode = 1;
  });
  cluster.fork();
} else {
  const server = http.createServer((req, res) => {
    // The connection ends with the answer, and the process when the last byte of it is with the system.
    res.setHeader('Connection', 'close');
    res.end(`the only answer of pid ${process.pid}\n`, () => process.exit(0));
  });
  server.listen(Number(process.env.PORT || 3000), () => {
    console.log(`listening on http://localhost:${server.address().port}`);
  });
}
