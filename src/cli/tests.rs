//! Tests of the command line as a whole.

use super::*;

fn parse_args(args: &[&str]) -> Result<Invocation, String> {
    let program = std::iter::once(OsString::from("wscast"));
    parse(program.chain(args.iter().map(OsString::from)))
}

#[test]
fn command_line_is_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn wrong_value_names_setting_value_and_remedy() {
    for (args, parts) in [
        (&["--port", "70000"][..], ["--port", "70000", "0 to 65535"]),
        (&["--host", "nowhere"], ["--host", "nowhere", "0.0.0.0"]),
        (
            &["--max-message-bytes", "64k"],
            ["--max-message-bytes", "64k", "64KiB"],
        ),
        (
            &["--slow-timeout", "0"],
            ["--slow-timeout", "0", "more than 0"],
        ),
        (&["--drain", "nan"], ["--drain", "nan", "0.5"]),
        (&["--log-level", "loud"], ["--log-level", "loud", "debug"]),
        (
            &["--allow-origin", "example.com"],
            ["--allow-origin", "example.com", "https://"],
        ),
        (
            &["--outbox-bytes", "100"],
            ["--outbox-bytes", "100", "at least"],
        ),
        (&["--max-rooms", "0"], ["--max-rooms", "0", "1 or more"]),
        (
            &["--listen", "/run/x.sock"],
            ["--listen", "/run/x.sock", "unix:"],
        ),
        (&["--listen-mode", "9"], ["--listen-mode", "9", "660"]),
        (
            &["--trusted-proxies", "proxy.example"],
            ["--trusted-proxies", "proxy.example", "10.0.0.0/8"],
        ),
        (
            &["--proxy-protocol"],
            ["--proxy-protocol", "true", "--trusted-proxies"],
        ),
        (
            &["--max-http-rate", "many"],
            ["--max-http-rate", "many", "0 for no limit"],
        ),
        (
            &["--tls-cert", "c.pem"],
            ["--tls-cert", "c.pem", "--tls-key"],
        ),
        (
            &["--tls-key", "k.pem"],
            ["--tls-key", "k.pem", "--tls-cert"],
        ),
    ] {
        let line = parse_args(args).expect_err("accepted");
        assert!(parts.iter().all(|part| line.contains(part)), "{line}");
        assert!(!line.contains('\n'), "{line}");
    }
}

#[test]
fn misspelt_flag_is_one_line_with_a_suggestion() {
    let line = parse_args(&["--prot", "1"]).expect_err("accepted");
    assert!(line.contains("--port") && !line.contains('\n'), "{line}");
}

/// Variables and the settings file are matched with flags by these ids.
#[test]
fn id_of_each_setting_is_its_name() {
    for arg in Cli::command().get_arguments() {
        let long = arg.get_long().unwrap_or_default();
        if arg.get_env().is_some() {
            assert_eq!(arg.get_id().as_str(), long.replace('-', "_"));
        }
    }
}
