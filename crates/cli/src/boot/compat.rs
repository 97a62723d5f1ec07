//! `docs/pm2-compat.md` has a row for everything that pm2 has, and what it says of the command line is so.

use crate::args::Cli;
use clap::CommandFactory;
use everup_config::Standing;
use std::collections::{BTreeMap, BTreeSet};

const PAGE: &str = include_str!("../../../../docs/pm2-compat.md");
const NAMES: &str = include_str!("../../tests/pm2-names.txt");

/// Kinds of names, and the headline of their table.
const TABLES: [(&str, &str); 8] = [
    ("command", "command"),
    ("option", "option"),
    ("flag", "flag"),
    ("top", "key at the top"),
    ("key", "key of an app"),
    ("read", "read by pm2"),
    ("given", "given to apps by pm2"),
    ("runtime", "program, option"),
];

struct Row {
    standing: &'static str,
    why: &'static str,
}

/// The rows of a table, by each of their names.
fn rows(headline: &str) -> BTreeMap<&'static str, Row> {
    let head = format!("| {headline} | | |\n|---|---|---|\n");
    let (_, table) = PAGE
        .split_once(&head)
        .unwrap_or_else(|| panic!("no table {headline}"));
    let mut rows = BTreeMap::new();
    for line in table.lines().take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [names, standing, why] = cells[..] else {
            panic!("three cells: {line}")
        };
        for name in names.split(", ") {
            let name = name.trim_matches('`');
            assert!(
                rows.insert(name, Row { standing, why }).is_none(),
                "twice: {name}"
            );
        }
    }
    rows
}

fn names(kind: &str) -> Vec<&'static str> {
    let lines = NAMES.lines().filter_map(|line| line.split_once(' '));
    lines
        .filter(|(of, _)| *of == kind)
        .map(|(_, name)| name)
        .collect()
}

#[test]
fn every_name_has_a_row() {
    let kinds: BTreeSet<&str> = NAMES
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| Some(line.split_once(' ')?.0))
        .collect();
    assert_eq!(kinds, TABLES.iter().map(|(kind, _)| *kind).collect());
    for (kind, headline) in TABLES {
        let rows = rows(headline);
        for name in names(kind) {
            let row = rows
                .get(name)
                .unwrap_or_else(|| panic!("docs/pm2-compat.md has no row for the {kind} `{name}`"));
            assert!(
                ["same", "better", "not supported"].contains(&row.standing),
                "{name}: {}",
                row.standing
            );
            assert!(row.standing == "same" || !row.why.is_empty(), "{name}: why?");
        }
    }
}

#[test]
fn commands_are_there_as_the_page_says() {
    let cli = Cli::command();
    let known: BTreeSet<&str> = cli
        .get_subcommands()
        .flat_map(|command| [command.get_name()].into_iter().chain(command.get_all_aliases()))
        .collect();
    for (name, _) in rows("command") {
        // What is not supported says so, which is a command too.
        assert!(known.contains(name), "there is no `everup {name}`");
    }
}

#[test]
fn flags_are_there_as_the_page_says() {
    let cli = Cli::command();
    let of = |command: &str| {
        let command = cli.find_subcommand(command).unwrap();
        let mut flags: BTreeSet<String> = ["-h", "--help"].map(str::to_owned).into();
        for arg in command.get_arguments() {
            let long = arg
                .get_long()
                .into_iter()
                .chain(arg.get_all_aliases().unwrap_or_default());
            flags.extend(long.map(|name| format!("--{name}")));
            let short = arg
                .get_short()
                .into_iter()
                .chain(arg.get_all_short_aliases().unwrap_or_default());
            flags.extend(short.map(|name| format!("-{name}")));
        }
        flags
    };
    let mut known = of("start");
    known.extend(of("startup"));
    known.extend(["-V", "-v", "--version"].map(str::to_owned));
    for (name, row) in rows("flag") {
        let taken = row.standing != "not supported" || row.why.starts_with("taken");
        assert_eq!(taken, known.contains(name), "`everup start {name}`");
    }
    for (name, row) in rows("option") {
        let (command, option) = name.split_once(' ').unwrap();
        let taken = row.standing != "not supported" || row.why.starts_with("taken");
        assert!(
            !taken || of(command).contains(option),
            "`everup {name}` is not there"
        );
    }
}

#[test]
fn keys_stand_as_the_page_says() {
    let rows = rows("key of an app");
    for key in everup_config::KEYS {
        let standing = match key.standing {
            Standing::Same => "same",
            Standing::Better => "better",
            Standing::NotSupported => "not supported",
            _ => continue,
        };
        for name in [key.name].iter().chain(key.aliases) {
            let row = rows
                .get(name)
                .unwrap_or_else(|| panic!("no row for the key `{name}`"));
            assert_eq!((row.standing, row.why), (standing, key.why), "{name}");
        }
    }
}
