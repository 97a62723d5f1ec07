//! Which init system is there, and which is meant. Pure.

/// An init system that we can write for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Platform {
    Systemd,
    OpenRc,
}

/// Programs that tell an init system, in pm2's order of asking.
const SIGNS: [(&str, Result<Platform, &str>); 8] = [
    ("systemctl", Ok(Platform::Systemd)),
    ("rc-update", Ok(Platform::OpenRc)),
    ("update-rc.d", Err("upstart")),
    ("chkconfig", Err("systemv")),
    ("launchctl", Err("launchd")),
    ("sysrc", Err("rcd")),
    ("rcctl", Err("rcd-openbsd")),
    ("svcadm", Err("smf")),
];

/// pm2's names, and who is meant by them today.
const NAMES: [(&str, Result<Platform, &str>); 24] = [
    ("systemd", Ok(Platform::Systemd)),
    ("ubuntu", Ok(Platform::Systemd)),
    ("debian", Ok(Platform::Systemd)),
    ("centos", Ok(Platform::Systemd)),
    ("redhat", Ok(Platform::Systemd)),
    ("arch", Ok(Platform::Systemd)),
    ("oracle", Ok(Platform::Systemd)),
    ("openrc", Ok(Platform::OpenRc)),
    ("gentoo", Ok(Platform::OpenRc)),
    ("alpine", Ok(Platform::OpenRc)),
    ("upstart", Err("upstart")),
    ("ubuntu14", Err("upstart")),
    ("ubuntu12", Err("upstart")),
    ("systemv", Err("systemv")),
    ("amazon", Err("systemv")),
    ("centos6", Err("systemv")),
    ("launchd", Err("launchd")),
    ("darwin", Err("launchd")),
    ("macos", Err("launchd")),
    ("freebsd", Err("rcd")),
    ("rcd", Err("rcd")),
    ("openbsd", Err("rcd-openbsd")),
    ("rcd-openbsd", Err("rcd-openbsd")),
    ("smf", Err("smf")),
];

/// Why there is no [`Platform`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlatformError {
    #[error("no init system was found: neither systemctl nor rc-update is in PATH")]
    None,
    #[error("everup writes nothing for the init system {0}")]
    Unsupported(&'static str),
    #[error("there is no platform `{0}`")]
    Unknown(String),
}

impl PlatformError {
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::None => "in a container, start `everup run` or `everup daemon` as its command",
            Self::Unsupported(_) => {
                "have it run `everup ping` as the user, with EVERUP_HOME set: that starts the daemon, and the daemon its apps"
            }
            Self::Unknown(_) => "write systemd or openrc, or leave it out",
        }
    }
}

/// The one that is named, or else the one that is there.
pub(crate) fn choose(named: Option<&str>, there: impl Fn(&str) -> bool) -> Result<Platform, PlatformError> {
    let found = match named {
        Some(name) => NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .ok_or_else(|| PlatformError::Unknown(name.to_owned()))?,
        None => SIGNS
            .iter()
            .find(|(sign, _)| there(sign))
            .ok_or(PlatformError::None)?,
    };
    found.1.map_err(PlatformError::Unsupported)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there() {
        let with = |programs: &'static [&str]| choose(None, |sign| programs.contains(&sign));
        assert_eq!(with(&["update-rc.d", "systemctl"]), Ok(Platform::Systemd));
        assert_eq!(with(&["rc-update"]), Ok(Platform::OpenRc));
        assert_eq!(with(&["chkconfig"]), Err(PlatformError::Unsupported("systemv")));
        assert_eq!(with(&[]), Err(PlatformError::None));
    }

    #[test]
    fn what_is_named() {
        let never = |_: &str| false;
        assert_eq!(choose(Some("ubuntu"), never), Ok(Platform::Systemd));
        assert_eq!(choose(Some("gentoo"), never), Ok(Platform::OpenRc));
        assert_eq!(
            choose(Some("darwin"), never),
            Err(PlatformError::Unsupported("launchd"))
        );
        assert_eq!(
            choose(Some("vms"), never),
            Err(PlatformError::Unknown("vms".into()))
        );
    }
}
