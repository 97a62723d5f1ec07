'use strict';
// Runs every example with plain node and, if EVERUP_BIN names the binary, with `everup run` as well.
//
//   npm test
//   EVERUP_BIN=../../target/debug/everup npm test

const assert = require('node:assert/strict');
const { spawn } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const http = require('node:http');
const os = require('node:os');
const path = require('node:path');
const test = require('node:test');

const LIMIT_MS = 20_000;
const everup = process.env.EVERUP_BIN && path.resolve(process.env.EVERUP_BIN);

const ways = [
  {
    name: 'node',
    everup: false,
    command: (file, args) => [process.execPath, [path.join(__dirname, file), ...args]],
  },
];
if (everup) {
  ways.push({
    name: 'everup',
    everup: true,
    command: (file, args) => [everup, ['run', path.join(__dirname, file), '-i', '2', '--', ...args]],
  });
}

// Starts an example on a free port and resolves when it has printed its address.
async function start(t, way, file, { env = {}, args = [] } = {}) {
  const [program, argv] = way.command(file, args);
  const child = spawn(program, argv, {
    env: { ...process.env, PORT: '0', WORKERS: '2', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const app = { child, output: '', url: undefined, exit: once(child, 'exit') };
  t.after(async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM');
    await app.exit;
  });
  const collect = (chunk) => {
    app.output += chunk;
    app.onOutput?.();
  };
  child.stdout.on('data', collect);
  child.stderr.on('data', collect);
  await until(app, () => /listening on http:\/\/localhost:\d+/.test(app.output), 'its address');
  app.url = address(app.output);
  return app;
}

// The address that was printed last.
function address(output) {
  return `http://127.0.0.1:${/.*listening on http:\/\/localhost:(\d+)/s.exec(output)[1]}`;
}

// Waits until the output of an example fulfils a condition.
function until(app, condition, what) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${what} in time:\n${app.output}`)), LIMIT_MS);
    const check = () => {
      if (!condition()) return;
      clearTimeout(timer);
      app.onOutput = undefined;
      resolve();
    };
    app.onOutput = check;
    app.child.once('exit', (code, signal) => {
      clearTimeout(timer);
      reject(new Error(`ended (${signal ?? code}) before ${what}:\n${app.output}`));
    });
    check();
  });
}

function get(app, where) {
  return new Promise((resolve, reject) => {
    const request = http.get(app.url + where, { agent: false, timeout: LIMIT_MS }, (response) => {
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (chunk) => { body += chunk; });
      response.on('end', () => resolve({ status: response.statusCode, headers: response.headers, body }));
      response.on('error', reject);
    });
    request.on('timeout', () => request.destroy(new Error(`no answer to ${where} in time`)));
    request.on('error', reject);
  });
}

// Fresh connections until `enough` says so.
async function getUntil(app, where, enough) {
  const answers = [];
  const end = Date.now() + LIMIT_MS;
  while (!enough(answers)) {
    assert.ok(Date.now() < end, `not enough after ${answers.length} answers: ${JSON.stringify(answers.slice(-3))}`);
    answers.push(await get(app, where).catch((error) => ({ error: error.code ?? error.message, headers: {}, body: '' })));
  }
  return answers;
}

const bodies = (answers) => new Set(answers.map((answer) => answer.body));

for (const way of ways) {
  test(`01-express/app.js with ${way.name}`, async (t) => {
    const app = await start(t, way, '01-express/app.js');
    const answers = await getUntil(app, '/', (all) => bodies(all).size === (way.everup ? 2 : 1));
    for (const { status, headers, body } of answers) {
      assert.equal(status, 200);
      assert.equal(body, `Hello from pid ${headers['x-worker-pid']}\n`);
      assert.match(headers['x-worker'], way.everup ? /^[1-9]/ : /^0$/);
    }
    await until(app, () => /worker \d+ \(pid \d+\): GET \//.test(app.output), 'line of the worker stamp');
    assert.match((await get(app, '/slow?ms=10')).body, /^Waited 10 ms/);
  });

  test(`01-express/cluster.js with ${way.name}`, async (t) => {
    const app = await start(t, way, '01-express/cluster.js');
    const answers = await getUntil(app, '/', (all) => bodies(all).size === 2);
    for (const { headers } of answers) assert.match(headers['x-worker'], /^[1-9]/);
  });

  test(`02-http-all-cpus.js with ${way.name}`, async (t) => {
    const app = await start(t, way, '02-http-all-cpus.js');
    await getUntil(app, '/', (all) => bodies(all).size === 2);
    if (way.everup) return;
    await until(app, () => /worker 2 is online/.test(app.output), 'online');
    await until(app, () => /worker 2 is listening on \*:\d+/.test(app.output), 'listening');
    process.kill(Number(/worker 1 is online \(pid (\d+)\)/.exec(app.output)[1]), 'SIGKILL');
    await until(app, () => /worker 1 has exited \(SIGKILL\)/.test(app.output), 'exit');
  });

  test(`03-fork-handle/parent.js with ${way.name}`, async (t) => {
    const app = await start(t, way, '03-fork-handle/parent.js');
    const has = (all, who) => all.some(({ body }) => body.startsWith(`handled by ${who} (pid `));
    // The kernel decides whom it wakes when both accept, so many at once are needed to see both.
    const all = [];
    const end = Date.now() + LIMIT_MS;
    while (!(has(all, 'parent') && has(all, 'child'))) {
      assert.ok(Date.now() < end, `only one of them answers: ${JSON.stringify([...bodies(all)])}`);
      all.push(...await Promise.all(Array.from({ length: 20 }, () => get(app, '/'))));
    }
  });

  test(`04-throws.js with ${way.name}`, async (t) => {
    const app = await start(t, way, '04-throws.js');
    const good = /^answer from pid \d+\n$/;
    assert.match((await get(app, '/')).body, good);
    if (!way.everup) {
      await assert.rejects(get(app, '/'), { code: 'ECONNRESET' });
      assert.deepEqual(await app.exit, [1, null]);
      assert.match(app.output, /request 2 hit the bug/);
      return;
    }
    const answers = await getUntil(app, '/', (all) => bodies(all).size >= 4);
    assert.ok(answers.some(({ error }) => error === 'ECONNRESET'), 'half of the requests throw');
  });

  test(`05-cpu-heavy.js with ${way.name}`, async (t) => {
    const app = await start(t, way, '05-cpu-heavy.js');
    assert.match((await get(app, '/primes/1000')).body, /^168 primes below 1000,/);
    assert.match((await get(app, '/')).body, /^quick answer/);
    assert.equal((await get(app, '/nope')).status, 404);
  });

  test(`06-exit-after-response.js with ${way.name}`, async (t) => {
    const app = await start(t, way, '06-exit-after-response.js');
    const started = () => app.output.split('listening on').length - 1;
    const pids = [];
    for (let round = 1; round <= 3; round += 1) {
      if (!way.everup) {
        // Node's own primary closes the port while its only worker is away (and PORT=0 then gives another one).
        await until(app, () => started() >= round, `worker ${round}`);
        app.url = address(app.output);
      }
      const { body } = await get(app, '/');
      pids.push(/^the only answer of pid (\d+)\n$/.exec(body)[1]);
    }
    assert.equal(new Set(pids).size, pids.length, 'no process answers twice');
  });

  test(`07-managed/server.js with ${way.name}`, async (t) => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'everup-managed-'));
    t.after(() => fs.rmSync(folder, { recursive: true, force: true }));
    const config = path.join(folder, 'config.json');
    const settings = { host: '127.0.0.1', port: 3000, logFile: 'app.log', pidFile: 'run/app.pid', graceMs: 5000 };
    fs.writeFileSync(config, JSON.stringify(settings));
    const pidFile = path.join(folder, 'run/app.pid');
    const log = () => fs.readFileSync(path.join(folder, 'app.log'), 'utf8');

    const app = await start(t, way, '07-managed/server.js', { args: [config] });
    if (!way.everup) assert.equal(Number(fs.readFileSync(pidFile, 'utf8')), app.child.pid);

    // An open request is finished before the process ends.
    const slow = get(app, '/slow?ms=300');
    await getUntil(app, '/', () => log().includes('GET /slow'));
    app.child.kill('SIGTERM');
    assert.match((await slow).body, /^waited 300 ms/);
    assert.deepEqual(await app.exit, [0, null]);
    assert.match(log(), way.everup ? /stopping: [^]*ended with code 0/ : /stopping: SIGTERM\n[^]*ended with code 0/);
    assert.equal(fs.existsSync(pidFile), false);

    for (const cause of ['throw', 'reject']) {
      const again = await start(t, way, '07-managed/server.js', { args: [config] });
      await assert.rejects(get(again, `/${cause}`), { code: 'ECONNRESET' });
      if (!way.everup) assert.deepEqual(await again.exit, [1, null]);
    }
    assert.match(log(), /uncaught exception: Error: thrown by/);
    assert.match(log(), /unhandled rejection: Error: rejected by/);
  });

  test(`08-node-env.js with ${way.name}`, async (t) => {
    const app = await start(t, way, '08-node-env.js', { env: { NODE_ENV: 'production' } });
    assert.equal((await get(app, '/')).body, 'NODE_ENV is production\n');
  });
}

test('07-managed/server.js stops by the shutdown message', async (t) => {
  const { fork } = require('node:child_process');
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'everup-managed-'));
  t.after(() => fs.rmSync(folder, { recursive: true, force: true }));
  const config = path.join(folder, 'config.json');
  fs.writeFileSync(config, JSON.stringify({ port: 3000, logFile: 'l', pidFile: 'p', graceMs: 5000 }));
  const child = fork(path.join(__dirname, '07-managed/server.js'), [config], {
    env: { ...process.env, PORT: '0' },
    silent: true,
  });
  const exit = once(child, 'exit');
  await once(child.stdout, 'data');
  child.send('shutdown');
  assert.deepEqual(await exit, [0, null]);
  assert.match(fs.readFileSync(path.join(folder, 'l'), 'utf8'), /stopping: shutdown message/);
});
