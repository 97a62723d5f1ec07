//! What of the caller's environment an app inherits (docs/environment.md): all but what belongs to this terminal, this
//! session, or a protocol between processes.

use std::collections::BTreeMap;
use std::ffi::OsString;

/// Of the terminal, the session, the caller as a process, and of protocols that mean this very process.
const NAMES: [&str; 46] = [
    // Terminal.
    "TERM",
    "COLORTERM",
    "COLUMNS",
    "LINES",
    "TERMCAP",
    "WINDOWID",
    "STY",
    "WINDOW",
    "LS_COLORS",
    // Shell.
    "_",
    "SHLVL",
    "OLDPWD",
    // Session.
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "DBUS_SESSION_BUS_ADDRESS",
    "DESKTOP_SESSION",
    "SESSION_MANAGER",
    "GPG_TTY",
    "XDG_SESSION_ID",
    "XDG_SESSION_TYPE",
    "XDG_SESSION_CLASS",
    "XDG_SESSION_DESKTOP",
    "XDG_SEAT",
    "XDG_VTNR",
    "SUDO_COMMAND",
    // Protocols.
    "NODE_CHANNEL_FD",
    "NODE_CHANNEL_SERIALIZATION_MODE",
    "NODE_UNIQUE_ID",
    "NODE_APP_INSTANCE",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "MAINPID",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "SYSTEMD_EXEC_PID",
    "FDSTORE",
    "MANAGERPID",
    "MEMORY_PRESSURE_WATCH",
    "MEMORY_PRESSURE_WRITE",
    "EVERUP_CONTROL",
];
/// The same by how a name begins.
const PREFIXES: [&str; 6] = [
    "SSH_",
    "TERM_PROGRAM",
    "TMUX",
    "VSCODE_",
    "BASH_FUNC_",
    "EVERUP_WORKER",
];

/// What is inherited, and what cannot be.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Inherited {
    pub(crate) variables: BTreeMap<String, String>,
    /// Names of variables whose value is no text: they are not passed on.
    pub(crate) skipped: Vec<String>,
}

/// Chooses.
pub(crate) fn inherited(all: impl IntoIterator<Item = (OsString, OsString)>) -> Inherited {
    let mut chosen = Inherited::default();
    for (name, value) in all {
        let Some(name) = name.to_str().map(str::to_owned) else {
            chosen.skipped.push(name.to_string_lossy().into_owned());
            continue;
        };
        if !passes(&name) {
            continue;
        }
        match value.into_string() {
            Ok(value) => {
                chosen.variables.insert(name, value);
            }
            Err(_) => chosen.skipped.push(name),
        }
    }
    chosen.skipped.sort();
    chosen
}

fn passes(name: &str) -> bool {
    !NAMES.contains(&name) && !PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    #[test]
    fn what_is_passed_on() {
        let bad = OsString::from_vec(vec![0xff]);
        let all = [
            ("PATH", OsString::from("/bin")),
            ("HOME", "/root".into()),
            ("PWD", "/srv".into()),
            ("TERM", "xterm".into()),
            ("SSH_AUTH_SOCK", "/tmp/s".into()),
            ("TMUX_PANE", "1".into()),
            ("LISTEN_FDS", "1".into()),
            ("NODE_ENV", "production".into()),
            ("SECRET", "x".into()),
            ("LATIN", bad.clone()),
        ];
        let all = all.into_iter().map(|(name, value)| (OsString::from(name), value));
        let chosen = inherited(all.chain([(bad, "x".into())]));
        let names: Vec<&str> = chosen.variables.keys().map(String::as_str).collect();
        assert_eq!(names, ["HOME", "NODE_ENV", "PATH", "PWD", "SECRET"]);
        assert_eq!(chosen.skipped, ["LATIN", "\u{fffd}"]);
    }
}
