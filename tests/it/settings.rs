//! Settings: flags, environment variables and defaults, and the one line that each mistake gets.

use std::fs;
use std::net::TcpListener;

use crate::support::{FAILURE, TempDir, TestServer, USAGE, program, run};

// Each case is a flag, an invalid value, and a part of the remedy.
// The program ends with the usage code and one line that has all three.
#[test]
fn invalid_value_fails_with_one_line_of_setting_value_and_remedy() {
    for (arg, value, remedy) in [
        ("--port", "70000", "0 to 65535"),
        ("--port", "http", "0 to 65535"),
        ("--port", "-1", "0 to 65535"),
        ("--host", "nowhere", "127.0.0.1"),
        ("--host", "127.0.0.1:80", "127.0.0.1"),
        ("--allow-origin", "example.com", "https://example.com"),
        ("--allow-origin", "https://b\u{fc}cher.example", "xn--"),
        ("--allow-origin", "https://a?b", "https://example.com"),
        (
            "--allow-origin",
            "https://a.example/path",
            "https://example.com",
        ),
        ("--fan-out-threads", "many", "auto"),
        ("--fan-out-threads", "-1", "0 to 128"),
        ("--fan-out-threads", "129", "0 to 128"),
        ("--fan-out-threads", "", "value"),
        ("--max-connections", "0", "auto"),
        ("--max-connections", "many", "auto"),
        ("--max-message-bytes", "64k", "64KiB"),
        ("--max-message-bytes", "0", "64KiB"),
        ("--max-rooms", "0", "1 or more"),
        ("--max-rooms-per-connection", "-3", "1 or more"),
        ("--outbox-bytes", "100", "at least"),
        ("--slow-timeout", "0", "more than 0"),
        ("--ping-interval", "soon", "0.5"),
        ("--pong-timeout", "inf", "0.5"),
        ("--head-timeout", "-1", "0.5"),
        ("--keep-alive", "1e99", "0.5"),
        ("--drain", "nan", "0.5"),
        ("--drain", "60", "--shutdown-timeout"),
        ("--shutdown-timeout", "10sec", "0.5"),
        ("--history-messages", "1.5", "1 or more"),
        ("--history-bytes", "1 MB", "1MiB"),
        ("--history-age", "", "value"),
        ("--history-total-bytes", "99999999999GiB", "1MiB"),
        ("--log-level", "loud", "debug"),
        ("--log-format", "xml", "json"),
    ] {
        let ended = run(program().arg(format!("{arg}={value}")));
        let line = ended.only_line();
        assert_eq!(ended.code, USAGE, "{line}");
        for part in [arg, value, remedy] {
            assert!(line.contains(part), "no {part:?} in {line:?}");
        }
    }
}

#[test]
fn unknown_flag_fails_with_one_line_and_a_suggestion() {
    for (arg, part) in [
        ("--prot=1", "--port"),
        ("--max-conections=1", "--max-connections"),
        ("--zzzz", "--help"),
        ("-x", "--help"),
        ("serve-me", "--help"),
    ] {
        let ended = run(program().arg(arg));
        let line = ended.only_line();
        assert_eq!(ended.code, USAGE, "{line}");
        assert!(line.contains(part), "no {part:?} in {line:?}");
        let given = arg.split('=').next().unwrap_or(arg);
        assert!(line.contains(given), "no {given:?} in {line:?}");
    }
    for args in [&["--port"][..], &["--port=1", "--port=2"], &["--echo=1"]] {
        let ended = run(program().args(args));
        assert_eq!(ended.code, USAGE, "{args:?}");
        assert!(
            ended
                .only_line()
                .contains(args[0].split('=').next().unwrap_or_default())
        );
    }
}

