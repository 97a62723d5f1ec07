//! `everup.toml`: what it says, what is wrong in it and where.

#![expect(clippy::unwrap_used, reason = "a failed test is the answer to each of them")]

use everup_api::{AppSpec, Condition};
use everup_config::{
    ConfigError, Loaded, Options, discover, is_config_name, load, load_str, sample_toml, schema,
};
use std::path::{Path, PathBuf};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            let path = folder.path(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn options(&self) -> Options {
        Options {
            cwd: self.0.path().to_owned(),
            process_env: [("HOME".to_owned(), "/home/me".to_owned())].into(),
            ..Options::default()
        }
    }

    fn load(&self, name: &str) -> Result<Loaded, ConfigError> {
        load(Path::new(name), &self.options())
    }
}

fn one(text: &str) -> Result<Loaded, ConfigError> {
    Folder::new(&[("everup.toml", text)]).load("everup.toml")
}

/// The messages, without the folder.
fn wrong(text: &str) -> Vec<String> {
    let folder = Folder::new(&[("everup.toml", text)]);
    let error = folder.load("everup.toml").unwrap_err();
    let prefix = format!("{}/", folder.0.path().display());
    error
        .findings()
        .iter()
        .map(|finding| finding.to_string().replace(&prefix, ""))
        .collect()
}

#[test]
fn an_app_with_all_sorts_of_keys() {
    let text = r#"
        [defaults]
        kill_timeout = "9s"
        instances = 2
        env = { A = "default", LEVEL = 1.10 }

        [app.web]
        script = "src/web.js"
        args = "--port 80 'a b'"
        cwd = "api"
        instances = "max"
        env_file = ".env"
        out_file = "logs/out.log"
        pid_file = "~/web.pid"
        depends_on = { db = "ready", cache = "started" }
        watch = true
        policy = "sticky"
        stop_exit_codes = [0, 3]
        [app.web.secret_files]
        DB_KEY = "secrets/db"
        [app.web.env]
        A = "web"
        ON = true
        [app.web.env_production]
        A = "production"

        [app.db]
        script = "db"
    "#;
    let folder = Folder::new(&[("everup.toml", text)]);
    let loaded = folder.load("everup.toml").unwrap();
    let [web, db] = loaded.apps.as_slice() else {
        panic!("{:?}", loaded.apps)
    };
    assert_eq!((web.name.as_str(), web.script.as_str()), ("web", "src/web.js"));
    assert_eq!(web.args, ["--port", "80", "a b"]);
    assert_eq!(web.cwd, folder.path("api"));
    assert_eq!(web.env_file, [folder.path("api/.env")]);
    assert_eq!(web.out_file, Some(folder.path("api/logs/out.log")));
    assert_eq!(web.pid_file, Some("/home/me/web.pid".into()));
    assert_eq!(web.secret_files["DB_KEY"], folder.path("api/secrets/db"));
    assert_eq!(web.depends_on["cache"], Condition::Started);
    assert_eq!(web.watch, [PathBuf::from(".")]);
    assert_eq!(web.stop_exit_codes, [0, 3]);
    let env: Vec<String> = web
        .env
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(env, ["A=web", "LEVEL=1.10", "ON=true"]);
    assert_eq!(
        (web.instances.as_deref(), db.instances.as_deref()),
        (Some("max"), Some("2"))
    );
    assert_eq!(
        (web.kill_timeout.as_deref(), db.kill_timeout.as_deref()),
        (Some("9s"), Some("9s"))
    );
    assert_eq!(db.cwd, folder.0.path());

    let options = Options {
        env_name: Some("production".to_owned()),
        ..folder.options()
    };
    let loaded = load(Path::new("everup.toml"), &options).unwrap();
    assert_eq!(loaded.apps[0].env["A"], "production");
}

