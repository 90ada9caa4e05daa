//! `make bench-peers`: the same job on wscast and on the servers that a user would pick instead.
//!
//! Each measurement starts a fresh server on the server's core, with the load generator on another core. In each round
//! all servers are measured in turn, and each round begins with another one. A ratio is taken within one round.
//!
//! The floor is a program that does one raw non-blocking `send` per message and client, and nothing else. A server
//! that fails a scenario, or that could not be installed, is named with the reason. If wscast fails, the run is
//! invalid (exit code 1).
//!
//! The servers are in `servers/`. `tests/setup/peers.sh` installs them and lists their commands in a file.

mod avalanche;
mod drops;
mod floor_hub;
mod handshakes;
mod idle;
mod numbered;
mod options;
mod peer;
mod quantity;
mod relaying;
mod results;
mod scenario;
mod stalling;
mod steps;
mod table;

use std::ffi::OsString;
use std::io;

use clap::Parser;
use serde_json::{Value, json};

use crate::machine::Machine;
use options::PeerOptions;
use peer::{Peer, SkippedPeer};
use quantity::Measured;
use results::{Results, Series};
use scenario::{SCENARIOS, Scenario};

/// The first argument that selects this bench.
const COMMAND: &str = "peers";

/// Sockets of the largest scenario, and as many again while a scenario connects a second time.
const SOCKETS_MAX: usize = 16_000;

/// A measured scenario.
#[derive(Debug, Default)]
struct Outcome {
    series: Vec<Series>,
    /// The name of a server and why it failed.
    failures: Vec<(String, String)>,
}

/// Returns the arguments of this bench, or `None` if another one is to run.
pub(crate) fn arguments() -> Option<Vec<OsString>> {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    let is_selected = arguments.get(1).is_some_and(|first| first == COMMAND);
    is_selected.then(|| {
        arguments.remove(1);
        arguments
    })
}

pub(crate) fn run(arguments: Vec<OsString>) -> io::Result<()> {
    let options = PeerOptions::parse_from(arguments);
    let scenarios = selected_scenarios(&options)?;
    let (peers, skipped) = peer::find(&options)?;
    if options.list {
        list(&peers, &skipped);
        return Ok(());
    }
    if options.no_run {
        return Ok(());
    }
    let machine = Machine::prepare(SOCKETS_MAX)?;
    print_plan(&options, &machine, &scenarios, &peers, &skipped);
    let mut results = Results::read(&options.json);
    let mut failed = false;
    for scenario in scenarios {
        let outcome = measure(scenario, &peers, &options, &machine);
        print!(
            "{}",
            table::table(scenario.title, &outcome.series, &outcome.failures)
        );
        let about = about(scenario, &outcome, &options, &machine, &peers, &skipped);
        results.set(scenario.name, about, &outcome.series);
        results.write(&options.json)?;
        failed |= outcome
            .failures
            .iter()
            .any(|(name, _)| name == peer::WSCAST);
    }
    if failed {
        return Err(io::Error::other("wscast failed a scenario"));
    }
    Ok(())
}

/// Runs the floor as a child process. Its only argument is the port.
pub(crate) fn floor_hub(arguments: &[OsString]) -> io::Result<()> {
    let port = arguments
        .first()
        .and_then(|port| port.to_str()?.parse().ok());
    floor_hub::serve(port.ok_or_else(|| io::Error::other("the floor needs a port"))?)
}

fn selected_scenarios(options: &PeerOptions) -> io::Result<Vec<&'static Scenario>> {
    for wanted in &options.only {
        if !SCENARIOS.iter().any(|scenario| scenario.name == wanted) {
            let known: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
            let known = known.join(", ");
            return Err(io::Error::other(format!(
                "--only {wanted}: the scenarios are {known}"
            )));
        }
    }
    let is_selected = |scenario: &&Scenario| {
        options.only.is_empty() || options.only.iter().any(|name| name == scenario.name)
    };
    Ok(SCENARIOS.iter().filter(is_selected).collect())
}

fn list(peers: &[Peer], skipped: &[SkippedPeer]) {
    for scenario in &SCENARIOS {
        println!("{:16} {}", scenario.name, scenario.title);
    }
    println!();
    for peer in peers {
        println!("{:16} {}: {}", peer.name, peer.label, peer.version);
    }
    print_skipped(skipped);
}

fn print_plan(
    options: &PeerOptions,
    machine: &Machine,
    scenarios: &[&Scenario],
    peers: &[Peer],
    skipped: &[SkippedPeer],
) {
    let measurements = (peers.len() * options.rounds()) as f64;
    let seconds: f64 = scenarios
        .iter()
        .map(|scenario| scenario.seconds(options))
        .sum();
    println!("{}", machine.description);
    for peer in peers {
        println!("{}: {}", peer.label, peer.version);
    }
    print_skipped(skipped);
    println!(
        "{} scenarios, {} servers, {} rounds of {} s: about {:.0} minutes",
        scenarios.len(),
        peers.len(),
        options.rounds(),
        options.seconds(),
        (seconds * measurements / 60.0).ceil(),
    );
}

fn print_skipped(skipped: &[SkippedPeer]) {
    for peer in skipped {
        println!("skipped: {}: {}", peer.label, peer.reason);
    }
}

/// Measures all servers in all rounds. A server that fails once is not measured again.
fn measure(
    scenario: &Scenario,
    peers: &[Peer],
    options: &PeerOptions,
    machine: &Machine,
) -> Outcome {
    let mut outcome = Outcome::default();
    for round in 0..options.rounds() {
        for turn in 0..peers.len() {
            let peer = &peers[(turn + round) % peers.len()];
            if outcome.failures.iter().any(|(name, _)| *name == peer.name) {
                continue;
            }
            let (name, rounds) = (scenario.name, options.rounds());
            eprintln!("{name}, round {} of {rounds}: {}", round + 1, peer.name);
            match scenario.measure(peer, options, machine) {
                Ok(figures) => outcome.add(peer, round, figures),
                Err(error) => outcome
                    .failures
                    .push((peer.name.clone(), error.to_string())),
            }
        }
    }
    outcome
}

impl Outcome {
    fn add(&mut self, peer: &Peer, round: usize, figures: Vec<Measured>) {
        for Measured { quantity, value } in figures {
            let series = match self.series.iter().position(|one| one.quantity == quantity) {
                Some(at) => &mut self.series[at],
                None => {
                    self.series.push(Series::new(quantity));
                    self.series.last_mut().expect("one was pushed")
                }
            };
            series.add(&peer.name, round, value);
        }
    }
}

/// Returns all that a reader needs to judge the figures.
fn about(
    scenario: &Scenario,
    outcome: &Outcome,
    options: &PeerOptions,
    machine: &Machine,
    peers: &[Peer],
    skipped: &[SkippedPeer],
) -> Value {
    let by_label = |pairs: Vec<(&str, &str)>| -> Value {
        let pairs = pairs.into_iter();
        pairs
            .map(|(label, text)| (label.to_owned(), json!(text)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let versions = peers.iter().map(|peer| (peer.label, peer.version.as_str()));
    let skipped = skipped
        .iter()
        .map(|peer| (peer.label, peer.reason.as_str()));
    let failures = outcome.failures.iter();
    let failures = failures.map(|(name, reason)| (peer::label_of(name), reason.as_str()));
    json!({
        "title": scenario.title,
        "machine": machine.description,
        "rounds": options.rounds(),
        "seconds": options.seconds(),
        "quick": options.quick,
        "versions": by_label(versions.collect()),
        "skipped": by_label(skipped.collect()),
        "failures": by_label(failures.collect()),
    })
}
