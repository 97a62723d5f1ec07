//! `docs/control.md` is the truth: its examples are read by the types, and nothing is missing in it.

use everup_api::{
    Aborted, ErrorCode, Launched, Pong, Receipt, Reopened, Reply, Request, Scaled, Signalled, Status,
    Stopping, Why,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

const DOCUMENT: &str = include_str!("../../../docs/control.md");
const ERRORS: &str = include_str!("../../../docs/errors.md");

/// The lines of all JSON examples, block by block.
fn blocks() -> Vec<Vec<&'static str>> {
    let (mut blocks, mut inside) = (Vec::new(), false);
    for line in DOCUMENT.lines() {
        match line {
            "```json" => {
                blocks.push(Vec::new());
                inside = true;
            }
            "```" => inside = false,
            line if inside => blocks.last_mut().expect("a block has begun").push(line),
            _ => {}
        }
    }
    blocks
}

/// The reply is understood, and writing it gives every field that the document has: none is unknown or left out.
fn same<T: DeserializeOwned + Serialize>(line: &str) {
    let reply: Reply<T> = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let written = serde_json::to_value(&reply).expect("replies can be written");
    let document: Value = serde_json::from_str(line).expect("it was read before");
    assert_eq!(written, document, "{line}");
    assert!(!written.to_string().contains("\"other\""), "{line}");
}

fn check_reply(request: Option<&Request>, line: &str) {
    match request.map(Request::verb) {
        None => same::<Value>(line),
        Some("ping") => same::<Pong>(line),
        Some("status") => same::<Status>(line),
        Some("why") => same::<Why>(line),
        Some("reload" | "restart") => same::<Receipt>(line),
        Some("abort") => same::<Aborted>(line),
        Some("scale") => same::<Scaled>(line),
        Some("stop") => same::<Stopping>(line),
        Some("reopen") => same::<Reopened>(line),
        Some("signal") => same::<Signalled>(line),
        Some("launch") => same::<Launched>(line),
        Some(other) => panic!("the test does not know {other}"),
    }
}

#[test]
fn every_example_is_read() {
    let mut verbs = Vec::new();
    for block in blocks() {
        let mut request = None;
        for line in block {
            if line.starts_with("{\"verb\"") {
                let read = Request::parse(line.as_bytes()).unwrap_or_else(|error| panic!("{error}: {line}"));
                assert_eq!(serde_json::to_string(&read).unwrap(), line);
                verbs.push(read.verb());
                request = Some(read);
            } else {
                check_reply(request.as_ref(), line);
            }
        }
    }
    for verb in Request::VERBS {
        assert!(verbs.contains(&verb), "docs/control.md has no example of {verb}");
        let row = format!("| `everup {verb}");
        assert!(DOCUMENT.contains(&row), "docs/control.md has no row {row}");
    }
}

#[test]
fn every_error_has_a_row() {
    for code in ErrorCode::CONTROL {
        let row = format!("| `{}` | ", code.word());
        assert!(DOCUMENT.contains(&row), "docs/control.md has no row {row}");
    }
    for code in ErrorCode::ALL {
        let (status, exit) = code.told_as();
        let row = format!("| `{}` | {status} | {exit} | ", code.word());
        assert!(ERRORS.contains(&row), "docs/errors.md has no row {row}");
    }
}

#[test]
fn the_limits_are_told() {
    assert_eq!(
        (everup_api::REQUEST_LIMIT, everup_api::REPLY_LIMIT),
        (64 << 10, 1 << 20)
    );
    assert!(DOCUMENT.contains("A request has at most 64 KiB, a reply at most 1 MiB"));
    assert!(DOCUMENT.contains(&format!("Version {}: ", everup_api::PROTOCOL)));
}
