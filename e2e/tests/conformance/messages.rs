//! Messages of the app's.

use crate::net::greet;
use crate::support::{At, order_to};
use everup::{Channel, Serialization};
use serde_json::{Value, json};

/// Both ways, whatever JSON has.
pub(crate) fn message(at: &At) {
    let mut primary = at.primary("messages.js", "echo");
    let worker = primary.fork();
    let sent = [
        json!("a plain string"),
        json!(42),
        Value::Null,
        json!([1, { "two": "drei\u{2028}\n\u{1F600}" }]),
        json!(true),
        json!({ "say": "up" }),
    ];
    for message in sent {
        assert_eq!(primary.message(worker), message);
    }
    let large = json!({ "text": "é中\u{1F600}\u{2028}".repeat(100_000) });
    let messages = [
        json!("text"),
        json!(0.5),
        Value::Null,
        json!([]),
        json!({ "cmd": "NODE_" }),
        large,
    ];
    for (index, message) in messages.iter().enumerate() {
        primary.tell(worker, message);
        let echo = primary.says(worker, "echo");
        assert!(
            echo["message"] == *message,
            "{:.100} is not {:.100}",
            echo["message"].to_string(),
            message.to_string()
        );
        assert_eq!(echo["worker"], index + 1, "cluster.worker hears it too");
    }
    primary.end();
}

/// Answers that nobody waits for, unknown acts and unknown commands are ignored, both ways.
pub(crate) fn invalid_message(at: &At) {
    let mut primary = at.primary("messages.js", "invalid");
    let worker = primary.fork();
    primary.online(worker);
    assert_eq!(
        primary.message(worker),
        json!({ "cmd": "NODE_" }),
        "a message of the app's"
    );
    primary.says(worker, "up");
    for text in [
        r#"{"cmd":"NODE_CLUSTER","ack":-1}"#,
        r#"{"cmd":"NODE_CLUSTER","ack":99,"errno":0,"key":"x"}"#,
        r#"{"cmd":"NODE_CLUSTER","act":"noSuchAct"}"#,
        r#"{"cmd":"NODE_NO_SUCH_COMMAND"}"#,
    ] {
        primary.tell_text(worker, text);
    }
    primary.tell(worker, &json!("end"));
    assert_eq!(primary.says(worker, "got")["message"], "end");
    primary.leave(&[worker]);
    primary.end();
}

/// With V8's serialization: messages, listening, and a circular object that comes back as it was.
pub(crate) fn advanced_serialization(at: &At) {
    let mut spec = at.spec("messages.js", "advanced");
    spec.channel = Channel::Node(Serialization::Advanced);
    let mut primary = at.start(spec);
    let worker = primary.fork();
    let up = primary.says(worker, "up");
    assert_eq!(up["text"], "drei \u{1F600}");
    assert_eq!(up["numbers"], json!([1, -1, 0.5, 1_099_511_627_776_u64]));
    assert_eq!((&up["nothing"], &up["yes"]), (&Value::Null, &json!(true)));
    let message =
        json!({ "a": [1, 2.5, "drei \u{1F600}", null, { "deep": [[], {}] }], "b": false, "n": -70_000 });
    primary.tell(worker, &json!({ "do": "echo", "message": message }));
    assert_eq!(primary.says(worker, "echo")["message"], message);
    if !at.reference() {
        primary.tell(worker, &order_to("circular"));
        primary.says(worker, "after circular");
        primary.return_opaque(worker);
        assert_eq!(primary.says(worker, "circular came back")["same"], true);
    }
    primary.tell(worker, &order_to("listen"));
    let port = primary.port(worker);
    assert_eq!(greet(port), worker);
    primary.leave(&[worker]);
    primary.end();
}