#[test]
fn what_is_not_said_is_absent() {
    let loaded = one("[app.a]\nscript = 'a.js'\n").unwrap();
    let wanted = AppSpec {
        name: "a".to_owned(),
        script: "a.js".to_owned(),
        cwd: loaded.origin.parent().unwrap().to_owned(),
        ..AppSpec::default()
    };
    assert_eq!(loaded.apps, [wanted]);
}

#[test]
fn a_list_of_apps_with_names() {
    let loaded = one("[[app]]\nname = 'a'\nscript = 'x.js'\n[[app]]\nscript = 'b.js'\n").unwrap();
    let names: Vec<&str> = loaded.apps.iter().map(|app| app.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn everything_that_is_wrong_is_said_with_its_place() {
    let text = "\
[app.web]
script = 'a.js'
instancse = 4
kill_timeout = 'soon'
autorestart = 'true'
vizion = false

[app.empty]
[top]
";
    assert_eq!(
        wrong(text),
        [
            "everup.toml:9:2: there is no key `top` at the top",
            "everup.toml:3:1: there is no key `instancse`",
            "everup.toml:6:1: `vizion` means nothing here: no version control is looked at",
            "everup.toml:4:16: `kill_timeout` of app `web` is `soon`, and a time is needed",
            "everup.toml:5:15: `autorestart` of app `web` is the text \"true\"",
            "everup.toml:8:6: app `empty` has no `script`",
        ]
    );
}

#[test]
fn a_finding_shows_the_line_and_what_to_do() {
    let error = one("[app.web]\nscript = 'a.js'\ninstancse = 4\n").unwrap_err();
    let finding = &error.findings()[0];
    assert_eq!(
        finding.snippet().unwrap(),
        "  |\n3 | instancse = 4\n  | ^^^^^^^^^"
    );
    assert_eq!(finding.hint.as_deref(), Some("did you mean `instances`?"));
}

#[test]
fn keys_of_an_app_at_the_top() {
    let error = one("script = 'a.js'\n").unwrap_err();
    assert_eq!(
        error.hint(),
        Some("keys of an app stand below its header: [app.NAME]")
    );
}

#[test]
fn the_same_name_twice() {
    let text = "[[app]]\nname = 'a'\nscript = 'x.js'\n[[app]]\nname = 'a'\nscript = 'y.js'\n";
    assert_eq!(wrong(text), ["everup.toml:4:1: app `a` is here twice"]);
}

#[test]
fn other_files_are_included() {
    let folder = Folder::new(&[
        (
            "everup.toml",
            "include = ['sub/everup.toml', 'old.yml']\n[app.main]\nscript = 'm.js'\n",
        ),
        (
            "sub/everup.toml",
            "[defaults]\numask = '027'\n[app.sub]\nscript = 's.js'\n",
        ),
        (
            "old.yml",
            "apps:\n  - {name: old, script: o.js, unknown_key: 1}\n",
        ),
    ]);
    let loaded = folder.load("everup.toml").unwrap();
    let shown: Vec<(&str, &Path, bool)> = loaded
        .apps
        .iter()
        .map(|app| (app.name.as_str(), app.cwd.as_path(), app.umask.is_some()))
        .collect();
    let (top, sub) = (folder.0.path(), folder.path("sub"));
    assert_eq!(
        shown,
        [
            ("sub", sub.as_path(), true),
            ("old", top, false),
            ("main", top, false)
        ]
    );
    assert_eq!(loaded.files.len(), 3);
    assert_eq!(loaded.warnings.len(), 1);
}

#[test]
fn files_that_include_themselves() {
    let folder = Folder::new(&[
        ("everup.toml", "include = 'b.toml'\n"),
        ("b.toml", "include = 'everup.toml'\n"),
    ]);
    let error = folder.load("everup.toml").unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("b.toml:1:11: `everup.toml` includes itself"),
        "{text}"
    );
}

#[test]
fn an_included_file_that_is_not_there() {
    let messages = wrong("include = ['gone.toml']\n");
    assert!(
        messages[0].starts_with("everup.toml:1:12: cannot read gone.toml: No such file"),
        "{messages:?}"
    );
}

#[test]
fn files_that_cannot_be_read() {
    let folder = Folder::new(&[("a.ini", ""), ("b.toml", "x = \n"), ("dir.toml/x", "")]);
    assert!(matches!(
        folder.load("a.ini"),
        Err(ConfigError::UnknownFormat { .. })
    ));
    assert!(matches!(folder.load("c.toml"), Err(ConfigError::Read { .. })));
    assert!(matches!(folder.load("dir.toml"), Err(ConfigError::Read { .. })));
    assert!(matches!(folder.load("b.toml"), Err(ConfigError::Invalid(_))));
}

#[test]
fn which_file_is_taken_without_a_name() {
    let folder = Folder::new(&[]);
    assert!(matches!(
        discover(folder.0.path()),
        Err(ConfigError::NotFound { .. })
    ));
    for name in [
        "process.json",
        "ecosystem.config.mjs",
        "ecosystem.config.js",
        "everup.toml",
    ] {
        std::fs::write(folder.path(name), "").unwrap();
        assert_eq!(discover(folder.0.path()).unwrap(), folder.path(name));
    }
}

#[test]
fn names_of_files_of_apps() {
    for name in [
        "everup.toml",
        "process.json",
        "a.yml",
        "b.yaml",
        "ecosystem.config.js",
        "x/pm2.config.cjs",
        "process.json.old",
    ] {
        assert!(is_config_name(name), "{name}");
    }
    for name in ["app.js", "server.py", "config.js", "all", "toml"] {
        assert!(!is_config_name(name), "{name}");
    }
}

#[test]
fn pm2_files_are_forgiving() {
    let folder = Folder::new(&[(
        "a.yml",
        "apps:\n  - name: a\n    script: a.js\n    watchh: true\n    vizion: false\n    treekill: false\n  - {name: a, script: b.js}\n",
    )]);
    let loaded = folder.load("a.yml").unwrap();
    let prefix = format!("{}/", folder.0.path().display());
    let warnings: Vec<String> = loaded
        .warnings
        .iter()
        .map(|warning| warning.to_string().replace(&prefix, ""))
        .collect();
    assert_eq!(
        warnings,
        [
            "a.yml:4:5: there is no key `watchh`: it has no effect",
            "a.yml:6:5: `treekill` of app `a` has no effect: the process tree of a worker always ends with it",
            "a.yml:7:5: a second app `a` is here: it is called `a-2`",
        ]
    );
    assert_eq!(loaded.warnings[0].hint.as_deref(), Some("did you mean `watch`?"));
    assert_eq!(loaded.apps[0].pm2["vizion"], false);
    assert_eq!(loaded.apps[1].name, "a-2");
}

#[test]
fn package_json_has_its_apps_below_pm2() {
    for (text, wanted) in [
        (
            r#"{"name": "x", "pm2": [{"name": "a", "script": "a.js"}]}"#,
            Ok("a"),
        ),
        (
            r#"{"name": "x", "pm2": {"apps": [{"name": "b", "script": "a.js"}]}}"#,
            Ok("b"),
        ),
        (r#"{"name": "x", "pm2": {"script": "c.js"}}"#, Ok("c")),
        (
            r#"{"name": "x", "scripts": {}}"#,
            Err("there is no key `pm2` in it"),
        ),
    ] {
        let folder = Folder::new(&[("package.json", text)]);
        let loaded = folder.load("package.json");
        let name = loaded.map(|loaded| loaded.apps[0].name.clone());
        match (name, wanted) {
            (Ok(name), Ok(wanted)) => assert_eq!(name, wanted),
            (Err(error), Err(wanted)) => assert!(error.to_string().contains(wanted), "{error}"),
            (got, wanted) => panic!("{got:?} instead of {wanted:?}"),
        }
    }
}

#[test]
fn files_without_apps_are_errors() {
    for (name, text, wanted) in [
        ("a.json", "{}", "there are no apps in it"),
        ("a.json", "{\"apps\": []}", "there are no apps in it"),
        ("a.yml", "", "there are no apps in it"),
        (
            "a.yml",
            "app: [{script: a.js}]",
            "there is no key `app` at the top",
        ),
        ("a.json", "{\"name\": \"a\"}", "app `a` has no `script`"),
        ("a.json", "[3]", "an app is a table of keys, and this is a number"),
    ] {
        let error = Folder::new(&[(name, text)]).load(name).unwrap_err();
        assert!(error.to_string().contains(wanted), "{text}: {error}");
    }
}

#[test]
fn a_script_that_is_only_where_the_caller_is() {
    let folder = Folder::new(&[
        (
            "config/a.json",
            r#"[{"name": "a", "script": "./app.js"}, {"name": "b", "script": "here.js"}]"#,
        ),
        ("app.js", ""),
        ("config/here.js", ""),
        ("here.js", ""),
    ]);
    let loaded = folder.load("config/a.json").unwrap();
    assert_eq!(loaded.apps[0].cwd, folder.0.path());
    assert_eq!(loaded.apps[1].cwd, folder.path("config"));
    assert_eq!(loaded.warnings.len(), 1);
    assert!(
        loaded.warnings[0].message.contains("not in the file's folder"),
        "{:?}",
        loaded.warnings
    );
}

#[test]
fn keys_that_change_the_name_and_the_environment() {
    let text = r#"[{"name": "a", "script": "a.js", "append_env_to_name": true, "name_prefix": "x", "port": 80,
        "env": {"PORT": 1}, "env_prod": {"B": 2}, "time": true}]"#;
    let options = Options {
        env_name: Some("prod".to_owned()),
        only: vec!["a".to_owned()],
        cwd: "/srv".into(),
        ..Options::default()
    };
    let app = &load_str(text, &options).unwrap().apps[0];
    assert_eq!(
        (app.name.as_str(), app.cwd.as_path()),
        ("x:a-prod", Path::new("/srv"))
    );
    assert_eq!((app.env["PORT"].as_str(), app.env["B"].as_str()), ("80", "2"));
    assert_eq!(app.log_date_format.as_deref(), Some("YYYY-MM-DDTHH:mm:ss"));
}

