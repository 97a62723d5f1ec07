//! Everything that can end `everup` with a message: what it says, what to do next, which exit code it has.

use crate::control::ControlError;
use crate::duration::{DurationError, show};
use crate::env_file::EnvFileError;
use crate::exit::Exit;
use crate::instances::InstancesError;
use crate::limits::LimitError;
use crate::listen::ListenError;
use crate::pid_file::PidFileError;
use crate::plan::health::HealthError;
use crate::port_owner::{self, Owner};
use crate::resolve::ResolveError;
use crate::size::SizeError;
use crate::triggers::cron::{CronError, ZoneError};
use crate::triggers::watch::{GlobError, WatchError};
use crate::words::WordsError;
use everup::ExitStatus;
use everup::limits::LimitsError;
use everup_api::AmountError;
use std::fmt::Write;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What ended `everup`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error("invalid value `{value}` for {option}")]
    Value {
        option: &'static str,
        value: String,
        source: ValueError,
    },
    #[error("--shutdown-with-message needs a Node app, and {program} is none")]
    NeedsChannel { program: String },
    #[error(
        "--spare needs workers to which everup hands connections: a Node app, and not --policy shared or reuseport"
    )]
    SpareNeedsHandOver,
    #[error("--ready {sign} needs Node's channel, and {program} has none")]
    NeverReady { sign: &'static str, program: String },
    #[error("{option} cannot reach one worker of {program} and no other: it shares no socket with everup")]
    Unreachable { option: &'static str, program: String },
    #[error("could not find out the current directory")]
    Here { source: io::Error },
    #[error("could not use {} as the working directory", path.display())]
    Cwd { path: PathBuf, source: io::Error },
    #[error(transparent)]
    EnvFile(#[from] EnvFileError),
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error(transparent)]
    Watch(#[from] WatchError),
    #[error("could not listen on {address}")]
    Bind {
        address: String,
        owner: Option<Owner>,
        source: io::Error,
    },
    #[error("could not start workers with these limits")]
    Limits { source: LimitsError },
    #[error("could not {what}")]
    System { what: String, source: io::Error },
    #[error("{app} failed: {}", ending(end))]
    Failed {
        app: String,
        end: End,
        bind: Option<BindFailure>,
    },
    #[error("{app} is done, but {failures} of its workers failed; the last one ended with {status}")]
    Done {
        app: String,
        failures: u32,
        status: ExitStatus,
    },
    #[error("the cluster ended without saying how")]
    NoOutcome,
}

/// What is wrong with the value of an option.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ValueError {
    #[error(transparent)]
    Instances(#[from] InstancesError),
    #[error(transparent)]
    Duration(#[from] DurationError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Limit(#[from] LimitError),
    #[error(transparent)]
    Words(#[from] WordsError),
    #[error(transparent)]
    Cron(#[from] CronError),
    #[error(transparent)]
    Zone(#[from] ZoneError),
    #[error(transparent)]
    Glob(#[from] GlobError),
    #[error(transparent)]
    Health(#[from] HealthError),
    #[error("not a signal")]
    Signal,
    #[error(transparent)]
    Amount(#[from] AmountError),
    #[error(transparent)]
    Size(#[from] SizeError),
    #[error("not a whole number above 0")]
    Positive,
    #[error("not a whole number up to {most}")]
    Count { most: u32 },
    #[error("not an exit code: they go from 0 to 255")]
    ExitCode,
    #[error("not a percentage up to 100")]
    Percent,
    #[error("no `=` in it")]
    EnvWithoutEquals { value: String },
    #[error("not the name of a variable")]
    VariableName,
    #[error("everup sets this variable itself")]
    OurVariable,
    #[error("it is empty")]
    EmptyInterpreter,
    #[error("a name has visible characters only, at least one")]
    Name,
}

/// How the last worker of a failed app ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    Status(Option<ExitStatus>),
    /// It was killed: it did not listen within this limit.
    Deaf(Duration),
    /// It could not even be started, for this reason.
    NotStarted(String),
}

/// An address that the app could not get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BindFailure {
    pub(crate) address: String,
    pub(crate) errno: i32,
    pub(crate) owner: Option<Owner>,
}

impl BindFailure {
    pub(crate) fn reason(&self) -> String {
        reason(&io::Error::from_raw_os_error(self.errno))
    }

    /// Who or what is in the way, if known.
    pub(crate) fn hint(&self) -> Option<String> {
        let error = io::Error::from_raw_os_error(self.errno);
        bind_hint(&self.address, self.owner.as_ref(), &error)
    }

    /// For the end: the address too, where the hint does not name it.
    pub(crate) fn last_hint(&self) -> String {
        match (&self.owner, self.hint()) {
            (Some(_), Some(hint)) => hint,
            (_, hint) => {
                let line = format!("it could not listen on {}: {}", self.address, self.reason());
                hint.map_or_else(|| line.clone(), |hint| format!("{line}; {hint}"))
            }
        }
    }
}

fn held_by(address: &str, owner: &Owner) -> String {
    let what = port_owner::port_of(address).map_or_else(|| address.to_owned(), |port| format!("port {port}"));
    format!("{what} is held by process {}: {}", owner.pid, owner.command)
}

fn ending(end: &End) -> String {
    match end {
        End::Status(None) => "its workers kept dying".into(),
        End::Status(Some(status)) => format!("its workers kept dying; the last one ended with {status}"),
        End::Deaf(limit) => format!("its workers did not listen within {}", show(*limit)),
        End::NotStarted(why) => format!("its workers could not be started: {why}"),
    }
}

impl CliError {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Value { .. } | Self::NeedsChannel { .. } | Self::SpareNeedsHandOver => Exit::Usage,
            Self::Limits {
                source: LimitsError::OutOfReach { .. },
            } => Exit::Input,
            Self::Limits { .. } => Exit::Usage,
            Self::NeverReady { .. } | Self::Unreachable { .. } => Exit::Usage,
            Self::Here { .. } | Self::Cwd { .. } | Self::EnvFile(_) => Exit::Input,
            Self::Resolve(error) => error.exit(),
            Self::PidFile(PidFileError::Held { .. }) => Exit::PidFile,
            Self::PidFile(_) | Self::Watch(_) => Exit::Input,
            Self::Control(error) => error.exit(),
            Self::Bind { .. } => Exit::Bind,
            Self::Failed { .. } | Self::Done { .. } => Exit::Failed,
            Self::System { .. } | Self::NoOutcome => Exit::Unexpected,
        }
    }

    /// What to do next.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Value { source, .. } => source.hint(),
            Self::NeedsChannel { .. } => Some("use --kill-signal".into()),
            Self::SpareNeedsHandOver => {
                Some("a worker that accepts by itself cannot stand by: start one more with -i".into())
            }
            Self::NeverReady { .. } => Some("use --ready notify or --ready uptime=TIME".into()),
            Self::Unreachable { .. } => Some(
                "pass it one with --listen, or use --ready notify, --health exec=\"COMMAND\", --watchdog"
                    .into(),
            ),
            Self::Here { source } if source.kind() == io::ErrorKind::NotFound => {
                Some("it has been deleted: go to another one, or give --cwd with an absolute path".into())
            }
            Self::EnvFile(error) => error.hint().map(Into::into),
            Self::Resolve(error) => error.hint(),
            Self::PidFile(error) => error.hint(),
            Self::Control(error) => error.hint(),
            Self::Watch(error) => error.hint(),
            Self::Limits { source } => source.hint(),
            Self::Bind {
                address,
                owner,
                source,
            } => bind_hint(address, owner.as_ref(), source),
            Self::Failed { bind: Some(bind), .. } => Some(bind.last_hint()),
            Self::Failed {
                end: End::Status(Some(ExitStatus::Code(0))),
                ..
            } => Some(
                "they ended by themselves, without an error: an app that is run must keep running".into(),
            ),
            Self::Failed {
                end: End::Deaf(_), ..
            } => Some("give them longer with --listen-timeout, or read above what they wrote".into()),
            Self::Failed {
                end: End::NotStarted(_),
                ..
            } => None,
            Self::Done { .. } => {
                Some("their last lines are above; by --restart they are not started again".into())
            }
            Self::Failed { .. } => Some("what the workers wrote before they died is above".into()),
            Self::Here { .. } | Self::Cwd { .. } | Self::System { .. } | Self::NoOutcome => None,
        }
    }

    /// The message with all its causes, in one line.
    pub(crate) fn message(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let words = error.downcast_ref().map_or_else(|| error.to_string(), reason);
            // Writing to a string cannot fail.
            write!(text, ": {words}").ok();
            cause = error.source();
        }
        text
    }
}

impl ValueError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Instances(error) => error.hint().into(),
            Self::Duration(_) => DurationError::HINT.into(),
            Self::Listen(error) => error.hint(),
            Self::Limit(error) => return error.hint(),
            Self::Words(_) => WordsError::HINT.into(),
            Self::Amount(_) => AmountError::HINT.into(),
            Self::Cron(_) => CronError::HINT.into(),
            Self::Zone(error) => error.hint().into(),
            Self::Glob(_) => GlobError::HINT.into(),
            Self::Health(error) => error.hint(),
            Self::Signal => "write a name or a number: TERM, SIGINT, 10".into(),
            Self::EnvWithoutEquals { value } if value == "production" || value == "development" => {
                format!("write --env NODE_ENV={value}")
            }
            Self::EnvWithoutEquals { .. } => "write --env NAME=value".into(),
            Self::VariableName => "a name has letters, digits and `_`, and no digit first".into(),
            Self::OurVariable => "choose another name, such as NODE_APP_INSTANCE".into(),
            Self::EmptyInterpreter => "give a path, the name of a program in PATH, or `none`".into(),
            Self::Size(_) => SizeError::HINT.into(),
            Self::Percent => "write a number of workers, or a share of them: 1, 50%".into(),
            Self::Name | Self::Positive | Self::Count { .. } | Self::ExitCode => return None,
        })
    }
}

