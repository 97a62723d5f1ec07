'use strict';
// A handler that computes. While it does, its process can do nothing else: no other request, no timer.
//
//   node 05-cpu-heavy.js               requests wait for each other
//   everup run 05-cpu-heavy.js -i max  as many at a time as there are cores
//
//   curl localhost:5000/                 quick
//   curl localhost:5000/primes           about a tenth of a second of work
//   curl localhost:5000/primes/20000000  seconds of work

const http = require('node:http');

const MOST = 50_000_000;

function countPrimes(below) {
  const composite = new Uint8Array(below);
  let count = 0;
  for (let n = 2; n < below; n += 1) {
    if (composite[n]) continue;
    count += 1;
    for (let multiple = n * n; multiple < below; multiple += n) composite[multiple] = 1;
  }
  return count;
}

const server = http.createServer((req, res) => {
  if (req.url === '/') {
    res.end(`quick answer from pid ${process.pid}\n`);
    return;
  }
  const match = /^\/primes(?:\/(\d{1,9}))?$/.exec(req.url);
  if (!match) {
    res.writeHead(404).end('try / or /primes or /primes/1000000\n');
    return;
  }
  const below = Math.min(Number(match[1] ?? 10_000_000), MOST);
  const start = performance.now();
  const count = countPrimes(below);
  const ms = Math.round(performance.now() - start);
  res.end(`${count} primes below ${below}, ${ms} ms in pid ${process.pid}\n`);
});

server.listen(Number(process.env.PORT || 5000), () => {
  console.log(`listening on http://localhost:${server.address().port}`);
});
