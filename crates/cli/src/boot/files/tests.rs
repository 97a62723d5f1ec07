//! Answers, without a network.

use super::body::Payload;
use super::options::Options;
use super::server::respond;
use hyper::body::Body;
use hyper::{Method, Request, StatusCode};
use std::fs;
use std::future::poll_fn;
use std::path::Path;
use std::pin::Pin;

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("site/index.html", "home");
    write("site/app.js", "0123456789");
    write("site/sub/index.html", "sub");
    write("site/list/a b.txt", "x");
    write("site/.env", "SECRET=1");
    write("site/.well-known/x", "known");
    write("site/big.bin", &"x".repeat(200_000));
    write("secret.txt", "secret");
    folder
}

fn options(folder: &Path) -> Options {
    Options {
        root: folder.join("site"),
        host: "127.0.0.1".into(),
        port: 0,
        spa: false,
        ftp: false,
        homepage: "/index.html".into(),
        login: None,
    }
}

struct Got {
    status: StatusCode,
    headers: hyper::HeaderMap,
    body: String,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

fn ask(options: &Options, method: Method, path: &str, headers: &[(&str, &str)]) -> Got {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (parts, ()) = request.body(()).unwrap().into_parts();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (parts, mut body) = respond(options.clone().into(), parts).await.into_parts();
        let body = text(&mut body).await;
        Got {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    })
}

async fn text(body: &mut Payload) -> String {
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
        bytes.extend_from_slice(&frame.unwrap().into_data().unwrap());
    }
    String::from_utf8(bytes).unwrap()
}

fn get(options: &Options, path: &str) -> (u16, String) {
    let got = ask(options, Method::GET, path, &[]);
    (got.status.as_u16(), got.body)
}

#[test]
fn files_and_what_is_none() {
    let folder = folder();
    let options = options(folder.path());
    assert_eq!(get(&options, "/"), (200, "home".into()));
    assert_eq!(get(&options, "/app.js"), (200, "0123456789".into()));
    assert_eq!(get(&options, "/big.bin"), (200, "x".repeat(200_000)));
    assert_eq!(get(&options, "/sub/"), (200, "sub".into()));
    assert_eq!(get(&options, "/none"), (404, "404 Not Found".into()));
    assert_eq!(get(&options, "/app.js/x").0, 404);
    assert_eq!(get(&options, "/list/").0, 404);
    assert_eq!(get(&options, "/.env").0, 404);
    assert_eq!(get(&options, "/.well-known/x"), (200, "known".into()));
    fs::write(folder.path().join("site/404.html"), "mine").unwrap();
    assert_eq!(get(&options, "/none"), (404, "mine".into()));
    let moved = ask(&options, Method::GET, "/sub?a=1", &[]);
    assert_eq!(
        (moved.status.as_u16(), moved.header("location")),
        (301, "/sub/?a=1")
    );
    let moved = ask(&options, Method::GET, "//sub", &[]);
    assert_eq!(moved.header("location"), "/sub/", "another host");
}

#[test]
fn nothing_outside_is_served() {
    let folder = folder();
    let options = options(folder.path());
    for path in [
        "/../secret.txt",
        "/sub/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e%2fsecret.txt",
    ] {
        let (status, body) = get(&options, path);
        assert!(
            status == 403 && !body.contains("secret"),
            "{path}: {status} {body}"
        );
    }
}

#[test]
fn an_app_in_the_browser_gets_its_page() {
    let folder = folder();
    let options = Options {
        spa: true,
        ..options(folder.path())
    };
    assert_eq!(get(&options, "/users/7"), (200, "home".into()));
    assert_eq!(get(&options, "/users/app.js"), (200, "0123456789".into()));
    assert_eq!(get(&options, "/.env").0, 404);
}

#[test]
fn a_directory_is_listed_if_wanted() {
    let folder = folder();
    let options = Options {
        ftp: true,
        ..options(folder.path())
    };
    let (status, page) = get(&options, "/list/");
    assert!(status == 200 && page.contains("href=\"./a%20b.txt\""), "{page}");
    assert_eq!(get(&options, "/sub/"), (200, "sub".into()));
    fs::remove_file(folder.path().join("site/index.html")).unwrap();
    let (_, page) = get(&options, "/");
    assert!(page.contains("app.js") && !page.contains(".env"), "{page}");
}

#[test]
fn parts_and_validators() {
    let folder = folder();
    let options = options(folder.path());
    let whole = ask(&options, Method::GET, "/app.js", &[]);
    assert_eq!(whole.header("content-length"), "10");
    assert_eq!(whole.header("access-control-allow-origin"), "*");
    let part = ask(&options, Method::GET, "/app.js", &[("range", "bytes=2-4")]);
    assert_eq!((part.status.as_u16(), part.body.as_str()), (206, "234"));
    assert_eq!(part.header("content-range"), "bytes 2-4/10");
    let none = ask(&options, Method::GET, "/app.js", &[("range", "bytes=20-")]);
    assert_eq!(
        (none.status.as_u16(), none.header("content-range")),
        (416, "bytes */10")
    );
    for (name, value) in [
        ("if-none-match", whole.header("etag")),
        ("if-modified-since", whole.header("last-modified")),
    ] {
        let known = ask(&options, Method::GET, "/app.js", &[(name, value)]);
        assert_eq!((known.status.as_u16(), known.body.as_str()), (304, ""), "{name}");
    }
    let head = ask(&options, Method::HEAD, "/app.js", &[]);
    assert_eq!((head.header("content-length"), head.body.as_str()), ("10", ""));
    assert_eq!(ask(&options, Method::POST, "/app.js", &[]).status.as_u16(), 405);
}

#[test]
fn a_password_is_asked_for() {
    let folder = folder();
    let options = Options {
        login: Some(("u".into(), "p".into())),
        ..options(folder.path())
    };
    let refused = ask(&options, Method::GET, "/", &[]);
    assert!(refused.status.as_u16() == 401 && refused.header("www-authenticate").starts_with("Basic "));
    assert_eq!(
        ask(&options, Method::GET, "/", &[("authorization", "Basic dTpx")])
            .status
            .as_u16(),
        401
    );
    assert_eq!(
        ask(&options, Method::GET, "/", &[("authorization", "Basic dTpw")]).body,
        "home"
    );
}

#[test]
fn a_pipe_is_no_file() {
    let folder = folder();
    let pipe = folder.path().join("site/pipe");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(get(&options(folder.path()), "/pipe").0, 404);
}
