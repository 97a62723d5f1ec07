//! Who asked for what: a line of JSON for each call that changes something, in `audit.log`; the file before it is
//! `audit.log.1`.

use everup_api::v1::AuditEntry;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// A file that is longer is put aside.
const LIMIT: u64 = 1 << 20;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Audit {
    path: PathBuf,
    file: Mutex<Option<(File, u64)>>,
}

impl Audit {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            file: Mutex::default(),
        }
    }

    /// Writes a line. One that cannot be written keeps nobody from anything.
    pub(crate) fn note(&self, entry: &AuditEntry) {
        let Ok(mut line) = serde_json::to_vec(entry) else {
            return;
        };
        line.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if self.write(&mut file, &line).is_err() {
            // Tried again with the next one.
            *file = None;
        }
    }

    fn write(&self, open: &mut Option<(File, u64)>, line: &[u8]) -> io::Result<()> {
        if open.as_ref().is_some_and(|(_, length)| *length > LIMIT) {
            *open = None;
            fs::rename(&self.path, old(&self.path))?;
        }
        if open.is_none() {
            let file = OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o600)
                .open(&self.path)?;
            let length = file.metadata()?.len();
            *open = Some((file, length));
        }
        if let Some((file, length)) = open {
            file.write_all(line)?;
            *length += u64::try_from(line.len()).unwrap_or_default();
        }
        Ok(())
    }

    /// The last entries, the newest first.
    pub(crate) fn last(&self, limit: usize) -> Vec<AuditEntry> {
        let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        let (before, now) = (read(&old(&self.path)), read(&self.path));
        let lines = now.lines().rev().chain(before.lines().rev());
        // A line that was cut off by a power cut is none.
        lines
            .filter_map(|line| serde_json::from_str(line).ok())
            .take(limit)
            .collect()
    }
}

fn old(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

/// What a request is about: its targets, or the names of its apps.
pub(crate) fn targets(body: &[u8]) -> Vec<String> {
    let Ok(body) = serde_json::from_slice::<serde_json::Value>(body) else {
        return Vec::new();
    };
    let texts = |key: &str| {
        body.get(key)
            .and_then(|value| value.as_array())
            .into_iter()
            .flatten()
    };
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let mut all: Vec<String> = texts("targets").filter_map(text).collect();
    all.extend(body.get("target").and_then(text));
    all.extend(texts("apps").filter_map(|app| text(app.get("name")?)));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(call: &str) -> AuditEntry {
        AuditEntry {
            at: "2026-08-05T12:34:56.789Z".into(),
            uid: 0,
            gid: 0,
            pid: 1,
            call: call.into(),
            targets: vec!["x".repeat(1000)],
            outcome: "ok".into(),
        }
    }

    #[test]
    fn two_files_at_most() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::new(folder.path().join("audit.log"));
        for number in 0..3000 {
            audit.note(&entry(&number.to_string()));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        let size = |name: &str| fs::metadata(folder.path().join(name)).unwrap().len();
        assert!(size("audit.log") < 2 * LIMIT && size("audit.log.1") < 2 * LIMIT);
        let last: Vec<String> = audit.last(900).into_iter().map(|entry| entry.call).collect();
        assert_eq!(
            (last.len(), last[0].as_str(), last[899].as_str()),
            (900, "2999", "2100")
        );
    }

    #[test]
    fn what_a_request_is_about() {
        assert_eq!(targets(br#"{"targets": ["a", "b"]}"#), ["a", "b"]);
        assert_eq!(targets(br#"{"target": "a"}"#), ["a"]);
        assert_eq!(
            targets(br#"{"apps": [{"name": "w", "env": {"S": "secret"}}]}"#),
            ["w"]
        );
        assert_eq!(targets(b"x"), Vec::<String>::new());
    }
}
