module.exports = {
  static: [{ name: 'public', path: './public', port: 8081, spa: true }, { path: '/srv/x', port: 8082 }],
  apps: [{ name: 'api', script: 'api.js' }],
};
