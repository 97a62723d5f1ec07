//! A real Node worker answers a probe that came over its channel as a connection.

use super::{Bench, LONG, failed, get};
use crate::channel::{Channel, READ_BUFFER, Read};
use crate::probe::Way;
use crate::probe::pair::loopback_pair;
use crate::process::Process;
use crate::program;
use crate::sys::spawn::{Spawn, spawn};
use everup_core::health::Probed;
use everup_core::id::Token;
use everup_core::wire::{Event, Reply, Settings, Sockname};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

const KEY: &str = "the endpoint";

struct Node {
    process: Option<Process>,
    channel: Channel,
    /// What is being handed over.
    server: Option<OwnedFd>,
}

impl Node {
    /// In a file: a script of `-e` does not take part in the cluster.
    fn start(script: &Path) -> Self {
        let (channel, theirs) = Channel::pair(Settings::default()).unwrap();
        let path = std::env::var_os("PATH").unwrap();
        let env: Vec<(OsString, OsString)> = vec![
            ("PATH".into(), path),
            ("NODE_CHANNEL_FD".into(), "3".into()),
            ("NODE_CHANNEL_SERIALIZATION_MODE".into(), "json".into()),
            ("NODE_UNIQUE_ID".into(), "1".into()),
        ];
        let pid = spawn(&Spawn {
            program: &program::find(Path::new("node"), &env),
            args: &["node".into(), script.into()],
            env: &env,
            pid_variable: None,
            cwd: None,
            descriptors: &[(theirs.as_fd(), 3)],
            confinement: &crate::sys::confine::Confinement::default(),
            outlives: false,
        });
        Self {
            process: Some(Process::new(pid.unwrap(), "test.node".into()).unwrap()),
            channel,
            server: None,
        }
    }

    /// Talks until it says what is waited for. Its query is answered as if it had one of our endpoints.
    fn until(&mut self, wanted: impl Fn(&Event) -> bool) {
        let mut buffer = vec![0; READ_BUFFER];
        loop {
            let server = self.server.as_ref();
            self.channel
                .write(|Token(number)| (number == 1).then_some(server?.as_fd()), None);
            let mut news = [PollFd::from_borrowed_fd(self.channel.descriptor(), PollFlags::IN)];
            let limit = Timespec {
                tv_sec: 60,
                tv_nsec: 0,
            };
            assert_eq!(poll(&mut news, Some(&limit)), Ok(1), "it says nothing");
            let mut events = Vec::new();
            let read = self.channel.read(&mut buffer, &mut events, None);
            assert!(matches!(read, Read::Some), "{read:?}");
            for event in &events {
                if let Event::Query(query) = event {
                    let reply = Reply::HandOver {
                        key: KEY.into(),
                        data: None,
                        sockname: query.port.map(|port| Sockname {
                            address: "0.0.0.0".into(),
                            v6: false,
                            port,
                        }),
                    };
                    self.channel.session.reply(query.seq, reply);
                }
            }
            if events.iter().any(&wanted) {
                return;
            }
        }
    }

    fn probe(&mut self, bench: &mut Bench) -> Probed {
        let (client, server) = loopback_pair().unwrap();
        self.server = Some(server);
        self.channel.session.hand_over(Token(1), KEY);
        let id = bench.start(1, LONG, get(Way::Connected(client)));
        self.until(|event| matches!(event, Event::Answer { accepted: true, .. }));
        self.server = None;
        let answer = bench.answer();
        assert_eq!(answer.id, id);
        answer.found
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            process.discard();
        }
    }
}

const APP: &str = "
let n = 0;
require('http').createServer((request, response) => {
    if (request.url !== '/health?full=1' || request.headers.host !== 'app.test') process.abort();
    response.statusCode = n++ ? 500 : 200;
    response.end('hello');
})";

#[test]
fn a_node_worker_answers_whatever_it_listens_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = format!("'{}'", directory.path().join("app.sock").display());
    for address in ["0", path.as_str()] {
        let mut bench = Bench::new();
        let script = directory.path().join("app.js");
        std::fs::write(&script, format!("{APP}.listen({address})")).unwrap();
        let mut node = Node::start(&script);
        node.until(|event| matches!(event, Event::Listening(_)));
        assert_eq!(node.probe(&mut bench), Probed::Ok, "{address}");
        assert_eq!(node.probe(&mut bench), failed("status 500"), "{address}");
    }
}
