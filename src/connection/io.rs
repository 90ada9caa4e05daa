//! Sending responses and closing a socket, each with a time limit.

use std::io;
use std::time::{Duration, Instant};

use tiny_http::ResponseBox;

use crate::app::App;
use crate::http::{Head, Persistence, render};
use crate::socket::Socket;

/// Time for a client to take a response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Renders and sends a response, and returns the number of its bytes. `head` is `None` if the request could not be parsed or was not even read.
pub(super) fn respond(
    socket: &Socket,
    response: ResponseBox,
    head: Option<&Head>,
    persistence: Persistence,
    app: &App,
) -> io::Result<usize> {
    let bytes = render(response, head, &app.config.get().allow_origin, persistence);
    send_all(socket, &bytes)?;
    Ok(bytes.len())
}

/// Sends within [`RESPONSE_TIMEOUT`], so that a client that does not read cannot block its thread for longer.
pub(super) fn send_all(socket: &Socket, bytes: &[u8]) -> io::Result<()> {
    socket.send_before(bytes, Instant::now() + RESPONSE_TIMEOUT)
}

/// Half-closes the connection and waits until the client closes it too.
pub(super) fn close_gently(socket: &Socket) {
    socket.finish();
    socket.linger();
}
