//! The servers of a Redis Cluster and the slots of each.

use std::collections::BTreeMap;

use redis::{Client, ConnectionAddr, FromRedisValue, Value};

use super::open_connection::OpenConnection;
use super::reply::CommandError;
use super::slots::{SLOTS, SlotRange};

/// A server's host and port, as the cluster reports them.
pub(crate) type Address = (String, u16);

/// The slots of each server that accepts writes.
pub(crate) type Topology = BTreeMap<Address, Vec<SlotRange>>;

/// Requests the cluster's topology from a server. `Ok(None)` if the server replies without one.
pub(crate) fn request_topology(
    connection: &mut OpenConnection,
    client: &Client,
) -> Result<Option<Topology>, CommandError> {
    let mut command = redis::cmd("CLUSTER");
    command.arg("SLOTS");
    let reply = connection.run(&[command])?.pop().unwrap_or_default();
    let host = match client.get_connection_info().addr() {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host,
        _ => "",
    };
    Ok(parse_slots(reply, host))
}

/// Returns how to connect to a server of the cluster: as to the configured server, at another address.
pub(crate) fn client_for(configured: &Client, (host, port): &Address) -> Option<Client> {
    let info = configured.get_connection_info().clone();
    let address = match info.addr().clone() {
        ConnectionAddr::TcpTls {
            insecure,
            tls_params,
            ..
        } => ConnectionAddr::TcpTls {
            host: host.clone(),
            port: *port,
            insecure,
            tls_params,
        },
        _ => ConnectionAddr::Tcp(host.clone(), *port),
    };
    Client::open(info.set_addr(address)).ok()
}

/// Parses the reply to `CLUSTER SLOTS` that the server at `host` sent.
fn parse_slots(reply: Value, host: &str) -> Option<Topology> {
    let Value::Array(entries) = reply else {
        return None;
    };
    let mut servers = Topology::new();
    for entry in entries {
        let Value::Array(fields) = entry else {
            return None;
        };
        let mut fields = fields.into_iter();
        let mut number = || u16::from_redis_value(fields.next()?).ok();
        let (first, last) = (number()?, number()?);
        // The replicas follow after the server that accepts writes.
        let Some(Value::Array(server)) = fields.next() else {
            return None;
        };
        let mut server = server.into_iter();
        let own_host = Option::<String>::from_redis_value(server.next()?).ok()?;
        let port = u16::from_redis_value(server.next()?).ok()?;
        // A server that does not know its own address reports an empty one, or a question mark.
        let own_host = own_host.filter(|own_host| !["", "?"].contains(&own_host.as_str()));
        let own_host = own_host.unwrap_or_else(|| host.to_owned());
        if last >= SLOTS {
            return None;
        }
        let slots = servers.entry((own_host, port)).or_default();
        slots.push(first..=last);
    }
    (!servers.is_empty()).then_some(servers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_parsed_with_their_slots() {
        let text = |text: &str| Value::BulkString(text.into());
        let server =
            |host: &str, port| Value::Array(vec![text(host), Value::Int(port), text("id")]);
        let range = |from, to, server: &Value| {
            let replica = Value::Array(vec![text("10.0.0.9"), Value::Int(1)]);
            Value::Array(vec![
                Value::Int(from),
                Value::Int(to),
                server.clone(),
                replica,
            ])
        };
        let (a, b) = (server("10.0.0.1", 7000), server("", 7001));
        let c = server("?", 7002);
        let reply = Value::Array(vec![
            range(0, 99, &a),
            range(100, 200, &b),
            range(300, 16_383, &a),
            range(201, 299, &c),
        ]);
        let servers = parse_slots(reply, "here").unwrap();
        let slots = |host: &str, port| servers[&(host.to_owned(), port)].clone();
        assert_eq!(slots("10.0.0.1", 7000), [0..=99, 300..=16_383]);
        assert_eq!(slots("here", 7001), [100..=200]);
        assert_eq!(slots("here", 7002), [201..=299]);
        assert!(parse_slots(Value::Array(Vec::new()), "here").is_none());
        assert!(parse_slots(Value::Array(vec![range(0, 16_384, &a)]), "here").is_none());
    }
}
