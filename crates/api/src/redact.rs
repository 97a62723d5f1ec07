//! What is not shown: values that look like secrets.
//!
//! Job: one rule for every output (`describe`, `jlist`, `env`, `plan`, the API's `list`), by the *name* of a variable or
//! option, and by passwords in URLs. It errs on the side of hiding; `--reveal` is the way to see it all.
//!
//! Must not know: who asks, and whether he may.

use crate::AppSpec;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Shown instead of a value.
pub const REDACTED: &str = "[redacted]";

/// Parts of names, written without separators, that make a value a secret.
const PARTS: [&str; 13] = [
    "SECRET",
    "TOKEN",
    "PASSW",
    "PASSPHRASE",
    "PASSCODE",
    "PRIVATE",
    "APIKEY",
    "ACCESSKEY",
    "CREDENTIAL",
    "CONNECTIONSTRING",
    "COOKIE",
    "BEARER",
    "WEBHOOK",
];

/// Last words of names that do the same.
const LAST_WORDS: [&str; 5] = ["KEY", "PASS", "PWD", "PW", "AUTH"];

/// Last words of names that hold the place of a secret, and not the secret.
const PLACES: [&str; 6] = ["FILE", "PATH", "DIR", "SOCK", "SOCKET", "FD"];

/// Whether the value of a variable (or option) of this name looks like a secret.
///
/// ```
/// use everup_api::redact::looks_secret;
///
/// assert!(looks_secret("DB_PASSWORD") && looks_secret("apiKey") && looks_secret("AUTH_HEADER"));
/// assert!(!looks_secret("PORT") && !looks_secret("AUTHOR") && !looks_secret("DB_PASSWORD_FILE"));
/// ```
#[must_use]
pub fn looks_secret(name: &str) -> bool {
    let words = words(name);
    let last = words.last().map_or("", String::as_str);
    if PLACES.contains(&last) || name == "PWD" || name == "OLDPWD" {
        return false;
    }
    let joined = words.concat();
    if PARTS.iter().any(|part| joined.contains(part)) {
        return true;
    }
    let public = matches!(joined.as_str(), "KEY" | "PASS" | "PUBLICKEY") || joined.ends_with("PUBLICKEY");
    (!public && LAST_WORDS.contains(&last)) || is_about_authorisation(&words)
}

fn is_about_authorisation(words: &[String]) -> bool {
    let begins = |word: &String| word == "AUTH" || word.starts_with("AUTHORIZ") || word.starts_with("AUTHN");
    words.iter().any(begins)
}

