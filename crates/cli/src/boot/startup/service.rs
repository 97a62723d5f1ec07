//! A service of an init system as text. Pure: what is to be written is decided here, and nothing is done.

use std::path::{Path, PathBuf};

/// The number of the form of our units: `doctor` names one that an older everup wrote.
pub(crate) const FORM: u32 = 1;

/// Descriptors that a daemon with many apps may want: each worker has a few here.
const DESCRIPTORS: u32 = 1_048_576;

/// What the service is to run, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Service {
    /// Its name, without `.service`.
    pub(crate) name: String,
    /// Whose apps they are.
    pub(crate) user: String,
    /// `$EVERUP_HOME`.
    pub(crate) home: PathBuf,
    /// The binary.
    pub(crate) program: PathBuf,
    /// Where interpreters are looked for.
    pub(crate) path: String,
    pub(crate) wait_ip: bool,
    pub(crate) harden: bool,
    /// Of the user's own systemd.
    pub(crate) of_user: bool,
}

impl Service {
    /// The unit of systemd.
    pub(crate) fn unit(&self) -> String {
        let program = word(&self.program.to_string_lossy());
        let home = word(&self.home.to_string_lossy());
        let mut lines = vec![
            format!(
                "# Written by `everup startup`, form {FORM}. Changes go into a drop-in: systemctl edit {}",
                self.name
            ),
            "[Unit]".into(),
            format!(
                "Description=everup: apps of {}",
                one_line(&self.user).replace('%', "%%")
            ),
        ];
        if !self.of_user {
            let network = if self.wait_ip {
                "network-online.target"
            } else {
                "network.target"
            };
            lines.push(format!("After={network}"));
            if self.wait_ip {
                lines.push(format!("Wants={network}"));
            }
        }
        lines.extend([
            String::new(),
            "[Service]".into(),
            "Type=notify".into(),
            "# The keeper's place can be taken by the daemon, which then says so (MAINPID=). The apps go on meanwhile, and".into(),
            "# so must the service: it ends with its last process, and the death of one is no reason to stop the others.".into(),
            "NotifyAccess=all".into(),
            "ExitType=cgroup".into(),
            "OOMPolicy=continue".into(),
            format!("ExecStartPre=mkdir -p -m 700 -- {home}"),
            format!("ExecStart=-{program} --keeper --home {home}"),
            format!("ExecReload={program} reload all"),
            format!("ExecStop={program} kill"),
            "KillMode=mixed".into(),
            "TimeoutStartSec=60".into(),
            "TimeoutStopSec=120".into(),
            "# `everup kill` is meant to last; everything else is not.".into(),
            "Restart=always".into(),
            "RestartPreventExitStatus=0".into(),
            "RestartSec=1".into(),
            "# Room for descriptors that outlive the service's processes.".into(),
            "FileDescriptorStoreMax=4096".into(),
            "# A control group for each worker with limits.".into(),
            "Delegate=yes".into(),
            format!("LimitNOFILE={DESCRIPTORS}"),
            "LimitNPROC=infinity".into(),
            "TasksMax=infinity".into(),
            format!("Environment={}", quoted(&format!("EVERUP_HOME={}", self.home.display()))),
            format!("Environment={}", quoted(&format!("PATH={}", self.path))),
        ]);
        if !self.of_user {
            lines.push(format!("User={}", one_line(&self.user)));
        }
        lines.extend(self.hardening().into_iter().map(str::to_owned));
        let target = if self.of_user {
            "default.target"
        } else {
            "multi-user.target"
        };
        lines.extend([
            String::new(),
            "[Install]".into(),
            format!("WantedBy={target}"),
            String::new(),
        ]);
        lines.join("\n")
    }

    /// Settings that filter system calls take file capabilities and sudo from the apps (they imply
    /// `NoNewPrivileges`), so they must be asked for.
    fn hardening(&self) -> Vec<&'static str> {
        let mut lines = vec!["KeyringMode=private"];
        if self.harden {
            lines.extend([
                "NoNewPrivileges=yes",
                "LockPersonality=yes",
                "RestrictSUIDSGID=yes",
                "RestrictRealtime=yes",
            ]);
        }
        if self.of_user {
            return lines;
        }
        if self.harden {
            lines.extend([
                "ProtectSystem=full",
                "ProtectClock=yes",
                "ProtectHostname=yes",
                "ProtectKernelLogs=yes",
                "ProtectKernelModules=yes",
                "ProtectKernelTunables=yes",
            ]);
        } else if self.user != "root" {
            lines.push("ProtectSystem=yes");
        }
        lines
    }

    /// The script of OpenRC.
    pub(crate) fn openrc(&self) -> String {
        let program = shell(&self.program.to_string_lossy());
        let user = shell(&self.user);
        let home = shell(&self.home.to_string_lossy());
        let path = shell(&self.path);
        let need = if self.wait_ip { "need net" } else { "use net" };
        format!(
            "#!/sbin/openrc-run\n\
             # Written by `everup startup`, form {FORM}.\n\
             \n\
             description={description}\n\
             extra_started_commands=\"reload\"\n\
             \n\
             export EVERUP_HOME={home}\n\
             export PATH={path}\n\
             rc_ulimit=\"-n {DESCRIPTORS}\"\n\
             command={program}\n\
             command_args={arguments}\n\
             command_background=\"yes\"\n\
             command_user={user}\n\
             pidfile=\"/run/${{RC_SVCNAME}}.pid\"\n\
             \n\
             depend() {{\n\
             \t{need}\n\
             \tneed localmount\n\
             \tafter bootmisc\n\
             }}\n\
             \n\
             start_pre() {{\n\
             \tcheckpath --directory --mode 0700 --owner {user} {home}\n\
             }}\n\
             \n\
             as_user() {{\n\
             \tsu -s /bin/sh {user} -c {line}\" $*\"\n\
             }}\n\
             \n\
             # Another process than the one that was started may be the keeper by now: it is asked, and not signalled.\n\
             stop() {{\n\
             \tebegin \"Stopping everup\"\n\
             \tas_user kill\n\
             \teend $?\n\
             \trm -f \"${{pidfile}}\"\n\
             }}\n\
             \n\
             status() {{\n\
             \tas_user ping\n\
             }}\n\
             \n\
             reload() {{\n\
             \tebegin \"Reloading the apps of everup\"\n\
             \tas_user reload all\n\
             \teend $?\n\
             }}\n",
            arguments = shell(&format!("--keeper --home {home}")),
            line = shell(&format!("exec {program}")),
            description = shell(&format!("everup: apps of {}", self.user)),
        )
    }

    /// Where the unit is, below `root`.
    pub(crate) fn unit_file(&self, root: &Path, config: &Path) -> PathBuf {
        let folder = if self.of_user {
            config.join("systemd/user")
        } else {
            PathBuf::from("/etc/systemd/system")
        };
        below(root, &folder.join(format!("{}.service", self.name)))
    }
}

