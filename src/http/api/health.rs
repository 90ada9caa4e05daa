//! `GET /health`: whether the server accepts clients and can store messages.

use serde::Serialize;
use tiny_http::ResponseBox;

use crate::app::App;
use crate::http::request::Request;
use crate::http::response::json_with_status;

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

/// 200 while the server is healthy, 503 while it shuts down or cannot store messages.
pub(in crate::http) fn health(request: &Request, app: &App) -> ResponseBox {
    let (code, status, message) = if app.shutdown.is_requested() {
        (503, "draining", "the server is closing down".to_owned())
    } else if let Err(why) = app.broker.health() {
        (503, "degraded", why)
    } else {
        (200, "healthy", "WebSocket server is running".to_owned())
    };
    let identity = app.admission.identify(request.head.token(), request.peer);
    let details = identity.is_ok().then(|| HealthDetails {
        message,
        connected_clients: app.metrics.clients.get(),
        uptime_seconds: app.started.elapsed().as_secs_f64(),
        version: env!("CARGO_PKG_VERSION"),
    });
    json_with_status(code, &HealthReport { status, details })
}
