//! Environment variables: those of other programs never stop the start, wrong ones are named, misspelt ones get a hint.

use crate::support::token::SECRET;
use crate::support::{TestServer, USAGE, program, run, wait_until};

/// Starts a server with these variables and waits for a line of its log with all parts.
fn assert_starts_and_logs(variables: &[(&str, &str)], parts: &[&str]) {
    let mut command = program();
    command.args(["--port=0", "--log-level=debug"]);
    command.envs(variables.iter().copied());
    let server = TestServer::start_command(command);
    assert_eq!(server.raw().get("/health").status, 200, "{variables:?}");
    wait_until(&format!("{variables:?} is logged"), || {
        let log = server.log();
        log.lines()
            .any(|line| parts.iter().all(|part| line.contains(part)))
    });
}

/// Returns `--host` and `--port` as they are in effect with these variables.
fn host_and_port(variables: &[(&str, &str)]) -> (String, String) {
    let mut command = program();
    command
        .arg("--check-config")
        .envs(variables.iter().copied());
    let ended = run(&mut command);
    assert_eq!(ended.code, Some(0), "{variables:?}: {}", ended.stderr);
    let setting = |flag| ended.setting(flag).expect("printed").to_owned();
    (setting("--host"), setting("--port"))
}

#[test]
fn kubernetes_service_links_are_ignored() {
    let of_a_service = [
        ("WSCAST_SERVICE_HOST", "10.96.12.7"),
        ("WSCAST_SERVICE_PORT", "5000"),
        ("WSCAST_SERVICE_PORT_HTTP", "5000"),
        ("WSCAST_PORT", "tcp://10.96.12.7:5000"),
        ("WSCAST_PORT_5000_TCP", "tcp://10.96.12.7:5000"),
        ("WSCAST_PORT_5000_TCP_PROTO", "tcp"),
        ("WSCAST_PORT_5000_TCP_PORT", "5000"),
        ("WSCAST_PORT_5000_TCP_ADDR", "10.96.12.7"),
    ];
    let of_a_neighbour = [
        ("WSCAST_REDIS_SERVICE_HOST", "fd00::8"),
        ("WSCAST_REDIS_PORT", "tcp://[fd00::8]:6379"),
        ("WSCAST_REDIS_PORT_6379_TCP", "tcp://[fd00::8]:6379"),
    ];
    assert_starts_and_logs(
        &of_a_service,
        &["DEBUG", "WSCAST_PORT", "WSCAST_SERVICE_HOST"],
    );
    assert_starts_and_logs(&of_a_neighbour, &["DEBUG", "WSCAST_REDIS_PORT"]);
    for variables in [&of_a_service[..], &of_a_neighbour] {
        assert_eq!(host_and_port(variables).1, "5000");
        let mut command = program();
        command
            .arg("--check-config")
            .envs(variables.iter().copied());
        // No warning for each of them.
        assert_eq!(run(&mut command).stderr, "");
    }
}

#[test]
fn docker_links_are_ignored() {
    for variables in [
        [
            ("WSCAST_PORT", "tcp://172.17.0.5:5000"),
            ("WSCAST_NAME", "/web/wscast"),
        ],
        [
            ("WSCAST_PORT", "udp://172.17.0.5:53"),
            ("WSCAST_ENV_PATH", "/usr/bin"),
        ],
    ] {
        assert_eq!(host_and_port(&variables).1, "5000");
        assert_starts_and_logs(&variables, &["DEBUG", variables[1].0]);
    }
}

#[test]
fn host_of_a_shell_or_compiler_is_ignored() {
    for name in [
        "x86_64-conda-linux-gnu",
        "build-7",
        "build-7.example.com",
        "127.0.0.1:80",
    ] {
        assert_eq!(host_and_port(&[("HOST", name)]).0, "0.0.0.0,::", "{name}");
        assert_starts_and_logs(&[("HOST", name)], &["INFO", "HOST", name]);
    }
}