fn bind_hint(address: &str, owner: Option<&Owner>, error: &io::Error) -> Option<String> {
    match (owner, error.kind()) {
        (Some(owner), _) => Some(held_by(address, owner)),
        (None, io::ErrorKind::PermissionDenied)
            if port_owner::port_of(address).is_some_and(|port| port < 1024) =>
        {
            Some("ports below 1024 need root or CAP_NET_BIND_SERVICE".into())
        }
        (None, io::ErrorKind::AddrInUse) => unix_hint(Path::new(address.strip_prefix("unix:")?)),
        _ => None,
    }
}

/// The file of a dead server would have been replaced.
fn unix_hint(path: &Path) -> Option<String> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    Some(if metadata.file_type().is_socket() {
        "a server listens there: stop it first, or name another path".into()
    } else {
        format!("{} is there and is no socket: name another path", path.display())
    })
}

/// An error of the system, in lower case and without its number.
pub(crate) fn reason(error: &io::Error) -> String {
    plain(&error.to_string())
}

/// The text of such an error in the same way.
pub(crate) fn plain(text: &str) -> String {
    let text = text.split(" (os error").next().unwrap_or(text);
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_ascii_lowercase());
    first.into_iter().chain(chars).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once() {
        let error = CliError::Value {
            option: "--listen",
            value: "x:1".into(),
            source: ListenError::Host {
                host: "x".into(),
                source: io::Error::from_raw_os_error(2),
            }
            .into(),
        };
        assert_eq!(
            error.message(),
            "invalid value `x:1` for --listen: host `x` is not known: no such file or directory"
        );
        assert_eq!(error.exit(), Exit::Usage);
    }

    #[test]
    fn a_taken_port_names_its_holder() {
        let owner = Some(Owner {
            pid: 7,
            command: "nginx -g x".into(),
        });
        let source = io::Error::from_raw_os_error(98);
        let error = CliError::Bind {
            address: "tcp://0.0.0.0:80".into(),
            owner: owner.clone(),
            source,
        };
        assert_eq!(
            error.message(),
            "could not listen on tcp://0.0.0.0:80: address already in use"
        );
        assert_eq!(error.hint().unwrap(), "port 80 is held by process 7: nginx -g x");

        let bind = Some(BindFailure {
            address: ":::3000".into(),
            errno: 98,
            owner,
        });
        let error = CliError::Failed {
            app: "web".into(),
            end: End::Status(Some(ExitStatus::Code(1))),
            bind,
        };
        assert_eq!(
            error.message(),
            "web failed: its workers kept dying; the last one ended with code 1"
        );
        assert_eq!(
            error.hint().unwrap(),
            "port 3000 is held by process 7: nginx -g x"
        );
        assert_eq!(error.exit(), Exit::Failed);
    }

    #[test]
    fn a_low_port_needs_rights() {
        let source = io::Error::from_raw_os_error(13);
        let error = CliError::Bind {
            address: "tcp://0.0.0.0:80".into(),
            owner: None,
            source,
        };
        assert_eq!(
            error.message(),
            "could not listen on tcp://0.0.0.0:80: permission denied"
        );
        assert_eq!(
            error.hint().unwrap(),
            "ports below 1024 need root or CAP_NET_BIND_SERVICE"
        );
    }

    fn failed(end: End, bind: Option<BindFailure>) -> (String, Option<String>) {
        let app = "web".into();
        let error = CliError::Failed { app, end, bind };
        (error.message(), error.hint())
    }

    #[test]
    fn a_failure_says_why() {
        assert_eq!(
            failed(End::Deaf(Duration::from_millis(300)), None),
            (
                "web failed: its workers did not listen within 300 ms".into(),
                Some("give them longer with --listen-timeout, or read above what they wrote".into())
            )
        );
        assert_eq!(
            failed(End::NotStarted("exec format error".into()), None),
            (
                "web failed: its workers could not be started: exec format error".into(),
                None
            )
        );
    }

    #[test]
    fn a_low_port_of_the_app_needs_rights() {
        let bind = BindFailure {
            address: "127.0.0.1:80".into(),
            errno: 13,
            owner: None,
        };
        let rights = "ports below 1024 need root or CAP_NET_BIND_SERVICE";
        assert_eq!(bind.hint().unwrap(), rights);
        assert_eq!(
            failed(End::Status(Some(ExitStatus::Code(1))), Some(bind))
                .1
                .unwrap(),
            format!("it could not listen on 127.0.0.1:80: permission denied; {rights}")
        );
    }

    #[test]
    fn a_taken_path() {
        let directory = tempfile::tempdir().unwrap();
        let hint = |name: &str| {
            let address = format!("unix:{}", directory.path().join(name).display());
            let source = io::Error::from_raw_os_error(98);
            let owner = None;
            CliError::Bind {
                address,
                owner,
                source,
            }
            .hint()
        };
        std::fs::write(directory.path().join("hello.js"), "").unwrap();
        assert_eq!(
            hint("hello.js").unwrap(),
            format!(
                "{}/hello.js is there and is no socket: name another path",
                directory.path().display()
            )
        );
        let _socket = std::os::unix::net::UnixListener::bind(directory.path().join("s")).unwrap();
        assert_eq!(
            hint("s").unwrap(),
            "a server listens there: stop it first, or name another path"
        );
    }
}
