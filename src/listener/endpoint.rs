//! An endpoint: a TCP port, or a Unix socket and its file.

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::process::umask;

use crate::socket::{Peer, Socket};

use super::accept_queue::lengthen_accept_queue;

/// A listening socket.
#[derive(Debug)]
pub(crate) enum Endpoint {
    Tcp(TcpListener),
    /// For processes of this machine.
    Unix(UnixListener, SocketFile),
}

/// The file of a Unix socket; removed when dropped.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode, so that a file that another server created at this path is not removed.
    identity: (u64, u64),
}

impl Endpoint {
    /// Listens on a path, where a killed server may have left its file. The umask excludes users without bits in
    /// `mode` from the moment the file exists.
    pub(crate) fn unix(path: &Path, mode: u32) -> io::Result<Self> {
        remove_stale(path)?;
        // The umask is that of the whole process, but no other thread that creates files runs yet.
        let before = umask(Mode::from_raw_mode(!mode & 0o777));
        let listener = UnixListener::bind(path);
        umask(before);
        let listener = listener?;
        lengthen_accept_queue(&listener)?;
        // The send buffer keeps the system's default, which is not larger than the one set for TCP.
        let identity = identity(&fs::symlink_metadata(path)?);
        let path = path.to_owned();
        Ok(Self::Unix(listener, SocketFile { path, identity }))
    }

    pub(super) fn accept(&self) -> io::Result<(Socket, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (socket, peer) = listener.accept()?;
                // Small frames must not wait for each other (RFC 896). If this fails, they are only slower.
                socket.set_nodelay(true).ok();
                Ok((Socket::new(socket), Peer::tcp(peer)))
            }
            Self::Unix(listener, _) => {
                let (socket, _) = listener.accept()?;
                Ok((Socket::new(socket), Peer::Unix))
            }
        }
    }

    /// Stops accepting. On Linux this wakes a blocked accept. The path is free at once, the port when the endpoint
    /// is dropped.
    pub(crate) fn close(&self) {
        // Fails only if it is closed already.
        rustix::net::shutdown(self.fd(), rustix::net::Shutdown::Read).ok();
        if let Self::Unix(_, file) = self {
            file.remove();
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener, _) => listener.as_fd(),
        }
    }
}

impl SocketFile {
    fn remove(&self) {
        let now = fs::symlink_metadata(&self.path);
        if now.is_ok_and(|now| identity(&now) == self.identity) {
            // The file may be gone by now.
            fs::remove_file(&self.path).ok();
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        self.remove();
    }
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// Removes the file of a socket without a listener, and nothing else.
fn remove_stale(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        let why = "the file exists and is not a socket; choose another path";
        return Err(io::Error::new(ErrorKind::AlreadyExists, why));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::new(
            ErrorKind::AddrInUse,
            "in use; stop the server that listens there or choose another path",
        )),
    }
}
