//! What travels over the wire, as values: names, messages, codes and frames.
//!
//! Nothing here does I/O or knows a connection. Any bytes given to [`ClientMessage::parse`] yield a
//! value or an [`ErrorCode`], never a panic, and a [`RoomName`] that exists is valid.

mod code;
mod frame;
mod message;
mod name;

pub use code::{CloseCode, ErrorCode, Refusal};
pub use frame::{FrameBuffer, Frames};
pub use message::{
    ClientMessage, DEPTH_MAX, Kind, Position, Publication, Publish, Refused, Request, RoomState,
    ServerMessage, invalid_room,
};
pub use name::{ClientId, Epoch, NameError, RequestId, RoomName};
