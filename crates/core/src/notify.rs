//! What a worker says by `sd_notify`: one datagram of `VARIABLE=value` lines, as systemd's services send them.
//!
//! Job: read a datagram. Owner: nobody, it is a function. Invariants: never a panic, whatever the bytes are; what is
//! returned has no control characters and no more than [`STATUS_LIMIT`] bytes of text, so it can be shown.
//! Must not know: who sent it (the driver has checked that), and what follows from it.
//!
//! As in systemd: of a variable that is there twice the first counts, variables that are not known here are no error,
//! and a line that cannot be read takes nothing from the others.

use std::time::Duration;

/// The longest datagram that is read.
pub const DATAGRAM_LIMIT: usize = 4096;
/// The most bytes that are kept of `STATUS=`.
pub const STATUS_LIMIT: usize = 512;

/// What one datagram says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Notification {
    /// `READY=1`: it can serve.
    pub ready: bool,
    /// `STATUS=`: what it does at the moment. Empty: nothing worth telling any more.
    pub status: Option<String>,
    /// `STOPPING=1`: it is about to end.
    pub stopping: bool,
    /// `RELOADING=1`: it reads its configuration again; `READY=1` follows.
    pub reloading: bool,
    /// `EXTEND_TIMEOUT_USEC=`: from now on it needs this long for what it is doing (starting, stopping).
    pub extend: Option<Duration>,
    /// `WATCHDOG=`.
    pub watchdog: Option<Watchdog>,
    /// `WATCHDOG_USEC=`: from now on it pings this often at least. Zero and `u64::MAX` microseconds: no longer at all.
    pub watchdog_usec: Option<Duration>,
    /// `MAINPID=`: seen, and of no consequence: a worker is the process that we have started.
    pub main_pid: Option<u32>,
    /// `BARRIER=1`: the sender waits until the descriptor that came along is closed.
    pub barrier: bool,
    /// `ERRNO=`: why it will fail.
    pub errno: Option<i32>,
    /// `FDSTORE=1`: it wants descriptors kept. They are not.
    pub fd_store: bool,
    /// The first line that could not be read, where others could.
    pub trouble: Option<NotifyError>,
}

/// `WATCHDOG=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watchdog {
    /// `1`: it is alive.
    Ping,
    /// `trigger`: it knows that it is not well.
    Trigger,
}

/// Why a datagram, or a line of it, says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotifyError {
    /// Nothing in it.
    #[error("it is empty")]
    Empty,
    /// Longer than [`DATAGRAM_LIMIT`].
    #[error("it has more than {DATAGRAM_LIMIT} bytes")]
    TooLong,
    /// Not text.
    #[error("it has a NUL byte")]
    Nul,
    /// Not an assignment.
    #[error("a line of it is no VARIABLE=value")]
    NoAssignment,
    /// A value that the variable cannot have.
    #[error("{0} has a value that cannot be read")]
    Value(&'static str),
}

/// Reads a datagram.
///
/// # Errors
/// When nothing in it can be read.
pub fn parse(datagram: &[u8]) -> Result<Notification, NotifyError> {
    if datagram.len() > DATAGRAM_LIMIT {
        return Err(NotifyError::TooLong);
    }
    // Some senders count the end of a C string in.
    let text = datagram.strip_suffix(b"\0").unwrap_or(datagram);
    if text.contains(&0) {
        return Err(NotifyError::Nul);
    }
    let mut read = Notification::default();
    let mut understood = false;
    for line in text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        match read.line(line) {
            Ok(()) => understood = true,
            Err(error) => {
                read.trouble.get_or_insert(error);
            }
        }
    }
    match read.trouble {
        _ if understood => Ok(read),
        Some(error) => Err(error),
        None => Err(NotifyError::Empty),
    }
}

impl Notification {
    fn line(&mut self, line: &[u8]) -> Result<(), NotifyError> {
        let at = line.iter().position(|&byte| byte == b'=');
        let (name, value) = match at {
            Some(at) if at > 0 => (&line[..at], &line[at + 1..]),
            Some(_) | None => return Err(NotifyError::NoAssignment),
        };
        match name {
            b"READY" => self.ready |= value == b"1",
            b"STOPPING" => self.stopping |= value == b"1",
            b"RELOADING" => self.reloading |= value == b"1",
            b"BARRIER" => self.barrier |= value == b"1",
            b"FDSTORE" => self.fd_store |= value == b"1",
            b"STATUS" => {
                self.status.get_or_insert_with(|| status(value));
            }
            b"WATCHDOG" => first(&mut self.watchdog, watchdog(value)?),
            b"EXTEND_TIMEOUT_USEC" => first(&mut self.extend, micros("EXTEND_TIMEOUT_USEC", value)?),
            b"WATCHDOG_USEC" => first(&mut self.watchdog_usec, micros("WATCHDOG_USEC", value)?),
            b"MAINPID" => first(&mut self.main_pid, number("MAINPID", value)?),
            b"ERRNO" => first(&mut self.errno, number("ERRNO", value)?),
            // systemd has more of them, and anybody may send X_ ones.
            _ => {}
        }
        Ok(())
    }
}

fn first<T>(known: &mut Option<T>, value: T) {
    known.get_or_insert(value);
}

fn watchdog(value: &[u8]) -> Result<Watchdog, NotifyError> {
    match value {
        b"1" => Ok(Watchdog::Ping),
        b"trigger" => Ok(Watchdog::Trigger),
        _ => Err(NotifyError::Value("WATCHDOG")),
    }
}

