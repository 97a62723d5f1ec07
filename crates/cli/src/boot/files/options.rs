//! What is served: arguments first, then pm2's variables, then its defaults.

use super::super::told::Told;
use super::base64;
use crate::args::boot::ServeFilesArgs;
use crate::exit::Exit;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) root: PathBuf,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) spa: bool,
    pub(crate) ftp: bool,
    /// Below the root, with its slash.
    pub(crate) homepage: String,
    /// The user's name and password that are asked for.
    pub(crate) login: Option<(String, String)>,
}

impl Options {
    pub(crate) fn new(
        args: &ServeFilesArgs,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Told> {
        let set = |name: &str| variable(&format!("PM2_SERVE_{name}")).filter(|value| !value.is_empty());
        let path = args.path.clone().or_else(|| set("PATH").map(PathBuf::from));
        let homepage = args.homepage.clone().or_else(|| set("HOMEPAGE"));
        let port = match args.port.or(args.port_option) {
            Some(port) => port,
            None => port(set("PORT"))?,
        };
        Ok(Self {
            root: root(&path.unwrap_or_else(|| ".".into()))?,
            host: args
                .host
                .clone()
                .or_else(|| set("HOST"))
                .unwrap_or_else(|| "0.0.0.0".into()),
            port,
            spa: args.spa || set("SPA").is_some_and(|value| value == "true"),
            ftp: args.ftp || set("FTP").is_some_and(|value| value == "true"),
            homepage: match homepage {
                Some(page) => format!("/{}", page.trim_start_matches('/')),
                None => "/index.html".into(),
            },
            login: login(args, set)?,
        })
    }

    /// The `authorization` header that is asked for.
    pub(super) fn authorization(&self) -> Option<String> {
        let (name, password) = self.login.as_ref()?;
        Some(format!(
            "Basic {}",
            base64::encode(format!("{name}:{password}").as_bytes())
        ))
    }

    pub(crate) fn place(&self) -> String {
        match self.host.contains(':') && !self.host.starts_with('[') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

fn port(value: Option<String>) -> Result<u16, Told> {
    let Some(value) = value else { return Ok(8080) };
    value
        .parse()
        .map_err(|_| Told::new(Exit::Usage, format!("PM2_SERVE_PORT is no port: {value}")))
}

fn root(path: &Path) -> Result<PathBuf, Told> {
    let root = path
        .canonicalize()
        .map_err(|error| Told::file("serve", path, &error))?;
    if !root.is_dir() {
        return Err(Told::new(
            Exit::Input,
            format!("{} is no directory", root.display()),
        ));
    }
    Ok(root)
}

fn login(
    args: &ServeFilesArgs,
    set: impl Fn(&str) -> Option<String>,
) -> Result<Option<(String, String)>, Told> {
    let name = args
        .basic_auth_username
        .clone()
        .or_else(|| set("BASIC_AUTH_USERNAME"));
    let password = args
        .basic_auth_password
        .clone()
        .or_else(|| set("BASIC_AUTH_PASSWORD"));
    let wanted = args.basic_auth_username.is_some()
        || args.basic_auth_password.is_some()
        || set("BASIC_AUTH").is_some_and(|value| value == "true");
    match (wanted, name, password) {
        (false, ..) => Ok(None),
        (true, Some(name), Some(password)) => Ok(Some((name, password))),
        // Open to all, because of a typing error, is worse than not started.
        (true, ..) => Err(
            Told::new(Exit::Usage, "a user name and a password belong together").hint(
                "set PM2_SERVE_BASIC_AUTH_USERNAME and PM2_SERVE_BASIC_AUTH_PASSWORD, or their options",
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(set: &[(&str, &str)], args: &ServeFilesArgs) -> Result<Options, Told> {
        Options::new(args, |name| {
            set.iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn arguments_win_over_variables() {
        let defaults = with(&[], &ServeFilesArgs::default()).unwrap();
        assert_eq!(
            (defaults.place().as_str(), defaults.homepage.as_str()),
            ("0.0.0.0:8080", "/index.html")
        );
        assert_eq!(defaults.authorization(), None);
        let set = [
            ("PM2_SERVE_PORT", "9000"),
            ("PM2_SERVE_HOST", "::1"),
            ("PM2_SERVE_SPA", "true"),
            ("PM2_SERVE_FTP", "false"),
            ("PM2_SERVE_HOMEPAGE", "home.html"),
            ("PM2_SERVE_BASIC_AUTH", "true"),
            ("PM2_SERVE_BASIC_AUTH_USERNAME", "user"),
            ("PM2_SERVE_BASIC_AUTH_PASSWORD", "pä"),
        ];
        let options = with(&set, &ServeFilesArgs::default()).unwrap();
        assert_eq!(options.place(), "[::1]:9000");
        assert!(options.spa && !options.ftp && options.homepage == "/home.html");
        assert_eq!(options.authorization().unwrap(), "Basic dXNlcjpww6Q=");
        let args = ServeFilesArgs {
            port: Some(1),
            ..ServeFilesArgs::default()
        };
        assert_eq!(with(&set, &args).unwrap().port, 1);
    }

    #[test]
    fn half_a_password_is_refused() {
        let set = [
            ("PM2_SERVE_BASIC_AUTH", "true"),
            ("PM2_SERVE_BASIC_AUTH_USERNAME", "user"),
        ];
        assert_eq!(
            with(&set, &ServeFilesArgs::default()).unwrap_err().exit,
            Exit::Usage
        );
        assert!(with(&[("PM2_SERVE_PORT", "x")], &ServeFilesArgs::default()).is_err());
        assert!(with(&[("PM2_SERVE_PATH", "/no/such")], &ServeFilesArgs::default()).is_err());
    }
}
