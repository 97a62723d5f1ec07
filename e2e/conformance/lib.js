'use strict';
// What all worker scripts of the conformance tests share. A script is a table of cases; the test names one as
// its first argument. A worker reports by message (`say`), or by a line on standard output where its channel
// may be closed (`line`).
const cluster = require('node:cluster');
const fs = require('node:fs');

exports.cases = (table) => {
  const name = process.argv[2];
  if (!table[name]) throw new Error(`no case ${name}`);
  table[name]();
};

exports.say = (what, more) => process.send({ say: what, ...more });

exports.line = (text) => fs.writeSync(1, `${text}\n`);

// Obeys messages {"do": name, ...}.
exports.obey = (table) => process.on('message', (message, handle) => {
  if (message && table[message.do]) table[message.do](message, handle);
});

// A connection handler: answers with the worker's id and ends.
exports.greet = (socket) => {
  socket.on('error', () => {});
  socket.end(`${cluster.worker.id}`);
};

exports.id = () => cluster.worker.id;
