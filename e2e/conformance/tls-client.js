'use strict';
// node tls-client.js tickets PORT COUNT: connects COUNT times, one after another, with the first session that it
// got; prints the workers that answered, as JSON.
// node tls-client.js https PORT COUNT: the same with HTTPS requests.
const https = require('node:https');
const tls = require('node:tls');

const [what, port, count] = process.argv.slice(2);
const workers = [];
let session = null;

const next = () => {
  if (workers.length === Number(count)) {
    console.log(JSON.stringify(workers));
    return;
  }
  if (what === 'https') request();
  else connect();
};

const connect = () => {
  let text = '';
  tls.connect({ port: Number(port), host: '127.0.0.1', session, rejectUnauthorized: false })
    .on('session', (fresh) => { session = session || fresh; })
    .on('data', (data) => { text += data; })
    .on('close', () => { workers.push(Number(text)); next(); });
};

const request = () => {
  https.get({ port: Number(port), host: '127.0.0.1', rejectUnauthorized: false, agent: false }, (response) => {
    let text = '';
    response.on('data', (data) => { text += data; });
    response.on('end', () => { workers.push(Number(text)); next(); });
  });
};

next();
