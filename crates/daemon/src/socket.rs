//! The API's socket: where it is, and whom the file system lets in. What they may do there is [`crate::http`]'s.
//!
//! Its owner alone (0600), unless somebody asked for more: `EVERUP_SOCKET_GROUP` lets a group in (0660), an `access.json`
//! everybody whom it names, so that all can come as far as being asked who they are (0666). If the socket is in the home,
//! they may pass through the home, and not look around there.

use crate::home::Home;
use everup_api::v1::SOCKET;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Who is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Owner,
    Group(u32),
    Everybody,
}

impl Door {
    /// Of the socket, and of the home around it.
    fn modes(self) -> (u32, u32) {
        match self {
            Self::Owner => (0o600, 0o700),
            Self::Group(_) => (0o660, 0o710),
            Self::Everybody => (0o666, 0o711),
        }
    }
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    #[error("a daemon answers there already")]
    Running,
    #[error("there is no group {0}")]
    NoGroup(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// `$EVERUP_SOCKET`, or `everup.sock` in the home.
pub(crate) fn path(home: &Home) -> PathBuf {
    let named = std::env::var_os("EVERUP_SOCKET").filter(|path| !path.is_empty());
    named.map_or_else(|| home.path().join(SOCKET), PathBuf::from)
}

/// Listens there.
pub(crate) fn listen(home: &Home) -> Result<UnixListener, SocketError> {
    let path = path(home);
    // The kernel does not take a long path.
    let (_folder, short) = everup_api::short_socket(&path)?;
    if UnixStream::connect(&short).is_ok() {
        return Err(SocketError::Running);
    }
    let group = std::env::var_os("EVERUP_SOCKET_GROUP").filter(|group| !group.is_empty());
    let door = door(group, home.access().exists())?;
    // Of a daemon that is gone.
    fs::remove_file(&path).ok();
    let listener = UnixListener::bind(&short)?;
    open(door, &path, home.path())?;
    Ok(listener)
}

/// Lets in whom it is to let in now: an `access.json` may have come or gone since. What cannot be changed stays.
pub(crate) fn follow(home: &Home) {
    let path = path(home);
    let group = std::env::var_os("EVERUP_SOCKET_GROUP").filter(|group| !group.is_empty());
    let mode = |path: &Path| Some(fs::metadata(path).ok()?.permissions().mode() & 0o777);
    if let Ok(door) = door(group, home.access().exists())
        && mode(&path).is_some_and(|mode| mode != door.modes().0)
    {
        open(door, &path, home.path()).ok();
    }
}

fn door(group: Option<OsString>, access: bool) -> Result<Door, SocketError> {
    match group {
        Some(group) => {
            let group = group.to_string_lossy().into_owned();
            let table = fs::read_to_string("/etc/group").unwrap_or_default();
            gid(&table, &group)
                .map(Door::Group)
                .ok_or(SocketError::NoGroup(group))
        }
        None if access => Ok(Door::Everybody),
        None => Ok(Door::Owner),
    }
}

/// By its name in the table of groups, or its number.
fn gid(table: &str, group: &str) -> Option<u32> {
    let named = table.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == group)
            .then(|| fields.nth(1)?.parse().ok())
            .flatten()
    });
    named.or_else(|| group.parse().ok())
}

fn open(door: Door, socket: &Path, home: &Path) -> io::Result<()> {
    let (of_socket, of_home) = door.modes();
    let inside = socket.parent() == Some(home) && door != Door::Owner;
    if let Door::Group(group) = door {
        chown(socket, None, Some(group))?;
        if inside {
            chown(home, None, Some(group))?;
        }
    }
    fs::set_permissions(socket, Permissions::from_mode(of_socket))?;
    if inside {
        fs::set_permissions(home, Permissions::from_mode(of_home))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn who_is_let_in() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path();
        fs::set_permissions(home, Permissions::from_mode(0o700)).unwrap();
        let socket = home.join("s");
        fs::write(&socket, "").unwrap();
        for (door, modes) in [(Door::Owner, (0o600, 0o700)), (Door::Everybody, (0o666, 0o711))] {
            open(door, &socket, home).unwrap();
            assert_eq!((mode(&socket), mode(home)), modes);
        }
        let own = rustix::process::getegid().as_raw();
        open(Door::Group(own), &socket, home).unwrap();
        assert_eq!((mode(&socket), mode(home)), (0o660, 0o710));
    }

    #[test]
    fn groups() {
        let table = "root:x:0:\nops:x:1200:a,b\n";
        assert_eq!(
            (gid(table, "ops"), gid(table, "77"), gid(table, "nobody")),
            (Some(1200), Some(77), None)
        );
        assert_eq!(door(None, true).unwrap(), Door::Everybody);
        assert!(matches!(
            door(Some("no such group".into()), false),
            Err(SocketError::NoGroup(_))
        ));
    }
}
