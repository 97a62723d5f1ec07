//! The OpenAPI document of the control API, made from the table of calls and the types: `docs/openapi.json`.

use super::calls::{CALLS, Call};
use everup_api::{Error, Progress, v1};
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

/// The whole document.
#[must_use]
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut types = settings.into_generator();
    let mut paths = Map::new();
    for call in CALLS {
        let operation = operation(call, &mut types);
        let mut path = Map::new();
        path.insert(call.method.to_lowercase(), operation);
        paths.insert(format!("/v1/{}", call.name), path.into());
    }
    let schemas = Value::Object(types.take_definitions(true));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "everup control API",
            "version": "1",
            "description": "HTTP/JSON on the UNIX socket $EVERUP_HOME/everup.sock. An answer is {\"ok\": …} or {\"error\": …}; \
                            one that takes its time is a stream of JSON lines (application/x-ndjson): {\"progress\": …} \
                            first, then exactly one of the two. Errors: docs/errors.md.",
        },
        "paths": paths,
        "components": {"schemas": schemas},
    })
}

fn operation(call: &Call, types: &mut SchemaGenerator) -> Value {
    let answer = answer(call.name, types);
    let error = schema::<Error>(types);
    let progress = schema::<Progress>(types);
    let whole = json!({
        "type": "object",
        "properties": {"ok": answer, "error": error},
    });
    let content = match (call.name, call.method) {
        ("events", _) => json!({"text/event-stream": {"schema": schema::<v1::Event>(types)}}),
        (_, "GET") => json!({"application/json": {"schema": whole}}),
        _ => json!({
            "application/json": {"schema": whole},
            "application/x-ndjson": {"schema": {
                "type": "object",
                "properties": {"progress": progress, "ok": answer, "error": error},
            }},
        }),
    };
    let mut operation = json!({
        "operationId": call.name,
        "x-right": format!("{:?}", call.right).to_lowercase(),
        "responses": {
            "200": {"description": "done, or what came of it for each app", "content": content},
            "default": {
                "description": "refused",
                "content": {"application/json": {"schema": {"type": "object", "properties": {"error": error}}}},
            },
        },
    });
    if call.method == "POST" {
        let body = request(call.name, types);
        operation["requestBody"] = json!({"content": {"application/json": {"schema": body}}});
    }
    let parameters = parameters(call.name);
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    operation
}

fn schema<T: schemars::JsonSchema>(types: &mut SchemaGenerator) -> Value {
    types.subschema_for::<T>().to_value()
}

/// What is sent.
fn request(name: &str, types: &mut SchemaGenerator) -> Value {
    match name {
        "start" => schema::<v1::Start>(types),
        "plan" | "apply" => schema::<v1::Apply>(types),
        "scale" => schema::<v1::Scale>(types),
        "signal" => schema::<v1::Signal>(types),
        "send" => schema::<v1::Send>(types),
        "trigger" => schema::<v1::Trigger>(types),
        "save" | "resurrect" | "kill" => schema::<v1::Save>(types),
        "upgrade" => schema::<v1::Upgrade>(types),
        _ => schema::<v1::On>(types),
    }
}

/// What comes back.
fn answer(name: &str, types: &mut SchemaGenerator) -> Value {
    match name {
        "ping" => schema::<v1::Pong>(types),
        "list" => schema::<v1::List>(types),
        "why" => schema::<Vec<everup_api::Why>>(types),
        "env" => schema::<v1::Environment>(types),
        "audit" => schema::<Vec<v1::AuditEntry>>(types),
        "plan" => schema::<v1::Plan>(types),
        _ => schema::<v1::Done>(types),
    }
}

fn parameters(name: &str) -> Vec<Value> {
    let one = |name: &str, kind: &str| json!({"name": name, "in": "query", "schema": {"type": kind}});
    let targets =
        json!({"name": "target", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}});
    match name {
        "list" => vec![targets],
        "why" => vec![targets, one("limit", "integer")],
        "env" => vec![targets, one("reveal", "boolean")],
        "events" => vec![one("after", "integer")],
        "audit" => vec![one("limit", "integer")],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// `EVERUP_BLESS=1 cargo test -p everup-daemon openapi` writes it.
    #[test]
    fn the_document_is_the_one_that_is_checked_in() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
        let mut made = serde_json::to_string_pretty(&document()).unwrap();
        made.push('\n');
        if std::env::var_os("EVERUP_BLESS").is_some() {
            std::fs::write(&file, &made).unwrap();
        }
        let there = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(
            there == made,
            "docs/openapi.json is stale: EVERUP_BLESS=1 cargo test -p everup-daemon openapi"
        );
    }

    #[test]
    fn every_call_of_the_documentation_is_there() {
        let text = include_str!("../../../api/src/v1/mod.rs");
        let rows = text.lines().filter_map(|line| line.strip_prefix("//! | `"));
        let mut named: Vec<&str> = Vec::new();
        for row in rows {
            let cell = row.split(" | ").next().unwrap();
            let words = cell
                .split(['`', ',', ' '])
                .map(|word| word.trim_start_matches("/v1/"));
            let words = words.map(|word| word.split('?').next().unwrap());
            named.extend(words.filter(|word| word.chars().all(char::is_lowercase) && !word.is_empty()));
        }
        for call in CALLS {
            assert!(named.contains(&call.name), "no row for {}", call.name);
        }
        for name in named {
            assert!(CALLS.iter().any(|call| call.name == name), "no call {name}");
        }
    }
}
