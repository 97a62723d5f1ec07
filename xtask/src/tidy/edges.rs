//! Which crate of ours may depend on which. The same table is drawn in `ARCHITECTURE.md`.

use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::Finding;

/// Every package of the workspace, and the packages of ours that it may name in its `Cargo.toml`.
const ALLOWED: [(&str, &[&str]); 11] = [
    ("everup-core", &[]),
    ("everup-keeper", &[]),
    ("everup-api", &[]),
    ("everup-config", &["everup-api"]),
    ("everup", &["everup-core"]),
    ("everup-daemon", &["everup", "everup-api", "everup-keeper"]),
    (
        "everup-cli",
        &[
            "everup",
            "everup-api",
            "everup-config",
            "everup-daemon",
            "everup-keeper",
        ],
    ),
    ("e2e", &["everup", "everup-api"]),
    ("xtask", &[]),
    ("example-hello", &[]),
    ("everup-examples", &["everup"]),
];

/// Asks cargo for the packages of the workspace and checks them.
pub(super) fn check(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root)
        .output()
        .context("cannot run cargo metadata")?;
    if !output.status.success() {
        bail!(
            "cargo metadata failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let metadata = serde_json::from_slice(&output.stdout).context("cargo metadata gave no JSON")?;
    findings(root, &metadata).context("cargo metadata has another form than expected")
}

fn findings(root: &Path, metadata: &Value) -> Option<Vec<Finding>> {
    let packages = metadata["packages"].as_array()?;
    let ours = packages
        .iter()
        .map(|package| package["name"].as_str())
        .collect::<Option<Vec<_>>>()?;
    let mut findings = Vec::new();
    for package in packages {
        let name = package["name"].as_str()?;
        let manifest = Path::new(package["manifest_path"].as_str()?);
        let file = manifest
            .strip_prefix(root)
            .unwrap_or(manifest)
            .display()
            .to_string();
        let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
            findings.push(Finding::whole(
                &file,
                format!(
                    "package {name} has no place yet: add it to xtask/src/tidy/edges.rs and ARCHITECTURE.md"
                ),
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array()? {
            let target = dependency["name"].as_str()?;
            if ours.contains(&target) && !allowed.contains(&target) {
                findings.push(Finding::whole(
                    &file,
                    format!("{name} must not depend on {target} (allowed: {})", list(allowed)),
                ));
            }
        }
    }
    Some(findings)
}

fn list(names: &[&str]) -> String {
    if names.is_empty() {
        "nothing of ours".to_owned()
    } else {
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn metadata(packages: &[(&str, &[&str])]) -> Value {
        let packages: Vec<Value> = packages
            .iter()
            .map(|(name, dependencies)| {
                let dependencies: Vec<Value> =
                    dependencies.iter().map(|name| json!({ "name": name })).collect();
                json!({
                    "name": name,
                    "manifest_path": format!("/repo/{name}/Cargo.toml"),
                    "dependencies": dependencies,
                })
            })
            .collect();
        json!({ "packages": packages })
    }

    fn messages(packages: &[(&str, &[&str])]) -> Vec<String> {
        let findings = findings(Path::new("/repo"), &metadata(packages)).unwrap();
        findings.iter().map(Finding::to_string).collect()
    }

    #[test]
    fn allowed_edges_pass() {
        assert!(
            messages(&[
                ("everup-core", &["serde"]),
                ("everup", &["everup-core", "libc"]),
                ("everup-cli", &["everup", "clap"]),
                ("e2e", &["everup"]),
            ])
            .is_empty()
        );
    }

    #[test]
    fn other_edges_are_named() {
        assert_eq!(
            messages(&[("everup-core", &["everup"]), ("everup", &["everup-core"])]),
            ["everup-core/Cargo.toml: everup-core must not depend on everup (allowed: nothing of ours)"]
        );
        assert_eq!(
            messages(&[("everup-core", &[]), ("everup-cli", &["everup-core"])]),
            [
                "everup-cli/Cargo.toml: everup-cli must not depend on everup-core \
              (allowed: everup, everup-api, everup-config, everup-daemon, everup-keeper)"
            ]
        );
    }

    #[test]
    fn unknown_packages_are_named() {
        let messages = messages(&[("everup-extra", &[])]);
        assert!(messages[0].starts_with("everup-extra/Cargo.toml: package everup-extra has no place yet"));
    }

    #[test]
    fn another_form_is_no_silent_success() {
        assert_eq!(findings(Path::new("/repo"), &json!({})), None);
    }
}
