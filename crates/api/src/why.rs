//! Why workers ended, and what reloads came to.

use crate::Receipt;
use serde::{Deserialize, Serialize};

/// The last exits and reloads, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Why {
    /// The name of the app.
    pub app: String,
    /// One sentence.
    pub summary: String,
    /// Workers that ended.
    pub exits: Vec<Exit>,
    /// Receipts.
    pub reloads: Vec<Receipt>,
    /// How many of the oldest exits and receipts are left out, because the reply would be too long.
    #[serde(default)]
    pub omitted: u32,
}

impl Why {
    /// Leaves out the oldest until it fits into `limit` bytes as JSON.
    pub fn fit(&mut self, limit: usize) {
        // With a comma each, and room for the digits of `omitted`.
        let exits: Vec<usize> = self.exits.iter().map(|exit| size(exit) + 1).collect();
        let reloads: Vec<usize> = self.reloads.iter().map(|reload| size(reload) + 1).collect();
        let mut total = size(self) + 10;
        let (mut kept_exits, mut kept_reloads) = (exits.len(), reloads.len());
        while total > limit && kept_exits + kept_reloads > 0 {
            if kept_exits >= kept_reloads {
                kept_exits -= 1;
                total -= exits[kept_exits];
            } else {
                kept_reloads -= 1;
                total -= reloads[kept_reloads];
            }
            self.omitted += 1;
        }
        self.exits.truncate(kept_exits);
        self.reloads.truncate(kept_reloads);
    }
}

/// As JSON.
fn size<T: Serialize>(value: &T) -> usize {
    serde_json::to_vec(value).map_or(0, |json| json.len())
}

/// The end of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Exit {
    /// Its number.
    pub worker: u32,
    /// Its place.
    pub slot: u32,
    /// Its process.
    pub pid: u32,
    /// Its generation.
    pub generation: u64,
    /// When: RFC 3339, in UTC.
    pub at: String,
    /// From its start to its end.
    pub uptime_ms: u64,
    /// As the kernel tells it.
    pub status: ExitStatus,
    /// Why, as a word: that of the event `exit`.
    pub reason: String,
    /// Why, as a sentence.
    pub cause: String,
    /// Whether the kernel killed it for want of memory.
    pub oom: bool,
    /// Whether we killed it because it did not end when it was asked.
    pub forced: bool,
    /// The last lines that it wrote.
    pub last_lines: Vec<String>,
    /// Whether we could see what it wrote.
    pub lines_known: bool,
    /// What was done: `replaced at once`, `not replaced`, …
    pub then: String,
}

/// How a process ended, as the kernel tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
#[non_exhaustive]
pub enum ExitStatus {
    /// It called `exit`.
    Code {
        /// With this code.
        code: i32,
    },
    /// A signal ended it.
    Signal {
        /// Its name: `SIGKILL`.
        signal: String,
        /// Whether a core dump was written.
        core: bool,
    },
    /// Nobody knows.
    Unknown {
        /// Always true.
        unknown: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(worker: u32) -> Exit {
        Exit {
            worker,
            slot: 0,
            pid: 1,
            generation: 1,
            at: "2026-08-05T12:34:56.789Z".into(),
            uptime_ms: 1,
            status: ExitStatus::Code { code: 3 },
            reason: "own".into(),
            cause: "it exited with code 3".into(),
            oom: false,
            forced: false,
            last_lines: vec!["x".repeat(1000); 20],
            lines_known: true,
            then: "replaced at once".into(),
        }
    }

    #[test]
    fn the_oldest_are_left_out() {
        let exits: Vec<Exit> = (0..10).rev().map(exit).collect();
        let mut why = Why {
            app: "a".into(),
            summary: String::new(),
            exits,
            reloads: vec![],
            omitted: 0,
        };
        let mut all = why.clone();
        all.fit(1_000_000);
        assert_eq!((all.exits.len(), all.omitted), (10, 0));
        why.fit(64 * 1024);
        assert!(size(&why) <= 64 * 1024);
        let left: Vec<u32> = why.exits.iter().map(|exit| exit.worker).collect();
        assert_eq!((left.as_slice(), why.omitted), ([9, 8, 7].as_slice(), 7));
        why.fit(1);
        assert!(why.exits.is_empty());
    }

    #[test]
    fn three_kinds_of_status() {
        for (text, status) in [
            (r#"{"code":3}"#, ExitStatus::Code { code: 3 }),
            (
                r#"{"signal":"SIGSEGV","core":true}"#,
                ExitStatus::Signal {
                    signal: "SIGSEGV".into(),
                    core: true,
                },
            ),
            (r#"{"unknown":true}"#, ExitStatus::Unknown { unknown: true }),
        ] {
            assert_eq!(serde_json::to_string(&status).unwrap(), text);
            assert_eq!(serde_json::from_str::<ExitStatus>(text).unwrap(), status);
        }
    }
}
