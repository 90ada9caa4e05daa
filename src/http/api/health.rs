//! `GET /health`, `/health/live` and `/health/ready`: whether the server works, should be restarted, should get clients.

use std::time::{Duration, Instant};

use serde::Serialize;
use tiny_http::ResponseBox;

use crate::app::App;
use crate::http::cookie;
use crate::http::request::Request;
use crate::http::response::json_with_status;

/// How long the parts of the server together have to answer a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// The message for a client when the server shuts down.
const DRAINING: &str = "the server is closing down";

#[derive(Serialize)]
struct HealthReport {
    status: &'static str,
    #[serde(flatten)]
    details: Option<HealthDetails>,
}

/// Sent only to clients with an identity. If tokens are checked, other clients receive only the status.
#[derive(Serialize)]
struct HealthDetails {
    message: String,
    connected_clients: u64,
    uptime_seconds: f64,
    version: &'static str,
}

/// The response of a probe.
#[derive(Serialize)]
struct ProbeReport {
    status: &'static str,
    /// The parts that were asked.
    parts: ProbedParts,
    /// The reason of a failure, for clients with an identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// The parts of the server that a probe asks; true if the part answered in time and works.
#[derive(Clone, Copy, Serialize)]
struct ProbedParts {
    broadcaster: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    broker: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<bool>,
}

/// 200 while the server is healthy, 503 while it shuts down or cannot store messages.
pub(in crate::http) fn health(request: &Request, app: &App) -> ResponseBox {
    let (code, status, message) = if app.shutdown.is_requested() {
        (503, "draining", DRAINING.to_owned())
    } else if let Err(why) = app.broker.health() {
        (503, "degraded", why)
    } else {
        (200, "healthy", "WebSocket server is running".to_owned())
    };
    let details = has_identity(request, app).then(|| HealthDetails {
        message,
        connected_clients: app.metrics.clients.get(),
        uptime_seconds: app.started.elapsed().as_secs_f64(),
        version: env!("CARGO_PKG_VERSION"),
    });
    json_with_status(code, &HealthReport { status, details })
}

/// 503 only if a restart of the process would help: the broadcaster does not answer. A store that fails and a shutdown
/// do not count.
pub(in crate::http) fn live(request: &Request, app: &App) -> ResponseBox {
    let broadcaster = app
        .broadcaster
        .is_responsive(Instant::now() + PROBE_TIMEOUT);
    let parts = ProbedParts {
        broadcaster,
        broker: None,
        store: None,
    };
    let result = if broadcaster {
        Ok("live")
    } else {
        Err(("stuck", unanswered("the broadcaster")))
    };
    report(result, parts, request, app)
}

/// 200 if new clients should come here: the server stays, and broadcaster, broker and store answered in time.
pub(in crate::http) fn ready(request: &Request, app: &App) -> ResponseBox {
    let deadline = Instant::now() + PROBE_TIMEOUT;
    let broadcaster = app.broadcaster.is_responsive(deadline);
    let store = app.broker.probe(deadline);
    let parts = ProbedParts {
        broadcaster,
        broker: Some(store.is_some()),
        store: Some(matches!(store, Some(Ok(())))),
    };
    let result = match store {
        _ if app.shutdown.is_requested() => Err(("draining", DRAINING.to_owned())),
        _ if !broadcaster => Err(("not_ready", unanswered("the broadcaster"))),
        None => Err(("not_ready", unanswered("the store"))),
        Some(Err(why)) => Err(("not_ready", why)),
        Some(Ok(())) => Ok("ready"),
    };
    report(result, parts, request, app)
}

/// The response of a probe: `Err` has the status and the reason.
fn report(
    result: Result<&'static str, (&'static str, String)>,
    parts: ProbedParts,
    request: &Request,
    app: &App,
) -> ResponseBox {
    let (code, status, message) = match result {
        Ok(status) => (200, status, None),
        Err((status, why)) => (503, status, Some(why)),
    };
    let message = message.filter(|_| has_identity(request, app));
    json_with_status(
        code,
        &ProbeReport {
            status,
            parts,
            message,
        },
    )
}

fn unanswered(part: &str) -> String {
    format!("{part} did not answer within {PROBE_TIMEOUT:?}")
}

/// Returns whether the client may see details: it has a token, or none is necessary.
fn has_identity(request: &Request, app: &App) -> bool {
    let token = cookie::token(request, app);
    let identity = app.admission.identify_by_token(token, request.peer);
    identity.is_ok()
}