#[test]
fn host_and_port_of_a_platform_are_settings() {
    for (variables, expected) in [
        ([("HOST", "127.0.0.3"), ("PORT", "83")], ("127.0.0.3", "83")),
        ([("HOST", "localhost"), ("PORT", "0")], ("localhost", "0")),
        ([("HOST", "::1"), ("PORT", "")], ("::1", "5000")),
        // A variable of ours that is none does not hide the platform's.
        (
            [("WSCAST_PORT", "tcp://10.0.0.7:80"), ("PORT", "84")],
            ("0.0.0.0,::", "84"),
        ),
        (
            [("WSCAST_HOST", ""), ("HOST", "127.0.0.4")],
            ("127.0.0.4", "5000"),
        ),
    ] {
        let (host, port) = host_and_port(&variables);
        assert_eq!((host.as_str(), port.as_str()), expected, "{variables:?}");
    }
}

#[test]
fn platform_variable_that_has_no_effect_anyway_is_not_mentioned() {
    for (ours, theirs) in [
        (("WSCAST_PORT", "81"), ("PORT", "http")),
        (("WSCAST_HOST", "127.0.0.1"), ("HOST", "build-7")),
    ] {
        let ended = run(program().arg("--check-config").envs([ours, theirs]));
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    }
    let mut command = TestServer::command(&["--port=0"]);
    command.envs([("HOST", "build-7"), ("PORT", "http")]);
    let server = TestServer::start_command(command);
    assert_eq!(server.raw().get("/health").status, 200);
    assert!(!server.log().contains("ignored"), "{}", server.log());
}

#[test]
fn port_that_is_not_a_number_is_ignored_with_a_warning() {
    for value in ["tcp://10.0.0.7:80", "http", "/run/app.sock"] {
        assert_eq!(host_and_port(&[("PORT", value)]).1, "5000");
        let ended = run(program().arg("--check-config").env("PORT", value));
        let line = ended.stderr.trim_end();
        assert!(line.contains("PORT") && line.contains(value), "{line}");
    }
}

#[test]
fn empty_variables_count_as_unset() {
    let empty: Vec<_> = run(program().arg("--check-config"))
        .stdout
        .lines()
        .filter_map(|line| {
            line.strip_prefix("--")?
                .split(" = ")
                .next()
                .map(str::to_owned)
        })
        .map(|flag| {
            (
                format!("WSCAST_{}", flag.replace('-', "_").to_uppercase()),
                "",
            )
        })
        .collect();
    assert!(empty.len() > 20);
    let defaults = run(program().arg("--check-config")).stdout;
    let mut command = program();
    command
        .arg("--check-config")
        .envs(empty)
        .envs([("HOST", ""), ("PORT", "")]);
    let ended = run(&mut command);
    assert_eq!((ended.stdout, ended.stderr.as_str()), (defaults, ""));
}

#[test]
fn wrong_value_is_reported_under_its_variable() {
    for (variable, value, part) in [
        ("WSCAST_PORT", "http", "0 to 65535"),
        ("PORT", "70000", "0 to 65535"),
        ("WSCAST_HOST", "no.such.name.invalid", "localhost"),
        ("WSCAST_TRUSTED_PROXIES", "proxy.example", "10.0.0.0/8"),
        ("WSCAST_OUTBOX_BYTES", "100", "at least"),
        ("WSCAST_TLS_CERT", "cert.pem", "--tls-key"),
    ] {
        let ended = run(program().env(variable, value));
        assert_eq!(ended.code, USAGE, "{variable}");
        let start = format!("wscast: {variable} {value:?}: ");
        let line = ended.only_line();
        assert!(line.starts_with(&start) && line.contains(part), "{line}");
    }
    // Errors after the settings were read, too.
    let ended = run(program()
        .args(["--port=0", "--host=127.0.0.1"])
        .env("WSCAST_DB", "/nonexistent/a.db"));
    assert!(
        ended.only_line().starts_with("wscast: WSCAST_DB "),
        "{}",
        ended.stderr
    );
    for (variable, value) in [
        ("WSCAST_SECRET_KEY_FILE", "/nonexistent/secret"),
        ("WSCAST_PUBLIC_KEY_FILE", "/nonexistent/key.pem"),
        ("WSCAST_LOG_FILE", "/nonexistent/wscast.log"),
        ("WSCAST_HOST", "198.51.100.1"),
    ] {
        let ended = run(program().arg("--port=0").env(variable, value));
        let start = format!("wscast: {variable} {value:?}: ");
        let line = ended.only_line();
        assert!(line.starts_with(&start), "{line}");
    }
    // The flag wins over the variable, so its value is the flag's.
    let ended = run(program().arg("--port=http").env("WSCAST_PORT", "81"));
    assert!(
        ended.only_line().starts_with("wscast: --port "),
        "{}",
        ended.stderr
    );
}

