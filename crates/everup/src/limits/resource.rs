//! Resources that the kernel limits for each process, by their names in `ulimit` and systemd.

use std::fmt;

/// A resource of `setrlimit(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "the names are those of `man 2 setrlimit`, which explains them"
)]
pub enum Resource {
    Cpu,
    Fsize,
    Data,
    Stack,
    Core,
    Rss,
    Nproc,
    Nofile,
    Memlock,
    As,
    Locks,
    Sigpending,
    Msgqueue,
    Nice,
    Rtprio,
    Rttime,
}

/// What may be used of it; `None` is without limit. The soft limit is not above the hard one.
///
/// These two are what the kernel has: closed on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Rlimit {
    /// What counts.
    pub soft: Option<u64>,
    /// How far the worker itself may raise it.
    pub hard: Option<u64>,
}

impl Resource {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Cpu,
        Self::Fsize,
        Self::Data,
        Self::Stack,
        Self::Core,
        Self::Rss,
        Self::Nproc,
        Self::Nofile,
        Self::Memlock,
        Self::As,
        Self::Locks,
        Self::Sigpending,
        Self::Msgqueue,
        Self::Nice,
        Self::Rtprio,
        Self::Rttime,
    ];

    /// Its name, in lower case and without `RLIMIT_`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Fsize => "fsize",
            Self::Data => "data",
            Self::Stack => "stack",
            Self::Core => "core",
            Self::Rss => "rss",
            Self::Nproc => "nproc",
            Self::Nofile => "nofile",
            Self::Memlock => "memlock",
            Self::As => "as",
            Self::Locks => "locks",
            Self::Sigpending => "sigpending",
            Self::Msgqueue => "msgqueue",
            Self::Nice => "nice",
            Self::Rtprio => "rtprio",
            Self::Rttime => "rttime",
        }
    }

    /// The resource of this name; case and a leading `RLIMIT_` or `Limit` (as in a systemd unit) do not matter.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let short = name
            .strip_prefix("rlimit_")
            .or_else(|| name.strip_prefix("limit"));
        let short = short.unwrap_or(&name);
        Self::ALL
            .iter()
            .copied()
            .find(|resource| resource.name() == short)
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Rlimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |limit: Option<u64>| limit.map_or_else(|| "unlimited".into(), |limit| limit.to_string());
        write!(f, "{}:{}", show(self.soft), show(self.hard))
    }
}

#[cfg(test)]
mod tests {
    use super::Resource;

    #[test]
    fn names_are_found_again() {
        for &resource in Resource::ALL {
            assert_eq!(Resource::named(resource.name()), Some(resource));
        }
        assert_eq!(Resource::named("RLIMIT_NOFILE"), Some(Resource::Nofile));
        assert_eq!(Resource::named("LimitNPROC"), Some(Resource::Nproc));
        assert_eq!(Resource::named("files"), None);
    }
}
