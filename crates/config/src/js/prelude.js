// As much of Node as configuration files use, for an engine that has only the language.
// Everything that needs the system comes from `host`; what is not there throws with the code ERR_UNSUPPORTED.
(function (host, wrapper) {
  'use strict';
  const facts = JSON.parse(host.info());

  class NodeError extends Error {
    constructor(code, message) {
      super(message);
      this.code = code;
    }
  }

  // Stands for something that is not there: it may be passed around, and throws when it is called.
  const missing = (name) =>
    new Proxy(function () {}, {
      get: (target, key) => {
        if (key === Symbol.toPrimitive) return () => `[${name}]`;
        if (key === 'then' || typeof key === 'symbol') return undefined;
        return missing(`${name}.${key}`);
      },
      apply: () => unsupported(name),
      construct: () => unsupported(name),
    });
  const unsupported = (name) => {
    throw new NodeError('ERR_UNSUPPORTED', `${name} is not there while a configuration file is read`);
  };
  // The object, and something missing for every key that it does not have.
  const partly = (object, name) =>
    new Proxy(object, {
      get: (target, key) => {
        const known = key in target || typeof key === 'symbol' || ['__esModule', 'then', 'default'].includes(key);
        return known ? target[key] : missing(`${name}.${key}`);
      },
    });

  // ---- path
  const text = (path) => {
    if (typeof path === 'string') return path;
    const kind = path === null ? 'null' : typeof path;
    throw new NodeError('ERR_INVALID_ARG_TYPE', `The "path" argument must be of type string. Received ${kind}`);
  };
  const normalize = (path) => {
    const absolute = path.startsWith('/');
    const parts = [];
    for (const part of path.split('/')) {
      if (!part || part === '.') continue;
      if (part !== '..') parts.push(part);
      else if (parts.length && parts[parts.length - 1] !== '..') parts.pop();
      else if (!absolute) parts.push('..');
    }
    const joined = parts.join('/');
    if (!joined) return absolute ? '/' : path.endsWith('/') ? './' : '.';
    return (absolute ? '/' : '') + joined + (path.endsWith('/') ? '/' : '');
  };
  const path = {
    sep: '/',
    delimiter: ':',
    normalize: (given) => (text(given) === '' ? '.' : normalize(given)),
    join: (...parts) => {
      const joined = parts.map(text).filter(Boolean).join('/');
      return joined ? normalize(joined) : '.';
    },
    resolve: (...parts) => {
      let resolved = '';
      for (let i = parts.length - 1; i >= -1 && !resolved.startsWith('/'); i--) {
        const part = i >= 0 ? text(parts[i]) : facts.cwd;
        if (part) resolved = resolved ? `${part}/${resolved}` : part;
      }
      resolved = normalize(resolved);
      return resolved.length > 1 && resolved.endsWith('/') ? resolved.slice(0, -1) : resolved;
    },
    isAbsolute: (given) => text(given).startsWith('/'),
    dirname: (given) => {
      const trimmed = text(given).replace(/\/+$/, '');
      const slash = trimmed.lastIndexOf('/');
      if (slash < 0) return trimmed || !given ? '.' : '/';
      return slash === 0 ? '/' : trimmed.slice(0, slash);
    },
    basename: (given, extension) => {
      const trimmed = text(given).replace(/\/+$/, '');
      const base = trimmed.slice(trimmed.lastIndexOf('/') + 1);
      const ends = extension && base !== extension && base.endsWith(extension);
      return ends ? base.slice(0, -extension.length) : base;
    },
    extname: (given) => {
      const base = path.basename(given);
      const dot = base.lastIndexOf('.');
      return dot > 0 ? base.slice(dot) : '';
    },
    relative: (from, to) => {
      const a = path.resolve(from).split('/').filter(Boolean);
      const b = path.resolve(to).split('/').filter(Boolean);
      let same = 0;
      while (same < a.length && same < b.length && a[same] === b[same]) same++;
      return [...a.slice(same).map(() => '..'), ...b.slice(same)].join('/');
    },
    parse: (given) => {
      const base = path.basename(given);
      const ext = path.extname(given);
      const dir = path.dirname(given);
      const hasDir = dir !== '.' || given.startsWith('.');
      return {
        root: given.startsWith('/') ? '/' : '',
        dir: hasDir ? dir : '',
        base,
        ext,
        name: ext ? base.slice(0, -ext.length) : base,
      };
    },
    format: (parts) => {
      const base = parts.base || (parts.name || '') + (parts.ext || '');
      const dir = parts.dir || parts.root;
      if (!dir) return base;
      return dir === parts.root ? dir + base : `${dir}/${base}`;
    },
    toNamespacedPath: (given) => given,
  };
  path.posix = path;
  path.win32 = missing('path.win32');

  // ---- fs, to read with
  const nothing = (call, given) => {
    throw new NodeError('ENOENT', `ENOENT: no such file or directory, ${call} '${given}'`);
  };
  const absolute = (given) => path.resolve(given && given.pathname ? decodeURIComponent(given.pathname) : String(given));
  const readFileSync = (given, options) => {
    const content = host.readFile(absolute(given));
    if (content === undefined || content === null) nothing('open', given);
    const encoding = typeof options === 'string' ? options : options && options.encoding;
    return encoding ? content : { toString: () => content, length: content.length };
  };
  const statSync = (given, options) => {
    const kind = host.kind(absolute(given));
    if (!kind && options && options.throwIfNoEntry === false) return undefined;
    if (!kind) nothing('stat', given);
    return { isFile: () => kind === 1, isDirectory: () => kind === 2, isSymbolicLink: () => false };
  };
  const fs = {
    readFileSync,
    statSync,
    lstatSync: statSync,
    existsSync: (given) => host.kind(absolute(given)) !== 0,
    accessSync: (given) => void statSync(given),
    realpathSync: (given) => host.realpath(absolute(given)),
    readdirSync: (given, options) => {
      const names = host.readdir(absolute(given)) ?? nothing('scandir', given);
      if (!options || !options.withFileTypes) return names;
      return names.map((name) => Object.assign(statSync(path.join(String(given), name)), { name }));
    },
    constants: { F_OK: 0, R_OK: 4, W_OK: 2, X_OK: 1 },
  };

  // ---- os, url, process
  const cpu = () => ({ model: 'cpu', speed: 0, times: { user: 0, nice: 0, sys: 0, idle: 0, irq: 0 } });
  const os = {
    EOL: '\n',
    platform: () => facts.platform,
    type: () => 'Linux',
    arch: () => facts.arch,
    hostname: () => facts.hostname,
    homedir: () => facts.home,
    tmpdir: () => facts.tmp,
    totalmem: () => facts.totalmem,
    freemem: () => facts.freemem,
    release: () => facts.release,
    endianness: () => 'LE',
    cpus: () => Array.from({ length: facts.cpus }, cpu),
    availableParallelism: () => facts.cpus,
    loadavg: () => [0, 0, 0],
    uptime: () => 0,
    networkInterfaces: () => ({}),
    userInfo: () => ({
      username: facts.user,
      uid: facts.uid,
      gid: facts.gid,
      homedir: facts.home,
      shell: facts.env.SHELL || null,
    }),
    constants: { signals: {} },
  };

  const url = {
    fileURLToPath: (given) => {
      const href = String(given && given.href ? given.href : given);
      if (!href.startsWith('file://')) {
        throw new NodeError('ERR_INVALID_URL_SCHEME', 'The URL must be of scheme file');
      }
      return decodeURIComponent(href.slice(7));
    },
    pathToFileURL: (given) => new Address('file://' + path.resolve(given).split('/').map(encodeURIComponent).join('/')),
  };
  const address = /^([a-z][a-z0-9+.-]*:)(?:\/\/(?:([^:@/]*)(?::([^@/]*))?@)?([^:/?#]*)(?::(\d+))?)?([^?#]*)(\?[^#]*)?(#.*)?$/i;
  // Enough of URL to take a connection string apart, and for `new URL('./x', import.meta.url)`.
  class Address {
    constructor(given, base) {
      this.href = Address.absolute(String(given), base);
      const parts = address.exec(this.href) || [];
      const [protocol, username, password, hostname, port, pathname, search, hash] = Array.from(
        { length: 8 },
        (_, i) => parts[i + 1] || '',
      );
      Object.assign(this, { protocol, username, password, hostname, port, pathname, search, hash });
      this.host = hostname + (port ? `:${port}` : '');
      this.origin = `${protocol}//${this.host}`;
    }
    static absolute(given, base) {
      if (/^[a-z][a-z0-9+.-]*:/i.test(given)) return given;
      if (!base) throw new NodeError('ERR_INVALID_URL', 'Invalid URL');
      const from = String(base.href || base);
      if (!from.startsWith('file://')) return from.replace(/[^/]*$/, '') + given;
      return 'file://' + path.resolve(path.dirname(from.slice(7)), given) + (given.endsWith('/') ? '/' : '');
    }
    toString() {
      return this.href;
    }
    toJSON() {
      return this.href;
    }
  }
  url.URL = Address;

  const printed = [];
  const shown = (value) => {
    if (typeof value === 'string') return value;
    try {
      return JSON.stringify(value) ?? String(value);
    } catch {
      return String(value);
    }
  };
  const print = (...values) => void printed.push(values.map(shown).join(' '));
  const console = { log: print, info: print, warn: print, error: print, debug: print, trace: print, table: print };

  const set = (target, key, value) => {
    target[key] = String(value);
    return true;
  };
  const stream = { write: (chunk) => (print(String(chunk).replace(/\n$/, '')), true), isTTY: false };
  const process = {
    env: new Proxy({ ...facts.env }, { set }),
    argv: ['node', facts.entry],
    argv0: 'node',
    execPath: '/usr/bin/node',
    execArgv: [],
    pid: facts.pid,
    ppid: facts.ppid,
    platform: facts.platform,
    arch: facts.arch,
    title: 'node',
    version: 'v22.0.0',
    versions: { node: '22.0.0', v8: '0', modules: '0' },
    release: { name: 'node' },
    features: {},
    config: {},
    stdout: stream,
    stderr: stream,
    cwd: () => facts.cwd,
    uptime: () => 0,
    memoryUsage: () => ({ rss: 0, heapTotal: 0, heapUsed: 0 }),
    getuid: () => facts.uid,
    getgid: () => facts.gid,
    hrtime: Object.assign(() => [0, 0], { bigint: () => 0n }),
    nextTick: (task, ...values) => void Promise.resolve().then(() => task(...values)),
    on: () => process,
    once: () => process,
    off: () => process,
    emit: () => false,
    emitWarning: () => {},
    exit: (code) => {
      throw new NodeError('ERR_PROCESS_EXIT', `the file calls process.exit(${code ?? 0})`);
    },
  };

  // ---- child_process, util, assert
  const run = (shell, words, options) => {
    const output = host.exec(shell, words.map(String), path.resolve((options && options.cwd) || facts.cwd));
    const encoding = options && options.encoding;
    if (encoding && encoding !== 'buffer') return output;
    return { toString: () => output, trim: () => output.trim(), length: output.length };
  };
  const child_process = {
    execSync: (line, options) => run(true, [line], options),
    execFileSync: (file, words, options) =>
      Array.isArray(words) ? run(false, [file, ...words], options) : run(false, [file], words),
  };
  const util = {
    inspect: shown,
    format: (...values) => values.map(shown).join(' '),
    promisify: (task) => task,
    types: {},
    inherits: () => {},
  };
  const check = (value, message) => {
    if (!value) throw new Error(message || 'assertion failed');
  };
  const assert = Object.assign((value, message) => check(value, message), {
    ok: check,
    equal: (a, b, message) => check(a == b, message),
    strictEqual: (a, b, message) => check(a === b, message),
  });

  const builtins = {
    path,
    'path/posix': path,
    os,
    url,
    assert,
    process,
    fs: partly(fs, 'fs'),
    util: partly(util, 'util'),
    child_process: partly(child_process, 'child_process'),
  };
  const others =
    'crypto http https net tls events stream buffer zlib cluster worker_threads dns readline tty vm v8 querystring ' +
    'string_decoder timers fs/promises constants perf_hooks async_hooks timers/promises';
  for (const name of others.split(' ')) builtins[name] = missing(name);

  // ---- CommonJS
  const cache = Object.create(null);
  let main;
  const builtin = (id) => {
    const name = id.startsWith('node:') ? id.slice(5) : id;
    return Object.prototype.hasOwnProperty.call(builtins, name) ? name : null;
  };
  const file = (base) => {
    const endings = ['', '.js', '.json', '.cjs', '.mjs', '.ts'];
    const found = endings.find((ending) => host.kind(base + ending) === 1);
    return found === undefined ? null : base + found;
  };
  // The target of an `exports` of a package.json.
  const target = (exported) => {
    if (typeof exported === 'string' || exported === null || exported === undefined) return exported;
    if (Array.isArray(exported)) return exported.map(target).find(Boolean);
    for (const key of Object.keys(exported)) {
      const found = ['node', 'require', 'default'].includes(key) && target(exported[key]);
      if (found) return found;
    }
    return null;
  };
  const manifest = (folder) => {
    const name = `${folder}/package.json`;
    return host.kind(name) === 1 ? JSON.parse(host.readFile(name)) : null;
  };
  const folder = (base) => {
    const { exports: exported, main: entry } = manifest(base) || {};
    const named = target(exported && exported['.'] ? exported['.'] : exported) || entry;
    const path_ = named && path.resolve(base, named);
    return (path_ && (file(path_) || file(`${path_}/index`))) || file(`${base}/index`);
  };
  const inPackages = (packages, id) => {
    const [, name, rest] = /^((?:@[^/]+\/)?[^/]+)(\/.*)?$/.exec(id) || [];
    const base = `${packages}/${name}`;
    if (!rest) return folder(base) || file(base);
    const exported = (manifest(base) || {}).exports;
    const hit = exported && typeof exported === 'object' && target(exported[`.${rest}`]);
    return hit ? path.resolve(base, hit) : file(base + rest) || folder(base + rest);
  };
  const resolve = (from, id) => {
    if (/^(\.\.?(\/|$)|\/)/.test(id)) {
      const base = path.resolve(from, id);
      const found = (!id.endsWith('/') && file(base)) || folder(base);
      if (found) return host.realpath(found);
    } else {
      for (let up = from; ; up = path.dirname(up)) {
        const packages = `${up === '/' ? '' : up}/node_modules`;
        const found = host.kind(packages) === 2 && inPackages(packages, id);
        if (found) return host.realpath(found);
        if (up === '/') break;
      }
    }
    throw new NodeError('MODULE_NOT_FOUND', `Cannot find module '${id}'`);
  };
  const evaluate = (module, name) => {
    const source = host.readFile(name);
    if (source === undefined || source === null) nothing('open', name);
    if (name.endsWith('.json')) {
      module.exports = JSON.parse(source);
      return;
    }
    if (host.isModule(name, source)) unsupported(`require() of the ES module ${name}`);
    const body = host.compile(`${wrapper}${source}\n})`, name);
    body.call(module.exports, module.exports, requireFrom(name, module), module, name, path.dirname(name));
  };
  const load = (name) => {
    if (cache[name]) return cache[name].exports;
    const module = { id: name, filename: name, path: path.dirname(name), exports: {}, loaded: false, children: [], paths: [] };
    cache[name] = module;
    try {
      evaluate(module, name);
    } catch (error) {
      delete cache[name];
      throw error;
    }
    module.loaded = true;
    return module.exports;
  };
  const requireFrom = (name, module) => {
    const from = path.dirname(name);
    const require = (id) => {
      const known = builtin(String(id));
      return known ? builtins[known] : load(resolve(from, String(id)));
    };
    main ??= module;
    return Object.assign(require, {
      resolve: (id) => (builtin(id) ? id : resolve(from, id)),
      cache,
      main,
      extensions: {},
    });
  };
  const createRequire = (from) => requireFrom(String(from).startsWith('file:') ? url.fileURLToPath(from) : String(from));
  builtins.module = { createRequire, builtinModules: Object.keys(builtins) };

  const soon = (task, ...values) => void Promise.resolve().then(() => task(...values));
  Object.assign(globalThis, {
    process,
    console,
    global: globalThis,
    URL: Address,
    Buffer: missing('Buffer'),
    fetch: missing('fetch'),
    setTimeout: (task, _, ...values) => (soon(task, ...values), 0),
    setImmediate: (task, ...values) => (soon(task, ...values), 0),
    setInterval: () => 0,
    clearTimeout: () => {},
    clearInterval: () => {},
    clearImmediate: () => {},
  });

  // ---- what is exported, as JSON
  const plain = (key, value) => {
    if (value instanceof RegExp) return { '$everup.pattern': value.source };
    return typeof value === 'bigint' ? Number(value) : value;
  };
  const finish = async (exported) => {
    let value = exported;
    if (value && value.__esModule && value.default) value = value.default;
    if (typeof value === 'function') value = value({ env: process.env });
    value = await value;
    return JSON.stringify({ value: value ?? null, printed }, plain);
  };
  // The text of a module that exports what a script or a built-in has.
  const reexport = (expression, value) => {
    const names = value && typeof value === 'object' ? Object.keys(value) : [];
    const lines = names
      .filter((name) => /^[A-Za-z_$][\w$]*$/.test(name) && name !== 'default')
      .map((name) => `export const ${name} = module[${JSON.stringify(name)}];`);
    return `const module = ${expression}; export default module; ${lines.join(' ')}`;
  };
  const get = (how, name) => `globalThis.__everup.${how}(${JSON.stringify(name)})`;
  return {
    load: async (name) => finish(load(name)),
    finish,
    finishModule: (namespace) => finish('default' in namespace ? namespace.default : { ...namespace }),
    resolve: (from, id) => {
      const known = builtin(id);
      return known ? `node:${known}` : resolve(from, id);
    },
    builtin: (name) => builtins[name],
    script: load,
    builtinSource: (name) => reexport(get('builtin', name), builtins[name]),
    scriptSource: (name) => reexport(get('script', name), load(name)),
  };
});
