//! `everup startup`, `everup unstartup`: the deeds. What is to be done is a list of steps, made without doing any.

mod account;
mod platform;
pub(crate) mod service;

use super::home::{called_pm2, home};
use super::told::{Outcome, Told, say};
use crate::args::boot::StartupArgs;
use crate::exit::Exit;
use account::Account;
use platform::Platform;
use service::{Service, below, shell};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Something to be done, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Write {
        path: PathBuf,
        text: String,
        mode: u32,
    },
    Remove(PathBuf),
    Run(Vec<String>),
    /// Have systemd look at it.
    Verify(PathBuf),
}

/// What is to be done about a service.
#[derive(Debug)]
struct Plan {
    platform: Platform,
    service: Service,
    root: PathBuf,
    config: PathBuf,
}

/// `everup startup`.
pub(super) fn startup(args: &StartupArgs) -> Outcome {
    let plan = Plan::new(args)?;
    let steps = plan.install();
    if args.dry_run {
        return Ok(show(&steps));
    }
    if let Some(exit) = needs_root(args, &plan, "startup") {
        return exit;
    }
    perform(&steps, args.root.is_none())?;
    say(&plan.installed(args.root.is_none()));
    Ok(Exit::Ok)
}

/// `everup unstartup`.
pub(super) fn unstartup(args: &StartupArgs) -> Outcome {
    let plan = Plan::new(args)?;
    let steps = plan.remove();
    if args.dry_run {
        return Ok(show(&steps));
    }
    if let Some(exit) = needs_root(args, &plan, "unstartup") {
        return exit;
    }
    let file = plan.file();
    if !file.exists() {
        return Err(Told::new(Exit::Input, format!("there is no {}", file.display()))
            .hint("name the user with -u, or the service with --service-name"));
    }
    perform(&steps, args.root.is_none())?;
    say(&format!(
        "{} is not started at boot any more; what runs goes on\n",
        plan.service.name
    ));
    Ok(Exit::Ok)
}

/// The service that `startup` without arguments would write here: for `doctor`.
pub(super) fn expected(of_user: bool) -> Option<(PathBuf, Service)> {
    let args = StartupArgs {
        platform: Some("systemd".into()),
        user: None,
        hp: None,
        service_name: None,
        wait_ip: false,
        user_unit: of_user,
        harden: false,
        dry_run: true,
        root: None,
    };
    let plan = Plan::new(&args).ok()?;
    Some((plan.file(), plan.service))
}

impl Plan {
    fn new(args: &StartupArgs) -> Result<Self, Told> {
        let named = if args.user_unit {
            Some("systemd")
        } else {
            args.platform.as_deref()
        };
        let platform = platform::choose(named, in_path)
            .map_err(|error| Told::new(Exit::Refused, error.to_string()).hint(error.hint()))?;
        let account = Account::find(args.user.as_deref())?;
        let home = match (&args.hp, &args.user) {
            (Some(hp), _) => std::path::absolute(hp)
                .unwrap_or_else(|_| hp.clone())
                .join(".everup"),
            (None, Some(user)) if *user != Account::find(None)?.name => account.home.join(".everup"),
            _ => home()?,
        };
        let default_name = match args.user_unit {
            true => "everup".to_owned(),
            false => format!("everup-{}", account.name),
        };
        let name = args.service_name.clone().unwrap_or(default_name);
        if name.is_empty()
            || !name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.@:".contains(c))
        {
            return Err(
                Told::new(Exit::Usage, format!("`{name}` is no name of a service"))
                    .hint("use letters, digits, `-`, `_` and `.`"),
            );
        }
        let config =
            std::env::var_os("XDG_CONFIG_HOME").map_or_else(|| account.home.join(".config"), PathBuf::from);
        Ok(Self {
            platform,
            service: Service {
                name,
                user: account.name,
                home,
                program: program()?,
                path: search_path(std::env::var("PATH").ok().as_deref()),
                wait_ip: args.wait_ip,
                harden: args.harden,
                of_user: args.user_unit,
            },
            root: args.root.clone().unwrap_or_else(|| "/".into()),
            config,
        })
    }

