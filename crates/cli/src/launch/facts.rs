//! What can be told of an app beyond what its owner said.

use everup::{Channel, Spec};
use everup_api::{AppSpec, ExecMode};
use everup_daemon::Facts;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

/// Looks for it.
pub(super) fn find(app: &AppSpec, spec: &Spec) -> Facts {
    let script = app.cwd.join(&app.script);
    let script = std::path::absolute(&script).unwrap_or(script);
    let script = Some(script).filter(|path| path.is_file());
    let interpreted = script.is_some() && script.as_deref() != Some(spec.program.as_path());
    let user = spec.limits.identity.as_ref().and_then(|_| app.uid.clone());
    let folder = script.as_deref().and_then(Path::parent).unwrap_or(&app.cwd);
    Facts {
        interpreter: interpreted.then(|| spec.program.to_string_lossy().into_owned()),
        clustered: matches!(spec.channel, Channel::Node(_)) && clustered(app),
        user: user.unwrap_or_else(own_user),
        version: version(folder),
        script_path: script,
    }
}

/// As pm2 decides: by `exec_mode`, else by whether a number of workers is named at all.
fn clustered(app: &AppSpec) -> bool {
    match app.exec_mode {
        Some(mode) => mode == ExecMode::Cluster,
        None => app.instances.is_some(),
    }
}

fn own_user() -> String {
    let uid = rustix::process::geteuid().as_raw();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| uid.to_string())
}

/// In the nearest `package.json`.
fn version(folder: &Path) -> Option<String> {
    let file = folder
        .ancestors()
        .take_while(|folder| folder.file_name() != Some(OsStr::new("node_modules")))
        .map(|folder| folder.join("package.json"))
        .find(|file| file.is_file())?;
    let package: serde_json::Value = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    Some(package.get("version")?.as_str()?.to_owned())
}
