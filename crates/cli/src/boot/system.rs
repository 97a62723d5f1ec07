//! Figures of this machine, for `slist` and `report`.

use super::told::{Outcome, say};
use crate::args::boot::SlistArgs;
use crate::exit::Exit;
use rustix::system::{sysinfo, uname};
use serde_json::{Value, json};
use std::fs;

/// `everup slist`.
pub(super) fn slist(args: &SlistArgs) -> Outcome {
    let figures = figures();
    match args.tree {
        true => say(&tree(&figures, 0)),
        false => say(&format!("{figures}\n")),
    }
    Ok(Exit::Ok)
}

/// What the kernel says of itself.
pub(super) fn figures() -> Value {
    let (names, info) = (uname(), sysinfo());
    let bytes = |pages: u64| pages.saturating_mul(u64::from(info.mem_unit));
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<f64> = load
        .split(' ')
        .take(3)
        .filter_map(|text| text.parse().ok())
        .collect();
    let disk = rustix::fs::statvfs("/").ok();
    json!({
        "os": distribution(&fs::read_to_string("/etc/os-release").unwrap_or_default()),
        "kernel": names.release().to_string_lossy(),
        "arch": names.machine().to_string_lossy(),
        "host": names.nodename().to_string_lossy(),
        "uptime_s": u64::try_from(info.uptime).unwrap_or(0),
        "cpus": everup::cpus::Cpus::detect().usable,
        "load": load,
        "memory": { "total": bytes(info.totalram), "free": bytes(info.freeram), "available": available() },
        "disk": disk.map(|disk| json!({
            "total": disk.f_blocks.saturating_mul(disk.f_frsize),
            "free": disk.f_bavail.saturating_mul(disk.f_frsize),
        })),
    })
}

fn distribution(os_release: &str) -> Option<String> {
    let name = os_release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(name.trim_matches('"').to_owned())
}

fn available() -> Option<u64> {
    let table = fs::read_to_string("/proc/meminfo").ok()?;
    let line = table
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}

/// Names and values, indented.
pub(super) fn tree(value: &Value, depth: usize) -> String {
    let Value::Object(entries) = value else {
        return String::new();
    };
    let mut text = String::new();
    for (name, value) in entries {
        text.push_str(&format!("{:indent$}{name}: ", "", indent = depth * 2));
        match value {
            Value::Object(_) => text.push_str(&format!("\n{}", tree(value, depth + 1))),
            Value::String(word) => text.push_str(&format!("{word}\n")),
            other => text.push_str(&format!("{other}\n")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_this_machine() {
        let figures = figures();
        assert!(figures["memory"]["total"].as_u64() > figures["memory"]["available"].as_u64());
        assert!(figures["load"].as_array().unwrap().len() == 3 && figures["disk"]["total"].is_u64());
        let text = tree(&json!({"a": 1, "b": {"c": "x", "d": [1, 2]}}), 0);
        assert_eq!(text, "a: 1\nb: \n  c: x\n  d: [1,2]\n");
    }

    #[test]
    fn names_of_distributions() {
        assert_eq!(
            distribution("A=1\nPRETTY_NAME=\"Debian 12\"\n"),
            Some("Debian 12".into())
        );
        assert_eq!(distribution(""), None);
    }
}
