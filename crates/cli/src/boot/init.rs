//! `everup init`: a sample configuration file in the working directory.

use super::told::{Outcome, Told, say};
use crate::args::boot::InitArgs;
use crate::exit::Exit;
use everup_config::{sample_ecosystem, sample_simple, sample_toml};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

pub(super) fn init(args: &InitArgs) -> Outcome {
    let (name, text) = sample(args.toml, args.mode.is_some());
    let path = std::path::absolute(name).unwrap_or_else(|_| Path::new(name).to_owned());
    write(&path, text, args.force).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Told::new(Exit::Input, format!("{} is there already", path.display())).hint("--force replaces it")
        }
        _ => Told::file("write", &path, &error),
    })?;
    say(&format!(
        "wrote {}\nstart it with: everup start {name}\n",
        path.display()
    ));
    Ok(Exit::Ok)
}

fn write(path: &Path, text: &str, force: bool) -> io::Result<()> {
    let mut options = File::options();
    options.write(true);
    if force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    options.open(path)?.write_all(text.as_bytes())
}

fn sample(toml: bool, simple: bool) -> (&'static str, &'static str) {
    match (toml, simple) {
        (true, _) => ("everup.toml", sample_toml()),
        (false, true) => ("ecosystem.config.js", sample_simple()),
        (false, false) => ("ecosystem.config.js", sample_ecosystem()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("everup.toml");
        write(&path, "a", false).unwrap();
        assert_eq!(
            write(&path, "b", false).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a");
        write(&path, "b", true).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "b");
    }
}
