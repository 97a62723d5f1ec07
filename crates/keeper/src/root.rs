//! What the keeper itself must know after its own death: in a memory called `root`. Pure: values and bytes.
//!
//! `key=value` with a zero byte behind each: paths and texts have none. Unknown keys are passed over and missing ones have a
//! default, so an older program can read a newer one's.

use std::ffi::{OsStr, OsString};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use crate::policy::Record;

/// Name of the memory.
pub(crate) const NAME: &str = "root";

/// The keeper's state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Root {
    /// `$EVERUP_HOME`.
    pub(crate) home: PathBuf,
    /// What this program was started as: for the eyes of who looks at the list of processes.
    pub(crate) program: OsString,
    /// The same of the program from before the upgrade.
    pub(crate) old_program: OsString,
    /// How many daemons were started.
    pub(crate) incarnation: u64,
    /// How many keepers there were: this one, and those that died or were replaced.
    pub(crate) keepers: u64,
    pub(crate) record: Record,
    /// How the last daemon, or keeper, ended.
    pub(crate) previous: Option<String>,
    /// Why the last upgrade was taken back.
    pub(crate) fell_back: Option<String>,
    /// The soft limit of descriptors that the first keeper was started with.
    pub(crate) soft_limit: Option<u64>,
    pub(crate) descriptors: Descriptors,
}

/// Numbers of the keeper's own descriptors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Descriptors {
    pub(crate) lock: Option<RawFd>,
    pub(crate) link: Option<RawFd>,
    /// The program that runs.
    pub(crate) executable: Option<RawFd>,
    /// The program from before the upgrade, until the new one has proved itself.
    pub(crate) old: Option<RawFd>,
    /// The keeper's own pidfd; new with each keeper.
    pub(crate) keeper: Option<RawFd>,
    /// Where signals are read from; new with each keeper.
    pub(crate) signals: Option<RawFd>,
    /// Whoever started the keeper reads from its other end.
    pub(crate) pipe: Option<RawFd>,
}

impl Descriptors {
    fn all(&self) -> [(&'static str, Option<RawFd>); 7] {
        [
            ("lock", self.lock),
            ("link", self.link),
            ("executable", self.executable),
            ("old", self.old),
            ("keeper", self.keeper),
            ("signals", self.signals),
            ("pipe", self.pipe),
        ]
    }

    fn named(&mut self, name: &str) -> Option<&mut Option<RawFd>> {
        Some(match name {
            "lock" => &mut self.lock,
            "link" => &mut self.link,
            "executable" => &mut self.executable,
            "old" => &mut self.old,
            "keeper" => &mut self.keeper,
            "signals" => &mut self.signals,
            "pipe" => &mut self.pipe,
            _ => return None,
        })
    }

    /// Those that are open.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = RawFd> {
        self.all().into_iter().filter_map(|(_, fd)| fd)
    }
}

impl Root {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(512);
        let mut put = |key: &str, value: &OsStr| {
            bytes.extend_from_slice(key.as_bytes());
            bytes.push(b'=');
            bytes.extend_from_slice(value.as_bytes());
            bytes.push(0);
        };
        put("home", self.home.as_os_str());
        put("program", &self.program);
        put("old_program", &self.old_program);
        let Record {
            ever_ready,
            trial,
            quick,
            unready,
        } = self.record;
        for (key, number) in [
            ("incarnation", self.incarnation),
            ("keepers", self.keepers),
            ("ever_ready", u64::from(ever_ready)),
            ("trial", u64::from(trial)),
            ("quick", u64::from(quick)),
            ("unready", u64::from(unready)),
        ] {
            put(key, number.to_string().as_ref());
        }
        for (key, text) in [("previous", &self.previous), ("fell_back", &self.fell_back)] {
            if let Some(text) = text {
                put(key, text.replace('\0', "").as_ref());
            }
        }
        if let Some(limit) = self.soft_limit {
            put("soft_limit", limit.to_string().as_ref());
        }
        for (name, fd) in self.descriptors.all() {
            if let Some(fd) = fd {
                put(name, fd.to_string().as_ref());
            }
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let mut root = Self::default();
        for field in bytes.split(|byte| *byte == 0) {
            let Some(at) = field.iter().position(|byte| *byte == b'=') else {
                continue;
            };
            let (key, value) = (&field[..at], OsStr::from_bytes(&field[at + 1..]));
            if let Ok(key) = str::from_utf8(key) {
                root.set(key, value);
            }
        }
        root
    }

    fn set(&mut self, key: &str, value: &OsStr) {
        let text = || value.to_string_lossy().into_owned();
        let number = || text().parse().unwrap_or(0_u64);
        let small = || text().parse().unwrap_or(0_u32);
        match key {
            "home" => self.home = value.into(),
            "program" => self.program = value.into(),
            "old_program" => self.old_program = value.into(),
            "incarnation" => self.incarnation = number(),
            "keepers" => self.keepers = number(),
            "ever_ready" => self.record.ever_ready = number() != 0,
            "trial" => self.record.trial = number() != 0,
            "quick" => self.record.quick = small(),
            "unready" => self.record.unready = small(),
            "previous" => self.previous = Some(text()),
            "fell_back" => self.fell_back = Some(text()),
            "soft_limit" => self.soft_limit = text().parse().ok(),
            name => {
                if let Some(fd) = self.descriptors.named(name) {
                    *fd = text().parse().ok().filter(|fd| *fd > 2);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let root = Root {
            home: "/home/a b/ü=\n".into(),
            program: "/usr/bin/everup".into(),
            old_program: "/old/everup".into(),
            incarnation: 7,
            keepers: 2,
            record: Record {
                ever_ready: true,
                trial: true,
                quick: 3,
                unready: 1,
            },
            previous: Some("signal 9".to_owned()),
            fell_back: None,
            soft_limit: Some(256),
            descriptors: Descriptors {
                lock: Some(3),
                pipe: Some(99),
                old: Some(5),
                ..Descriptors::default()
            },
        };
        assert_eq!(Root::decode(&root.encode()), root);
        assert_eq!(root.descriptors.numbers().collect::<Vec<_>>(), [3, 5, 99]);
    }

    #[test]
    fn what_another_version_wrote_does_no_harm() {
        let root = Root::decode(b"home=/x\0later=1\0garbage\0lock=0\0link=x\0\xff=1\0quick=-1\0");
        assert_eq!(
            root,
            Root {
                home: "/x".into(),
                ..Root::default()
            }
        );
    }
}
