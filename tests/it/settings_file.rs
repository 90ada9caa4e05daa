//! The settings file: its place between defaults, variables and flags, and the line that each mistake gets.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::geteuid;

use crate::support::token::SECRET;
use crate::support::{Ended, FAILURE, NOBODY, TempDir, TestServer, USAGE, program, run};

/// A directory with the settings file `wscast.toml`.
struct File(TempDir);

impl File {
    fn new(text: impl AsRef<[u8]>) -> Self {
        let dir = TempDir::new();
        fs::write(dir.path("wscast.toml"), text).expect("write");
        Self(dir)
    }

    fn path(&self) -> String {
        self.0.arg("wscast.toml")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = program();
        command.args(["--config", &self.path()]).args(args);
        command
    }

    fn check(&self, args: &[&str]) -> Ended {
        let ended = run(self.command(args).arg("--check-config"));
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended
    }

    /// Returns the only line of a start that fails, without the path of the file.
    fn fails(&self) -> String {
        let ended = run(&mut self.command(&[]));
        let line = ended.only_line();
        assert_eq!(ended.code, USAGE, "{line}");
        assert!(line.len() < 1000, "{line}");
        line.replace(&self.path(), "FILE")
    }
}

fn fails(text: impl AsRef<[u8]>) -> String {
    File::new(text).fails()
}

#[test]
fn variable_wins_over_the_file_and_flag_over_both() {
    let file = File::new("port = 81\nwelcome = \"from the file\"\nmax-rooms = 7\n");
    let origin = |line: u32| format!("{}:{line}", file.path());
    let ended = file.check(&[]);
    assert_eq!(ended.setting("--port"), Some("81"));
    assert_eq!(ended.origin("--port"), Some(&*origin(1)));
    assert_eq!(ended.setting("--welcome"), Some("from the file"));
    assert_eq!(ended.origin("--max-http-rate"), Some("default"));
    for (variable, value) in [("WSCAST_PORT", "82"), ("PORT", "82")] {
        let mut command = file.command(&["--check-config", "--max-rooms=8"]);
        let ended = run(command.env(variable, value));
        assert_eq!(ended.setting("--port"), Some("82"), "{variable}");
        assert_eq!(ended.origin("--port"), Some(variable));
        assert_eq!(ended.setting("--max-rooms"), Some("8"));
        assert_eq!(ended.origin("--max-rooms"), Some("flag"));
        assert_eq!(ended.origin("--welcome"), Some(&*origin(2)));
    }
    for args in [&["--port=83"][..], &["-p83"], &["-p", "83"]] {
        assert_eq!(file.check(args).setting("--port"), Some("83"), "{args:?}");
    }
}

#[test]
fn variable_names_the_file_and_flag_another() {
    let (first, second) = (File::new("port = 81"), File::new("port = 82"));
    let mut command = program();
    command.arg("--check-config");
    let ended = run(command.env("WSCAST_CONFIG", first.path()));
    assert_eq!(ended.setting("--port"), Some("81"));
    let flag = format!("--config={}", second.path());
    assert_eq!(run(command.arg(flag)).setting("--port"), Some("82"));
    let ended = run(program().env("WSCAST_CONFIG", "/nonexistent"));
    assert!(
        ended
            .only_line()
            .starts_with("wscast: WSCAST_CONFIG \"/nonexistent\": ")
    );
    let ended = run(program().arg("--check-config").env("WSCAST_CONFIG", ""));
    assert_eq!(ended.setting("--config"), Some("(none)"));
}

