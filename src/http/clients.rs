//! What an operator does with clients: see them and close them.

use std::str::FromStr;
use std::sync::Arc;

use serde::Serialize;
use tiny_http::{Response, ResponseBox};

use crate::app::App;
use crate::broadcaster::ClientDetail;
use crate::protocol::{ClientId, CloseCode};
use crate::rooms::ClientSelector;

use super::answer::json;
use super::{Request, busy, error};

/// Clients in one page.
const CLIENTS_PAGE_DEFAULT: usize = 100;
const CLIENTS_PAGE_MAX: usize = 1000;

#[derive(Serialize)]
struct ClientList {
    clients: Vec<ClientEntry>,
    /// Where the next page begins, if there is one.
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

/// `GET /clients?after=&limit=`: those who are connected, by name.
pub(super) fn list(request: &Request, app: &App) -> ResponseBox {
    let limit = match request.query_values("limit").next().map(str::parse) {
        None => CLIENTS_PAGE_DEFAULT,
        Some(Ok(limit @ 1..=CLIENTS_PAGE_MAX)) => limit,
        Some(_) => return error(400, "invalid_field", "`limit` must be 1 to 1000"),
    };
    let after = request.query_values("after").next();
    let Ok(after) = after.map(ClientId::from_str).transpose() else {
        return error(400, "invalid_field", "`after` must be a client's name");
    };
    let Some(clients) = app.broadcaster.clients(after, limit) else {
        return busy("busy", "the server is busy; try again");
    };
    let is_full = clients.len() == limit;
    let next = clients.last().filter(|_| is_full);
    json(&ClientList {
        after: next.map(|last| last.client.to_string()),
        clients: clients.into_iter().map(ClientEntry::from).collect(),
    })
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

/// `DELETE /clients/{id}`
pub(super) fn close_client(request: &Request, app: &App) -> ResponseBox {
    let name = request.segments.get(1).map_or("", String::as_str);
    let closed = match name.parse() {
        Ok(client) => close(ClientSelector::Client(client), app),
        Err(()) => Some((0, 0)),
    };
    match closed {
        // On one of the other nodes, perhaps: they have been told.
        Some((0, 1..)) => Response::empty(202).boxed(),
        Some((0, 0)) => error(404, "client_not_found", "no such client is connected"),
        Some(_) => Response::empty(204).boxed(),
        None => busy("busy", "the server is busy; try again"),
    }
}

#[derive(Serialize)]
struct Closed {
    /// Here; how many there are on other nodes is not waited for.
    closed: usize,
    /// Other nodes that were told.
    #[serde(skip_serializing_if = "is_zero")]
    nodes_told: usize,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// `DELETE /users/{sub}/clients`
pub(super) fn close_user(request: &Request, app: &App) -> ResponseBox {
    let user: Arc<str> = request.segments.get(1).map_or("", String::as_str).into();
    match close(ClientSelector::User(user), app) {
        Some((closed, nodes_told)) => json(&Closed { closed, nodes_told }),
        None => busy("busy", "the server is busy; try again"),
    }
}

/// Says how many it closed here, and how many other nodes were told to do the same unless it was a client
/// of this one.
fn close(who: ClientSelector, app: &App) -> Option<(usize, usize)> {
    let code = CloseCode::Forbidden;
    let closed = app.broadcaster.close(who.clone(), code)?;
    if matches!(who, ClientSelector::Client(_)) && closed > 0 {
        return Some((closed, 0));
    }
    Some((closed, app.broker.close_on_other_nodes(&who)))
}
