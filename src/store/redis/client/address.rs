//! Parses the addresses in `--redis`. No error repeats any part of an address, because the part may be a password.

use redis::{ConnectionInfo, IntoConnectionInfo, ProtocolVersion};

/// Schemes of addresses with a host.
const HOST_SCHEMES: [&str; 4] = ["redis", "rediss", "valkey", "valkeys"];
/// Schemes of addresses with the path of a Unix socket.
const PATH_SCHEMES: [&str; 3] = ["unix", "redis+unix", "valkey+unix"];
/// Query parameters of an address with a path.
const PATH_PARAMETERS: [&str; 4] = ["db", "user", "pass", "protocol"];
/// Query parameters that an address with a host must not have, because they would be ignored.
const IGNORED_PARAMETERS: [&str; 6] = ["db", "database", "user", "username", "pass", "password"];

/// Splits a list of addresses at its commas. A comma that no scheme follows is part of an address.
pub(super) fn split_list(list: &str) -> Vec<&str> {
    let mut addresses = Vec::new();
    let mut rest = list;
    let mut from = 0;
    while let Some(comma) = rest[from..].find(',').map(|at| from + at) {
        from = comma + 1;
        if scheme_of(rest[from..].trim_start()).is_some() {
            addresses.push(rest[..comma].trim());
            rest = &rest[from..];
            from = 0;
        }
    }
    addresses.push(rest.trim());
    addresses
}

/// Parses one address. User and password may have any characters; `%` and two digits stand for one character.
pub(super) fn parse(address: &str) -> Result<ConnectionInfo, &'static str> {
    let scheme =
        scheme_of(address).ok_or("an address starts with redis://, rediss:// or unix://")?;
    let rest = &address[scheme.len() + 1..];
    let url = if PATH_SCHEMES.contains(&scheme.as_str()) {
        path_url(&scheme, rest)?
    } else {
        let rest = rest.strip_prefix("//");
        host_url(&scheme, rest.ok_or("two slashes follow the scheme")?)?
    };
    let info = url
        .into_connection_info()
        .map_err(|_| "not a valid address")?;
    let settings = info.redis_settings().clone();
    if settings.db() < 0 {
        return Err("the database number is not valid");
    }
    // The subscriber reads the pushed messages of this protocol only.
    Ok(info.set_redis_settings(settings.set_protocol(ProtocolVersion::RESP2)))
}

/// Returns the scheme of an address in lower case, if it is known.
fn scheme_of(address: &str) -> Option<String> {
    let scheme = address.split_once(':')?.0.to_ascii_lowercase();
    let mut known = HOST_SCHEMES.iter().chain(&PATH_SCHEMES);
    known.any(|known| *known == scheme).then_some(scheme)
}

/// Returns the URL of a server at a host, with user and password percent-encoded. They end at the last `@`, because a
/// host has none.
fn host_url(scheme: &str, rest: &str) -> Result<String, &'static str> {
    let (credentials, location) = match rest.rsplit_once('@') {
        Some((credentials, location)) => (credentials, location),
        None => ("", rest),
    };
    check_host(location)?;
    let (user, password) = match credentials.split_once(':') {
        Some((user, password)) => (encode(user), encode(password)),
        None => (encode(credentials), String::new()),
    };
    Ok(match (user.is_empty(), password.is_empty()) {
        (true, true) => format!("{scheme}://{location}"),
        (false, true) => format!("{scheme}://{user}@{location}"),
        _ => format!("{scheme}://{user}:{password}@{location}"),
    })
}

/// Checks host, port, path and query: `host:6379/2`.
fn check_host(location: &str) -> Result<(), &'static str> {
    let (location, query) = location.split_once('?').unwrap_or((location, ""));
    let location = location.split('#').next().unwrap_or_default();
    let (host, database) = location.split_once('/').unwrap_or((location, ""));
    let (host, port) = match host.strip_prefix('[') {
        Some(host) => host.split_once(']').ok_or("an IPv6 address ends with ]")?,
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let port = port.strip_prefix(':').unwrap_or(port);
    let database = database.trim_matches('/');
    if host.contains(',') || port.contains(',') {
        return Err("in a list, each address has its scheme: redis://a:6379,redis://b:6379");
    }
    if port.contains(':') {
        return Err("an IPv6 address must be in brackets: redis://[::1]:6379");
    }
    if host.is_empty() {
        return Err("the host is missing");
    }
    if !port.is_empty() && port.parse::<u16>().is_err() {
        return Err("the port is not a number up to 65535");
    }
    if !database.is_empty() && database.parse::<u32>().is_err() {
        return Err("after the host comes the number of a database, such as /2");
    }
    if parameters(query).any(|name| IGNORED_PARAMETERS.contains(&name)) {
        return Err(
            "user and password come before the host, and the database after it: \
             redis://user:password@host:6379/2",
        );
    }
    Ok(())
}

