//! A directory as a page. Names are escaped: they are anybody's.

use jiff::Timestamp;
use std::cmp::Ordering;
use std::fs;
use std::io;
use std::path::Path;

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) directory: bool,
    pub(super) size: u64,
    pub(super) modified: String,
}

/// Reads it; what begins with a dot is not shown.
pub(super) fn read(path: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let (Ok(name), Ok(metadata)) = (entry.file_name().into_string(), fs::metadata(entry.path())) else {
            continue;
        };
        if name.starts_with('.') {
            continue;
        }
        let time = metadata
            .modified()
            .ok()
            .and_then(|time| Timestamp::try_from(time).ok());
        entries.push(Entry {
            name,
            directory: metadata.is_dir(),
            size: metadata.len(),
            modified: time.map_or_else(
                || "-".into(),
                |time| time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            ),
        });
    }
    entries.sort_by(order);
    Ok(entries)
}

fn order(a: &Entry, b: &Entry) -> Ordering {
    b.directory
        .cmp(&a.directory)
        .then_with(|| a.name.to_lowercase().cmp(&b.name.to_lowercase()))
}

/// The page of the directory at this path.
pub(super) fn page(path: &str, entries: &[Entry]) -> String {
    let title = escape(path);
    let mut rows = String::new();
    if path != "/" {
        rows.push_str("<tr><td><a href=\"../\">../</a></td><td>-</td><td>-</td></tr>\n");
    }
    for entry in entries {
        let slash = if entry.directory { "/" } else { "" };
        let size = if entry.directory {
            "-".into()
        } else {
            size(entry.size)
        };
        rows.push_str(&format!(
            "<tr><td><a href=\"./{}{slash}\">{}{slash}</a></td><td>{size}</td><td>{}</td></tr>\n",
            encode(&entry.name),
            escape(&entry.name),
            entry.modified
        ));
    }
    format!(
        "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Index of {title}</title><style>body{{font-family:monospace;margin:20px}}\
         td,th{{text-align:left;padding:2px 12px}}a{{text-decoration:none}}\
         @media(prefers-color-scheme:dark){{body{{background:#1e1e1e;color:#ccc}}a{{color:#58a6ff}}}}</style></head>\n\
         <body><h1>Index of {title}</h1><table>\n<tr><th>Name</th><th>Size</th><th>Last modified (UTC)</th></tr>\n\
         {rows}</table></body></html>\n"
    )
}

fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["K", "M", "G", "T"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let (mut tenths, mut unit) = (bytes.saturating_mul(10) / 1024, 0);
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{}{}", tenths / 10, tenths % 10, UNITS[unit])
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

/// As a part of an address.
pub(super) fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_power_over_the_page() {
        let entry = |name: &str, directory| Entry {
            name: name.into(),
            directory,
            size: 1536,
            modified: "-".into(),
        };
        let page = page("/<x>/", &[entry("a b", true), entry("\"><script>.js", false)]);
        assert!(
            page.contains("Index of /&lt;x&gt;/") && page.contains("<a href=\"./a%20b/\">a b/</a>"),
            "{page}"
        );
        assert!(
            page.contains("./%22%3E%3Cscript%3E.js")
                && page.contains("&lt;script&gt;")
                && page.contains("1.5K")
        );
        assert!(page.contains("../"));
    }

    #[test]
    fn directories_come_first() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.txt", "A.txt", ".hidden"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        fs::create_dir(folder.path().join("z")).unwrap();
        let names: Vec<String> = read(folder.path())
            .unwrap()
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        assert_eq!(names, ["z", "A.txt", "b.txt"]);
    }

    #[test]
    fn sizes() {
        for (bytes, expected) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.0K"),
            (1 << 20, "1.0M"),
            (u64::MAX, "1677721.5T"),
        ] {
            assert_eq!(size(bytes), expected);
        }
    }
}
