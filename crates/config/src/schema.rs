//! The JSON Schema of `everup.toml`, for editors: from the table of keys, with the descriptions of `AppSpec`.

use crate::keys::{KEYS, Key, Kind, Standing};
use everup_api::AppSpec;
use serde_json::{Map, Value, json};

/// The schema (draft 2020-12). It is checked in as `docs/everup.schema.json`.
#[must_use]
pub fn schema() -> Value {
    let described = serde_json::to_value(schemars::schema_for!(AppSpec)).unwrap_or_default();
    let mut app = Map::new();
    for key in KEYS
        .iter()
        .filter(|key| key.kind != Kind::Kept && key.name != "execute_command")
    {
        app.insert(key.name.to_owned(), property(key, &described));
    }
    let settings = json!({
        "type": "object",
        "properties": app,
        "patternProperties": {"^env_(?!file$)": {"description": "Laid over `env` with --env NAME.", "$ref": "#/$defs/variables"}},
        "additionalProperties": false,
    });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "everup.toml",
        "type": "object",
        "properties": {
            "$schema": {"type": "string"},
            "app": {
                "description": "The apps.",
                "anyOf": [
                    {"type": "object", "additionalProperties": {"$ref": "#/$defs/app"}},
                    {"type": "array", "items": {"$ref": "#/$defs/app"}},
                ],
            },
            "defaults": {"description": "Settings of every app of this file that has none of its own.", "$ref": "#/$defs/app"},
            "include": {"description": "Files of more apps, relative to this one.", "$ref": "#/$defs/texts"},
        },
        "additionalProperties": false,
        "$defs": {
            "app": settings,
            "value": {"type": ["string", "number"]},
            "texts": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": ["string", "number"]}}]},
            "variables": {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}},
        },
    })
}

fn property(key: &Key, described: &Value) -> Value {
    let mut property = of_kind(key.kind);
    if matches!(key.name, "append_env_to_name" | "time") {
        property = json!({"type": "boolean"});
    }
    let description = described.pointer(&format!("/properties/{}/description", key.name));
    let description = description.and_then(Value::as_str).unwrap_or(match key.name {
        "port" => "Sets PORT.",
        "time" => "A date before each line of the logs.",
        "name_prefix" => "PREFIX:NAME is the name.",
        "append_env_to_name" => "NAME-ENV is the name, with --env.",
        _ => key.why,
    });
    if let Value::Object(fields) = &mut property {
        let mut text = description.to_owned();
        if key.standing == Standing::Better {
            text = format!("{text}\n\npm2's key of this name; better: {}.", key.why);
        }
        fields.insert("description".to_owned(), text.into());
    }
    property
}

fn of_kind(kind: Kind) -> Value {
    match kind {
        Kind::Choice(choices) => json!({"enum": choices}),
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Mode => json!({"enum": ["cluster", "fork", "cluster_mode", "fork_mode"]}),
        Kind::Count => {
            json!({"anyOf": [{"type": "integer"}, {"type": "string", "pattern": "^(max|-?[0-9]+)$"}]})
        }
        Kind::Time => {
            json!({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?(ms|s|m|h)?$"}]})
        }
        Kind::Size => {
            json!({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9]"}]})
        }
        Kind::Path | Kind::Folder => json!({"type": "string"}),
        Kind::LogFile => json!({"type": ["string", "boolean"]}),
        Kind::Words | Kind::List | Kind::Paths | Kind::Patterns => json!({"$ref": "#/$defs/texts"}),
        Kind::Watch | Kind::Filter => json!({"anyOf": [{"type": "boolean"}, {"$ref": "#/$defs/texts"}]}),
        Kind::Codes => {
            json!({"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}}]})
        }
        Kind::Env => json!({"anyOf": [{"$ref": "#/$defs/variables"}, {"type": "string"}]}),
        Kind::EnvPaths => json!({"type": "object", "additionalProperties": {"type": "string"}}),
        Kind::Depends => json!({"anyOf": [
            {"$ref": "#/$defs/texts"},
            {"type": "object", "additionalProperties": {"enum": ["started", "ready", "completed"]}},
        ]}),
        Kind::Text | Kind::Number | Kind::Cron | Kind::Own | Kind::Kept => json!({"$ref": "#/$defs/value"}),
    }
}