/// Returns the URL of a server at a Unix socket: `/run/redis.sock?db=2&user=…&pass=…`.
fn path_url(scheme: &str, rest: &str) -> Result<String, &'static str> {
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if !path.starts_with('/') {
        return Err("the path of a Unix socket is absolute: unix:///run/redis.sock");
    }
    if rest.contains('#') {
        return Err("write # in a path or a password as %23");
    }
    if parameters(query).any(|name| !PATH_PARAMETERS.contains(&name)) {
        return Err("after the path come db=, user= or pass=, where & is written as %26");
    }
    // In a query a plus would stand for a space.
    let query = query.replace('+', "%2B");
    Ok(match query.is_empty() {
        true => format!("{scheme}://{path}"),
        false => format!("{scheme}://{path}?{query}"),
    })
}

/// The names of a query's parameters.
fn parameters(query: &str) -> impl Iterator<Item = &str> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts.map(|part| part.split('=').next().unwrap_or_default())
}

/// Percent-encodes a user or password. `%` before two hexadecimal digits is encoded already.
fn encode(text: &str) -> String {
    let bytes = text.as_bytes();
    let is_encoded = |at: usize| {
        let digits = bytes.get(at + 1..at + 3);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    let mut encoded = String::new();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'%' if is_encoded(at) => encoded.push('%'),
            b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => encoded.push(char::from(*byte)),
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Address, database, user and password of an address, separated by spaces.
    fn parsed(address: &str) -> String {
        let info = parse(address).unwrap_or_else(|why| panic!("{address}: {why}"));
        let redis = info.redis_settings();
        let (user, password) = (redis.username(), redis.password());
        format!("{} {} {user:?} {password:?}", info.addr(), redis.db())
    }

    #[test]
    fn user_and_password_may_have_any_characters() {
        for password in [
            "a#b", "a/b", "a@b", "a?b", "a:b", "10%", "%zz", "a,b", "a b", "[x]", "ü", "@", "#1",
        ] {
            let expected = format!("host:6379 0 None {:?}", Some(password));
            assert_eq!(parsed(&format!("redis://:{password}@host")), expected);
            let expected = format!("host:7000 2 {:?} {:?}", Some("u#/s"), Some(password));
            assert_eq!(
                parsed(&format!("redis://u#/s:{password}@host:7000/2")),
                expected
            );
        }
        assert_eq!(
            parsed("redis://us%40er:%23%2f%25@h"),
            "h:6379 0 Some(\"us@er\") Some(\"#/%\")"
        );
        assert_eq!(
            parsed("unix:///s?pass=a%23+b&db=3"),
            "/s 3 None Some(\"a#+b\")"
        );
    }

    #[test]
    fn host_port_and_database_are_parsed() {
        for (address, expected) in [
            ("redis://host", "host:6379 0 None None"),
            ("REDIS://host:1/", "host:1 0 None None"),
            ("redis://host/2/", "host:6379 2 None None"),
            ("redis://:@host/7", "host:6379 7 None None"),
            ("redis://@host", "host:6379 0 None None"),
            ("redis://[::1]:7000/4", "::1:7000 4 None None"),
            ("redis://:p@[fe80::1]", "fe80::1:6379 0 None Some(\"p\")"),
            ("unix:/run/redis.sock", "/run/redis.sock 0 None None"),
            (
                "unix:///run/redis.sock?db=2&user=u",
                "/run/redis.sock 2 Some(\"u\") None",
            ),
            ("valkey://host:6379/0", "host:6379 0 None None"),
        ] {
            assert_eq!(parsed(address), expected, "{address}");
        }
    }

    #[test]
    fn error_names_the_mistake_and_not_the_password() {
        for (address, part) in [
            ("http://:SECRET@host", "starts with"),
            ("host:6379", "starts with"),
            ("redis:SECRET@host", "slashes"),
            ("redis://:SECRET@", "host is missing"),
            ("redis://:SECRET@host:port", "port"),
            ("redis://:SECRET@host:70000", "port"),
            ("redis://:SECRET@host/two", "database"),
            ("redis://:SECRET@host/-1", "database"),
            ("redis://:SECRET@::1:6379", "brackets"),
            ("redis://:SECRET@a:1,b:2", "each address"),
            ("redis://a,b", "each address"),
            ("redis://host?db=2", "database"),
            ("redis://host?password=SECRET", "before the host"),
            ("unix://run/redis.sock?pass=SECRET", "absolute"),
            ("unix:///redis.sock?pass=SEC#RET", "%23"),
            ("unix:///redis.sock?pass=SEC&RET", "%26"),
            ("redis://:SECRET%ff@host", "not a valid address"),
        ] {
            let why = parse(address).err().unwrap_or_else(|| panic!("{address}"));
            assert!(
                why.contains(part) && !why.contains("SEC"),
                "{address}: {why}"
            );
        }
    }

    #[test]
    fn list_is_split_before_schemes_only() {
        assert_eq!(
            split_list("redis://a,redis://b:1 , unix:/c"),
            ["redis://a", "redis://b:1", "unix:/c"]
        );
        assert_eq!(split_list("redis://:a,b@c,d"), ["redis://:a,b@c,d"]);
    }
}
