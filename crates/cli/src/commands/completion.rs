//! `everup completion <shell>`.

use crate::args::{Cli, Shell};
use clap::CommandFactory;
use clap_complete::{generate, shells};
use std::io;

/// Prints the completion script.
pub(crate) fn completion(shell: Shell) -> io::Result<()> {
    // In memory first: the generators panic when writing fails.
    io::Write::write_all(&mut io::stdout(), &script(shell))
}

fn script(shell: Shell) -> Vec<u8> {
    let (mut command, mut script) = (Cli::command(), Vec::new());
    match shell {
        Shell::Bash => generate(shells::Bash, &mut command, "everup", &mut script),
        Shell::Zsh => generate(shells::Zsh, &mut command, "everup", &mut script),
        Shell::Fish => generate(shells::Fish, &mut command, "everup", &mut script),
        Shell::Elvish => generate(shells::Elvish, &mut command, "everup", &mut script),
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_gets_the_options() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Elvish] {
            let script = String::from_utf8(script(shell)).unwrap();
            assert!(
                script.contains("instances") && script.contains("least-connections"),
                "{shell:?}"
            );
            for verb in everup_api::Request::VERBS {
                assert!(script.contains(verb), "{shell:?} does not know {verb}");
            }
            assert!(script.contains("timeout") && script.contains("json"), "{shell:?}");
        }
    }
}
