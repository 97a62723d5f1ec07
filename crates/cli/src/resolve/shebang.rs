//! The `#!` line of a script.

use std::io::Read;
use std::path::Path;

/// What a `#!` line names: a program and its arguments, `env` already taken away.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shebang {
    pub(crate) program: String,
    pub(crate) args: Vec<String>,
}

/// What the beginning of a file tells about it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Head {
    Shebang(Shebang),
    Text,
    Binary,
}

/// Looks at the beginning of a file.
pub(crate) fn look(path: &Path) -> std::io::Result<Head> {
    let mut head = Vec::new();
    std::fs::File::open(path)?.take(1024).read_to_end(&mut head)?;
    let Some(rest) = head.strip_prefix(b"#!") else {
        return Ok(if head.contains(&0) {
            Head::Binary
        } else {
            Head::Text
        });
    };
    let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(parse(&String::from_utf8_lossy(line)).map_or(Head::Text, Head::Shebang))
}

/// The kernel takes everything after the program as one argument; only `env -S` splits it.
fn parse(line: &str) -> Option<Shebang> {
    let line = line.trim();
    let (program, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let rest = rest.trim();
    if super::search::base(program) == "env" && !rest.is_empty() {
        let mut words: Vec<String> = match rest.strip_prefix("-S") {
            Some(split) => split.split_whitespace().map(Into::into).collect(),
            None => vec![rest.into()],
        };
        // `env VAR=value program` is left to env itself.
        if words
            .first()
            .is_some_and(|word| !word.starts_with('-') && !word.contains('='))
        {
            let program = words.remove(0);
            return Some(Shebang { program, args: words });
        }
    }
    let args = if rest.is_empty() {
        vec![]
    } else {
        vec![rest.into()]
    };
    (!program.is_empty()).then(|| Shebang {
        program: program.into(),
        args,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (line, program, args) in [
            ("/usr/bin/env node", "node", vec![]),
            (
                " /usr/bin/env -S node --no-warnings -r x\r",
                "node",
                vec!["--no-warnings", "-r", "x"],
            ),
            ("/usr/bin/env -i node", "/usr/bin/env", vec!["-i node"]),
            ("/bin/bash -e -u", "/bin/bash", vec!["-e -u"]),
            ("/usr/local/bin/node", "/usr/local/bin/node", vec![]),
        ] {
            let parsed = parse(line).unwrap();
            assert_eq!(
                (parsed.program.as_str(), parsed.args),
                (program, args.iter().map(ToString::to_string).collect())
            );
        }
        assert_eq!(parse("  "), None);
    }
}