#[test]
fn invalid_variable_fails_with_one_line() {
    for (name, value, remedy) in [
        ("WSCAST_PORT", "http", "0 to 65535"),
        ("PORT", "70000", "0 to 65535"),
        ("WSCAST_DRAIN", "soon", "0.5"),
        ("WSCAST_LOG_LEVEL", "loud", "debug"),
        ("WSCAST_ECHO", "perhaps", "true"),
    ] {
        let ended = run(program().env(name, value));
        let line = ended.only_line();
        assert_eq!(ended.code, USAGE, "{name}: {line}");
        for part in [name, value, remedy] {
            assert!(line.contains(part), "{name}: no {part:?} in {line:?}");
        }
    }
}

#[test]
fn settings_without_effect_are_warned_about() {
    let dir = TempDir::new();
    let path = dir.arg("wscast.toml");
    let secret = "sixteen-bytes-or-more";
    for (file, args, warning) in [
        (
            "[[rooms]]\nmatch = 'chat:*'\n[[rooms]]\nmatch = 'chat:a'\n",
            &[][..],
            "FILE:3: the rule for chat:a applies to no room, because that for chat:* at FILE:1 comes first",
        ),
        (
            "[[rooms]]\nmatch = 'chat:a'\n[[rooms]]\nmatch = 'chat:*'\n",
            &[],
            "",
        ),
        (
            "",
            &["--webhook-secret", secret],
            "--webhook-secret is not used, because --webhook is not set",
        ),
        (
            "webhook-secret-file = 'secret'",
            &[],
            "FILE:1: webhook-secret-file is not used, because --webhook is not set",
        ),
        (
            "webhook = 'http://127.0.0.1:1'",
            &["--webhook-secret", secret],
            "",
        ),
    ] {
        fs::write(dir.path("wscast.toml"), file).expect("write");
        let mut command = program();
        command
            .args(["--check-config", "--config", &path])
            .args(args);
        let ended = run(&mut command);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let warned = ended.stderr.replace(&path, "FILE");
        assert_eq!(
            warned.lines().count(),
            usize::from(!warning.is_empty()),
            "{warned}"
        );
        assert!(warned.contains(warning), "{warned}");
    }
}

// Prints the defaults, changed values and a hidden one.
// Invalid settings end the check with the usage code.
#[test]
fn check_config_prints_each_setting_and_starts_nothing() {
    let ended = run(program().arg("--check-config"));
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let expected = [
        ("--host", "0.0.0.0,::"),
        ("--port", "5000"),
        ("--welcome", "Welcome to wscast"),
        ("--allow-origin", "*"),
        ("--echo", "false"),
        ("--max-connections", "auto"),
        ("--max-message-bytes", "64KiB"),
        ("--max-rooms", "10000"),
        ("--max-rooms-per-connection", "32"),
        ("--max-members-per-room", "20000"),
        ("--max-connections-per-address", "500"),
        ("--max-connection-rate", "50"),
        ("--max-http-rate", "100"),
        ("--max-new-rooms", "60"),
        ("--max-auth-failures", "60"),
        ("--trusted-proxies", "(none)"),
        ("--proxy-protocol", "false"),
        ("--outbox-bytes", "1MiB"),
        ("--slow-timeout", "10s"),
        ("--ping-interval", "25s"),
        ("--pong-timeout", "10s"),
        ("--head-timeout", "10s"),
        ("--keep-alive", "75s"),
        ("--drain-delay", "0s"),
        ("--drain", "1s"),
        ("--shutdown-timeout", "10s"),
        ("--history-messages", "1000"),
        ("--history-bytes", "1MiB"),
        ("--history-age", "1h"),
        ("--history-total-bytes", "64MiB"),
        ("--log-level", "info"),
        ("--log-format", "text"),
        ("--access-log", "false"),
        ("--log-file", "(none)"),
    ];
    for (flag, value) in expected {
        assert_eq!(ended.setting(flag), Some(value), "{flag}");
    }
    let changed = run(program().args(["--check-config", "--port=81", "--echo", "--welcome=a b"]));
    assert_eq!(changed.setting("--port"), Some("81"));
    assert_eq!(changed.setting("--echo"), Some("true"));
    assert_eq!(changed.setting("--welcome"), Some("a b"));
    // The URL may contain a password, so it is not printed.
    let with_redis = run(program().args(["--check-config", "--redis=redis://:sesame@127.0.0.1"]));
    if cfg!(feature = "redis") {
        assert_eq!(with_redis.setting("--redis"), Some("(set)"));
    } else {
        assert!(with_redis.only_line().contains("built without Redis"));
    }
    // Settings that stop the server stop the check, too.
    assert_eq!(
        run(program().args(["--check-config", "--port=x"])).code,
        USAGE
    );
    assert_eq!(
        run(program().args(["--check-config", "--outbox-bytes=1"])).code,
        USAGE
    );
}

