//! Several named secrets: a token picks one by its `kid`, and without a `kid` all are tried.

use std::fs;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::token::{OTHER_SECRET, SECRET, claims, hs256, signed, token};
use crate::support::{TempDir, TestServer, program, wait_until};

const THIRD_SECRET: &str = "Vb4Nm8Qw2Er6Ty0Ui-Op3As7Df1Gh5JkLz";

fn named(kid: Value, secret: &str) -> String {
    let header = json!({"alg": "HS256", "kid": kid});
    let sign = |message: &[u8]| hs256(secret.as_bytes(), message);
    token(header, &claims(json!({})), sign)
}

fn status(server: &TestServer, token: &str) -> u16 {
    server.raw().get(&format!("/stats?token={token}")).status
}

/// Writes the secrets to files, and returns the value of the setting.
fn setting(disk: &TempDir, secrets: &[(&str, &str)]) -> String {
    let item = |(name, secret): &(&str, &str)| {
        let path = disk.path(name);
        fs::write(&path, format!("{secret}\n")).expect("write");
        format!("{name}={}", path.display())
    };
    secrets.iter().map(item).collect::<Vec<_>>().join(",")
}

#[test]
fn token_picks_a_secret_by_name_or_is_tried_with_all() {
    let disk = TempDir::new();
    let named_secrets = setting(&disk, &[("new", SECRET), ("old", OTHER_SECRET)]);
    let server = TestServer::start(&["--named-secret-key-files", &named_secrets]);
    for (kid, secret, expected) in [
        (json!("new"), SECRET, 200),
        (json!("old"), OTHER_SECRET, 200),
        (json!("old"), SECRET, 401),
        (json!("new"), OTHER_SECRET, 401),
        (json!("other"), SECRET, 401),
        (json!(""), SECRET, 401),
        (Value::Null, SECRET, 200),
        (Value::Null, OTHER_SECRET, 200),
        (Value::Null, THIRD_SECRET, 401),
    ] {
        assert_eq!(
            status(&server, &named(kid.clone(), secret)),
            expected,
            "{kid} {secret}"
        );
    }
    assert_eq!(
        status(&server, &signed(OTHER_SECRET, &claims(json!({})))),
        200
    );
    // A secret in the file of a name is read again, and its name stays.
    fs::write(disk.path("old"), THIRD_SECRET).expect("write");
    server.signal(Signal::HUP);
    wait_until("the new secret is used", || {
        status(&server, &named(json!("old"), THIRD_SECRET)) == 200
    });
    assert_eq!(status(&server, &named(json!("old"), OTHER_SECRET)), 401);
    assert_eq!(status(&server, &named(json!("new"), SECRET)), 200);
}

#[test]
fn secrets_without_a_name_stand_beside_named_ones() {
    let disk = TempDir::new();
    let named_secrets = setting(&disk, &[("a", OTHER_SECRET)]);
    let server = TestServer::with_tokens(&["--named-secret-key-files", &named_secrets]);
    // A secret without a name checks tokens with any.
    assert_eq!(status(&server, &named(json!("anything"), SECRET)), 200);
    assert_eq!(status(&server, &named(json!("a"), OTHER_SECRET)), 200);
    assert_eq!(
        status(&server, &named(json!("anything"), OTHER_SECRET)),
        401
    );
}

#[test]
fn token_command_signs_with_the_first_and_names_it() {
    let disk = TempDir::new();
    let named_secrets = setting(&disk, &[("2026-12", SECRET), ("2026-11", OTHER_SECRET)]);
    let run = |args: &[&str]| {
        let mut command = program();
        command.args(args);
        let output = command
            .args(["--named-secret-key-files", &named_secrets])
            .output()
            .expect("run");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        text.trim().to_owned()
    };
    let minted = run(&["token", "--user", "bob", "--subscribe", "*"]);
    assert!(run(&["token", "check", &minted]).contains("bob"));
    let header = minted.split('.').next().expect("a header");
    let header = data_encoding::BASE64URL_NOPAD.decode(header.as_bytes());
    let header: Value = serde_json::from_slice(&header.expect("base64")).expect("JSON");
    assert_eq!(header["kid"], "2026-12");
    let only_new = named_secrets.split(',').next().expect("the first");
    let server = TestServer::start(&["--named-secret-key-files", only_new]);
    assert_eq!(status(&server, &minted), 200);
}

#[test]
fn wrong_setting_fails_with_one_line() {
    let disk = TempDir::new();
    let good = setting(&disk, &[("a", SECRET)]);
    let many: Vec<String> = (0..17)
        .map(|n| format!("k{n}={}", disk.path("a").display()))
        .collect();
    let weak = setting(&disk, &[("weak", "secret-key-here")]);
    for (value, why) in [
        (format!("{good},{good}"), "two secrets are called"),
        (many.join(","), "at most 16"),
        (weak, "easy to guess"),
        (
            format!("a={}", disk.path("missing").display()),
            "--named-secret-key-files",
        ),
        ("a".to_owned(), "NAME=PATH"),
        ("=b".to_owned(), "NAME=PATH"),
        ("a=".to_owned(), "NAME=PATH"),
        (
            "a=k/a,".to_owned(),
            "\"a=k/a,\": nothing follows the last comma",
        ),
        (",a=k/a".to_owned(), "\",a=k/a\": nothing precedes a comma"),
    ] {
        let mut command = TestServer::command(&["--named-secret-key-files", &value]);
        let output = command.stdout(Stdio::null()).output().expect("run");
        let stderr = String::from_utf8(output.stderr).expect("UTF-8");
        let line = stderr.lines().last().expect("a line");
        assert!(!output.status.success(), "{value}");
        assert!(line.contains(why), "{value}: {line}");
    }
}
