//! The formats in which a client is sent messages.

use super::Frames;

/// The format of the frames on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// WebSocket frames; the connection ends with a Close frame.
    WebSocket,
    /// Server-Sent Events in a body that ends with the connection, for HTTP/1.0.
    Events,
    /// Server-Sent Events in chunks, for HTTP/1.1. Many libraries pass on each chunk at once, but buffer a body
    /// without chunks.
    ChunkedEvents,
}

impl Wire {
    /// Returns whether the client reads Server-Sent Events.
    pub(crate) fn has_events(self) -> bool {
        self != Self::WebSocket
    }

    /// Encodes Server-Sent Events for the socket.
    pub(crate) fn encode_events(self, events: Vec<u8>) -> Frames {
        match self {
            Self::ChunkedEvents => Frames::chunk(&events),
            Self::Events | Self::WebSocket => Frames::from(events),
        }
    }
}