#[test]
fn one_key_under_two_names() {
    let folder = Folder::new(&[(
        "a.yml",
        "- {name: a, exec: x.js, script: y.js}\n- {name: b, cmd: z.js, script: }\n",
    )]);
    let loaded = folder.load("a.yml").unwrap();
    assert_eq!(
        (loaded.apps[0].script.as_str(), loaded.apps[1].script.as_str()),
        ("y.js", "z.js")
    );
    assert_eq!(loaded.warnings.len(), 1);
}

#[test]
fn the_sample_is_a_file() {
    let loaded = one(sample_toml()).unwrap();
    assert_eq!(loaded.apps[0].name, "web");
    assert!(loaded.warnings.is_empty());
}

/// `UPDATE=1 cargo test -p everup-config --test own` writes it.
#[test]
fn the_schema_that_is_checked_in_is_this_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/everup.schema.json");
    let now = format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == now,
        "docs/everup.schema.json is stale: UPDATE=1 cargo test -p everup-config --test own"
    );
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), which in 0_usize..4) {
        let name = ["a.toml", "a.json", "a.yml", "package.json"][which];
        let folder = Folder::new(&[]);
        std::fs::write(folder.path(name), bytes).unwrap();
        let _loaded = folder.load(name);
    }

    #[test]
    fn no_app_makes_it_panic(key in "[a-z_]{1,20}|script|env|args|watch|depends_on|ignore_watch|stop_exit_codes",
                             value in "[0-9a-z\"'\\[\\]{}:=., -]{0,30}") {
        let folder = Folder::new(&[("a.yml", &format!("- script: x\n  {key}: {value}\n")),
                                   ("a.toml", &format!("[app.x]\nscript = 'x'\n{key} = {value}\n"))]);
        let _loaded = (folder.load("a.yml"), folder.load("a.toml"));
    }
}