    fn file(&self) -> PathBuf {
        match self.platform {
            Platform::Systemd => self.service.unit_file(&self.root, &self.config),
            Platform::OpenRc => below(&self.root, &Path::new("/etc/init.d").join(&self.service.name)),
        }
    }

    fn install(&self) -> Vec<Step> {
        let (service, path) = (&self.service, self.file());
        match self.platform {
            Platform::Systemd => {
                let mut steps = vec![
                    Step::Write {
                        path: path.clone(),
                        text: service.unit(),
                        mode: 0o644,
                    },
                    Step::Verify(path),
                    self.systemctl(&["daemon-reload"]),
                    self.systemctl(&["enable", &service.name]),
                ];
                if service.of_user {
                    steps.push(run(&["loginctl", "enable-linger", &service.user]));
                }
                steps
            }
            Platform::OpenRc => vec![
                Step::Write {
                    path,
                    text: service.openrc(),
                    mode: 0o755,
                },
                run(&["rc-update", "add", &service.name, "default"]),
            ],
        }
    }

    fn remove(&self) -> Vec<Step> {
        let name = &self.service.name;
        match self.platform {
            Platform::Systemd => vec![
                self.systemctl(&["disable", name]),
                Step::Remove(self.file()),
                self.systemctl(&["daemon-reload"]),
            ],
            Platform::OpenRc => vec![
                run(&["rc-update", "delete", name, "default"]),
                Step::Remove(self.file()),
            ],
        }
    }

    fn systemctl(&self, words: &[&str]) -> Step {
        let mut line = vec!["systemctl"];
        if self.service.of_user {
            line.push("--user");
        }
        line.extend(words);
        run(&line)
    }

    fn installed(&self, enabled: bool) -> String {
        let Service { name, user, home, .. } = &self.service;
        let mut text = format!("wrote {}\n", self.file().display());
        if !enabled {
            return text;
        }
        text.push_str(&format!(
            "{name} is started at boot, with the apps of {user} that run then ({}); no `save` is needed\n",
            home.display()
        ));
        let now = match (self.platform, self.service.of_user) {
            (Platform::Systemd, true) => format!("systemctl --user start {name}"),
            (Platform::Systemd, false) => format!("systemctl start {name}"),
            (Platform::OpenRc, _) => format!("rc-service {name} start"),
        };
        text.push_str(&format!(
            "to have it run under the init system at once: everup kill; {now}\n"
        ));
        if user == "root"
            && let Some(other) = std::env::var("SUDO_USER").ok().filter(|other| other != "root")
        {
            text.push_str(&format!(
                "these are the apps of root; for those of {other}: add -u {other}\n"
            ));
        }
        text
    }

    /// The line that root is to type.
    fn sudo(&self, verb: &str, args: &StartupArgs) -> String {
        let platform = match self.platform {
            Platform::Systemd => "systemd",
            Platform::OpenRc => "openrc",
        };
        let home = self.service.home.parent().unwrap_or(&self.service.home);
        let mut line = format!(
            "sudo env PATH={} {} {verb} {platform} -u {} --hp {}",
            shell(&self.service.path),
            shell(&self.service.program.to_string_lossy()),
            shell(&self.service.user),
            shell(&home.to_string_lossy())
        );
        for (flag, given) in [("--wait-ip", args.wait_ip), ("--harden", args.harden)] {
            if given {
                line.push_str(&format!(" {flag}"));
            }
        }
        if let Some(name) = &args.service_name {
            line.push_str(&format!(" --service-name {}", shell(name)));
        }
        line
    }
}

fn run(line: &[&str]) -> Step {
    Step::Run(line.iter().map(|&word| word.to_owned()).collect())
}

/// As pm2 does it: says what to type, and fails.
fn needs_root(args: &StartupArgs, plan: &Plan, verb: &str) -> Option<Outcome> {
    if args.user_unit || args.root.is_some() || rustix::process::geteuid().is_root() {
        return None;
    }
    let prefix = if called_pm2(std::env::args_os().take(2)) {
        "[PM2] "
    } else {
        ""
    };
    let action = if verb == "startup" { "setup" } else { "unsetup" };
    say(&format!(
        "{prefix}To {action} the Startup Script, copy/paste the following command:\n{}\n",
        plan.sudo(verb, args)
    ));
    if plan.platform == Platform::Systemd && verb == "startup" {
        say("without root: everup startup --user-unit\n");
    }
    Some(Ok(Exit::Unexpected))
}