#[test]
fn every_setting_may_be_in_the_file() {
    let settings = run(program().arg("--check-config"));
    let mut seen = 0;
    for (flag, _, _) in settings.settings() {
        let (value, shown) = match flag {
            // Each of the two is refused without the other, and a file names no other.
            "--tls-cert" | "--tls-key" | "--config" => continue,
            // Refused without a list of origins.
            "--token-cookie" => continue,
            "--named-secret-key-files" => (
                "[\"a=/run/secrets/a\", \"b=/run/secrets/b\"]",
                "a=/run/secrets/a,b=/run/secrets/b",
            ),
            "--host" => ("\"127.0.0.9\"", "127.0.0.9"),
            "--allow-origin" => (
                "[\"https://a.example\", \"https://b.example\"]",
                "https://a.example,https://b.example",
            ),
            "--echo" => ("true", "true"),
            "--log-level" => ("\"trace\"", "trace"),
            "--log-format" => ("\"json\"", "json"),
            "--access-log" => ("true", "true"),
            "--outbox-bytes" => ("3_145_728", "3145728"),
            "--shutdown-timeout" => ("77.5", "77.5"),
            "--drain" => ("\"500ms\"", "500ms"),
            "--db" => ("'/tmp/somewhere.db'", "/tmp/somewhere.db"),
            "--redis" => ("\"redis://:sesame@127.0.0.1\"", "(set)"),
            "--webhook" | "--auth-url" | "--jwks-url" => {
                ("\"http://127.0.0.1:9/?key=sesame\"", "(set)")
            }
            "--webhook-secret" => ("\"sesame\"", "(set)"),
            "--webhook-events" => ("\"users\"", "users"),
            "--durability" => ("\"full\"", "full"),
            "--anonymous" => ("\"subscribe\"", "subscribe"),
            "--listen" => (
                "[\"unix:/tmp/a.sock\", \"unix:/tmp/b.sock\"]",
                "unix:/tmp/a.sock,unix:/tmp/b.sock",
            ),
            "--listen-mode" => ("0o600", "600"),
            "--trusted-proxies" => ("[\"10.0.0.0/8\", \"unix\"]", "10.0.0.0/8,unix"),
            "--proxy-protocol" => ("false", "false"),
            _ => ("0x63", "99"),
        };
        for key in [&flag[2..], &flag[2..].replace('-', "_")] {
            let ended = File::new(format!("{key} = {value}\n")).check(&[]);
            assert_eq!(ended.setting(flag), Some(shown), "{key}");
        }
        seen += 1;
    }
    assert!(seen > 20, "{}", settings.stdout);
}

