//! The list of a room's members that a node reports to the others.
//!
//! A list is a sequence of texts: the id of each client, followed by `user:NAME` if its token names a user, `since:` and
//! the Unix milliseconds of its joining, and `state:JSON` if it shows a state. Nodes of earlier versions ignore every text
//! that they do not know, so all kinds of nodes can run together.

use crate::auth::parse_user;
use crate::protocol::{ClientId, MemberState, PresentClient};

/// The start of the text that names the user of the client before it.
const USER_PREFIX: &str = "user:";
/// The start of the text that says since when the client before it is there.
const SINCE_PREFIX: &str = "since:";
/// The start of the text with the state of the client before it.
const STATE_PREFIX: &str = "state:";
/// The longest text of a client id, with quotes and comma.
const CLIENT_BYTES_MAX: usize = 33;
/// The longest text of the time of joining, with quotes and comma.
const SINCE_BYTES_MAX: usize = 29;

/// Returns the texts of a list.
pub(super) fn encode(members: &[PresentClient]) -> Vec<String> {
    let mut list = Vec::with_capacity(2 * members.len());
    for member in members {
        list.push(member.client.to_string());
        if let Some(user) = &member.user {
            list.push(format!("{USER_PREFIX}{user}"));
        }
        if let Some(since) = member.since {
            list.push(format!("{SINCE_PREFIX}{since}"));
        }
        if let Some(state) = &member.state {
            list.push(format!("{STATE_PREFIX}{}", state.as_str()));
        }
    }
    list
}

/// Parses the texts of a list. Texts that are unknown, or follow no id, are ignored.
pub(super) fn decode(list: &[String]) -> Vec<PresentClient> {
    let mut members: Vec<PresentClient> = Vec::new();
    for text in list {
        if let Ok(client) = text.parse::<ClientId>() {
            members.push(PresentClient::new(client, None));
        } else if let Some(member) = members.last_mut() {
            add(member, text);
        }
    }
    members
}

/// Adds what a text says about a member, unless an earlier text has said it.
fn add(member: &mut PresentClient, text: &str) {
    if let Some(user) = text.strip_prefix(USER_PREFIX) {
        member.user = member.user.take().or_else(|| parse_user(user));
    } else if let Some(since) = text.strip_prefix(SINCE_PREFIX) {
        member.since = member.since.or_else(|| since.parse().ok());
    } else if let Some(state) = text.strip_prefix(STATE_PREFIX) {
        member.state = member.state.take().or_else(|| MemberState::parse(state));
    }
}

/// Returns about how many bytes a list has as JSON, without the escapes in it.
pub(super) fn byte_len(members: &[PresentClient]) -> usize {
    let user_bytes = |member: &PresentClient| {
        let user = member.user.as_ref();
        user.map_or(0, |user| USER_PREFIX.len() + user.len() + 3)
    };
    // Every string of a state has quotes, which are escaped.
    let state_bytes = |member: &PresentClient| {
        let state = member.state.as_ref();
        state.map_or(0, |state| STATE_PREFIX.len() + 2 * state.as_str().len() + 3)
    };
    let bytes = |member: &PresentClient| {
        CLIENT_BYTES_MAX + SINCE_BYTES_MAX + user_bytes(member) + state_bytes(member)
    };
    members.iter().map(bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(n: u64, user: Option<&str>) -> PresentClient {
        PresentClient::new(ClientId::new(1, n), user.map(Into::into))
    }

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn list_keeps_clients_and_users() {
        let long = "u".repeat(128);
        // Two users have names that look like a client id and like the prefix `user:`.
        let users = [
            Some("alice"),
            None,
            Some("c00000001-9"),
            Some("user:"),
            Some(&long),
            Some("王"),
        ];
        let members: Vec<_> = (1..).zip(users).map(|(n, user)| member(n, user)).collect();
        let mut members = members;
        members[1].since = Some(u64::MAX);
        members[2].state = MemberState::parse(r#"{"typing":true}"#);
        members[5].since = Some(1_795_954_151_800);
        members[5].state = MemberState::parse("\"user:bob\"");
        let list = encode(&members);
        assert_eq!(decode(&list), members);
        assert!(byte_len(&members) >= serde_json::to_string(&list).unwrap().len() - 2);

        let ids_for_old_nodes = list.iter().filter_map(|text| text.parse::<ClientId>().ok());
        assert!(ids_for_old_nodes.eq(members.iter().map(|member| member.client)));
    }

    #[test]
    fn list_of_an_old_node_has_no_users() {
        let list = texts(&["c00000001-1", "c00000001-2"]);
        assert_eq!(decode(&list), [member(1, None), member(2, None)]);
    }

    #[test]
    fn texts_that_mean_nothing_are_ignored() {
        let long = format!("user:{}", "u".repeat(129));
        let list = texts(&[
            "user:nobody",
            "c1-1",
            "c00000001-1",
            &long,
            "user:",
            "user:a\nb",
            "users",
            "user:ann",
            "user:bob",
            "since:yesterday",
            "since:7",
            "since:8",
            "state:",
            "state:null",
            "state:{\"a\"",
            "state: 1",
            "state:1",
            "state:2",
        ]);
        let expected = PresentClient {
            since: Some(7),
            state: MemberState::parse("1"),
            ..member(1, Some("ann"))
        };
        assert_eq!(decode(&list), [expected]);
    }
}
