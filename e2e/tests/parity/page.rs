//! The page itself: no empty cell, no test that does not exist, nothing of Node's that is missing.

use crate::node::{node, script};
use anyhow::{Context, Result, bail, ensure};
use e2e::Everup;
use serde_json::Value;
use std::path::Path;

const PAGE: &str = include_str!("../../../docs/node-parity.md");
const COLUMNS: usize = 5;

/// The cells of all rows of all tables.
fn rows() -> Result<Vec<Vec<&'static str>>> {
    let tables = PAGE
        .lines()
        .filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    let rows: Vec<Vec<&str>> = tables
        .map(|line| line.split('|').map(str::trim).collect())
        .filter(|cells: &Vec<&str>| cells[0] != "Node" && !cells[0].starts_with("--"))
        .collect();
    ensure!(rows.len() > 60, "{} rows", rows.len());
    Ok(rows)
}

/// The texts in backquotes.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn every_row_is_full_and_held_by_tests() -> Result<()> {
    for row in rows()? {
        ensure!(row.len() == COLUMNS, "{row:?}");
        ensure!(row.iter().all(|cell| !cell.is_empty() && *cell != "-"), "{row:?}");
        let tests: Vec<&str> = quoted(row[COLUMNS - 1]).collect();
        if tests.is_empty() {
            ensure!(row[COLUMNS - 1] == "n/a: Windows", "no test: {row:?}");
        }
        for test in tests {
            exists(test).with_context(|| format!("{:?} of {}", test, row[0]))?;
        }
    }
    Ok(())
}

/// A test of this name is in this file: by its attribute, or in the table of the target's `main.rs`.
fn exists(test: &str) -> Result<()> {
    let (file, name) = test.split_once("::").context("FILE::TEST")?;
    let folder = if file.starts_with("crates/") {
        ""
    } else {
        "e2e/tests"
    };
    let path = e2e::repository(folder).join(file);
    let source = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let lines: Vec<&str> = source.lines().map(str::trim_start).collect();
    let head = format!("fn {name}(");
    let Some(at) = lines
        .iter()
        .position(|line| line.trim_start_matches("pub(crate) ").starts_with(&head))
    else {
        bail!("no such function");
    };
    let marked = lines[..at]
        .iter()
        .rev()
        .take_while(|line| line.starts_with("#[") || line.starts_with("///"));
    if marked.clone().any(|line| *line == "#[test]") || in_table(&path, name) {
        return Ok(());
    }
    bail!("it is no test")
}

fn in_table(path: &Path, name: &str) -> bool {
    let main = std::fs::read_to_string(path.with_file_name("main.rs")).unwrap_or_default();
    let Some((_, table)) = main.split_once("\nrows! {") else {
        return false;
    };
    table
        .lines()
        .any(|line| line.split_whitespace().next() == Some(name))
}

#[test]
fn a_test_that_does_not_exist_is_found() {
    assert!(exists("parity/page.rs::every_row_is_full_and_held_by_tests").is_ok());
    assert!(exists("parity/under_node.rs::events").is_ok());
    assert!(exists("conformance/lifecycle.rs::basic").is_ok());
    for wrong in [
        "parity/page.rs::no_such_test",
        "parity/page.rs::exists",
        "parity/nowhere.rs::events",
        "events",
    ] {
        assert!(exists(wrong).is_err(), "{wrong}");
    }
}

/// Whatever Node's module and its workers have is in the first column.
#[test]
fn nothing_of_nodes_is_missing() -> Result<()> {
    let rows = rows()?;
    let named: Vec<&str> = rows.iter().flat_map(|row| quoted(row[0])).collect();
    for version in [20, 24] {
        let ended = Everup::program(node(version)?).arg(script("keys.js")).finish()?;
        let keys: Value = serde_json::from_str(ended.out.first().with_context(|| ended.all())?)?;
        for of in ["cluster", "worker"] {
            let keys = keys[of].as_array().context("keys")?;
            ensure!(keys.len() > 6, "{keys:?}");
            for key in keys.iter().filter_map(Value::as_str) {
                let wanted = format!("{of}.{key}");
                let is = |name: &&str| **name == wanted || name.starts_with(&format!("{wanted}("));
                ensure!(named.iter().any(is), "Node {version} has {wanted}");
            }
        }
    }
    Ok(())
}
