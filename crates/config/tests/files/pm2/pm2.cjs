// What pm2 itself makes of the files in this folder: writes expected.json. Run it when a file is new:
//   node crates/config/tests/files/pm2/pm2.cjs PATH/TO/node_modules/pm2
'use strict';
const fs = require('fs');
const path = require('path');

const pm2 = path.resolve(process.argv[2]);
process.chdir(__dirname);
process.env.PM2_HOME = fs.mkdtempSync('/tmp/pm2-');
for (const name of ['NODE_ENV']) delete process.env[name];
const log = console.log;
console.log = () => {};
const Common = require(path.join(pm2, 'lib/Common.js'));

const read = (file, env) => {
  const config = Common.parseConfig(fs.readFileSync(file), file);
  const list = config.apps || config.pm2 || (config.static ? [] : config);
  const apps = Common.verifyConfs(JSON.parse(JSON.stringify([].concat(list))));
  if (apps instanceof Error) throw apps;
  return apps.map((app) => {
    if (app.append_env_to_name && env) app.name += '-' + env;
    if (app.port && app.env) app.env.PORT = app.port;
    const merged = Common.mergeEnvironmentVariables(app, env, config.deploy).current_conf;
    if (app.exec_mode) merged.exec_mode = app.exec_mode;
    for (const key of Object.keys(merged)) if (key.startsWith('env_')) delete merged[key];
    return merged;
  });
};

const expected = {};
const files = fs.readdirSync('.').filter((name) => /\.(js|json|yml)$|\.config\.cjs$/.test(name) && name !== 'expected.json');
for (const file of files.sort()) {
  for (const env of [undefined, 'production']) expected[env ? `${file}@${env}` : file] = read(file, env);
}
fs.writeFileSync('expected.json', JSON.stringify(expected, null, 1) + '\n');
log(`${Object.keys(expected).length} readings`);
