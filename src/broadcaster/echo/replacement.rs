//! Batches for members that do not receive some of their messages, but acknowledgements in their place.

use std::ops::Range;

use crate::outbox::Wire;
use crate::protocol::{
    ClientId, Frames, Position, RequestId, RoomName, ServerMessage, write_event_id,
};

use super::own_publishes::InPlace;

/// The bytes of a publication in a room's pending batch.
#[derive(Clone)]
pub(in crate::broadcaster) struct PendingPublication {
    pub(in crate::broadcaster) frames: Range<usize>,
    pub(in crate::broadcaster) events: Range<usize>,
    pub(in crate::broadcaster) position: Position,
}

/// A publication of a pending batch that one member does not receive.
pub(in crate::broadcaster) struct Replacement {
    pub(in crate::broadcaster) client: ClientId,
    pub(in crate::broadcaster) publication: PendingPublication,
    pub(in crate::broadcaster) in_place: InPlace,
}

impl Replacement {
    /// Returns the acknowledgement in place of the publication.
    fn frame(&self, room: &RoomName) -> Frames {
        let id = match &self.in_place {
            InPlace::Answer(id) => id.as_ref(),
            InPlace::Marker => None,
        };
        self.ack(room, true, id)
    }

    /// Returns the acknowledgement for a member that receives the publication after all. `None` if it answers no request.
    pub(in crate::broadcaster) fn late_ack(&self, room: &RoomName) -> Option<Frames> {
        match &self.in_place {
            InPlace::Answer(id) => Some(self.ack(room, false, id.as_ref())),
            InPlace::Marker => None,
        }
    }

    fn ack(&self, room: &RoomName, in_place: bool, id: Option<&RequestId>) -> Frames {
        let ack = ServerMessage::Ack {
            room,
            position: self.publication.position,
            in_place,
        };
        ack.to_frames(id)
    }
}

/// Returns a batch of a room for one member, without the publications that it does not receive.
pub(in crate::broadcaster) fn replace(
    room: &RoomName,
    replacements: &[Replacement],
    wire: Wire,
    frames: &[u8],
    events: &[u8],
) -> Frames {
    match wire {
        Wire::WebSocket => {
            let parts = replacements.iter().map(|replacement| {
                let frame = replacement.frame(room).bytes().to_vec();
                (&replacement.publication.frames, frame)
            });
            Frames::from(splice(frames, parts))
        }
        Wire::Events | Wire::ChunkedEvents => {
            let parts = replacements.iter().map(|replacement| {
                let mut event = Vec::new();
                write_event_id(&mut event, replacement.publication.position);
                (&replacement.publication.events, event)
            });
            wire.encode_events(splice(events, parts))
        }
    }
}

/// Returns a copy of `bytes` with each of these ranges replaced, which are in order.
fn splice<'a>(bytes: &[u8], parts: impl Iterator<Item = (&'a Range<usize>, Vec<u8>)>) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut copied = 0;
    for (range, replacement) in parts {
        out.extend_from_slice(&bytes[copied..range.start]);
        out.extend_from_slice(&replacement);
        copied = range.end;
    }
    out.extend_from_slice(&bytes[copied..]);
    out
}
