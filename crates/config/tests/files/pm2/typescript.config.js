const dev = process.env.NODE_ENV !== 'production';

module.exports = [
  {
    name: 'ts-api',
    script: 'src/server.ts',
    exec_interpreter: 'node',
    node_args: ['--require', 'ts-node/register', '--max-old-space-size=4096'],
    watch: dev ? ['src', 'config'] : false,
    ignore_watch: ['node_modules', 'logs', '*.log'],
    watch_delay: 1000,
    namespace: 'backend',
    maxRestarts: 5,
    restartDelay: 3000,
    incrementVar: 'PORT',
    instances: 2,
    env: { PORT: 3000, DEBUG: true, OPTIONS: { a: [1, 2] }, RATIO: 0.5 },
    uid: undefined,
    max_memory_restart: null,
  },
];
