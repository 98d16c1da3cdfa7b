//! What a connection is read from and written to: TCP, or TLS over it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::SetUsize;
use nix::{libc, setsockopt_impl};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_rustls::server::TlsStream;

use crate::frame::Incoming;

/// How many bytes must be there before who waits for them is woken (`SO_RCVLOWAT`).
#[derive(Clone, Copy)]
struct ReceiveLowWater;

setsockopt_impl!(ReceiveLowWater, libc::SOL_SOCKET, libc::SO_RCVLOWAT, usize, SetUsize);

/// A client's connection.
pub(crate) enum Stream {
    /// As it is.
    Plain(TcpStream),
    /// Encrypted.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Its two directions.
    pub(crate) fn split(self) -> (Reader, Writer) {
        match self {
            Stream::Plain(stream) => {
                let (reader, writer) = stream.into_split();
                (Reader::Plain(reader), Writer::Plain(writer))
            }
            Stream::Tls(stream) => {
                let (reader, writer) = tokio::io::split(*stream);
                (Reader::Tls(reader), Writer::Tls(writer))
            }
        }
    }
}

/// What comes from a client.
pub(crate) enum Reader {
    /// As it is.
    Plain(OwnedReadHalf),
    /// Encrypted.
    Tls(ReadHalf<TlsStream<TcpStream>>),
}

/// What goes to a client.
pub(crate) enum Writer {
    /// As it is: files may be sent without being read.
    Plain(OwnedWriteHalf),
    /// Encrypted.
    Tls(WriteHalf<TlsStream<TcpStream>>),
}

impl AsyncRead for Reader {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Reader::Plain(reader) => Pin::new(reader).poll_read(context, buffer),
            Reader::Tls(reader) => Pin::new(reader).poll_read(context, buffer),
        }
    }
}

impl Incoming for Reader {
    fn wake_at(&self, bytes: usize) {
        // How much plaintext is behind the next ciphertext nobody knows.
        let Reader::Plain(reader) = self else { return };
        let stream: &TcpStream = reader.as_ref();
        if let Err(cause) = setsockopt(stream, ReceiveLowWater, &bytes) {
            tracing::debug!(%cause, "a socket's low water mark stays as it is");
        }
    }
}

impl AsyncWrite for Writer {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Writer::Plain(writer) => Pin::new(writer).poll_write(context, bytes),
            Writer::Tls(writer) => Pin::new(writer).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Writer::Plain(writer) => Pin::new(writer).poll_flush(context),
            Writer::Tls(writer) => Pin::new(writer).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Writer::Plain(writer) => Pin::new(writer).poll_shutdown(context),
            Writer::Tls(writer) => Pin::new(writer).poll_shutdown(context),
        }
    }
}
