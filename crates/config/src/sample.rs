//! What `everup init` writes.

/// An `everup.toml` to begin with.
#[must_use]
pub fn sample_toml() -> &'static str {
    include_str!("sample/everup.toml")
}

/// pm2's `ecosystem.config.js`, as `pm2 init` writes it.
#[must_use]
pub fn sample_ecosystem() -> &'static str {
    include_str!("sample/ecosystem.config.js")
}

/// The same, but short: `pm2 init simple`.
#[must_use]
pub fn sample_simple() -> &'static str {
    include_str!("sample/simple.config.js")
}