fn micros(name: &'static str, value: &[u8]) -> Result<Duration, NotifyError> {
    number(name, value).map(Duration::from_micros)
}

fn number<T: std::str::FromStr>(name: &'static str, value: &[u8]) -> Result<T, NotifyError> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| digits);
    text.and_then(|text| text.parse().ok())
        .ok_or(NotifyError::Value(name))
}

/// Without control characters, and then cut between two characters.
fn status(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    let mut kept = String::new();
    for c in text.trim().chars().filter(|c| !c.is_control()) {
        if kept.len() + c.len_utf8() > STATUS_LIMIT {
            break;
        }
        kept.push(c);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_variable() {
        let said = parse(
            b"READY=1\nSTATUS=serving 3 clients\nSTOPPING=1\nRELOADING=1\nEXTEND_TIMEOUT_USEC=1500000\n\
              WATCHDOG=1\nWATCHDOG_USEC=20000000\nMAINPID=12\nBARRIER=1\nERRNO=2\nFDSTORE=1\nFDNAME=x\nX_OWN=y\n",
        );
        let expected = Notification {
            ready: true,
            status: Some("serving 3 clients".into()),
            stopping: true,
            reloading: true,
            extend: Some(Duration::from_millis(1500)),
            watchdog: Some(Watchdog::Ping),
            watchdog_usec: Some(Duration::from_secs(20)),
            main_pid: Some(12),
            barrier: true,
            errno: Some(2),
            fd_store: true,
            trouble: None,
        };
        assert_eq!(said, Ok(expected));
    }

    #[test]
    fn small_print() {
        let said = |text: &str| parse(text.as_bytes()).unwrap();
        assert!(!said("READY=0").ready);
        assert!(said("READY=1\0").ready);
        assert!(said("\n\nREADY=1").ready);
        assert_eq!(said("WATCHDOG=trigger").watchdog, Some(Watchdog::Trigger));
        assert_eq!(said("STATUS=").status, Some(String::new()));
        assert_eq!(said("STATUS=a=b").status.unwrap(), "a=b");
        assert_eq!(said("STATUS=one\nSTATUS=two").status.unwrap(), "one");
        assert_eq!(said("STATUS=\u{1b}[31mred\t\u{7}!").status.unwrap(), "[31mred!");
        assert_eq!(said("UNKNOWN=1"), Notification::default());
    }

    #[test]
    fn a_bad_line_takes_nothing_from_the_others() {
        let said = parse(b"READY=1\nWATCHDOG_USEC=soon\nnonsense").unwrap();
        assert!(said.ready);
        assert_eq!(said.trouble, Some(NotifyError::Value("WATCHDOG_USEC")));
    }

    #[test]
    fn junk_is_refused_with_a_reason() {
        for (bytes, error) in [
            (&b""[..], NotifyError::Empty),
            (b"\n\n", NotifyError::Empty),
            (b"READY", NotifyError::NoAssignment),
            (b"=1", NotifyError::NoAssignment),
            (b"READY=1\0READY=1", NotifyError::Nul),
            (b"WATCHDOG=yes", NotifyError::Value("WATCHDOG")),
            (b"ERRNO=", NotifyError::Value("ERRNO")),
            (b"MAINPID=+1", NotifyError::Value("MAINPID")),
            (
                b"EXTEND_TIMEOUT_USEC=99999999999999999999",
                NotifyError::Value("EXTEND_TIMEOUT_USEC"),
            ),
            (&[b'x'; DATAGRAM_LIMIT + 1], NotifyError::TooLong),
        ] {
            assert_eq!(parse(bytes), Err(error), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_long_status_is_cut_between_characters() {
        let long = format!("STATUS=a{}", "ü".repeat(1000));
        let kept = parse(long.as_bytes()).unwrap().status.unwrap();
        assert_eq!(kept.len(), STATUS_LIMIT - 1);
        assert!(kept.ends_with('ü'));
    }

    fn line() -> impl Strategy<Value = Vec<u8>> {
        let names = prop::sample::select(vec![
            "READY",
            "STATUS",
            "STOPPING",
            "WATCHDOG",
            "WATCHDOG_USEC",
            "EXTEND_TIMEOUT_USEC",
            "MAINPID",
            "ERRNO",
            "BARRIER",
            "X",
            "",
        ]);
        let value = prop_oneof![
            Just(b"1".to_vec()),
            Just(b"trigger".to_vec()),
            any::<u64>().prop_map(|number| number.to_string().into_bytes()),
            prop::collection::vec(any::<u8>(), 0..700),
        ];
        (names, any::<bool>(), value).prop_map(|(name, equals, value)| {
            let sign: &[u8] = if equals { b"=" } else { b"" };
            [name.as_bytes(), sign, &value].concat()
        })
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..5000)) {
            parse(&bytes).ok();
        }

        #[test]
        fn any_lines_are_read_or_refused(lines in prop::collection::vec(line(), 0..8)) {
            let datagram = lines.join(&b'\n');
            if let Ok(said) = parse(&datagram) {
                let status = said.status.unwrap_or_default();
                prop_assert!(status.len() <= STATUS_LIMIT && !status.contains(char::is_control));
                if lines.iter().any(|line| line == b"READY=1") {
                    prop_assert!(said.ready);
                }
            }
        }
    }
}