#[test]
fn unknown_variable_is_a_warning_with_the_nearest_name() {
    for (variable, nearest) in [
        ("WSCAST_PROT", "WSCAST_PORT"),
        ("WSCAST_LOGLEVEL", "WSCAST_LOG_LEVEL"),
        ("WSCAST_MAX_CONNECTION", "WSCAST_MAX_CONNECTION"),
        ("WSCAST_SECRET_KEY", "mean SECRET_KEY?"),
    ] {
        assert_starts_and_logs(&[(variable, "1")], &["WARN", variable, nearest]);
        let ended = run(program().arg("--check-config").env(variable, "1"));
        assert_eq!(ended.code, Some(0));
        assert!(
            ended.stderr.contains(variable) && ended.stderr.contains(nearest),
            "{}",
            ended.stderr
        );
    }
}

#[test]
fn check_config_says_whether_tokens_are_checked_and_never_with_which_key() {
    let tokens = |variables: &[(&str, &str)]| {
        let mut command = program();
        command
            .arg("--check-config")
            .env_remove("SECRET_KEY")
            .envs(variables.iter().copied());
        let ended = run(&mut command);
        assert!(!(ended.stdout.clone() + &ended.stderr).contains(SECRET));
        ended
            .setting("tokens")
            .expect("a line about tokens")
            .to_owned()
    };
    assert!(tokens(&[]).starts_with("not checked"));
    assert!(tokens(&[("SECRET_KEY", "")]).starts_with("not checked"));
    assert_eq!(
        tokens(&[("SECRET_KEY", SECRET)]),
        "checked with the secret in SECRET_KEY"
    );
    let file = ("WSCAST_SECRET_KEY_FILE", "/run/secrets/key");
    let with_both = tokens(&[("SECRET_KEY", SECRET), file]);
    assert_eq!(with_both, "checked with the secret in --secret-key-file");
}

#[test]
fn token_command_names_what_is_missing_and_what_grants_nothing() {
    let token = |args: &[&str]| run(program().arg("token").args(args).env("SECRET_KEY", SECRET));
    let ended = token(&["check"]);
    assert_eq!(ended.code, USAGE);
    let line = ended.only_line();
    assert!(
        line.contains("token") && line.contains("standard input"),
        "{line}"
    );
    for (args, grants) in [
        (&[][..], false),
        // It opens only the user's own room.
        (&["--user=alice", "--ttl=1h"], false),
        (&["--subscribe=ops"], true),
        (&["--publish=ops"], true),
        (&["--admin"], true),
    ] {
        let ended = token(args);
        assert_eq!(
            (ended.code, ended.stdout.lines().count()),
            (Some(0), 1),
            "{args:?}"
        );
        let warns =
            ended.stderr.starts_with("wscast: this token ") && ended.stderr.contains("--subscribe");
        assert_eq!(
            (warns, ended.stderr.is_empty()),
            (!grants, grants),
            "{args:?}: {}",
            ended.stderr
        );
    }
}
