//! Case R: many small rooms, where a message has few receivers and its way through the server costs most.

use std::io;

use crate::args::SMALL_ROOM_CLIENTS;
use crate::client_group::{ClientGroup, ServerProtocol};
use crate::comparison::{Comparison, Definition, Figure};
use crate::load::{Load, Publisher};
use crate::measurements::{Bench, FanoutFigures};
use crate::report::{Columns, Row};
use crate::servers::ServerKind;

const CPU_PER_MESSAGE: Definition<FanoutFigures> = ("CPU per message", "µs", |fanout| {
    fanout.cpu_us_per_delivery * SMALL_ROOM_CLIENTS as f64
});
const MESSAGES: Definition<FanoutFigures> = ("messages per second", "k/s", |fanout| {
    fanout.deliveries_per_ms / SMALL_ROOM_CLIENTS as f64
});

pub(crate) fn rows(bench: &Bench) -> io::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for load in [Load::PerSecond(1000), Load::Outstanding(64)] {
        let title = format!("R  {} rooms, {load}", bench.options.small_rooms());
        let comparison = Comparison {
            figures: Figure::all(&title, &[CPU_PER_MESSAGE, MESSAGES]),
            title,
            columns: Columns::FloorAndWscast,
            sides: [ServerKind::FloorRelay, ServerKind::Wscast],
        };
        rows.extend(comparison.rows(bench, |bench, kind| bench.small_rooms(kind, load))?);
    }
    Ok(rows)
}

impl Bench {
    /// Measures messages that the first client of each room publishes, with the rooms in turn.
    fn small_rooms(&self, kind: ServerKind, load: Load) -> io::Result<FanoutFigures> {
        let mut server = self.start(kind)?;
        let (address, rooms) = (server.address, self.options.small_rooms());
        let count = rooms * SMALL_ROOM_CLIENTS;
        let (clients, publisher) = if kind.is_floor() {
            // The floor expects the publisher on its first connection.
            let publisher = Publisher::of_floor(&server, count, rooms, self.relayed_bytes)?;
            let protocol = ServerProtocol::BareFrames;
            let clients = ClientGroup::connect_to_rooms(address, count, rooms, protocol)?;
            (clients, publisher)
        } else {
            let protocol = ServerProtocol::WebSocket;
            let clients = ClientGroup::connect_to_rooms(address, count, rooms, protocol)?;
            let publisher = Publisher::new(&clients, rooms)?;
            (clients, publisher)
        };
        self.fanout_to(&mut server, clients, publisher, load)
    }
}