#[test]
fn text_with_a_line_break_is_printed_on_one_line() {
    let ended = File::new("welcome = \"a\\n\\\"b\\\"\\t\\\\\\u0007\"").check(&[]);
    assert_eq!(ended.setting("--welcome"), Some(r#""a\n\"b\"\t\\\u0007""#));
    assert_eq!(
        File::new("").check(&[]).stdout.lines().count(),
        ended.stdout.lines().count()
    );
}

#[test]
fn database_in_the_file_raises_the_defaults_and_its_limits_count_with_any_database() {
    let file = File::new("db = \"/tmp/a.db\"");
    assert_eq!(file.check(&[]).setting("--history-messages"), Some("10000"));
    let file = File::new("history-messages = 5");
    let ended = file.check(&["--db=/tmp/a.db"]);
    assert_eq!(ended.setting("--history-messages"), Some("5"));
    assert_eq!(ended.setting("--history-bytes"), Some("16MiB"));
}

#[test]
fn unknown_key_names_the_line_and_the_nearest_setting() {
    for (text, expected) in [
        (
            "\nprot = 1",
            "FILE:2: prot: no such setting; did you mean port?",
        ),
        ("max-conections = 1", "did you mean max-connections?"),
        ("WSCAST_LOGLEVEL = 1", "did you mean log-level?"),
        ("secret-key = 'x'", "did you mean secret-key-file?"),
        ("'a b' = 1", "FILE:1: \"a b\": no such setting; "),
        ("zzzz = 1", "`wscast --help`"),
        ("help = true", "no such setting"),
        ("version = true", "no such setting"),
        (
            "check-config = true",
            "check-config: is only on the command line",
        ),
        (
            "config = 'other.toml'",
            "config: is only on the command line or in WSCAST_CONFIG",
        ),
        ("[limits]\nmax-rooms = 1", "FILE:1: limits: no such section"),
        ("log.level = 1", "no such section"),
    ] {
        let line = fails(text);
        assert!(line.contains(expected), "{text:?}: {line}");
    }
}

#[test]
fn wrong_value_names_the_line_and_the_key() {
    for (text, expected) in [
        ("# x\nport = 70000", "FILE:2: port \"70000\": "),
        ("port = true", "FILE:1: port \"true\": "),
        ("port = ''", "FILE:1: port"),
        ("port = [1, 2]", "FILE:1: port \"1,2\": "),
        ("port = []", "FILE:1: port: write a value"),
        ("port = 0xfffffffffffffffff", "FILE:1: port: "),
        (
            "log_level = 'loud'",
            "FILE:1: log_level \"loud\": write off",
        ),
        ("echo = 'perhaps'", "FILE:1: echo: write true or false"),
        ("welcome = [['x']]", "FILE:1: welcome: write a text"),
        (
            "[[rooms]]\nmatch = ['a', 'b']",
            "FILE:2: match: write one text; for several patterns write several [[rooms]]",
        ),
        (
            "[named-secret-key-files]\na = 'k'",
            "FILE:1: named-secret-key-files: write one text, such as \"a=PATH,b=PATH\"",
        ),
        (
            "outbox-bytes = 100",
            "FILE:1: outbox-bytes \"100\": must hold",
        ),
        ("drain = nan", "FILE:1: drain \"nan\": "),
        ("drain = 1979-05-27", "FILE:1: drain \"1979-05-27\": "),
        ("db = 'a'\nredis = 'redis://x'", "FILE:1: db \"a\": "),
        (
            "max-rooms = 1\nmax_rooms = 2",
            "FILE:2: max_rooms: is set twice",
        ),
        ("port = 1\nport = 2", "FILE:2: is not TOML: "),
        ("port = 1\nport 2", "FILE:2: is not TOML: "),
        ("port: 1", "FILE:1: is not TOML: "),
        ("welcome = 'a", "FILE:1: is not TOML: "),
    ] {
        let line = fails(text);
        assert!(line.contains(expected), "{text:?}: {line}");
    }
}

// Each file is an attack on the parser, or what editors and mistakes produce.
// The start ends at once with one line, in little memory.
#[test]
fn hostile_file_fails_with_one_line() {
    let deep = 200_000;
    let keys = "k".repeat(200);
    for (name, text, expected) in [
        (
            "arrays",
            format!("port = {}", "[".repeat(deep)),
            "is not TOML",
        ),
        (
            "closed arrays",
            format!("port = {}{}", "[".repeat(deep), "]".repeat(deep)),
            "is not TOML",
        ),
        (
            "tables",
            format!("port = {}", "{a=".repeat(deep)),
            "is not TOML",
        ),
        (
            "dotted key",
            format!("{}a = 1", "a.".repeat(deep)),
            "is not TOML",
        ),
        ("header", format!("[{}a]", "a.".repeat(deep)), "is not TOML"),
        ("headers", "[[a]]\n".repeat(100_000), "no such section"),
        (
            "values",
            format!("listen = [{}]", "'a',".repeat(100_000)),
            "at most",
        ),
        (
            "long key",
            format!("{} = 1", keys.repeat(4000)),
            "no such setting",
        ),
        ("long value", format!("port = '{}'", keys.repeat(2)), "port"),
        ("control", "port = 1\u{7}".to_owned(), "is not TOML"),
        ("zero", "port = 1\0".to_owned(), "is not TOML"),
        ("return", "port = 1\rport = 2".to_owned(), "is not TOML"),
        (
            "mark twice",
            "\u{feff}\u{feff}port = 1".to_owned(),
            "is not TOML",
        ),
        (
            "mark inside",
            "port = 1\n\u{feff}echo = true".to_owned(),
            "is not TOML",
        ),
    ] {
        let line = fails(text);
        assert!(line.contains(expected), "{name}: {line}");
    }
    let line = fails(b"port = 1\nwelcome = \"caf\xe9\"\n");
    assert!(line.contains("FILE:2: is not text; "), "{line}");
    // UTF-16, as an old Notepad writes it.
    let line = fails(b"\xff\xfep\0o\0r\0t\0");
    assert!(line.contains("FILE:1: is not text; "), "{line}");
    let binary = fs::read(env!("CARGO_BIN_EXE_wscast")).expect("read");
    assert!(fails(&binary[..500_000]).contains("FILE:1: is not text"));
    assert!(fails(&binary).contains("larger than 1 MiB"));
}

#[test]
fn file_of_windows_editors_is_read() {
    let file = File::new("\u{feff}# settings\r\nport = 81\r\n\r\nwelcome = \"a\"\r\n");
    let ended = file.check(&[]);
    assert_eq!(ended.setting("--port"), Some("81"));
    assert_eq!(ended.setting("--welcome"), Some("a"));
    assert_eq!(File::new("").check(&[]).setting("--port"), Some("5000"));
}

#[test]
fn path_that_is_no_file_fails_with_one_line() {
    let dir = TempDir::new();
    let large = fs::File::create(dir.path("large")).expect("create");
    large.set_len(100 << 20).expect("set_len");
    let pipe = run(Command::new("mkfifo").arg(dir.path("pipe")));
    assert_eq!(pipe.code, Some(0), "{}", pipe.stderr);
    let (directory, large, pipe) = (dir.arg(""), dir.arg("large"), dir.arg("pipe"));
    for (path, expected) in [
        (&*directory, "no regular file"),
        (&*large, "larger than 1 MiB"),
        (&*pipe, "no regular file"),
        ("/dev/zero", "no regular file"),
        ("/nonexistent/wscast.toml", "No such file"),
        ("/etc/passwd/wscast.toml", "Not a directory"),
    ] {
        let ended = run(program().args(["--config", path]));
        let line = ended.only_line();
        assert_eq!(ended.code, USAGE, "{line}");
        assert!(line.contains(&format!("--config {path:?}")), "{line}");
        assert!(line.contains(expected), "{path}: {line}");
    }
    let ended = run(program().arg("--config"));
    assert!(ended.only_line().contains("--config"));
}

#[test]
fn unreadable_file_fails_with_one_line() {
    let file = File::new("port = 1");
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o000)).expect("chmod");
    let mut command = file.command(&[]);
    if geteuid().is_root() {
        // Root reads every file.
        fs::set_permissions(file.0.path("."), fs::Permissions::from_mode(0o755)).expect("chmod");
        command.uid(NOBODY).gid(NOBODY);
    }
    let ended = run(&mut command);
    let line = ended.only_line();
    assert_eq!(ended.code, USAGE, "{line}");
    assert!(
        line.contains("let the user that runs the server read it"),
        "{line}"
    );
}

