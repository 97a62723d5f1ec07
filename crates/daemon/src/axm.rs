//! pm2's protocol of an app's messages: what it tells of itself, and actions that it offers. Pure.

use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// More is not kept of what one worker tells.
const MOST: usize = 64 << 10;
/// So many actions are kept.
const ACTIONS: usize = 200;

/// What a message means.
#[derive(Debug, PartialEq)]
pub(crate) enum Said {
    /// It is about the worker itself, and was kept.
    Kept,
    /// `process.version`.
    NodeVersion(String),
    /// The answer to an action.
    Reply { action: String, value: Value },
    /// An event of the app's own: its type, and the rest.
    Event { kind: String, data: Value },
}

/// Takes a message in.
pub(crate) fn hear(axm: &mut BTreeMap<String, Value>, message: &str) -> Option<Said> {
    let message: Value = serde_json::from_str(message).ok()?;
    if let Some(version) = message.get("node_version").and_then(Value::as_str) {
        return Some(Said::NodeVersion(version.to_owned()));
    }
    let kind = message.get("type").and_then(Value::as_str);
    let (kind, data) = kind.zip(message.get("data"))?;
    Some(match kind {
        "axm:monitor" => merged(axm, "axm_monitor", data),
        "axm:option:configuration" => merged(axm, "axm_options", data),
        "axm:option:setPID" => Said::Kept,
        "axm:action" => offered(axm, data),
        "axm:reply" => Said::Reply {
            action: data
                .get("action_name")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            value: data.get("return").cloned().unwrap_or_default(),
        },
        _ => Said::Event {
            kind: kind.to_owned(),
            data: data.clone(),
        },
    })
}

fn merged(axm: &mut BTreeMap<String, Value>, key: &str, data: &Value) -> Said {
    let kept = axm.entry(key.into()).or_insert_with(|| Value::Object(Map::new()));
    if let (Value::Object(kept), Value::Object(new)) = (kept, data) {
        for (name, value) in new {
            kept.insert(name.clone(), value.clone());
        }
        // An app that invents names without end shall not fill the daemon.
        while serde_json::to_string(kept).is_ok_and(|text| text.len() > MOST) && !kept.is_empty() {
            let oldest = kept.keys().next().cloned().unwrap_or_default();
            kept.shift_remove(&oldest);
        }
    }
    Said::Kept
}

fn offered(axm: &mut BTreeMap<String, Value>, action: &Value) -> Said {
    let kept = axm
        .entry("axm_actions".into())
        .or_insert_with(|| Value::Array(Vec::new()));
    if let Value::Array(kept) = kept {
        let name = |action: &Value| action.get("action_name").cloned();
        kept.retain(|known| name(known) != name(action));
        if kept.len() < ACTIONS {
            kept.push(action.clone());
        }
    }
    Said::Kept
}

/// What is sent to an app for an action, as pm2 does: the name, or an object if there is a parameter.
pub(crate) fn ask(action: &str, param: Option<&str>, id: u32) -> Value {
    match param {
        None => Value::String(action.to_owned()),
        Some(param) => serde_json::json!({"msg": action, "opts": param, "id": id}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_apps_tell() {
        let mut axm = BTreeMap::new();
        let mut said = |message: &Value| hear(&mut axm, &message.to_string());
        assert_eq!(
            said(&json!({"node_version": "22.1.0"})),
            Some(Said::NodeVersion("22.1.0".into()))
        );
        let heap = |value: u32| json!({"type": "axm:monitor", "data": {"Heap": {"value": value}}});
        assert_eq!(said(&heap(1)), Some(Said::Kept));
        assert_eq!(
            said(&json!({"type": "axm:monitor", "data": {"Loop": {"value": 2}}})),
            Some(Said::Kept)
        );
        assert_eq!(said(&heap(3)), Some(Said::Kept));
        for arity in [1, 2] {
            said(&json!({"type": "axm:action", "data": {"action_name": "gc", "arity": arity}}));
        }
        let reply =
            said(&json!({"type": "axm:reply", "data": {"action_name": "gc", "return": {"ok": true}}}));
        assert_eq!(
            reply,
            Some(Said::Reply {
                action: "gc".into(),
                value: json!({"ok": true})
            })
        );
        let own = said(&json!({"type": "order:paid", "data": {"n": 7}}));
        assert_eq!(
            own,
            Some(Said::Event {
                kind: "order:paid".into(),
                data: json!({"n": 7})
            })
        );
        assert_eq!(said(&json!("ready")), None);
        assert_eq!(said(&json!({"type": "x"})), None);
        assert_eq!(
            axm["axm_monitor"],
            json!({"Heap": {"value": 3}, "Loop": {"value": 2}})
        );
        assert_eq!(axm["axm_actions"], json!([{"action_name": "gc", "arity": 2}]));
    }

    #[test]
    fn names_without_end_are_forgotten() {
        let mut axm = BTreeMap::new();
        for number in 0..200 {
            let name = format!("metric-{number}");
            let message = json!({"type": "axm:monitor", "data": {name: {"value": "x".repeat(1000)}}});
            hear(&mut axm, &message.to_string());
        }
        let kept = axm["axm_monitor"].as_object().unwrap();
        assert!(kept.len() < 70 && kept.contains_key("metric-199") && !kept.contains_key("metric-0"));
    }

    #[test]
    fn actions() {
        assert_eq!(ask("gc", None, 3), json!("gc"));
        assert_eq!(
            ask("gc", Some("x"), 3),
            json!({"msg": "gc", "opts": "x", "id": 3})
        );
    }
}
