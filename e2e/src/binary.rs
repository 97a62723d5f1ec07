//! Where the programs under test are.

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The `everup` binary: `$EVERUP_BIN`, or built from this workspace (once per test process).
///
/// # Errors
/// When it does not build.
pub fn everup() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    if let Some(given) = std::env::var_os("EVERUP_BIN") {
        return Ok(given.into());
    }
    once(&BUILT, "everup-cli", "everup")
}

/// The binary of `examples/rust-hello`.
///
/// # Errors
/// When it does not build.
pub fn rust_hello() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    once(&BUILT, "example-hello", "example-hello")
}

/// A program of `examples/rust`. All of them are built together.
///
/// # Errors
/// When they do not build, or there is none of this name.
pub fn example(name: &str) -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let one = once(&BUILT, "everup-examples", "axum")?;
    let program = one.with_file_name(name);
    ensure!(program.exists(), "there is no {}", program.display());
    Ok(program)
}

fn once(built: &'static OnceLock<Result<PathBuf, String>>, package: &str, binary: &str) -> Result<PathBuf> {
    let found = built.get_or_init(|| build(package, binary).map_err(|error| format!("{error:#}")));
    found.clone().map_err(anyhow::Error::msg)
}

/// Builds a package beside the running test, with the same profile. Cargo looks whether anything is to be done, so
/// that no test runs an old binary.
fn build(package: &str, binary: &str) -> Result<PathBuf> {
    let profile = profile_folder()?;
    let target = profile.parent().context("the target folder")?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--quiet", "--package", package, "--target-dir"])
        .arg(target);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let output = cargo
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .context("start cargo")?;
    ensure!(
        output.status.success(),
        "cargo build -p {package}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(profile.join(binary))
}

/// `target/debug` or `target/release`: the running test is in `deps` there.
fn profile_folder() -> Result<PathBuf> {
    let test = std::env::current_exe().context("the path of this test")?;
    test.ancestors()
        .find(|folder| folder.join("deps").is_dir())
        .map(Path::to_path_buf)
        .with_context(|| format!("no cargo target folder above {}", test.display()))
}
