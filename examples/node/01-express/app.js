'use strict';
// An Express app like any other: nothing in it knows about everup or about node:cluster.
//
//   node app.js                      one process
//   node cluster.js                  one process per core, by Node's own cluster
//   everup run app.js -i max         one process per core, by everup

const express = require('express');
const workerStamp = require('./worker-stamp');

const app = express();
app.use(workerStamp());

app.get('/', (req, res) => {
  res.type('text').send(`Hello from pid ${process.pid}\n`);
});

// A slow answer: http://localhost:3000/slow?ms=2000
app.get('/slow', (req, res) => {
  const ms = Math.min(Number(req.query.ms) || 1000, 60_000);
  setTimeout(() => res.type('text').send(`Waited ${ms} ms in pid ${process.pid}\n`), ms);
});

function serve() {
  // No callback here: a port that is taken then ends the process with EADDRINUSE, as it should.
  const server = app.listen(Number(process.env.PORT || 3000));
  server.once('listening', () => {
    // PORT=0 asks the system for a free port, so print the port that we really got.
    console.log(`listening on http://localhost:${server.address().port}`);
  });
  return server;
}

module.exports = { app, serve };

// `node app.js` serves; `require('./app')` only brings the app.
if (require.main === module) serve();
