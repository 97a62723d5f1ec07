module.exports = {
  apps: [
    {
      name: 'gunicorn',
      script: '/srv/venv/bin/gunicorn',
      args: '-w 4 -b "127.0.0.1:8000" myapp:app --timeout=120',
      interpreter: 'none',
      error_file: '/var/log/app.err',
      out_file: 'NULL',
      merge_logs: true,
      kill_timeout: 5000,
    },
    {
      name: 'celery',
      script: 'worker.py',
      interpreter: '/srv/venv/bin/python3',
      node_args: '-u',
      exp_backoff_restart_delay: 100,
    },
  ],
};
