//! Who may do what: the owner and root everything, others what `access.json` says.

use everup_api::v1::Right;
use serde::Deserialize;
use std::io;
use std::path::Path;

/// Who is at the other end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) pid: u32,
    /// `None` is nothing.
    pub(crate) right: Option<Right>,
}

impl Caller {
    /// Whether the daemon is theirs, or the whole machine.
    pub(crate) fn owner(self) -> bool {
        owner(self.uid)
    }
}

fn owner(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

/// `access.json`.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Access {
    view: Those,
    operate: Those,
    own: Those,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Those {
    uids: Vec<u32>,
    gids: Vec<u32>,
}

impl Access {
    /// As the file says; without one nobody else may do anything.
    pub(crate) fn read(file: &Path) -> Result<Self, String> {
        match std::fs::read(file) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| error.to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The most that somebody may do.
    pub(crate) fn right(&self, uid: u32, gids: &[u32]) -> Option<Right> {
        if owner(uid) {
            return Some(Right::Own);
        }
        let rights = [
            (Right::Own, &self.own),
            (Right::Operate, &self.operate),
            (Right::View, &self.view),
        ];
        let mut rights = rights.into_iter();
        let meant =
            |those: &Those| those.uids.contains(&uid) || gids.iter().any(|gid| those.gids.contains(gid));
        rights.find(|(_, those)| meant(those)).map(|(right, _)| right)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_right_counts() {
        let text = br#"{"view": {"gids": [100]}, "operate": {"uids": [7], "gids": [200]}}"#;
        let access: Access = serde_json::from_slice(text).unwrap();
        assert_eq!(access.right(7, &[100]), Some(Right::Operate));
        assert_eq!(access.right(8, &[100]), Some(Right::View));
        assert_eq!(access.right(8, &[200]), Some(Right::Operate));
        assert_eq!(access.right(8, &[8]), None);
        assert_eq!(access.right(8, &[8, 200, 9]), Some(Right::Operate));
        assert_eq!(access.right(0, &[8]), Some(Right::Own));
        assert_eq!(
            access.right(rustix::process::geteuid().as_raw(), &[8]),
            Some(Right::Own)
        );
        assert_eq!(Access::read(Path::new("/nonexistent")), Ok(Access::default()));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("access.json");
        std::fs::write(&file, r#"{"veiw": {}}"#).unwrap();
        assert!(Access::read(&file).unwrap_err().contains("veiw"));
    }
}
