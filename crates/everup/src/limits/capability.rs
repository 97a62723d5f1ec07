//! Capabilities: root's power in pieces, by their names in `man 7 capabilities`.

use std::fmt;

/// A capability of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Capability(u8);

impl Capability {
    /// Listening on ports below 1024.
    pub const NET_BIND_SERVICE: Self = Self(10);

    /// The capability of this name; case and a leading `CAP_` do not matter.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let short = name.strip_prefix("cap_").unwrap_or(&name);
        let at = NAMES.iter().position(|known| *known == short)?;
        u8::try_from(at).ok().map(Self)
    }

    /// Its name, in lower case and without `CAP_`.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES.get(usize::from(self.0)).copied().unwrap_or_default()
    }

    /// Its bit in a set.
    pub(crate) fn bit(self) -> u64 {
        1 << self.0
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// In the kernel's order, from 0.
const NAMES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::thread::CapabilitySet;

    #[test]
    fn numbers_are_the_kernels() {
        let set = |name: &str| CapabilitySet::from_bits_retain(Capability::named(name).unwrap().bit());
        assert_eq!(set("chown"), CapabilitySet::CHOWN);
        assert_eq!(set("CAP_NET_BIND_SERVICE"), CapabilitySet::NET_BIND_SERVICE);
        assert_eq!(set("sys_ptrace"), CapabilitySet::SYS_PTRACE);
        assert_eq!(set("setfcap"), CapabilitySet::SETFCAP);
        assert_eq!(set("checkpoint_restore"), CapabilitySet::CHECKPOINT_RESTORE);
        assert_eq!(
            Capability::named("net_bind_service"),
            Some(Capability::NET_BIND_SERVICE)
        );
        assert_eq!(Capability::NET_BIND_SERVICE.to_string(), "net_bind_service");
        assert_eq!(Capability::named("root"), None);
    }
}
