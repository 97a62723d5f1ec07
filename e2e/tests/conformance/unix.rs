//! UNIX sockets.

use crate::listen::drop_right;
use crate::net::{connect_unix, greet_unix, http, parse, read_all};
use crate::support::{At, LIMIT, Mode, order_to};
use everup::{Address, Spec};
use rustix::thread::CapabilitySet;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;

fn spec(at: &At, case: &str, path: &Path) -> Spec {
    let mut spec = at.spec("unix.js", case);
    spec.env = vec![("SOCKET_PATH".into(), path.into())];
    spec
}

/// The path is in use elsewhere: the app is told.
pub(crate) fn eaccess(at: &At) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("taken");
    let _taken = UnixListener::bind(&path).expect("bind");
    let mut primary = at.start(spec(at, "path", &path));
    let worker = primary.fork();
    assert_eq!(primary.says(worker, "error")["code"], "EADDRINUSE");
    primary.end();
    assert!(path.exists(), "it is not ours to remove");
}

/// A directory in which the primary may not write: the app is told.
pub(crate) fn directory_not_writable(at: &At) {
    if at.reference() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o555)).expect("take the right");
    let outcome = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                drop_right(CapabilitySet::DAC_OVERRIDE);
                let mut primary = at.start(spec(at, "path", &directory.path().join("socket")));
                let worker = primary.fork();
                assert_eq!(primary.says(worker, "error")["code"], "EACCES");
                primary.end();
            })
            .join()
    });
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).expect("give it back");
    outcome.expect("the row, in a thread without the right");
}

/// HTTP over a path; there are no addresses on such a socket.
pub(crate) fn http_pipe(at: &At) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("http");
    let mut primary = at.start(spec(at, "http", &path));
    let worker = primary.fork();
    assert_eq!(
        primary.listening(worker),
        Address::Unix(path.to_str().expect("UTF-8").into())
    );
    let answer = http(connect_unix(&path));
    assert!(answer.contains("no addresses"), "{answer}");
    primary.end();
    assert!(!path.exists(), "the socket is removed");
}

/// `readableAll` and `writableAll` open the socket for everybody.
pub(crate) fn listen_pipe_readable_writable(at: &At) {
    if at.reference() && at.mode == Mode::Shared {
        // Node does so in the round-robin mode only.
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("all");
    let mut primary = at.start(spec(at, "all", &path));
    let worker = primary.fork();
    primary.listening(worker);
    let mode = std::fs::metadata(&path).expect("it exists").permissions().mode();
    // What libuv does about the other bits differs from version to version.
    assert_eq!(mode & 0o666, 0o666, "{mode:o}");
    assert_eq!(greet_unix(&path), worker);
    primary.end();
}

/// A relative path is the worker's; it works although its absolute form is too long for a socket address, from
/// a primary that is near. It is removed at the end.
pub(crate) fn net_listen_relative_path(at: &At) {
    if at.is_alone() {
        relative_path(at);
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    at.alone(Some(directory.path()));
}

fn relative_path(at: &At) {
    let name = "A".repeat(90);
    std::fs::create_dir("unix-socket-dir").expect("make a directory");
    let near = Path::new("unix-socket-dir").join(&name);
    let far = std::env::current_dir().expect("a directory").join(&near);
    assert!(far.as_os_str().len() > 108 && near.as_os_str().len() < 108);
    let mut spec = spec(at, "relative", Path::new(&name));
    spec.env.push(("DIRECTORY".into(), "unix-socket-dir".into()));
    let mut primary = at.start(spec);
    let worker = primary.fork();
    assert_eq!(primary.says(worker, "listening")["exists"], true);
    assert_eq!(
        primary.listening(worker),
        Address::Unix(far.to_str().expect("UTF-8").into())
    );
    assert_eq!(greet_unix(&near), worker);
    primary.tell(worker, &order_to("leave"));
    primary.exits(worker, 0, false);
    primary.end();
    assert!(!near.exists(), "the socket is removed");
}

/// A name in the abstract space: no row of Node's, but the issue's.
pub(crate) fn abstract_name(at: &At) {
    if at.reference() {
        // It works there, but Node's `listening` has the worker's directory in front of the name.
        return;
    }
    let name = format!(
        "everup-conformance-{}-{:?}-{}",
        std::process::id(),
        at.mode,
        at.version
    );
    let mut spec = at.spec("unix.js", "abstract");
    spec.env = vec![("NAME".into(), name.clone().into())];
    let mut primary = at.start(spec);
    let worker = primary.fork();
    assert_eq!(primary.listening(worker), Address::Unix(format!("\0{name}")));
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let stream = UnixStream::connect_addr(&address).expect("connect");
    stream.set_read_timeout(Some(LIMIT)).expect("set a limit");
    assert_eq!(parse(&read_all(stream)), worker);
    primary.end();
}