/// Prints what would be done.
fn show(steps: &[Step]) -> Exit {
    for step in steps {
        match step {
            Step::Write { path, text, mode } => say(&format!("# {} ({mode:o})\n{text}", path.display())),
            Step::Remove(path) => say(&format!("rm {}\n", shell(&path.to_string_lossy()))),
            Step::Run(line) => say(&format!("{}\n", spelt(line))),
            Step::Verify(_) => (),
        }
    }
    Exit::Ok
}

fn spelt(line: &[String]) -> String {
    line.iter().map(|word| shell(word)).collect::<Vec<_>>().join(" ")
}

fn perform(steps: &[Step], commands: bool) -> Result<(), Told> {
    for step in steps {
        match step {
            Step::Write { path, text, mode } => {
                write(path, text, *mode).map_err(|error| Told::file("write", path, &error))?;
            }
            Step::Remove(path) => {
                fs::remove_file(path).map_err(|error| Told::file("remove", path, &error))?
            }
            Step::Run(line) if commands => command(line)?,
            Step::Run(_) => (),
            Step::Verify(path) if commands => verify(path)
                .iter()
                .for_each(|line| say(&format!("systemd-analyze: {line}\n"))),
            Step::Verify(_) => (),
        }
    }
    Ok(())
}

/// A half-written unit is never there: it is written beside, then put in place.
fn write(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let beside = folder.join(format!(".everup-startup-{}", std::process::id()));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&beside)?;
    let written = file
        .set_permissions(fs::Permissions::from_mode(mode))
        .and_then(|()| file.write_all(text.as_bytes()))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        fs::remove_file(&beside).ok();
    }
    written
}

fn command(line: &[String]) -> Result<(), Told> {
    let [program, rest @ ..] = line else { return Ok(()) };
    let failed = |why: String| Told::new(Exit::Refused, format!("`{}` failed: {why}", spelt(line)));
    let output = Command::new(program).args(rest).output();
    let why = match output {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => crate::error::reason(&error),
    };
    Err(failed(why).hint("run it and those after it by hand when the cause is gone: --dry-run shows them"))
}

/// What systemd has to say about it, if it is there: for people to read, no reason to stop.
fn verify(path: &Path) -> Vec<String> {
    let mut command = Command::new("systemd-analyze");
    let Ok(output) = command.arg("verify").arg("--man=no").arg(path).output() else {
        return Vec::new();
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let text = String::from_utf8_lossy(&output.stderr);
    let about = text.lines().filter(|line| line.contains(&*name));
    about.map(str::to_owned).collect()
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let standard = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(standard)
        .any(|folder| folder.join(program).is_file())
}

/// The caller's search path without relative entries, and what a boot would have.
fn search_path(own: Option<&str>) -> String {
    let standard = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let mut folders: Vec<&str> = Vec::new();
    for folder in own.unwrap_or_default().split(':').chain(standard.split(':')) {
        if folder.starts_with('/') && !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders.join(":")
}

/// Our own binary, by the path through which it was called if that leads there: one that stays through upgrades.
fn program() -> Result<PathBuf, Told> {
    let real = std::env::current_exe().map_err(|error| {
        Told::new(
            Exit::Unexpected,
            format!("could not find this program: {}", crate::error::reason(&error)),
        )
    })?;
    let name = PathBuf::from(std::env::args_os().next().unwrap_or_default());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let called = match name.components().count() {
        1 => std::env::split_paths(&path)
            .map(|folder| folder.join(&name))
            .find(|file| file.is_file()),
        _ => std::path::absolute(&name).ok(),
    };
    Ok(called
        .filter(|called| called.canonicalize().is_ok_and(|path| path == real))
        .filter(|called| called.file_name().is_none_or(|name| name != "pm2"))
        .unwrap_or(real))
}

#[cfg(test)]
mod tests;
