//! Paths of settings that cannot be created or written: the line names the directory, the user and the remedy.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::geteuid;

use crate::support::{FAILURE, NOBODY, TempDir, TestServer, program, run, skip};

fn server(flag: &str, path: &str) -> Command {
    let mut command = program();
    command.args(["--host=127.0.0.1", "--port=0", flag, path]);
    command
}

/// The flags that name a file to be created, and the value for a path.
fn settings(path: &str) -> [(&'static str, String); 3] {
    [
        ("--db", path.to_owned()),
        ("--listen", format!("unix:{path}")),
        ("--log-file", path.to_owned()),
    ]
}

fn assert_fails_with(command: &mut Command, parts: &[&str]) {
    let ended = run(command);
    let line = ended.only_line();
    assert_eq!(ended.code, FAILURE, "{line}");
    for part in parts {
        assert!(line.contains(part), "no {part:?} in {line:?}");
    }
}

#[test]
fn missing_directory_is_named() {
    let dir = TempDir::new();
    let missing = dir.arg("missing");
    for directory in ["/nonexistent/a", &missing] {
        for (flag, value) in settings(&format!("{directory}/file")) {
            let mut command = server(flag, &value);
            assert_fails_with(
                &mut command,
                &[flag, &format!("{directory:?}"), "create it", "uid"],
            );
        }
    }
}

#[test]
fn error_names_a_path_of_another_kind() {
    let dir = TempDir::new();
    fs::write(dir.path("file"), "").expect("write");
    let too_long = format!("unix:{}", dir.arg(&"x".repeat(120)));
    for (flag, value, part) in [
        ("--db", dir.arg("file/a.db"), "a part of the path is a file"),
        ("--log-file", dir.arg("."), "name a file"),
        (
            "--listen",
            format!("unix:{}", dir.arg("file")),
            "not a socket",
        ),
        ("--listen", too_long, "at most 107 bytes"),
    ] {
        assert_fails_with(&mut server(flag, &value), &[flag, part]);
    }
}

#[test]
fn directory_that_the_user_may_not_write_is_named() {
    if !geteuid().is_root() {
        return skip("only root may start the server as another user");
    }
    let dir = TempDir::new();
    fs::set_permissions(dir.path("."), Permissions::from_mode(0o755)).expect("chmod");
    fs::create_dir(dir.path("open")).expect("mkdir");
    fs::create_dir(dir.path("closed")).expect("mkdir");
    fs::set_permissions(dir.path("closed"), Permissions::from_mode(0o700)).expect("chmod");
    let uid = format!("uid {NOBODY}");
    for (directory, verb) in [(dir.arg("open"), "write in"), (dir.arg("closed"), "enter")] {
        for (flag, value) in settings(&format!("{directory}/file")) {
            let mut command = server(flag, &value);
            command.uid(NOBODY).gid(NOBODY);
            assert_fails_with(&mut command, &[flag, &format!("{directory:?}"), verb, &uid]);
        }
    }
}

#[test]
fn database_file_that_may_be_written_in_a_directory_that_may_not() {
    if !geteuid().is_root() {
        return skip("only root may start the server as another user");
    }
    let dir = TempDir::new();
    fs::set_permissions(dir.path("."), Permissions::from_mode(0o755)).expect("chmod");
    fs::write(dir.path("a.db"), "").expect("write");
    fs::set_permissions(dir.path("a.db"), Permissions::from_mode(0o666)).expect("chmod");
    fs::write(dir.path("read-only.db"), "").expect("write");
    for (file, part) in [
        ("a.db", "write in the directory"),
        ("read-only.db", "may not write this file"),
    ] {
        let mut command = server("--db", &dir.arg(file));
        command.uid(NOBODY).gid(NOBODY);
        assert_fails_with(
            &mut command,
            &["--db", file, part, &format!("uid {NOBODY}")],
        );
    }
}

#[test]
fn file_that_has_the_name_of_the_mark_is_left_as_it_is() {
    let dir = TempDir::new();
    let live = TestServer::start_command(TestServer::command(&["--db", &dir.arg("bench-mark")]));
    for (name, contents) in [
        ("notes", "my notes\n".repeat(20)),
        ("short", "abc".to_owned()),
    ] {
        fs::write(dir.path(&format!("{name}-mark")), &contents).expect("write");
        let parts = [&format!("{name}-mark"), "not a file of wscast"];
        assert_fails_with(
            &mut server("--db", &dir.arg(name)),
            &parts.map(|part| part as &str),
        );
        let found = fs::read_to_string(dir.path(&format!("{name}-mark")));
        assert_eq!(found.expect("read"), contents);
    }
    fs::create_dir(dir.path("a.db-mark")).expect("mkdir");
    let parts = ["a.db-mark", "not a file of wscast"];
    assert_fails_with(&mut server("--db", &dir.arg("a.db")), &parts);
    let before = fs::read(dir.path("bench-mark")).expect("read");
    let parts = ["bench-mark", "not a file of wscast"];
    assert_fails_with(&mut server("--db", &dir.arg("bench")), &parts);
    assert_eq!(fs::read(dir.path("bench-mark")).expect("read"), before);
    live.publish("lobby", "the-publisher-and-nobody-else", "1", "stored");
}

#[test]
fn mark_that_the_user_may_not_write_is_named() {
    if !geteuid().is_root() {
        return skip("only root may start the server as another user");
    }
    let dir = TempDir::new();
    fs::set_permissions(dir.path("."), Permissions::from_mode(0o777)).expect("chmod");
    for mode in [0o600, 0o444] {
        fs::write(dir.path("a.db-mark"), "").expect("write");
        fs::set_permissions(dir.path("a.db-mark"), Permissions::from_mode(mode)).expect("chmod");
        let mut command = server("--db", &dir.arg("a.db"));
        command.uid(NOBODY).gid(NOBODY);
        let parts = [
            "a.db-mark",
            "may not write this file",
            &format!("uid {NOBODY}"),
        ];
        assert_fails_with(&mut command, &parts);
    }
}

#[test]
fn mark_that_root_creates_belongs_to_the_owner_of_the_database() {
    if !geteuid().is_root() {
        return skip("only root may create a file of another user");
    }
    let dir = TempDir::new();
    fs::write(dir.path("history.db"), "").expect("write");
    chown(dir.path("history.db"), Some(NOBODY), Some(NOBODY)).expect("chown");
    drop(dir.serve(&[]));
    let mark = fs::metadata(dir.path("history.db-mark")).expect("mark");
    assert_eq!((mark.uid(), mark.gid()), (NOBODY, NOBODY));
}
