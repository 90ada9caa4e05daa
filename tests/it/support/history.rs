//! A room's history over HTTP.

use std::net::SocketAddr;

use serde_json::Value;

use super::{RawConnection, wait_for};

/// Returns the payloads of a page of history.
pub fn payloads(page: &Value) -> Vec<Value> {
    messages(page)
        .iter()
        .map(|m| m["payload"].clone())
        .collect()
}

/// Returns the offsets of a page of history.
pub fn offsets(page: &Value) -> Vec<u64> {
    let messages = messages(page).iter();
    messages
        .map(|m| m["offset"].as_u64().expect("an offset"))
        .collect()
}

/// Returns all of a room's history, page by page. Retries while the store is unavailable.
pub fn read_whole_history(address: SocketAddr, room: &str) -> Vec<Value> {
    let (mut all, mut since) = (Vec::new(), 0);
    loop {
        let path = format!("/rooms/{room}/messages?since={since}&limit=1000");
        let page = wait_for("history can be read", || {
            let response = RawConnection::connect(address).get(&path);
            (response.status != 503).then(|| response.json())
        });
        assert_eq!(page["contiguous"], true, "{page}");
        match offsets(&page).last() {
            Some(last) => since = *last,
            None => return all,
        }
        all.extend(messages(&page).iter().cloned());
    }
}

fn messages(page: &Value) -> &[Value] {
    page["messages"].as_array().expect("messages in the page")
}
