//! The pid files of workers: `pids/NAME-ID.pid`, as pm2 has them, or where the app wants them.

use everup_api::AppSpec;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Where an instance's is. A file that the app names is taken as it is while there is one instance; of several, each has
/// its id before the extension.
pub(crate) fn path(folder: &Path, spec: &AppSpec, id: u32, alone: bool) -> PathBuf {
    let Some(given) = &spec.pid_file else {
        let name: String = spec
            .name
            .chars()
            .map(|c| if c == '/' || c.is_control() { '-' } else { c })
            .collect();
        return folder.join(format!("{name}-{id}.pid"));
    };
    let given = spec.cwd.join(given);
    if alone {
        return given;
    }
    let stem = given
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let name = match given.extension() {
        Some(extension) => format!("{stem}-{id}.{}", extension.to_string_lossy()),
        None => format!("{stem}-{id}"),
    };
    given.with_file_name(name)
}

/// The worker has this pid.
pub(crate) fn write(path: &Path, pid: u32) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    fs::write(path, pid.to_string())
}

/// It has ended; another one may have written its own already.
pub(crate) fn remove(path: &Path, pid: u32) {
    if fs::read_to_string(path).is_ok_and(|text| text.trim() == pid.to_string()) {
        fs::remove_file(path).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let folder = Path::new("/h/pids");
        let mut spec = AppSpec {
            name: "a/b".into(),
            cwd: "/srv".into(),
            ..AppSpec::default()
        };
        assert_eq!(path(folder, &spec, 3, true), Path::new("/h/pids/a-b-3.pid"));
        spec.pid_file = Some("run/web.pid".into());
        assert_eq!(path(folder, &spec, 3, true), Path::new("/srv/run/web.pid"));
        assert_eq!(path(folder, &spec, 3, false), Path::new("/srv/run/web-3.pid"));
    }

    #[test]
    fn only_ones_own_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x/web-0.pid");
        write(&file, 12).unwrap();
        remove(&file, 13);
        assert_eq!(fs::read_to_string(&file).unwrap(), "12");
        remove(&file, 12);
        assert!(!file.exists());
    }
}
