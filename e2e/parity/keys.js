'use strict';
// What Node's cluster module has, in the primary and in a worker, as one line of JSON.
const cluster = require('node:cluster');

const keys = (object) => Object.keys(object).filter((key) => !/^_/.test(key));
const here = {
  cluster: keys(cluster),
  worker: [...keys(cluster.Worker.prototype), ...(cluster.worker ? keys(cluster.worker) : [])],
};
if (cluster.isPrimary) {
  cluster.fork().on('message', (there) => {
    process.stdout.write(`${JSON.stringify({
      cluster: [...here.cluster, ...there.cluster], worker: [...here.worker, ...there.worker],
    })}\n`);
  });
} else {
  process.send(here, () => process.disconnect());
}
