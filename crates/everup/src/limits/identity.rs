//! As whom a worker runs: looked up once, before anything is started, in the system's user database.
//!
//! Everything that the user's login would bring is taken: its group, all its further groups, its home and shell.

use crate::sys::users;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

/// A user and its groups.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Identity {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// All groups, the group included.
    pub groups: Vec<u32>,
    /// What a login as this user sets; `None` where only a group was asked for.
    pub login: Option<Login>,
}

/// The variables of a login.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Login {
    /// `USER` and `LOGNAME`; `None` for a number that nobody has.
    pub name: Option<OsString>,
    /// `HOME`.
    pub home: PathBuf,
    /// `SHELL`.
    pub shell: PathBuf,
}

/// Why there is no such identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// Nobody has this name.
    #[error("no such user")]
    NoUser,
    /// No group has this name.
    #[error("no such group")]
    NoGroup,
    /// The number is not in the database, so its group cannot be known.
    #[error("this user is not in the user database, so its group is not known")]
    NoPrimaryGroup,
    /// The one number that means "leave it as it is" to the kernel.
    #[error("this number cannot be a user or a group")]
    Reserved,
    /// The database could not be read.
    #[error("could not look it up")]
    Database(#[source] io::Error),
}

impl Identity {
    /// Looks up a user, by name or number. Its group is the one of the database.
    ///
    /// # Errors
    /// When there is no such user, or a number without an entry that would tell its group.
    pub fn of_user(user: &str) -> Result<Self, IdentityError> {
        let (uid, entry) = find_user(user)?;
        let entry = entry.ok_or(IdentityError::NoPrimaryGroup)?;
        let gid = entry.gid;
        Self::new(uid, gid, Some(entry), true)
    }

    /// Looks up a user and a group, by names or numbers.
    ///
    /// # Errors
    /// When there is no user or group of that name.
    pub fn of_user_and_group(user: &str, group: &str) -> Result<Self, IdentityError> {
        let (uid, entry) = find_user(user)?;
        Self::new(uid, find_group(group)?, entry, true)
    }

    /// Our own user with another group, by name or number.
    ///
    /// # Errors
    /// When there is no group of that name.
    pub fn of_group(group: &str) -> Result<Self, IdentityError> {
        let uid = rustix::process::geteuid().as_raw();
        let entry = users::by_id(uid).map_err(IdentityError::Database)?;
        Self::new(uid, find_group(group)?, entry, false)
    }

    fn new(uid: u32, gid: u32, entry: Option<users::User>, login: bool) -> Result<Self, IdentityError> {
        let groups = match &entry {
            Some(entry) => users::groups(&entry.name, gid).map_err(IdentityError::Database)?,
            None => vec![gid],
        };
        let login = login.then(|| Login::of(entry));
        Ok(Self {
            uid,
            gid,
            groups,
            login,
        })
    }

    /// What the worker's environment is to have, or (`None`) is not to have.
    pub(crate) fn variables(&self) -> Vec<(&'static str, Option<OsString>)> {
        let Some(login) = &self.login else {
            return Vec::new();
        };
        vec![
            ("HOME", Some(login.home.clone().into())),
            ("SHELL", Some(login.shell.clone().into())),
            ("USER", login.name.clone()),
            ("LOGNAME", login.name.clone()),
        ]
    }

    /// For errors: `user 65534 (nobody)`.
    pub(crate) fn shown(&self) -> String {
        let name = self.login.as_ref().and_then(|login| login.name.as_ref());
        name.map_or_else(
            || format!("user {}", self.uid),
            |name| format!("user {} ({})", self.uid, name.display()),
        )
    }
}

impl Login {
    /// Empty fields mean what they mean to `login`.
    fn of(entry: Option<users::User>) -> Self {
        let or = |path: PathBuf, default: &str| {
            if path.as_os_str().is_empty() {
                default.into()
            } else {
                path
            }
        };
        match entry {
            Some(entry) => Self {
                home: or(entry.home, "/"),
                shell: or(entry.shell, "/bin/sh"),
                name: Some(entry.name),
            },
            None => Self {
                name: None,
                home: "/".into(),
                shell: "/bin/sh".into(),
            },
        }
    }
}

/// A name wins over a number, as in `chown`.
fn find_user(text: &str) -> Result<(u32, Option<users::User>), IdentityError> {
    if let Some(user) = users::by_name(text).map_err(IdentityError::Database)? {
        return Ok((user.uid, Some(user)));
    }
    let uid = number(text, IdentityError::NoUser)?;
    Ok((uid, users::by_id(uid).map_err(IdentityError::Database)?))
}

fn find_group(text: &str) -> Result<u32, IdentityError> {
    match users::group_by_name(text).map_err(IdentityError::Database)? {
        Some(gid) => Ok(gid),
        None => number(text, IdentityError::NoGroup),
    }
}

fn number(text: &str, otherwise: IdentityError) -> Result<u32, IdentityError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(otherwise);
    }
    match text.parse() {
        Ok(u32::MAX) | Err(_) => Err(IdentityError::Reserved),
        Ok(number) => Ok(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_everywhere() {
        let root = Identity::of_user("root").unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert!(root.groups.contains(&0));
        let login = root.login.clone().unwrap();
        assert_eq!(login.name.as_deref(), Some(std::ffi::OsStr::new("root")));
        assert_eq!(Identity::of_user("0").unwrap(), root);
        assert_eq!(root.shown(), "user 0 (root)");
    }

    #[test]
    fn a_number_that_nobody_has() {
        let lone = Identity::of_user_and_group("4000123", "4000124").unwrap();
        assert_eq!(
            (lone.uid, lone.gid, lone.groups.as_slice()),
            (4_000_123, 4_000_124, &[4_000_124][..])
        );
        let variables = lone.variables();
        assert!(variables.contains(&("HOME", Some("/".into()))));
        assert!(
            variables.contains(&("USER", None)),
            "nobody else's name may stay there"
        );
        assert!(matches!(
            Identity::of_user("4000123"),
            Err(IdentityError::NoPrimaryGroup)
        ));
    }

    #[test]
    fn what_is_nobody() {
        for text in ["", "no such user", "-1", "1x", "a\0b"] {
            assert!(
                matches!(Identity::of_user(text), Err(IdentityError::NoUser)),
                "{text}"
            );
        }
        assert!(matches!(
            Identity::of_group("no-such-group"),
            Err(IdentityError::NoGroup)
        ));
        for text in ["4294967295", "99999999999"] {
            assert!(
                matches!(Identity::of_user(text), Err(IdentityError::Reserved)),
                "{text}"
            );
        }
    }
}
