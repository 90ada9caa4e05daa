//! The words of the command line: `serve`, `version`, `-h`, misspelt ones; and what the start prints on a terminal.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use crate::support::token::SECRET;
use crate::support::{
    FAILURE, TestServer, USAGE, open_terminal, program, read_terminal_until, run, skip,
};

#[test]
fn serve_is_the_default_command_and_takes_the_same_flags() {
    for args in [
        &["serve", "-p", "0", "--host=127.0.0.1", "--welcome=hello"][..],
        &["-p0", "--host=127.0.0.1", "--welcome=hello", "serve"],
        &["-p", "0", "--host=127.0.0.1", "--welcome=hello"],
    ] {
        let mut command = program();
        command.args(args);
        let server = TestServer::start_command(command);
        assert_eq!(server.client().welcome()["payload"], "hello", "{args:?}");
    }
}

#[test]
fn short_port_flag_overrides_the_variables() {
    for args in [&["-p", "81"][..], &["-p81"], &["serve", "-p=81"]] {
        let mut command = program();
        command.args(args).arg("--check-config");
        command.env("WSCAST_PORT", "82").env("PORT", "83");
        assert_eq!(run(&mut command).setting("--port"), Some("81"), "{args:?}");
    }
}

#[test]
fn version_is_a_command_and_a_flag() {
    let expected = format!("wscast {}\n", env!("CARGO_PKG_VERSION"));
    for word in ["version", "--version", "-V"] {
        let ended = run(program().arg(word));
        assert_eq!((ended.code, &ended.stdout), (Some(0), &expected), "{word}");
    }
}

#[test]
fn short_help_is_short_and_ends_with_examples() {
    for args in [&["-h"][..], &["serve", "-h"]] {
        let ended = run(program().args(args));
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
        let (groups, examples) = ended.stdout.split_once("Examples:\n").expect("examples");
        assert!(groups.contains("-p, --port PORT") && groups.contains("Several nodes:"));
        assert!(!groups.contains("--outbox-bytes"), "{groups}");
        assert_eq!(
            examples.matches("  wscast ").count()
                + examples.matches("| wscast ").count()
                + examples.matches("… wscast").count(),
            3,
            "{examples}"
        );
    }
    let long = run(program().arg("--help")).stdout;
    assert!(long.contains("--outbox-bytes") && long.contains("Examples:"));
    // Help of a command is not replaced.
    let token = run(program().args(["token", "-h"])).stdout;
    assert!(token.contains("--subscribe") && !token.contains("Several nodes:"));
}

#[test]
fn unknown_word_names_the_nearest_right_word() {
    for (args, given, meant) in [
        (&["serv"][..], "serv", "did you mean serve?"),
        (&["start"], "start", "did you mean serve?"),
        (&["tokn"], "tokn", "did you mean token?"),
        (&["bakcup"], "bakcup", "did you mean backup?"),
        (&["versoin"], "versoin", "did you mean version?"),
        (&["port"], "port", "did you mean --port?"),
        (&["-v"], "-v", "did you mean -V?"),
        (&["token", "--usr=ada"], "--usr", "did you mean --user?"),
        (&["token", "--port=1"], "--port", "wscast serve --port"),
        (&["sub", "a", "--port=1"], "--port", "not of sub"),
        (&["sub", "a", "-v"], "-v", "`wscast sub -h`"),
        (
            &["healthcheck", "--port", "1"],
            "--port",
            "wscast --port … healthcheck",
        ),
        (&["--url", "ws://[::1]", "sub"], "--url", "wscast sub --url"),
        (&["man", "token", "chek"], "token chek", "wscast -h"),
        (&["xyzzy"], "xyzzy", "wscast -h"),
        (&["8080"], "8080", "did you mean -p 8080?"),
        (&["serve", ":8080"], ":8080", "did you mean -p 8080?"),
        (
            &["stress", "ws://127.0.0.1"],
            "stress",
            "did you mean bench?",
        ),
        (&["sub", "a", "--last=x"], "--last \"x\"", "a whole number"),
        (&["pub", "a", "--rat=3"], "--rat", "`wscast pub -h`"),
        (&["pub", "a b"], "ROOM \"a b\"", "letters, digits"),
    ] {
        let ended = run(program().args(args));
        let line = ended.only_line();
        assert_eq!(ended.code, USAGE, "{line}");
        assert!(line.contains(given) && line.contains(meant), "{line}");
    }
}

