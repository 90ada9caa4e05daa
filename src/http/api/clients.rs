//! `/clients` and `/users/{sub}`: an operator lists clients, closes them, and revokes the tokens of a user.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tiny_http::{Response, ResponseBox};

use crate::app::App;
use crate::auth::{parse_user, unix_time};
use crate::broadcaster::ClientDetail;
use crate::http::request::{Admitted, invalid_field};
use crate::http::response::{bad_request, busy, error, json, unavailable};
use crate::protocol::{ClientId, CloseCode, ErrorCode};
use crate::rooms::ClientSelector;

const CLIENTS_PAGE_DEFAULT: usize = 100;
const CLIENTS_PAGE_MAX: usize = 1000;

#[derive(Serialize)]
struct ClientList {
    clients: Vec<ClientEntry>,
    /// The `after` of the next page, if there may be one.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
}

#[derive(Serialize)]
struct ClientEntry {
    client: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    rooms: Vec<String>,
    connected_seconds: f64,
}

/// `GET /clients?after=&limit=`: connected clients, by id.
pub(in crate::http) fn list(
    admitted: &Admitted<'_>,
    app: &App,
) -> Result<ResponseBox, ResponseBox> {
    let request = admitted.request;
    let limit = request
        .limit(CLIENTS_PAGE_DEFAULT, CLIENTS_PAGE_MAX)
        .map_err(|why| bad_request(&why))?;
    let after = request
        .head
        .query
        .first("after")
        .map(|text| ClientId::from_str(text).map_err(|()| text))
        .transpose()
        .map_err(|text| bad_request(&invalid_field("after", "a client's id", text)))?;
    let clients = app.broadcaster.clients(after, limit).ok_or_else(busy)?;
    let is_full = clients.len() == limit;
    let next = clients.last().filter(|_| is_full);
    Ok(json(&ClientList {
        after: next.map(|last| last.client.to_string()),
        clients: clients.into_iter().map(ClientEntry::from).collect(),
    }))
}

impl From<ClientDetail> for ClientEntry {
    fn from(detail: ClientDetail) -> Self {
        Self {
            client: detail.client.to_string(),
            user: detail.user.map(|user| user.to_string()),
            rooms: detail.rooms.iter().map(ToString::to_string).collect(),
            connected_seconds: detail.connected.elapsed().as_secs_f64(),
        }
    }
}

/// `DELETE /clients/{id}`: 204 if it was closed here, 202 if other nodes were asked to close it.
pub(in crate::http) fn close_client(
    admitted: &Admitted<'_>,
    app: &App,
) -> Result<ResponseBox, ResponseBox> {
    let not_found = || error(404, "client_not_found", "no such client is connected");
    let client = admitted
        .request
        .subject()
        .parse()
        .map_err(|()| not_found())?;
    let selector = ClientSelector::Client(client);
    if close_here(&selector, app)? > 0 {
        return Ok(Response::empty(204).boxed());
    }
    match app.broker.close_on_other_nodes(&selector) {
        0 => Err(not_found()),
        _ => Ok(Response::empty(202).boxed()),
    }
}

#[derive(Serialize)]
struct ClosedClients {
    /// Clients closed on this node; the response does not wait for other nodes.
    closed: usize,
    /// Other nodes that were asked to close theirs.
    #[serde(skip_serializing_if = "is_zero")]
    nodes_notified: usize,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// `DELETE /users/{sub}/clients`: closes all clients of a user, on all nodes.
pub(in crate::http) fn close_user(
    admitted: &Admitted<'_>,
    app: &App,
) -> Result<ResponseBox, ResponseBox> {
    let selector = ClientSelector::User(admitted.request.subject().into());
    let closed = close_here(&selector, app)?;
    let nodes_notified = app.broker.close_on_other_nodes(&selector);
    Ok(json(&ClosedClients {
        closed,
        nodes_notified,
    }))
}

#[derive(Serialize)]
struct RevokedUser {
    /// Clients closed on this node; the response does not wait for other nodes.
    closed: usize,
    /// Other nodes that were notified.
    #[serde(skip_serializing_if = "is_zero")]
    nodes_notified: usize,
    /// Unix seconds. A token issued until then is refused.
    revoked: f64,
}

/// `POST /users/{sub}/revoke`: closes all clients of a user and refuses every token of theirs issued until now, on all
/// nodes.
pub(in crate::http) fn revoke_user(
    admitted: &Admitted<'_>,
    app: &App,
) -> Result<ResponseBox, ResponseBox> {
    let text = admitted.request.subject();
    let user = parse_user(text)
        .ok_or_else(|| bad_request(&invalid_field("user", "1 to 128 bytes of text", text)))?;
    // Stores keep whole milliseconds. No token issued earlier may survive the rounding.
    let at = Duration::from_millis(unix_time().as_millis() as u64 + 1);
    app.admission.revoke(&user, at).map_err(|_| {
        let message = "the server keeps no more revocations; change the key instead";
        error(503, "too_many_revocations", message)
    })?;
    let selector = ClientSelector::User(Arc::clone(&user));
    let closed = app.broadcaster.close(selector, CloseCode::Unauthorized);
    let nodes_notified = app.broker.revoke(&user, at).map_err(|_| {
        let message = "revoked on this node only, because the store did not keep it; send it again";
        unavailable(ErrorCode::StorageUnavailable.as_str(), message)
    })?;
    Ok(json(&RevokedUser {
        closed: closed.ok_or_else(busy)?,
        nodes_notified,
        revoked: at.as_secs_f64(),
    }))
}

/// Closes the matching clients of this node and returns their number.
fn close_here(selector: &ClientSelector, app: &App) -> Result<usize, ResponseBox> {
    app.broadcaster
        .close(selector.clone(), CloseCode::Forbidden)
        .ok_or_else(busy)
}
