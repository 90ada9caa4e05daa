//! The question that the backend is asked about a client: its credentials, its address, and what it wants.

use std::net::IpAddr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ring::digest;

use crate::protocol::RoomName;

/// The characters of a room's name that stay in a header.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b':')
    .remove(b'@');

#[derive(Clone, Default)]
pub(crate) struct AuthQuestion {
    /// The client's `Cookie` header, if the page that sends it is trusted.
    pub(crate) cookie: Option<String>,
    /// The client's `Authorization` header, or its token as one.
    pub(crate) authorization: Option<String>,
    pub(crate) origin: Option<String>,
    /// The client's address; `None` for a client on a Unix socket.
    pub(crate) address: Option<IpAddr>,
    /// The method of the client's request.
    pub(crate) method: String,
    /// The path of the client's request, without its query.
    pub(crate) path: String,
    /// The rooms that the request names.
    pub(crate) rooms: Vec<RoomName>,
}

impl AuthQuestion {
    /// Returns whether the client has shown anything by which the backend may know it.
    pub(crate) fn has_credentials(&self) -> bool {
        self.cookie.is_some() || self.authorization.is_some()
    }

    /// Returns the headers of the request to the backend.
    pub(super) fn headers(&self) -> Vec<(&'static str, String)> {
        let rooms: Vec<String> = self
            .rooms
            .iter()
            .map(|room| utf8_percent_encode(room.as_str(), ENCODED).to_string())
            .collect();
        let rooms = Some(rooms.join(",")).filter(|rooms| !rooms.is_empty());
        let optional = [
            ("Cookie", self.cookie.clone()),
            ("Authorization", self.authorization.clone()),
            ("Origin", self.origin.clone()),
            ("X-Forwarded-For", self.address.map(|ip| ip.to_string())),
            ("X-Original-Method", Some(self.method.clone())),
            ("X-Original-URI", Some(self.path.clone())),
            ("X-Wscast-Rooms", rooms),
        ];
        let present = optional.into_iter();
        // A control character would start another header.
        let plain = |value: String| value.replace(char::is_control, " ");
        let present = present.filter_map(|(name, value)| Some((name, plain(value?))));
        let mut headers: Vec<_> = present.collect();
        headers.push(("Accept", "application/json, */*".to_owned()));
        headers
    }

    /// Returns a key that only an equal question has, and that does not show the credentials.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        for (name, value) in self.headers() {
            context.update(&(value.len() as u64).to_le_bytes());
            context.update(name.as_bytes());
            context.update(value.as_bytes());
        }
        let mut key = [0; 32];
        key.copy_from_slice(context.finish().as_ref());
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_what_is_known_and_each_part_changes_the_digest() {
        let plain = AuthQuestion {
            method: "GET".to_owned(),
            path: "/ws".to_owned(),
            ..AuthQuestion::default()
        };
        let full = AuthQuestion {
            cookie: Some("sid=1".to_owned()),
            rooms: ["ops:1", "房间"]
                .map(|name| RoomName::parse(name).unwrap())
                .into(),
            address: Some([203, 0, 113, 7].into()),
            ..plain.clone()
        };
        let headers = full.headers();
        for expected in [
            ("Cookie", "sid=1"),
            ("X-Forwarded-For", "203.0.113.7"),
            ("X-Wscast-Rooms", "ops:1,%E6%88%BF%E9%97%B4"),
        ] {
            let found = headers
                .iter()
                .any(|(name, value)| (*name, value.as_str()) == expected);
            assert!(found, "{expected:?} in {headers:?}");
        }
        assert!(!plain.has_credentials() && full.has_credentials());
        let other_room = AuthQuestion {
            rooms: vec![RoomName::lobby()],
            ..full.clone()
        };
        let digests = [plain.digest(), full.digest(), other_room.digest()];
        assert!(digests[0] != digests[1] && digests[1] != digests[2]);
        assert_eq!(full.digest(), full.clone().digest());
    }
}