/// An absolute path as it is below another root.
pub(crate) fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// A word of a command line of a unit: there `$` has a meaning too.
fn word(text: &str) -> String {
    quoted(&text.replace('$', "$$"))
}

/// A word of a unit: quoted where that is needed, `%` without its meaning.
fn quoted(text: &str) -> String {
    let escaped: String = one_line(text)
        .chars()
        .map(|c| match c {
            '%' => "%%".to_owned(),
            '"' | '\\' => format!("\\{c}"),
            c => c.to_string(),
        })
        .collect();
    let plain = |c: char| c.is_alphanumeric() || "/.-_=:+@,%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        escaped
    } else {
        format!("\"{escaped}\"")
    }
}

/// No text of others begins a line of its own.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r', '\0'], " ")
}

/// A word of a shell.
pub(crate) fn shell(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/.-_=:+@,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn service() -> Service {
        Service {
            name: "everup-alice".into(),
            user: "alice".into(),
            home: "/home/alice/.everup".into(),
            program: "/usr/local/bin/everup".into(),
            path: "/usr/local/bin:/usr/bin:/bin".into(),
            wait_ip: false,
            harden: false,
            of_user: false,
        }
    }

    #[test]
    fn a_unit_of_the_system() {
        let unit = service().unit();
        for line in [
            "Type=notify",
            "ExitType=cgroup",
            "KillMode=mixed",
            "NotifyAccess=all",
            "OOMPolicy=continue",
            "ExecStart=-/usr/local/bin/everup --keeper --home /home/alice/.everup",
            "ExecStop=/usr/local/bin/everup kill",
            "User=alice",
            "Environment=EVERUP_HOME=/home/alice/.everup",
            "Environment=PATH=/usr/local/bin:/usr/bin:/bin",
            "After=network.target",
            "WantedBy=multi-user.target",
            "ProtectSystem=yes",
            "Delegate=yes",
        ] {
            assert!(unit.lines().any(|other| other == line), "{line}\n{unit}");
        }
        assert!(!unit.contains("NoNewPrivileges"));
    }

    #[test]
    fn what_is_asked_for_is_in_it() {
        let asked = Service {
            wait_ip: true,
            harden: true,
            ..service()
        };
        let unit = asked.unit();
        assert!(unit.contains("Wants=network-online.target") && unit.contains("NoNewPrivileges=yes"));
        let own = Service {
            of_user: true,
            name: "everup".into(),
            ..service()
        };
        let unit = own.unit();
        assert!(unit.contains("WantedBy=default.target"));
        assert!(!unit.contains("User=") && !unit.contains("ProtectSystem"));
        assert_eq!(
            own.unit_file(Path::new("/"), Path::new("/home/alice/.config")),
            PathBuf::from("/home/alice/.config/systemd/user/everup.service")
        );
    }

    #[test]
    fn odd_paths_are_quoted() {
        let odd = Service {
            home: "/home/a b/50%/\"x\"/$y/ä".into(),
            program: "/opt/my $everup".into(),
            ..service()
        };
        let unit = odd.unit();
        assert!(
            unit.contains("Environment=\"EVERUP_HOME=/home/a b/50%%/\\\"x\\\"/$y/ä\""),
            "{unit}"
        );
        assert!(unit.contains("ExecStart=-\"/opt/my $$everup\" --keeper --home "));
        let bad = Service {
            home: "/x\nExecStart=/bin/evil".into(),
            ..service()
        };
        assert!(!bad.unit().lines().any(|line| line == "ExecStart=/bin/evil"));
    }

    #[test]
    fn a_script_of_openrc_is_a_shell_script() {
        let odd = Service {
            home: "/home/it's/.everup".into(),
            ..service()
        };
        let script = odd.openrc();
        assert!(script.contains("export EVERUP_HOME='/home/it'\\''s/.everup'"));
        let mut child = std::process::Command::new("sh")
            .arg("-n")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), script.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn below_another_root() {
        assert_eq!(
            service().unit_file(Path::new("/tmp/image"), Path::new("/")),
            PathBuf::from("/tmp/image/etc/systemd/system/everup-alice.service")
        );
    }
}