#[test]
fn help_shows_each_flag_with_its_variable_and_default() {
    let help = run(program().arg("--help"));
    assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
    let settings = run(program().arg("--check-config"));
    let paragraphs: Vec<&str> = help.stdout.split("\n\n").collect();
    for (flag, default, _) in settings.settings() {
        let variable = format!("WSCAST_{}", flag[2..].replace('-', "_").to_uppercase());
        // Whole words only: `--max-rooms-per-connection` starts with `--max-rooms`.
        let about = paragraphs.iter().find(|paragraph| {
            let mut words = paragraph.split_whitespace();
            words.any(|word| word == flag)
        });
        let about = about.unwrap_or_else(|| panic!("no {flag} in {}", help.stdout));
        assert!(
            about.contains(&format!("[env: {variable}")),
            "{variable} in {about}"
        );
        // Defaults with spaces are quoted, as in a shell.
        let defaults = [
            format!("[default: {default}]"),
            format!("[default: \"{default}\"]"),
        ];
        assert!(
            ["false", "(none)"].contains(&default) || defaults.iter().any(|d| about.contains(d)),
            "{default} in {about}"
        );
    }
    let version = run(program().arg("--version"));
    assert_eq!(version.code, Some(0));
    assert!(version.stdout.starts_with("wscast "), "{}", version.stdout);
}

#[test]
fn flags_override_variables_and_those_override_the_platforms() {
    let port = |variables: &[(&str, &str)], args: &[&str]| {
        let mut command = program();
        command.arg("--check-config").args(args);
        command.envs(variables.iter().copied());
        let ended = run(&mut command);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let setting = |flag| ended.setting(flag).expect("printed").to_owned();
        (setting("--host"), setting("--port"))
    };
    let platform = [("HOST", "127.0.0.3"), ("PORT", "83")];
    let ours = [("WSCAST_HOST", "127.0.0.2"), ("WSCAST_PORT", "82")];
    let both = [platform, ours].concat();
    let pair = |host: &str, port: &str| (host.to_owned(), port.to_owned());
    assert_eq!(port(&[], &[]), pair("0.0.0.0,::", "5000"));
    assert_eq!(port(&platform, &[]), pair("127.0.0.3", "83"));
    assert_eq!(port(&ours, &[]), pair("127.0.0.2", "82"));
    assert_eq!(port(&both, &[]), pair("127.0.0.2", "82"));
    assert_eq!(
        port(&both, &["--host=127.0.0.1", "--port=81"]),
        pair("127.0.0.1", "81")
    );
    assert_eq!(port(&[("PORT", "")], &[]), pair("0.0.0.0,::", "5000"));
}

