//! The positions of the messages that this node has acknowledged.

use std::collections::HashMap;

use crate::protocol::{Position, RoomName};

/// Number of rooms whose position is remembered. With one more room, all are forgotten. A loss in a forgotten room is
/// noticed only if the subscription of this node has received the message.
const ROOMS_MAX: usize = 4096;

/// The last position that this node has acknowledged in each room that it published to. The script that publishes
/// compares it with the room's: if Redis has less, it has lost messages, and their offsets must not be used again.
#[derive(Debug, Default)]
pub(super) struct AcknowledgedPositions(HashMap<RoomName, Position>);

impl AcknowledgedPositions {
    pub(super) fn record(&mut self, room: &RoomName, position: Position) {
        if let Some(known) = self.0.get_mut(room) {
            *known = position;
            return;
        }
        if self.0.len() >= ROOMS_MAX {
            self.0.clear();
        }
        self.0.insert(room.clone(), position);
    }

    /// Returns the last position in the room that this node knows of: the last that it has acknowledged, or the last that
    /// its subscription has received. If their epochs differ, numbering has restarted, and either may be the newer one.
    /// The received one is returned: at worst a loss is not noticed, but no room restarts without a loss.
    pub(super) fn last_known(
        &self,
        room: &RoomName,
        received: Option<Position>,
    ) -> Option<Position> {
        let acknowledged = self.0.get(room).copied();
        match (acknowledged, received) {
            (Some(acknowledged), Some(received)) if acknowledged.epoch == received.epoch => {
                let offset = acknowledged.offset.max(received.offset);
                Some(Position { offset, ..received })
            }
            (_, Some(received)) => Some(received),
            (acknowledged, None) => acknowledged,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Epoch;

    fn at(epoch: Epoch, offset: u64) -> Position {
        Position { epoch, offset }
    }

    #[test]
    fn last_known_position_is_the_higher_one_of_the_epoch_that_was_received() {
        let (epoch, restarted) = (Epoch::random(), Epoch::random());
        let room = RoomName::parse("ops").unwrap();
        let mut acknowledged = AcknowledgedPositions::default();
        assert_eq!(acknowledged.last_known(&room, None), None);
        assert_eq!(
            acknowledged.last_known(&room, Some(at(epoch, 3))),
            Some(at(epoch, 3))
        );
        acknowledged.record(&room, at(epoch, 5));
        for (received, known) in [
            (None, at(epoch, 5)),
            (Some(at(epoch, 4)), at(epoch, 5)),
            (Some(at(epoch, 6)), at(epoch, 6)),
            (Some(at(restarted, 1)), at(restarted, 1)),
        ] {
            assert_eq!(acknowledged.last_known(&room, received), Some(known));
        }
    }

    #[test]
    fn number_of_rooms_is_bounded() {
        let mut acknowledged = AcknowledgedPositions::default();
        let epoch = Epoch::random();
        for n in 0..=ROOMS_MAX {
            let room = RoomName::parse(&format!("ops:{n}")).unwrap();
            acknowledged.record(&room, at(epoch, 1));
            assert_eq!(acknowledged.last_known(&room, None), Some(at(epoch, 1)));
            assert!(acknowledged.0.len() <= ROOMS_MAX);
        }
    }
}
