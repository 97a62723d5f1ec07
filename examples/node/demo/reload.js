'use strict';
// The second load of ./demo: reloads under load, with clients that retry nothing.
//
//   node reload.js URL EVERUP SOCKET [--reloads N]
//
// EVERUP is the program, SOCKET what `everup run --control` was given. Exit code 0: every reload succeeded and no request
// failed. 1: else. 2: the demo could not run.

const { execFile } = require('node:child_process');
const http = require('node:http');
const { parseArgs } = require('node:util');

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { reloads: { type: 'string', default: '3' } },
});
const [url, everup, socket] = positionals;
const FRESH = 8;
const KEPT = 8;

if (!url || !everup || !socket) {
  console.error('usage: node reload.js URL EVERUP SOCKET [--reloads N]');
  process.exit(2);
}

const seen = { fresh: 0, kept: 0, pids: new Set(), failed: {} };
let over = false;

function request(agent, kind) {
  return new Promise((resolve) => {
    const fail = (error) => {
      seen.failed[error.code ?? error.message] = (seen.failed[error.code ?? error.message] ?? 0) + 1;
      resolve();
    };
    const sent = http.get(url, { agent, timeout: 15_000 }, (response) => {
      response.resume();
      response.on('error', fail);
      response.on('end', () => {
        if (response.statusCode !== 200) return fail(new Error(`status ${response.statusCode}`));
        seen[kind] += 1;
        seen.pids.add(response.headers['x-worker-pid']);
        resolve();
      });
    });
    sent.on('timeout', () => sent.destroy(new Error('no answer in 15 s')));
    sent.on('error', fail);
  });
}

// A client: one request after the other, with a moment between them.
async function client(kind) {
  const agent = kind === 'kept' ? new http.Agent({ keepAlive: true, maxSockets: 1 }) : false;
  while (!over) {
    await request(agent, kind);
    await new Promise((resolve) => setTimeout(resolve, 2 + Math.random() * 5));
  }
  if (agent) agent.destroy();
}

function reload() {
  return new Promise((resolve) => {
    execFile(everup, ['reload', '--control', socket], (error, stdout, stderr) => {
      process.stdout.write(stdout + stderr);
      resolve(error ? 1 : 0);
    });
  });
}

async function main() {
  const clients = [...Array(FRESH).fill('fresh'), ...Array(KEPT).fill('kept')].map(client);
  let bad = 0;
  for (let n = 0; n < Number(values.reloads); n += 1) bad += await reload();
  over = true;
  await Promise.all(clients);
  const failed = Object.values(seen.failed).reduce((a, b) => a + b, 0);
  console.log(
    `${values.reloads} reloads: ${seen.fresh} requests on fresh connections, ${seen.kept} on kept ones, ` +
      `${seen.pids.size} workers answered, ${failed} failed ${failed ? JSON.stringify(seen.failed) : ''}`,
  );
  process.exit(bad || failed ? 1 : 0);
}

main();
