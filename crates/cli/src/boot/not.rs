//! Commands of pm2 that everup does not have: why, and what to do instead. The same is in docs/pm2-compat.md.

use super::told::Told;
use crate::args::boot::NotVerb;
use crate::exit::Exit;

/// Why there is no such command.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Not {
    command: &'static str,
    why: &'static str,
    instead: &'static str,
}

impl From<Not> for Told {
    fn from(not: Not) -> Self {
        Self::new(
            Exit::Usage,
            format!("`{}` is not supported: {}", not.command, not.why),
        )
        .hint(not.instead)
    }
}

pub(super) fn reason(verb: &NotVerb) -> Not {
    let (command, reason) = match verb {
        NotVerb::Link(_) => ("link", PLUS),
        NotVerb::Unlink(_) => ("unlink", PLUS),
        NotVerb::Plus(_) => ("plus", PLUS),
        NotVerb::Login(_) => ("login", PLUS),
        NotVerb::Logout(_) => ("logout", PLUS),
        NotVerb::Open(_) => ("open", PLUS),
        NotVerb::Monitor(_) => ("monitor", PLUS),
        NotVerb::Unmonitor(_) => ("unmonitor", PLUS),
        NotVerb::Install(_) => ("install", MODULES),
        NotVerb::Uninstall(_) => ("uninstall", MODULES),
        NotVerb::ModuleUpdate(_) => ("module:update", MODULES),
        NotVerb::ModuleGenerate(_) => ("module:generate", MODULES),
        NotVerb::Package(_) => ("package", MODULES),
        NotVerb::Publish(_) => ("publish", MODULES),
        NotVerb::Deploy(_) => ("deploy", DEPLOY),
        NotVerb::Pull(_) => ("pull", GIT),
        NotVerb::Forward(_) => ("forward", GIT),
        NotVerb::Backward(_) => ("backward", GIT),
        NotVerb::Logrotate(_) => ("logrotate", LOGROTATE),
        NotVerb::ProfileCpu(_) => ("profile:cpu", PROFILE),
        NotVerb::ProfileMem(_) => ("profile:mem", PROFILE),
        NotVerb::Inspect(_) => ("inspect", INSPECT),
        NotVerb::Create(_) => ("create", CREATE),
        NotVerb::Autoinstall(_) => ("autoinstall", MODULES),
        NotVerb::DeepUpdate(_) => ("deepUpdate", UPDATE),
        NotVerb::InstallOtel(_) => ("install-otel", OTEL),
        NotVerb::UninstallOtel(_) => ("uninstall-otel", OTEL),
    };
    Not {
        command,
        why: reason.0,
        instead: reason.1,
    }
}

type Reason = (&'static str, &'static str);

const PLUS: Reason = (
    "everup sends nothing to anybody, so there is no service to link it with",
    "everup list --json and everup events have what runs here",
);
const MODULES: Reason = (
    "everup loads no code of others into itself",
    "start the program as an app of its own: everup start PROGRAM",
);
const DEPLOY: Reason = (
    "everup does not copy code to other machines",
    "let your deployment run `everup reload FILE` or `everup apply FILE` at its end; the pm2-deploy package still works",
);
const GIT: Reason = (
    "everup does not change your working tree",
    "git pull && everup reload APP",
);
const LOGROTATE: Reason = (
    "everup writes nothing into /etc/logrotate.d",
    "have logrotate move the files and run `everup reloadLogs` in postrotate",
);
const PROFILE: Reason = (
    "it profiles pm2's own daemon, which is a Node program; everup is none",
    "for an app: start it with --node-args=--cpu-prof, or use `everup trigger`",
);
const INSPECT: Reason = (
    "it needs pm2's agent inside the app",
    "everup sendSignal SIGUSR1 APP opens Node's inspector",
);
const CREATE: Reason = (
    "everup has no project templates",
    "everup init writes a sample of a configuration file",
);
const UPDATE: Reason = (
    "everup installs nothing by itself",
    "replace the binary, then: everup upgrade",
);
const OTEL: Reason = (
    "everup puts no code into your apps",
    "load your tracer with --node-args=\"--require @opentelemetry/auto-instrumentations-node/register\"",
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::boot::BootVerb;
    use crate::args::{Cli, Verb};
    use clap::Parser;

    #[test]
    fn each_of_them_says_what_to_do_instead() {
        for line in [
            "pm2 link SECRET PUBLIC",
            "pm2 install pm2-logrotate --tarball",
            "pm2 module:install x",
            "pm2 deploy production setup --force",
            "pm2 pull web abc",
            "pm2 profile:cpu 10",
            "pm2 deepUpdate",
        ] {
            let Ok(Cli {
                verb: Verb::Boot(verb),
                ..
            }) = Cli::try_parse_from(line.split(' '))
            else {
                panic!("{line}");
            };
            let BootVerb::Not(verb) = *verb else {
                panic!("{line}")
            };
            let told = Told::from(reason(&verb));
            assert!(told.hint.is_some() && told.exit == Exit::Usage, "{line}");
        }
    }
}