/// The words of `DB_PASSWORD`, `dbPassword`, `--db-password`, in capitals.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before_was_lower = false;
    for character in name.chars() {
        let starts = !character.is_alphanumeric() || (before_was_lower && character.is_uppercase());
        before_was_lower = character.is_lowercase();
        if starts {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut()
            && character.is_alphanumeric()
        {
            word.extend(character.to_uppercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// What is shown of a variable's value: nothing if its name says secret, and no password of a URL.
#[must_use]
pub fn value<'a>(name: &str, value: &'a str) -> Cow<'a, str> {
    if looks_secret(name) && !value.is_empty() {
        return Cow::Borrowed(REDACTED);
    }
    without_passwords(value)
}

/// The text, without the password of each URL in it: `postgres://me:[redacted]@host/db`.
#[must_use]
pub fn without_passwords(text: &str) -> Cow<'_, str> {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(begin) = rest.find("://") {
        let (head, after) = rest.split_at(begin + 3);
        shown.push_str(head);
        rest = after;
        let Some((user, authority)) = password_of(after) else {
            continue;
        };
        shown.push_str(user);
        shown.push(':');
        shown.push_str(REDACTED);
        rest = authority;
    }
    if shown.is_empty() {
        return Cow::Borrowed(text);
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

/// The user, and what begins with the `@` after the password, if what comes after `scheme://` has a password.
fn password_of(after: &str) -> Option<(&str, &str)> {
    let end = after
        .find(|c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\''))
        .unwrap_or(after.len());
    // A password that was not escaped may hold a slash: then the last `@` before white space counts.
    let authority = after.get(..end)?;
    let at = authority.rfind('@').or_else(|| {
        let word = after.split_whitespace().next()?;
        word.find('@')
            .filter(|at| authority.contains(':') && *at > end && !is_port(authority))
    })?;
    let (user, password) = after.get(..at)?.split_once(':')?;
    (!password.is_empty()).then_some((user, after.get(at..)?))
}

fn is_port(authority: &str) -> bool {
    authority
        .rsplit_once(':')
        .is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Variables as they are shown.
#[must_use]
pub fn variables(variables: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    variables
        .iter()
        .map(|(name, text)| (name.clone(), value(name, text).into_owned()))
        .collect()
}

/// Arguments as they are shown: `--password=x`, `--password x`, and URLs.
#[must_use]
pub fn arguments(arguments: &[String]) -> Vec<String> {
    let mut shown = Vec::with_capacity(arguments.len());
    let mut is_value = false;
    for argument in arguments {
        let is_option = argument.starts_with('-');
        if is_value && !is_option {
            shown.push(REDACTED.to_owned());
            is_value = false;
            continue;
        }
        shown.push(argument_alone(argument));
        is_value = is_option && !argument.contains('=') && looks_secret(argument);
    }
    shown
}

fn argument_alone(argument: &str) -> String {
    match argument.split_once('=') {
        Some((name, text)) if !name.contains(char::is_whitespace) => {
            format!("{name}={}", value(name, text))
        }
        Some(_) | None => without_passwords(argument).into_owned(),
    }
}

/// An app's description as it is shown.
#[must_use]
pub fn app(spec: &AppSpec) -> AppSpec {
    let pm2 = spec
        .pm2
        .iter()
        .map(|(key, given)| (key.clone(), json(key, given)))
        .collect();
    AppSpec {
        script: without_passwords(&spec.script).into_owned(),
        args: arguments(&spec.args),
        node_args: arguments(&spec.node_args),
        env: variables(&spec.env),
        pm2,
        ..spec.clone()
    }
}

/// A value under a name, as it is shown: what looks secret is hidden at any depth.
#[must_use]
pub fn json(name: &str, given: &serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match given {
        Value::Object(map) => {
            let shown = map.iter().map(|(key, value)| (key.clone(), json(key, value)));
            Value::Object(shown.collect())
        }
        Value::Array(values) => values.iter().map(|value| json(name, value)).collect(),
        Value::String(text) => Value::String(value(name, text).into_owned()),
        Value::Number(_) if looks_secret(name) => Value::String(REDACTED.to_owned()),
        Value::Null | Value::Bool(_) | Value::Number(_) => given.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_secret() {
        for name in [
            "SECRET",
            "JWT_SECRET",
            "GITHUB_TOKEN",
            "DB_PASSWORD",
            "db_passwd",
            "dbPassword",
            "PGPASSWORD",
            "MYSQL_PWD",
            "SMTP_PASS",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_ACCESS_KEY_ID",
            "STRIPE_API_KEY",
            "apikey",
            "API-KEY",
            "PRIVATE_KEY",
            "ENCRYPTION_KEY",
            "GOOGLE_CREDENTIALS",
            "NPM_AUTH",
            "AUTHORIZATION",
            "BASIC_AUTH_USER",
            "--client-secret",
            "AZURE_STORAGE_CONNECTION_STRING",
            "SLACK_WEBHOOK_URL",
        ] {
            assert!(looks_secret(name), "{name}");
        }
    }

    #[test]
    fn names_that_do_not() {
        for name in [
            "PORT",
            "PATH",
            "PWD",
            "OLDPWD",
            "HOME",
            "AUTHOR",
            "NODE_ENV",
            "KEY",
            "SSH_AUTH_SOCK",
            "DB_PASSWORD_FILE",
            "PUBLIC_KEY",
            "COMPASS",
            "MONKEY",
            "",
        ] {
            assert!(!looks_secret(name), "{name}");
        }
    }

    #[test]
    fn passwords_in_urls_are_hidden_and_nothing_else() {
        let cases = [
            ("postgres://me:pw@db:5432/x", "postgres://me:[redacted]@db:5432/x"),
            ("redis://:pw@host", "redis://:[redacted]@host"),
            ("postgres://me:p/w@db/x", "postgres://me:[redacted]@db/x"),
            (
                "a mysql://u:p@h b amqp://u:p@h c",
                "a mysql://u:[redacted]@h b amqp://u:[redacted]@h c",
            ),
            ("http://host:80/a@b", "http://host:80/a@b"),
            ("http://me@host/", "http://me@host/"),
            ("no url", "no url"),
        ];
        for (given, shown) in cases {
            assert_eq!(without_passwords(given), shown);
        }
    }

    #[test]
    fn arguments_of_secret_options_are_hidden() {
        let given = [
            "--port",
            "80",
            "--token",
            "t",
            "--api-key=k",
            "-v",
            "A_SECRET=s",
            "x",
        ];
        let given: Vec<String> = given.map(str::to_owned).into();
        let shown = [
            "--port",
            "80",
            "--token",
            REDACTED,
            "--api-key=[redacted]",
            "-v",
            "A_SECRET=[redacted]",
            "x",
        ];
        assert_eq!(arguments(&given), shown);
    }

    #[test]
    fn an_app_shows_no_secret_wherever_it_is() {
        let mut spec = AppSpec {
            name: "a".to_owned(),
            args: vec!["--password".to_owned(), "s3cr3t".to_owned()],
            ..AppSpec::default()
        };
        spec.env.insert("TOKEN".to_owned(), "s3cr3t".to_owned());
        spec.env.insert("URL".to_owned(), "http://u:s3cr3t@h".to_owned());
        spec.pm2.insert(
            "basic_auth".to_owned(),
            serde_json::json!({"username": "u", "password": "s3cr3t"}),
        );
        let shown = serde_json::to_string(&app(&spec)).unwrap();
        assert!(!shown.contains("s3cr3t"), "{shown}");
    }

    proptest::proptest! {
        #[test]
        fn any_text_can_be_looked_at(name in ".*", text in "[a-z:/@ \\PC]*") {
            let _shown = value(&name, &text);
        }
    }
}
