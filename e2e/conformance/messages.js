'use strict';
const cluster = require('node:cluster');
const net = require('node:net');
const { cases, say, obey, greet } = require('./lib');

cases({
  // Each message comes back, with who heard it.
  echo() {
    const heard = [];
    cluster.worker.on('message', (message) => heard.push(message));
    process.on('message', (message) => setImmediate(() => {
      process.send({ say: 'echo', message, worker: heard.length });
    }));
    process.send('a plain string');
    process.send(42);
    process.send(null);
    process.send([1, { two: 'drei\u2028\n\u{1F600}' }]);
    process.send(true);
    cluster.worker.send({ say: 'up' });
  },
  // Nothing of this may trouble the primary.
  invalid() {
    process.on('message', (message) => say('got', { message }));
    process.send({ cmd: 'NODE_CLUSTER', ack: -1 });
    process.send({ cmd: 'NODE_CLUSTER', ack: 12345, accepted: true });
    process.send({ cmd: 'NODE_CLUSTER', act: 'noSuchAct', seq: 77 });
    process.send({ cmd: 'NODE_CLUSTER', act: 'close', key: 'no such key' });
    process.send({ cmd: 'NODE_CLUSTER' });
    process.send({ cmd: 'NODE_NO_SUCH_COMMAND' });
    process.send({ cmd: 'NODE_' });
    say('up');
  },
  advanced() {
    const circular = { do: 'back', big: 12345678901234567890n, when: new Date(0), map: new Map([[1, 2]]) };
    circular.self = circular;
    obey({
      echo: ({ message }) => say('echo', { message }),
      circular: () => { process.send(circular); say('after circular'); },
      back: (message) => say('circular came back', {
        same: message.self === message && message.big === circular.big && message.when instanceof Date
          && message.map.get(1) === 2,
      }),
      listen: () => net.createServer(greet).listen(0, '127.0.0.1'),
    });
    say('up', { text: 'drei \u{1F600}', numbers: [1, -1, 0.5, 2 ** 40], nothing: null, yes: true });
  },
});