/// Starts a program whose stdout is a terminal.
fn start_on_terminal(mut command: Command) -> Option<(Running, OwnedFd)> {
    let (terminal, side) = open_terminal()?;
    command.stdin(Stdio::null()).stdout(side);
    command.stderr(Stdio::null());
    let child = command.spawn().expect("cannot start the server");
    Some((Running(child), terminal))
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

// On a terminal the start says what it serves, where, how open it is, and what to type next.
#[test]
fn start_on_a_terminal_says_how_open_the_server_is() {
    let open = &[
        "no key: everyone may read and publish",
        "any: pages of every",
    ][..];
    let open = [open, &["from this machine only", "in memory", "try "]].concat();
    let closed = [
        "with a token only",
        "pages of https://a.example may connect",
    ];
    for (args, secret, parts) in [
        (&["--host=127.0.0.1"][..], "", &open[..]),
        (&["--allow-origin=https://a.example"], SECRET, &closed),
        (&["--host=0.0.0.0"], "", &["from every network"]),
    ] {
        let mut command = program();
        command
            .args(["-p", "0"])
            .args(args)
            .env("SECRET_KEY", secret);
        let Some((_server, terminal)) = start_on_terminal(command) else {
            return skip("no pseudo-terminal");
        };
        let text = read_terminal_until(terminal, "Ctrl-C");
        assert!(text.starts_with("page    http://127.0.0.1:"), "{text}");
        assert!(text.contains("\nsocket  ws://127.0.0.1:"), "{text}");
        for part in parts {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
        assert!(secret.is_empty() || !text.contains(secret));
        assert!(
            text.lines().all(|line| line.chars().count() <= 100),
            "{text}"
        );
    }
}

#[test]
fn start_in_a_pipe_prints_only_the_addresses() {
    let mut command = program();
    command.args(["-p", "0", "--host=127.0.0.1"]);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut server = Running(command.spawn().expect("cannot start the server"));
    let mut stdout = server.0.stdout.take().expect("a pipe");
    let mut text = String::new();
    // Both lines come in one write.
    let mut buffer = [0; 1024];
    let read = std::io::Read::read(&mut stdout, &mut buffer).expect("stdout");
    text += &String::from_utf8_lossy(&buffer[..read]);
    drop(server);
    std::io::Read::read_to_string(&mut stdout, &mut text).expect("stdout");
    let names: Vec<_> = text.lines().map(|line| line.split(' ').next()).collect();
    assert_eq!(names, [Some("page"), Some("socket")], "{text}");
}

#[test]
fn completions_offer_each_flag_where_it_is_taken() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = run(program().args(["completions", shell]));
        assert_eq!(
            (ended.code, ended.stderr.as_str()),
            (Some(0), ""),
            "{shell}"
        );
        for word in ["max-message-bytes", "last", "healthcheck", "ca-file"] {
            assert!(ended.stdout.contains(word), "no {word} for {shell}");
        }
    }
    let script = run(program().args(["completions", "bash"])).stdout;
    // Bash completes the last of the words.
    let complete = |words: &[&str]| {
        let last = words.len() - 1;
        let words = words.join(" ");
        let setup = format!("COMP_WORDS=({words}); COMP_CWORD={last}; ");
        let call = "_wscast wscast \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD-1]}\"; ";
        let script = format!("{script}\n{setup}{call}echo \"${{COMPREPLY[@]}}\"");
        run(Command::new("bash").args(["-c", &script])).stdout
    };
    assert_eq!(complete(&["wscast", "heal"]), "healthcheck\n");
    assert_eq!(complete(&["wscast", "sub", "--la"]), "--last\n");
    assert_eq!(complete(&["wscast", "sub", "--aud"]), "\n");
    assert_eq!(complete(&["wscast", "completions", "z"]), "zsh\n");
    assert_eq!(complete(&["wscast", "man", "ba"]), "backup\n");
    assert_eq!(complete(&["wscast", "token", "--aud"]), "--audience\n");
    assert_eq!(
        complete(&["wscast", "serve", "--max-rooms-"]),
        "--max-rooms-per-connection\n"
    );
    for (args, part) in [
        (&["completions"][..], "the shell is missing"),
        (&["completions", "csh"], "write bash"),
        (&["man", "nothing"], "no command"),
    ] {
        let ended = run(program().args(args));
        assert_eq!(ended.code, USAGE, "{}", ended.stderr);
        assert!(ended.only_line().contains(part), "{}", ended.stderr);
    }
}

#[test]
fn manual_pages_have_every_flag() {
    let page = run(program().arg("man"));
    assert_eq!((page.code, page.stderr.as_str()), (Some(0), ""));
    assert!(page.stdout.contains(".TH wscast 1"), "{}", page.stdout);
    let help = run(program().arg("--help")).stdout;
    let flags: Vec<&str> = help
        .split_whitespace()
        .filter(|word| word.starts_with("--") && word.len() > 2)
        .collect();
    assert!(flags.len() > 40);
    let plain = page.stdout.replace("\\-", "-");
    for flag in flags {
        let flag = flag.trim_end_matches([',', '.', ';', ']', ')', '`', ':']);
        assert!(plain.contains(flag), "no {flag}");
    }
    let sub = run(program().args(["man", "sub"]));
    let plain = sub.stdout.replace("\\-", "-");
    assert!(plain.contains("--last") && !plain.contains("--audience"));
    let check = run(program().args(["man", "token", "check"]));
    assert!(check.stdout.contains("standard input"), "{}", check.stdout);
}

#[test]
fn commands_that_only_print_ignore_wrong_settings() {
    for args in [&["version"][..], &["man"], &["completions", "fish"]] {
        let ended = run(program().env("WSCAST_PORT", "abc").args(args));
        assert_eq!(ended.code, Some(0), "{args:?}: {}", ended.stderr);
    }
}

// A full disk would leave a script or a page that ends in the middle.
#[test]
fn output_that_cannot_be_written_is_a_failure() {
    for args in [
        &["man"][..],
        &["completions", "bash"],
        &["version"],
        &["-h"],
    ] {
        let full = File::options()
            .write(true)
            .open("/dev/full")
            .expect("/dev/full");
        let ended = program().args(args).stdout(full).output().expect("output");
        assert_eq!(ended.status.code(), FAILURE, "{args:?}");
        let why = String::from_utf8_lossy(&ended.stderr);
        assert!(why.contains("cannot write the output"), "{why}");
    }
}
