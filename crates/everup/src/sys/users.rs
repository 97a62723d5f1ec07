//! The system's user database, by way of the C library: files, LDAP, or whatever the system is set up for.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// An entry of the user database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) name: OsString,
    pub(crate) home: PathBuf,
    pub(crate) shell: PathBuf,
}

/// Room for the strings of an entry: as much as is needed, up to this.
const MOST_ROOM: usize = 1 << 24;
/// A user with more groups than the kernel allows (`NGROUPS_MAX`) does not exist.
const MOST_GROUPS: usize = 65_536;

/// The user of this name.
pub(crate) fn by_name(name: &str) -> io::Result<Option<User>> {
    let Ok(name) = CString::new(name) else {
        return Ok(None);
    };
    user(|entry, buffer, found| {
        // SAFETY: the pointers are valid for the call, and the length is the buffer's.
        unsafe { libc::getpwnam_r(name.as_ptr(), entry, buffer.as_mut_ptr(), buffer.len(), found) }
    })
}

/// The user with this number.
pub(crate) fn by_id(uid: u32) -> io::Result<Option<User>> {
    user(|entry, buffer, found| {
        // SAFETY: as above.
        unsafe { libc::getpwuid_r(uid, entry, buffer.as_mut_ptr(), buffer.len(), found) }
    })
}

/// The group of this name.
pub(crate) fn group_by_name(name: &str) -> io::Result<Option<u32>> {
    let Ok(name) = CString::new(name) else {
        return Ok(None);
    };
    with_room(|buffer| {
        // SAFETY: an entry of integers and pointers, which the call fills.
        let mut entry: libc::group = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        // SAFETY: the pointers are valid for the call, and the length is the buffer's.
        let code = unsafe {
            libc::getgrnam_r(
                name.as_ptr(),
                &raw mut entry,
                buffer.as_mut_ptr(),
                buffer.len(),
                &raw mut found,
            )
        };
        (code, (!found.is_null()).then_some(entry.gr_gid))
    })
}

/// All groups of a user, `gid` included.
pub(crate) fn groups(name: &OsStr, gid: u32) -> io::Result<Vec<u32>> {
    let name = CString::new(name.as_bytes()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut room = 64;
    loop {
        let mut groups = vec![0; room];
        let mut count = libc::c_int::try_from(room).unwrap_or(libc::c_int::MAX);
        // SAFETY: `groups` has room for `count` numbers.
        let code = unsafe { libc::getgrouplist(name.as_ptr(), gid, groups.as_mut_ptr(), &raw mut count) };
        let count = usize::try_from(count).unwrap_or_default();
        if code >= 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        if room >= MOST_GROUPS {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // glibc says how many there are; others do not.
        room = count.max(room * 2).min(MOST_GROUPS);
    }
}

type Entry = *mut libc::passwd;

fn user(
    mut ask: impl FnMut(Entry, &mut [libc::c_char], *mut Entry) -> libc::c_int,
) -> io::Result<Option<User>> {
    with_room(|buffer| {
        // SAFETY: an entry of integers and pointers, which the call fills.
        let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        let code = ask(&raw mut entry, buffer, &raw mut found);
        let user = (!found.is_null()).then(|| User {
            uid: entry.pw_uid,
            gid: entry.pw_gid,
            name: text(entry.pw_name),
            home: text(entry.pw_dir).into(),
            shell: text(entry.pw_shell).into(),
        });
        (code, user)
    })
}

/// Calls with more and more room until it is enough.
fn with_room<T>(
    mut ask: impl FnMut(&mut [libc::c_char]) -> (libc::c_int, Option<T>),
) -> io::Result<Option<T>> {
    let mut buffer = vec![0; 1024];
    loop {
        match ask(&mut buffer) {
            (0, found) => return Ok(found),
            (libc::ERANGE, _) if buffer.len() < MOST_ROOM => {
                let more = buffer.len() * 4;
                buffer.resize(more, 0);
            }
            (libc::EINTR, _) => {}
            // What `man 3 getpwnam` lists for "not found", besides 0.
            (libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM, _) => return Ok(None),
            (code, _) => return Err(io::Error::from_raw_os_error(code)),
        }
    }
}

/// A string of an entry, which lives in the buffer of the call.
fn text(pointer: *const libc::c_char) -> OsString {
    if pointer.is_null() {
        return OsString::new();
    }
    // SAFETY: the C library has put a NUL-terminated string there, and the buffer is still ours.
    let bytes = unsafe { CStr::from_ptr(pointer) }.to_bytes();
    OsString::from_vec(bytes.to_vec())
}
