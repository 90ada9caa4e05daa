//! The list of a room's members that a node reports to the others.
//!
//! A list is a sequence of texts: the id of each client, followed by `user:NAME` if its token names a user. Nodes of
//! earlier versions write ids only and ignore every text that is not an id, so both kinds of nodes can run together.

use std::sync::Arc;

use crate::auth::parse_user;
use crate::protocol::{ClientId, PresentClient};

/// The start of the text that names the user of the client before it.
const USER_PREFIX: &str = "user:";
/// The longest text of a client id, with quotes and comma.
const CLIENT_BYTES_MAX: usize = 33;

/// Returns the texts of a list.
pub(super) fn encode(members: &[PresentClient]) -> Vec<String> {
    let mut list = Vec::with_capacity(2 * members.len());
    for member in members {
        list.push(member.client.to_string());
        if let Some(user) = &member.user {
            list.push(format!("{USER_PREFIX}{user}"));
        }
    }
    list
}

/// Parses the texts of a list. Texts that are neither an id nor the user of one are ignored.
pub(super) fn decode(list: &[String]) -> Vec<PresentClient> {
    let mut members: Vec<PresentClient> = Vec::new();
    for text in list {
        if let Ok(client) = text.parse::<ClientId>() {
            members.push(PresentClient { client, user: None });
        } else if let (Some(member), Some(user)) = (members.last_mut(), user(text)) {
            member.user.get_or_insert(user);
        }
    }
    members
}

fn user(text: &str) -> Option<Arc<str>> {
    parse_user(text.strip_prefix(USER_PREFIX)?)
}

/// Returns about how many bytes a list has as JSON, without the escapes in it.
pub(super) fn byte_len(members: &[PresentClient]) -> usize {
    let user_bytes = |member: &PresentClient| {
        let user = member.user.as_ref();
        user.map_or(0, |user| USER_PREFIX.len() + user.len() + 3)
    };
    let bytes = |member| CLIENT_BYTES_MAX + user_bytes(member);
    members.iter().map(bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(n: u64, user: Option<&str>) -> PresentClient {
        PresentClient {
            client: ClientId::new(1, n),
            user: user.map(Into::into),
        }
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
        ]);
        assert_eq!(decode(&list), [member(1, Some("ann"))]);
    }
}
