//! The search for the number of clients that a server holds: more and more of them, until the latency is too long.

use std::time::Duration;

use super::figures::LoadFigures;
use super::generator::LoadGenerator;
use crate::client::error::ClientError;

/// Clients of the first step. Each further step has twice as many.
const FIRST_STEP: usize = 100;
/// Steps between the last number that was held and the first that was not.
const HALVINGS: usize = 3;

/// The outcome of a search.
#[derive(Clone, Debug)]
pub(crate) struct SearchResult {
    /// The figures of the greatest number of clients that was held; `None` if not even the first was.
    pub(crate) held: Option<LoadFigures>,
    /// The reason why more were not tried: one line.
    pub(crate) end: String,
}

/// Searches for the greatest number of clients, `clients_max` at most, with a p95 of at most `p95_max` and without losses.
/// Calls `on_step` with the figures of each step and whether they were good enough.
pub(crate) fn find_clients(
    generator: &mut LoadGenerator<'_>,
    clients_max: usize,
    p95_max: Duration,
    mut on_step: impl FnMut(&LoadFigures, bool),
) -> Result<SearchResult, ClientError> {
    let mut search = SearchResult {
        held: None,
        end: format!("{clients_max} clients are the most that were to be tried (--clients)"),
    };
    let (mut held, mut failed) = (0, None::<usize>);
    let (mut next, mut halvings) = (FIRST_STEP.min(clients_max), 0);
    loop {
        let mut is_last = false;
        match generator.hold(next) {
            Ok(true) => {}
            Ok(false) => {
                "it was stopped".clone_into(&mut search.end);
                break;
            }
            Err(error) => {
                next = generator.settle();
                if next == 0 {
                    return Err(error);
                }
                search.end = error.to_string();
                is_last = true;
                if next <= held {
                    break;
                }
            }
        }
        let figures = generator.measure()?;
        let is_held = is_good(&figures, p95_max);
        on_step(&figures, is_held);
        if generator.is_stopped() {
            "it was stopped".clone_into(&mut search.end);
            is_last = true;
        }
        if is_held {
            held = next;
            search.held = Some(figures);
        } else {
            failed = Some(next);
            if !is_last {
                search.end = why_not(&figures, p95_max);
            }
        }
        next = match failed {
            _ if is_last => break,
            None if held == clients_max => break,
            None => (held * 2).min(clients_max),
            Some(failed) => {
                halvings += 1;
                let middle = held + (failed - held) / 2;
                if halvings > HALVINGS || middle == held {
                    break;
                }
                middle
            }
        };
    }
    Ok(search)
}

fn is_good(figures: &LoadFigures, p95_max: Duration) -> bool {
    let p95 = figures.latencies.quantile(0.95);
    figures.lost == 0
        && figures.closed_clients() == 0
        && figures.refused() == 0
        && p95.is_some_and(|p95| p95 <= p95_max)
}

/// Returns why these figures are not good enough.
fn why_not(figures: &LoadFigures, p95_max: Duration) -> String {
    let clients = figures.clients;
    let first =
        |reasons: &super::client::Reasons| reasons.keys().next().cloned().unwrap_or_default();
    if figures.closed_clients() > 0 {
        let reason = first(&figures.closed);
        return format!("at {clients} clients connections were lost: {reason}");
    }
    if figures.refused() > 0 {
        let code = first(&figures.refusals);
        return format!("at {clients} clients the server refused messages: {code}");
    }
    if figures.lost > 0 {
        return format!("at {clients} clients {} deliveries were lost", figures.lost);
    }
    let p95 = figures.latencies.quantile(0.95).unwrap_or_default();
    format!(
        "at {clients} clients p95 was {:.0} ms, more than {:.0} ms",
        p95.as_secs_f64() * 1e3,
        p95_max.as_secs_f64() * 1e3
    )
}
