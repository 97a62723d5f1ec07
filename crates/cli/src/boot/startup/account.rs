//! A user of this machine, by name.

use super::super::told::Told;
use crate::exit::Exit;
use std::path::PathBuf;
use std::process::Command;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) home: PathBuf,
}

impl Account {
    /// This one, or the one that we run as.
    pub(crate) fn find(name: Option<&str>) -> Result<Self, Told> {
        let uid = rustix::process::geteuid().as_raw().to_string();
        let key = name.unwrap_or(&uid);
        let from_system = Command::new("getent").args(["passwd", "--", key]).output();
        let told = from_system.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let file = || std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        told.ok()
            .and_then(|text| parse(&text, key))
            .or_else(|| parse(&file(), key))
            .or_else(|| name.is_none().then(|| by_environment(&uid)).flatten())
            .ok_or_else(|| {
                Told::new(Exit::Input, format!("there is no user `{key}` here"))
                    .hint("name one of this machine's users with -u")
            })
    }
}

/// A uid without an entry, as in containers.
fn by_environment(uid: &str) -> Option<Account> {
    Some(Account {
        name: uid.to_owned(),
        home: std::env::var_os("HOME")?.into(),
    })
}

/// The line of a name or uid.
fn parse(passwd: &str, key: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, _, _, home, ..] = fields[..] else {
            return None;
        };
        (name == key || uid == key).then(|| Account {
            name: name.to_owned(),
            home: home.into(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_users() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\n# x\nalice:x:1000:1000::/home/alice:/bin/sh\n";
        let alice = Account {
            name: "alice".into(),
            home: "/home/alice".into(),
        };
        assert_eq!(parse(passwd, "alice"), Some(alice.clone()));
        assert_eq!(parse(passwd, "1000"), Some(alice));
        assert_eq!(parse(passwd, "bob"), None);
    }
}
