//! Which file a request means.

use super::options::Options;
use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

/// What was found.
#[derive(Debug)]
pub(super) enum Found {
    File(Hit),
    /// A directory's address ends with a slash, or its relative links lead astray.
    AddSlash,
    /// To be listed, at this decoded path.
    Directory(PathBuf, String),
    /// With the page that says so, if there is one.
    Missing(Option<Hit>),
    Forbidden,
    Failed(io::Error),
}

/// A file that is open.
#[derive(Debug)]
pub(super) struct Hit {
    pub(super) file: File,
    pub(super) metadata: Metadata,
    pub(super) path: PathBuf,
}

/// Looks for it.
pub(super) fn find(options: &Options, uri_path: &str) -> Found {
    let Some(parts) = parts(uri_path) else {
        return Found::Forbidden;
    };
    let path = options.root.join(parts.join("/"));
    if hidden(&parts) {
        return missing(options);
    }
    if parts.is_empty() {
        return home(options);
    }
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if absent(&error) => return instead(options, &parts),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Found::Forbidden,
        Err(error) => return Found::Failed(error),
    };
    if metadata.is_dir() {
        return directory(options, &path, uri_path, &parts);
    }
    opened(options, path)
}

/// The names on the way, decoded; `None` if they lead out of the directory, or cannot be names.
fn parts(uri_path: &str) -> Option<Vec<String>> {
    let decoded = decode(uri_path)?;
    let mut parts = Vec::new();
    for part in decoded.split('/') {
        match part {
            "" | "." => (),
            ".." => drop(parts.pop()?),
            part => parts.push(part.to_owned()),
        }
    }
    Some(parts)
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        };
        bytes.push(byte);
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

fn hidden(parts: &[String]) -> bool {
    parts
        .iter()
        .any(|part| part.starts_with('.') && part != ".well-known")
}

fn absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename
    )
}

fn home(options: &Options) -> Found {
    let page = options.root.join(options.homepage.trim_start_matches('/'));
    match open(page) {
        Ok(Some(hit)) => Found::File(hit),
        _ if options.ftp => Found::Directory(options.root.clone(), "/".into()),
        _ => missing(options),
    }
}

fn directory(options: &Options, path: &Path, uri_path: &str, parts: &[String]) -> Found {
    let index = open(path.join("index.html"));
    let has_index = matches!(index, Ok(Some(_)));
    if !has_index && !options.ftp {
        return instead(options, parts);
    }
    if !uri_path.ends_with('/') {
        return Found::AddSlash;
    }
    match index {
        Ok(Some(hit)) => Found::File(hit),
        _ => Found::Directory(path.to_owned(), format!("/{}/", parts.join("/"))),
    }
}

/// What an app in the browser gets for a path that is no file: pm2 looks for its last name at the top first.
fn instead(options: &Options, parts: &[String]) -> Found {
    if !options.spa {
        return missing(options);
    }
    let last = parts.last().filter(|_| parts.len() > 1);
    let at_top = last.and_then(|name| open(options.root.join(name)).ok().flatten());
    match at_top {
        Some(hit) => Found::File(hit),
        None => home(options),
    }
}

fn missing(options: &Options) -> Found {
    Found::Missing(open(options.root.join("404.html")).ok().flatten())
}

fn opened(options: &Options, path: PathBuf) -> Found {
    match open(path) {
        Ok(Some(hit)) => Found::File(hit),
        Ok(None) => missing(options),
        Err(error) if absent(&error) => missing(options),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Found::Forbidden,
        Err(error) => Found::Failed(error),
    }
}

/// A regular file: to open a pipe would wait for its writer.
fn open(path: PathBuf) -> io::Result<Option<Hit>> {
    if !fs::metadata(&path)?.is_file() {
        return Ok(None);
    }
    let file = File::open(&path)?;
    let metadata = file.metadata()?;
    Ok(metadata.is_file().then_some(Hit { file, metadata, path }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_decoded_and_stay_inside() {
        let path = |text: &str| parts(text).map(|parts| parts.join("/"));
        assert_eq!(path("/a/./b//c"), Some("a/b/c".into()));
        assert_eq!(path("/a%20b/%C3%A4"), Some("a b/ä".into()));
        assert_eq!(path("/a/../b"), Some("b".into()));
        for bad in [
            "/..",
            "/a/../../b",
            "/%2e%2e/x",
            "/a/%2E%2E/%2e%2e/x",
            "/%00",
            "/%",
            "/%4",
            "/%zz",
            "/%ff",
        ] {
            assert_eq!(path(bad), None, "{bad}");
        }
        // Decoded once: this is a name with a percent sign.
        assert_eq!(path("/%252e%252e/x"), Some("%2e%2e/x".into()));
    }
}
