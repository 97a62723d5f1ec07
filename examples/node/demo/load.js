'use strict';
// The load of ./demo: requests on fresh connections, a kill -9 in the middle, and an honest count at the end.
//
//   node load.js URL LOG [--requests N] [--concurrency N]
//
// LOG is what reach-log.js wrote: one line per connection that reached a process of the app. A failed request
// whose connection is in it had reached the app that was killed; nobody can save that one. Any other failed
// request is a loss. Exit code 0: no loss and the killed worker was replaced. 1: else. 2: the demo could not run.

const fs = require('node:fs');
const http = require('node:http');
const { parseArgs } = require('node:util');

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    requests: { type: 'string', default: '10000' },
    concurrency: { type: 'string', default: '50' },
  },
});
const [url, logFile] = positionals;
const requests = Number(values.requests);
const concurrency = Number(values.concurrency);
const TIMEOUT_MS = 15_000;
// Longest wait for the successor of the killed worker.
const SUCCESSOR_MS = 15_000;

if (!url || !logFile || !(requests > 0) || !(concurrency > 0)) {
  console.error('usage: node load.js URL LOG [--requests N] [--concurrency N]');
  process.exit(2);
}

// One request on a connection of its own. Never rejects: { worker, pid } or { error }, and the local port.
function request() {
  return new Promise((resolve) => {
    let port;
    const fail = (error) => resolve({ port, error: error.code ?? error.message });
    const sent = http.get(url, { agent: false, timeout: TIMEOUT_MS }, (response) => {
      response.resume();
      response.on('error', fail);
      response.on('end', () => {
        if (response.statusCode !== 200) return fail(new Error(`status ${response.statusCode}`));
        resolve({
          port,
          worker: response.headers['x-worker'],
          pid: Number(response.headers['x-worker-pid']),
        });
      });
    });
    sent.on('socket', (socket) => socket.once('connect', () => { port = socket.localPort; }));
    sent.on('timeout', () => sent.destroy(new Error(`no answer in ${TIMEOUT_MS} ms`)));
    sent.on('error', fail);
  });
}

// Keeps `concurrency` requests going until `done(results)`; `onResult` sees each one.
async function load(done, onResult = () => {}) {
  const results = [];
  const lane = async () => {
    while (!done(results)) {
      const result = await request();
      results.push(result);
      onResult(result, results.length);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, lane));
  return results;
}

function printSpread(results) {
  const count = new Map();
  for (const { worker, pid } of results) {
    if (pid === undefined) continue;
    const name = `worker ${worker} (pid ${pid})`;
    count.set(name, (count.get(name) ?? 0) + 1);
  }
  const answered = results.filter(({ pid }) => pid !== undefined).length;
  for (const [name, n] of [...count].sort()) {
    const share = n / answered;
    const bar = '#'.repeat(Math.round(share * 40));
    console.log(`  ${name.padEnd(24)} ${String(n).padStart(7)}  ${(share * 100).toFixed(1).padStart(5)} %  ${bar}`);
  }
}

// Failed requests, split by whether their connection had reached the killed process. Client ports are used again,
// so what counts is how often a process wrote a port: once for each request it answered, and once more for a
// failed one only if that got there.
function judge(results, victimPid) {
  const written = new Map();
  const add = (key, n) => written.set(key, (written.get(key) ?? 0) + n);
  for (const line of fs.readFileSync(logFile, 'utf8').split('\n')) add(line, 1);
  for (const { error, pid, port } of results) {
    if (error === undefined) add(`${pid} ${port}`, -1);
  }
  const verdict = { reached: [], lost: [] };
  for (const result of results.filter(({ error }) => error !== undefined)) {
    const key = `${victimPid} ${result.port}`;
    if ((written.get(key) ?? 0) > 0) {
      add(key, -1);
      verdict.reached.push(result);
    } else {
      verdict.lost.push(result);
    }
  }
  return verdict;
}

async function main() {
  const warm = await load((results) => results.length >= Math.ceil(requests / 4));
  console.log(`Spread of ${warm.length} requests, each on a fresh connection:`);
  printSpread(warm);

  const before = new Set(warm.map(({ pid }) => pid).filter(Boolean));
  const victim = warm.find(({ pid }) => pid);
  if (!victim) {
    console.error('no request was answered');
    return 2;
  }

  console.log(`\nkill -9 under load (${concurrency} requests at a time):`);
  let killed;
  let successor;
  const stormed = await load(
    (results) => results.length >= requests && (successor || Date.now() - killed > SUCCESSOR_MS),
    (result, n) => {
      if (!killed && n >= requests / 3) {
        process.kill(victim.pid, 'SIGKILL');
        killed = Date.now();
        console.log(`  killed worker ${victim.worker} (pid ${victim.pid})`);
      }
      if (killed && !successor && result.pid && !before.has(result.pid)) {
        successor = result;
        console.log(`  worker ${result.worker} (pid ${result.pid}) serves in its place after ${Date.now() - killed} ms`);
      }
    },
  );
  if (!successor) console.log('  nobody came in its place');
  printSpread(stormed);

  const all = [...warm, ...stormed];
  const { reached, lost } = judge(all, victim.pid);
  const row = (text, n) => console.log(`  ${text.padEnd(38)} ${String(n).padStart(7)}`);
  console.log('\nCounts:');
  row('requests', all.length);
  row('answered', all.length - reached.length - lost.length);
  row('failed, had reached the killed app', reached.length);
  row('lost', lost.length);
  for (const { error, port } of lost.slice(0, 5)) console.log(`    ${error} (client port ${port ?? 'none'})`);
  return lost.length === 0 && successor ? 0 : 1;
}

main().then(
  (code) => { process.exitCode = code; },
  (error) => {
    console.error(error);
    process.exitCode = 2;
  },
);
