//! Fetches the keys at `--jwks-url`.

use std::sync::Arc;
use std::time::Duration;

use crate::auth::{AuthSettings, Authority};
use crate::metrics::Metrics;
use crate::outgoing::{OutgoingClient, OutgoingLimits, OutgoingRequest};

/// The bounds of a fetch. Key sets have a few KiB.
const LIMITS: OutgoingLimits = OutgoingLimits {
    connect_timeout: Duration::from_secs(5),
    total_timeout: Duration::from_secs(10),
    body_bytes_max: 256 * 1024,
};
const HEADERS: [(&str, &str); 1] = [("Accept", "application/jwk-set+json, application/json")];

/// Starts the thread that fetches the keys, if the settings have a URL. An `Err` is one line.
pub(crate) fn start(
    settings: &AuthSettings,
    authority: &Authority,
    metrics: &Arc<Metrics>,
) -> Result<(), String> {
    let Some(url) = &settings.jwks_url else {
        return Ok(());
    };
    let client = OutgoingClient::new(url.clone()).map_err(|why| format!("--jwks-url: {why}"))?;
    let fetch = Box::new(move || fetch(&client));
    authority
        .fetch_keys(fetch, Arc::clone(metrics))
        .map_err(|why| format!("cannot start a thread: {why}"))
}

fn fetch(client: &OutgoingClient) -> Result<Vec<u8>, String> {
    let request = OutgoingRequest {
        method: "GET",
        headers: &HEADERS,
        body: &[],
    };
    let response = client
        .send(request, LIMITS)
        .map_err(|why| why.to_string())?;
    match response.status {
        200 if response.is_truncated => {
            let most = LIMITS.body_bytes_max / 1024;
            Err(format!("the answer has more than {most} KiB"))
        }
        200 => Ok(response.body),
        status @ 300..=399 => Err(format!(
            "the answer is {status}, and redirects are not followed; write the address that it leads to"
        )),
        status => Err(format!("the answer is {status}, not 200")),
    }
}