#[test]
fn help_and_version_need_no_usable_file() {
    let file = File::new("zzzz");
    for args in [
        &["--help"][..],
        &["-h"],
        &["--version"],
        &["version"],
        &["man"],
    ] {
        let ended = run(&mut file.command(args));
        assert_eq!(ended.code, Some(0), "{args:?}: {}", ended.stderr);
    }
}

#[test]
fn commands_read_the_file_too() {
    let file = File::new("");
    fs::write(file.0.path("secret"), SECRET).expect("write");
    let secret = file.0.arg("secret");
    fs::write(file.path(), format!("secret-key-file = '{secret}'")).expect("write");
    // The flag may follow the command.
    let path = file.path();
    let ended = run(program().args([
        "token",
        "--user=alice",
        "--subscribe=ops",
        "--config",
        &path,
    ]));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let ended = run(file
        .command(&[])
        .args(["token", "check", ended.stdout.trim()]));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[test]
fn example_file_is_valid() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/deploy/wscast.toml");
    let example = fs::read_to_string(path).expect("read");
    assert_eq!(
        File::new(&example).check(&[]).setting("--port"),
        Some("5000")
    );
    // A setting is commented out without a space.
    let is_setting = |line: &str| line.starts_with('#') && !line.starts_with("# ") && line != "#";
    let lines = example.lines().map(|line| {
        let setting = is_setting(line).then(|| line.trim_start_matches('#'));
        format!("{}\n", setting.unwrap_or(line))
    });
    let ended = File::new(lines.collect::<String>()).check(&[]);
    assert_eq!(ended.setting("--port"), Some("8080"));
    assert_eq!(ended.stdout.matches("[[rooms]]").count(), 2);
}

#[test]
fn settings_of_the_file_reach_the_running_server() {
    let file = File::new("welcome = 'hello there'\necho = true\n");
    let mut command = TestServer::command(&[]);
    command.args(["--config", &file.path()]);
    let server = TestServer::start_command(command);
    assert_eq!(server.client().welcome()["payload"], "hello there");
    assert_eq!(server.raw().get("/echo").status, 426);
}

#[test]
fn check_config_refuses_addresses_that_the_start_refuses() {
    for settings in ["redis = ''", "redis = 'http://127.0.0.1'"] {
        let file = File::new(settings);
        let checked = run(file.command(&[]).arg("--check-config"));
        let line = checked.only_line();
        assert_eq!(checked.code, FAILURE, "{settings}: {line}");
        assert!(line.contains("wscast.toml:1: redis"), "{line}");
        let started = run(&mut file.command(&["--host=127.0.0.1", "--port=0"]));
        assert!(started.stderr.contains(line), "{}", started.stderr);
    }
}
