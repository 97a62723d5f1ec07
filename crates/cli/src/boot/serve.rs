//! `everup serve`: a static server as an app of the daemon: this program with `serve-files`, and a cluster's channel, so
//! that its workers share the port and a reload loses nothing.

use super::files::Options;
use super::told::{Outcome, Told};
use crate::args::boot::ServeArgs;
use crate::exit::Exit;
use crate::verbs::{Context, start_app};
use everup_api::AppSpec;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// `everup serve`.
pub(super) fn serve(args: &ServeArgs, pm2: bool) -> Outcome {
    // What is wrong with them is found here, and not by a worker that dies.
    let options = Options::new(&args.files, |name| std::env::var(name).ok())?;
    let program = std::env::current_exe().map_err(|error| {
        let why = crate::error::reason(&error);
        Told::new(Exit::Unexpected, format!("could not find this program: {why}"))
    })?;
    let context = Context::new(pm2, &args.answer)?;
    let exit = start_app(&context, app(args, &options, program))?;
    if exit == Exit::Ok {
        let head = if pm2 { "[PM2] " } else { "" };
        let root = options.root.display();
        context.say(&format!("{head}Serving {root} on port {}", options.port));
    }
    Ok(exit)
}

/// The app. Pure.
fn app(args: &ServeArgs, options: &Options, program: PathBuf) -> AppSpec {
    let mut env = BTreeMap::new();
    let mut set = |name: &str, value: String| drop(env.insert(format!("PM2_SERVE_{name}"), value));
    set("PATH", options.root.to_string_lossy().into_owned());
    set("PORT", options.port.to_string());
    set("HOST", options.host.clone());
    set("HOMEPAGE", options.homepage.clone());
    set("SPA", options.spa.to_string());
    set("FTP", options.ftp.to_string());
    if let Some((name, password)) = &options.login {
        set("BASIC_AUTH", "true".into());
        set("BASIC_AUTH_USERNAME", name.clone());
        set("BASIC_AUTH_PASSWORD", password.clone());
    }
    AppSpec {
        name: args
            .name
            .clone()
            .unwrap_or_else(|| format!("static-page-server-{}", options.port)),
        namespace: args.namespace.clone(),
        script: program.to_string_lossy().into_owned(),
        args: vec!["serve-files".into()],
        cwd: options.root.clone(),
        interpreter: Some("none".into()),
        channel: Some("node".into()),
        instances: args.instances.clone(),
        env,
        ..AppSpec::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::boot::ServeFilesArgs;
    use crate::args::manage::AnswerArgs;

    #[test]
    fn the_app_is_told_by_pm2s_variables() {
        let args = ServeArgs {
            files: ServeFilesArgs {
                path: Some("/".into()),
                port: Some(9000),
                spa: true,
                basic_auth_username: Some("u".into()),
                basic_auth_password: Some("p".into()),
                ..ServeFilesArgs::default()
            },
            name: None,
            instances: Some("2".into()),
            namespace: None,
            monitor: None,
            answer: AnswerArgs::default(),
        };
        let options = Options::new(&args.files, |_| None).unwrap();
        let app = app(&args, &options, "/usr/bin/everup".into());
        assert_eq!(app.name, "static-page-server-9000");
        assert_eq!(app.args, ["serve-files"], "no password in a process list");
        // Whoever reads them understands the same.
        let read = Options::new(&ServeFilesArgs::default(), |name| app.env.get(name).cloned()).unwrap();
        assert_eq!(read, options);
    }
}