#[test]
fn every_setting_has_its_variable() {
    let settings = run(program().arg("--check-config"));
    let mut seen = 0;
    for (flag, _, _) in settings.settings() {
        let variable = format!("WSCAST_{}", flag[2..].replace('-', "_").to_uppercase());
        let value = match flag {
            "--host" => "127.0.0.9",
            "--welcome" => "hello there",
            "--allow-origin" => "https://a.example",
            "--echo" => "true",
            "--log-level" => "trace",
            "--log-format" => "json",
            "--access-log" => "true",
            "--log-file" => "/tmp/somewhere.log",
            "--outbox-bytes" => "3MiB",
            "--shutdown-timeout" => "77",
            "--drain" => "7.5",
            "--max-byte-rate" => "2MiB",
            "--db" => "/tmp/somewhere.db",
            "--durability" => "full",
            "--anonymous" => "subscribe",
            "--listen" => "unix:/tmp/a.sock,unix:/tmp/b.sock",
            "--listen-mode" => "600",
            "--trusted-proxies" => "10.0.0.0/8,unix",
            "--proxy-protocol" => "false",
            "--named-secret-key-files" => "a=/run/secrets/a,b=/run/secrets/b",
            "--webhook" | "--auth-url" | "--jwks-url" => "http://127.0.0.1:9/?key=sesame",
            "--webhook-events" => "users",
            "--redis" if cfg!(feature = "redis") => "redis://127.0.0.1:9",
            // The program without Redis refuses it.
            "--redis" => {
                seen += 1;
                continue;
            }
            // Each of the two is refused without the other, and a settings file must exist.
            "--tls-cert" | "--tls-key" | "--config" => {
                seen += 1;
                continue;
            }
            // Refused without a list of origins.
            "--token-cookie" => {
                seen += 1;
                continue;
            }
            _ => "99",
        };
        let ended = run(program().arg("--check-config").env(&variable, value));
        assert_eq!(ended.code, Some(0), "{variable}: {}", ended.stderr);
        let is_secret = matches!(
            flag,
            "--redis" | "--webhook" | "--webhook-secret" | "--auth-url" | "--jwks-url"
        );
        let shown = if is_secret { "(set)" } else { value };
        assert_eq!(ended.setting(flag), Some(shown), "{variable}");
        if is_secret {
            let wrong = run(program()
                .arg("--check-config")
                .env(&variable, "ftp://u:sesame@a/?key=sesame"));
            assert!(!wrong.stderr.contains("sesame"), "{}", wrong.stderr);
        }
        seen += 1;
    }
    assert!(seen > 20, "{}", settings.stdout);
}

/// Compose files and unit files use all of these words.
#[test]
fn switch_variable_accepts_true_false_1_and_0() {
    for (value, on) in [
        ("true", "true"),
        ("1", "true"),
        ("false", "false"),
        ("0", "false"),
    ] {
        let ended = run(program().arg("--check-config").env("WSCAST_ECHO", value));
        assert_eq!(ended.code, Some(0), "WSCAST_ECHO={value}: {}", ended.stderr);
        assert_eq!(ended.setting("--echo"), Some(on), "WSCAST_ECHO={value}");
    }
}

#[test]
fn variables_reach_the_running_server() {
    let mut command = TestServer::command(&[]);
    command
        .env("WSCAST_WELCOME", "hello there")
        .env("WSCAST_ECHO", "true");
    let server = TestServer::start_command(command);
    assert_eq!(server.client().welcome()["payload"], "hello there");
    assert_eq!(server.raw().get("/echo").status, 426);
}

#[test]
fn port_in_use_fails_with_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let port = address.rsplit(':').next().expect("a port");
    let ended = run(program().args(["--host=127.0.0.1", "--port", port]));
    let line = ended.only_line();
    assert_eq!(ended.code, FAILURE, "{line}");
    for part in [address.as_str(), "in use", "--port"] {
        assert!(line.contains(part), "no {part:?} in {line:?}");
    }
}

#[test]
fn address_of_another_machine_fails_with_one_line() {
    // TEST-NET-1 (RFC 5737): never an address of this machine.
    let ended = run(program().args(["--host=192.0.2.1", "--port=0"]));
    let line = ended.only_line();
    assert_eq!(ended.code, FAILURE, "{line}");
    assert!(line.contains("192.0.2.1"), "{line}");
}
